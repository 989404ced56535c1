"""Rows of the benchmark of the tool, their targets, and the table of them."""

import os
from collections.abc import Sequence
from typing import NamedTuple

MB = 10**6


class Target(NamedTuple):
    """What a row should reach, as far as it is not None.

    Attributes:
        seconds, peak_bytes, above_bytes, programs: At most.
        ratio: At least.
    """

    seconds: float | None = None
    peak_bytes: float | None = None
    above_bytes: float | None = None
    programs: int | None = None
    ratio: float | None = None


class Row(NamedTuple):
    """A piece of work.

    Attributes:
        work: What was done.
        seconds: Of wall time.
        peak_bytes: The most memory of the process.
        bytes: Of what was written or read.
        peer: Who did the same.
        ratio: How many times better than the peer: of seconds, or of bytes.
        cpu_seconds: Of all threads.
        above_bytes: Peak memory above a start.
        values: Number of weights, if a speed is asked for.
        programs: That were compiled, if they were counted.
        note: What else is to be known.
        load: The load average of the machine, over a minute.
        target: What should be reached.
    """

    work: str
    seconds: float
    peak_bytes: int
    bytes: int | None = None
    peer: str | None = None
    ratio: float | None = None
    cpu_seconds: float | None = None
    above_bytes: int | None = None
    values: int | None = None
    programs: int | None = None
    note: str = ""
    load: float | None = None
    target: Target = Target()

    def missed(self) -> list[str]:
        """What does not reach its target."""
        found = []
        for name, limit in self.target._asdict().items():
            value = getattr(self, name)
            if limit is None or value is None:
                continue
            if value < limit if name == "ratio" else value > limit:
                found.append(name)
        return found


_HEADS = (
    "work", "s", "CPU s", "M/s", "peak MB", "above", "bytes", "ratio", "load",
    "target",
    "missed", "peer and notes",
)  # fmt: skip
_LEFT = (0, 9, 10, 11)


def table(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    found = [_HEADS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in _LEFT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in found
    ]
    missed = sum(bool(row.missed()) for row in rows)
    asked = sum(row.target != Target() for row in rows)
    lines += ["", f"{asked - missed} of {asked} rows with a target reach it."]
    lines += [
        "ratio: how many times better than the peer, in seconds or bytes",
        "load: of the machine after the row, of which one's own threads are up to 2",
    ]
    return f"{os.cpu_count()} cores\n\n" + "\n".join(lines) + "\n"


def cells(row: Row) -> tuple[str, ...]:
    """A row as a line of the table."""
    speed = "" if row.values is None else f"{row.values / row.seconds / 1e6:.0f}"
    programs = "" if row.programs is None else f"{row.programs} programs"
    notes = row.peer or "", programs, row.note
    return (
        row.work, f"{row.seconds:.2f}", _number(row.cpu_seconds, 1, 2), speed,
        _number(row.peak_bytes, MB), _number(row.above_bytes, MB),
        "" if row.bytes is None else str(row.bytes), _number(row.ratio, 1, 3),
        _number(row.load, 1, 1),
        _target(row.target), ", ".join(_NAMES[name] for name in row.missed()),
        "; ".join(filter(None, notes)),
    )  # fmt: skip


_NAMES = {
    "seconds": "time", "peak_bytes": "peak", "above_bytes": "above",
    "programs": "programs", "ratio": "ratio",
}  # fmt: skip


def _number(value: float | None, unit: float, digits: int = 0) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _target(target: Target) -> str:
    texts = {
        "seconds": "{:.3g} s", "peak_bytes": "peak {:.0f} MB",
        "above_bytes": "above {:.0f} MB", "programs": "{} programs",
        "ratio": "ratio {:.3g}",
    }  # fmt: skip
    return ", ".join(
        texts[name].format(limit / MB if name.endswith("_bytes") else limit)
        for name, limit in target._asdict().items()
        if limit is not None
    )
