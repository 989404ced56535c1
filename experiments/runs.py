"""A run on disk: its configuration, its phases, its metrics; killed and resumed freely.

A run is a row of phases. Each phase trains for some epochs and is saved after every
one of them, whole and in place, so that a run that is killed goes on at most one epoch
back. What happens between two phases (pruning, sharing) is a pure function of what the
phase before left behind and is simply done again.
"""

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
from tqdm import tqdm

from deepcomp_jax import container

Row = dict[str, Any]


class Run:
    """A work directory and the progress bar over all epochs of the run."""

    def __init__(self, directory: Path, config: Any, *, epochs: int) -> None:
        """Opens a run, new or begun.

        Args:
            directory: Of the run; is made if missing.
            config: A frozen dataclass. One that differs from that of a run begun in
                the same directory is an error.
            epochs: Of all phases, for the progress bar.

        Raises:
            ValueError: The directory holds a run of another configuration.
        """
        self.directory = directory
        self._phases = directory / "phases"
        self._phases.mkdir(parents=True, exist_ok=True)
        self._rows: list[Row] = []
        self._bar = tqdm(total=epochs, unit="epoch", dynamic_ncols=True)
        self._check_config(config)

    def phase(
        self,
        name: str,
        state: Any,
        epochs: int,
        train_epoch: Callable[[Any, int], tuple[Any, Row]],
    ) -> Any:
        """Trains a phase to its end, from wherever it was left.

        Args:
            name: Of the phase; also of its file.
            state: Where a new phase begins: a pytree of arrays.
            epochs: Of this phase.
            train_epoch: Maps a state and the number of the epoch, from 0, to the next
                state and what is to be logged. It must depend on nothing else.

        Returns:
            The state after the last epoch.
        """
        path = self._phases / f"{name}.msgpack"
        start, rows = 0, []
        if path.exists():
            saved: Any = flax.serialization.msgpack_restore(path.read_bytes())
            start, rows = int(saved["epoch"]), json.loads(saved["rows"])
            state = _like(state, saved["leaves"])
        self._rows += rows
        self._bar.update(start)
        for epoch in range(start, epochs):
            began = time.monotonic()
            state, row = train_epoch(state, epoch)
            row = {"phase": name, "epoch": epoch + 1} | row
            row["seconds"] = round(time.monotonic() - began, 3)
            rows.append(row)
            self._rows.append(row)
            self._save(path, epoch + 1, rows, state)
            self._show(row)
        return state

    def measure(self, name: str, compute: Callable[[], Row]) -> Row:
        """Computes a row of results once; a run that goes on reads it back.

        Args:
            name: Of the row, unique in the run.
            compute: Returns what JSON can hold.
        """
        path = self._phases / f"{name}.json"
        if not path.exists():
            began = time.monotonic()
            row = {"phase": name} | compute()
            row["seconds"] = round(time.monotonic() - began, 3)
            container.write(path, json.dumps(row).encode())
        row = json.loads(path.read_text())
        self._rows.append(row)
        self._write_metrics()
        self._show(row)
        return row

    def rows(self) -> Iterator[Row]:
        """All that was logged, in order."""
        return iter(self._rows)

    def seconds(self) -> float:
        """Time spent on everything logged, over all times the run was started."""
        return sum(row["seconds"] for row in self._rows)

    def __enter__(self) -> "Run":
        """The run itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the progress bar."""
        self._bar.close()

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text)

    def _check_config(self, config: Any) -> None:
        path = self.directory / "config.json"
        text = json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"
        if path.exists() and path.read_text() != text:
            raise ValueError(
                f"{path} belongs to a run with other settings: give another --work-dir,"
                " or the settings of that run"
            )
        container.write(path, text.encode())

    def _save(self, path: Path, epoch: int, rows: list[Row], state: Any) -> None:
        saved = {
            "epoch": epoch,
            "rows": json.dumps(rows),
            "leaves": [np.asarray(leaf) for leaf in jax.tree.leaves(state)],
        }
        container.write(path, flax.serialization.msgpack_serialize(saved))
        self._write_metrics()
        self._bar.update()

    def _show(self, row: Row) -> None:
        shown = {k: v for k, v in row.items() if isinstance(v, (int, float))}
        parts = [f"{k} {v:.5g}" for k, v in shown.items()]
        self.say(f"{row['phase']:<12} " + "  ".join(parts))

    def _write_metrics(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self._rows)
        container.write(self.directory / "metrics.jsonl", lines.encode())


def _like(state: Any, leaves: list[np.ndarray]) -> Any:
    """Puts saved leaves where those of `state` are: containers and devices."""
    now, treedef = jax.tree.flatten(state)
    placed = [
        jax.device_put(saved, leaf.sharding)
        for saved, leaf in zip(leaves, now, strict=True)
    ]
    return jax.tree.unflatten(treedef, placed)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result can depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in names
    }
