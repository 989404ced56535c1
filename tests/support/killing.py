"""Processes that are killed (SIGKILL) right after they have written a file."""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepcomp_jax.format import files
from experiments.reporting import figures
from experiments.training import runs


def run_killed(module: str, directory: Path, after: Iterable[str]) -> None:
    """Starts a run and goes on with it, each time in a process that does not end.

    Args:
        module: Its `run` takes the directory and starts a run, or goes on with one.
        directory: Of the run.
        after: Names of files, in the order in which a run writes them; each process is
            killed by the first writing of one.
    """
    for name in after:
        killed = subprocess.run(
            [sys.executable, "-m", __name__, module, str(directory), name],
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-500:]
        assert not (directory / "report.json").exists()


def timeless_rows(directory: Path) -> list[dict[str, Any]]:
    """What a run has logged, but for the seconds it took."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def assert_same_outcome(directory: Path, other: Path) -> None:
    """Two runs end with the same file, and have logged the same."""
    files = [place / "model.dcz" for place in (directory, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert timeless_rows(directory) == timeless_rows(other)


def main(module: str, directory: str, deadly: str) -> None:
    """Runs `module.run(directory)` until it has written a file of that name."""
    write = files.write

    def write_and_die(path: Path, data: bytes) -> None:
        write(path, data)
        if path.name == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    files.write = write_and_die
    runs.SAVE_EVERY = 0.0
    figures.draw = lambda *_: []
    importlib.import_module(module).run(Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
