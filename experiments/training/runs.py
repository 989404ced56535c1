"""Runs on disk, which may be killed at any moment and then go on where they were.

A run is a row of phases, each of which trains for some epochs. Its state is saved at
the end of a phase, and after an epoch once `SAVE_EVERY` seconds have passed since the
last time, or more seconds if saving would take more than a thirtieth of the time. So a
run that is killed loses about that many seconds and one epoch. What happens between two
phases, such as pruning and sharing, is a pure function of what the phase before left
behind, and is simply done again.

Whatever a run reads again is sealed by a digest (`states`), and a directory is used by
one process at a time.

A run with a deadline stops by itself before it: it begins nothing that might not end in
time, judged by what took longest so far.
"""

import dataclasses
import json
import math
import platform
import re
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deepcomp_jax.format import files
from experiments.training import states

Row = dict[str, Any]

SAVE_EVERY = 60.0  # seconds; to save a wide VGG19 takes as long as to train an epoch
_SAVING = 1 / 30  # the largest part of the time that saving may take

_UNSEEN = 30.0  # seconds that a step is expected to take if none like it was seen yet
_RESERVE = 10.0  # seconds to be left for saving the state and ending the process
_MARGIN = 1.2  # a step may take so many times as long as those before


class OutOfTime(Exception):
    """The next step may not end before the deadline; all steps so far are saved."""


class Run:
    """A work directory and the progress bar over all epochs of the run."""

    def __init__(
        self,
        directory: Path,
        config: Any,
        *,
        epochs: int,
        deadline: float = math.inf,
    ) -> None:
        """Opens a new run, or one that was begun.

        Args:
            directory: The directory of the run, which is made if it is missing.
            config: The settings, a frozen dataclass. They must be those of the run that
                was begun in the directory.
            epochs: How many epochs all phases have, for the progress bar.
            deadline: When to stop, on the clock of `time.monotonic`, in seconds. One
                step is taken however late it is, so that every start gets further.

        Raises:
            ValueError: The directory holds a run of another configuration.
            RuntimeError: Another process uses the directory.
        """
        self.directory = directory
        self._phases = directory / "phases"
        self._phases.mkdir(parents=True, exist_ok=True)
        self._rows: list[Row] = []
        self._deadline = deadline
        self._further = False  # whether this process has done anything new
        self._lock = states.lock(directory)
        try:
            self._check_config(config)
        except BaseException:
            self._lock.close()
            raise
        self._done, self._epochs = 0, epochs  # a bar that is disabled does not count
        self._bar = tqdm(total=epochs, unit="epoch", dynamic_ncols=True)

    def phase(
        self,
        name: str,
        state: Any,
        epochs: int,
        train_epoch: Callable[[Any, int], tuple[Any, Row]],
    ) -> Any:
        """Trains a phase to its end, from wherever it was left.

        Args:
            name: The name of the phase and of its file.
            state: The state in which a new phase begins, a pytree of arrays.
            epochs: How many epochs the phase has.
            train_epoch: Maps a state and the number of the epoch, from 0, to the next
                state and what to log. It must depend on nothing else.

        Returns:
            The state after the last epoch.

        Raises:
            OutOfTime: The next epoch may not end before the deadline.
            ValueError: The file of the phase is damaged, or of another state.
        """
        path = self._phases / f"{name}.msgpack"
        start, rows = 0, []
        if path.exists():
            start, rows, state = states.restore(path, state)
        self._rows += rows
        self._advance(start)
        on_disk, when, wait = start, time.monotonic(), SAVE_EVERY
        expected = self._longest("epoch", "[0-9]+")
        for epoch in range(start, epochs):
            if self._too_late(expected):
                if on_disk < epoch:
                    states.save(path, states.Saved(epoch, rows, state))
                raise self._stopped()
            began = time.monotonic()
            state, row = train_epoch(state, epoch)
            self._further = True
            now = time.monotonic()
            row = {"phase": name, "epoch": epoch + 1} | row
            row["seconds"] = round(now - began, 3)
            rows.append(row)
            self._log(row)
            self._advance(1)
            # The first epoch of a process compiles, and so tells little of the others.
            first = epoch <= start + 1
            expected = row["seconds"] if first else max(expected, row["seconds"])
            if epoch + 1 == epochs or now - when >= wait:
                states.save(path, states.Saved(epoch + 1, rows, state))
                on_disk, when = epoch + 1, time.monotonic()
                wait = max(SAVE_EVERY, (when - now) / _SAVING)
        return state

    def measure(self, name: str, compute: Callable[[], Row]) -> Row:
        """Computes a row of results, or reads it back if it was computed before.

        Args:
            name: The name of the row, unique in the run.
            compute: Computes the row, which JSON must be able to hold.

        Raises:
            OutOfTime: The computation may not end before the deadline.
            ValueError: The file of the row is damaged.
        """
        path = self._phases / f"{name}.json"
        if not path.exists():
            # prune-03-end will take about as long as prune-02-end, grid-2-end as
            # grid-end.
            kind = "(-[0-9.]+)?".join(map(re.escape, re.split("-[0-9.]+", name)))
            if self._too_late(self._longest("phase", kind)):
                raise self._stopped()
            began = time.monotonic()
            row = {"phase": name} | compute()
            row["seconds"] = round(time.monotonic() - began, 3)
            states.write(path, json.dumps(row).encode())
            self._further = True
        row = json.loads(states.read(path))
        self._log(row)
        return row

    def check_time(self) -> None:
        """Stops the run if a step that leaves no row, such as sharing, might be late.

        Raises:
            OutOfTime: The step may not end before the deadline.
        """
        if self._too_late(_UNSEEN):
            raise self._stopped()

    def rows(self) -> Iterator[Row]:
        """All that was logged, in order."""
        return iter(self._rows)

    def __enter__(self) -> "Run":
        """The run itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the progress bar and gives the directory back."""
        self._bar.close()
        self._lock.close()

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text)

    def _check_config(self, config: Any) -> None:
        path = self.directory / "config.json"
        text = json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"
        # Bytes are compared, so that a damaged file is refused like any other.
        if path.exists() and path.read_bytes() != text.encode():
            raise ValueError(
                f"{path} belongs to a run with other settings, or is damaged: give "
                "another --work-dir, or the settings of that run"
            )
        files.write(path, text.encode())

    def _longest(self, field: str, pattern: str) -> float:
        """The seconds of the longest step with a field that matches a pattern."""
        seconds = [
            row["seconds"]
            for row in self._rows
            if re.fullmatch(pattern, str(row.get(field, "")))
        ]
        return max(seconds, default=_UNSEEN)

    def _too_late(self, expected: float) -> bool:
        """Whether a step of so many seconds may end after the deadline."""
        end = time.monotonic() + _MARGIN * expected + _RESERVE
        return self._further and end > self._deadline

    def _stopped(self) -> OutOfTime:
        return OutOfTime(
            f"stopped after {self._done} of {self._epochs} epochs; the same command "
            "goes on"
        )

    def _advance(self, epochs: int) -> None:
        self._done += epochs
        self._bar.update(epochs)

    def _log(self, row: Row) -> None:
        """Writes all rows to disk, and the numbers of this one above the bar."""
        self._rows.append(row)
        lines = "".join(json.dumps(row) + "\n" for row in self._rows)
        files.write(self.directory / "metrics.jsonl", lines.encode())
        numbers = (
            f"{k} {v:.5g}" for k, v in row.items() if isinstance(v, (int, float))
        )
        self.say(f"{row['phase']:<12} " + "  ".join(numbers))


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result can depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in names
    }
