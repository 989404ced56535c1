"""Runs that are killed right after they have written a file."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from deepcomp_jax.format import container


class Killed(BaseException):
    """Stands for the end of the process; no handler of errors catches it."""


def run_killed(run: Callable[[], object], after: Iterable[str]) -> None:
    """Starts a run until it ends; after the first writing of each file it is killed.

    Args:
        run: Starts the run, or goes on with it.
        after: Names of the files.
    """
    write, deadly = container.write, set(after)

    def write_and_die(path: Path, data: bytes) -> None:
        write(path, data)
        if path.name in deadly:
            deadly.remove(path.name)
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "write", write_and_die)
        while deadly:
            with pytest.raises(Killed):
                run()
    run()
