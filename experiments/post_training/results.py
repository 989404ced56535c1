"""Rows of the benchmark: on disk, where an ended run goes on, and as a table."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deepcomp_jax.account.text import align
from deepcomp_jax.format import files
from experiments.post_training.networks import Metric


class Row(NamedTuple):
    """A measurement of a file.

    Attributes:
        network: The name of the network.
        method: The name of the method, a colon, and its setting.
        data: The kind of data that the method saw.
        bytes: Size of the file.
        metric: What was measured of the network decoded from it.
        value: The result.
        cpu_seconds: To make the file and to decode it, of all threads. That of the
            first file of a method in a process includes what serves all its files:
            compiled programs, and the statistics of a calibration.
    """

    network: str
    method: str
    data: str
    bytes: int
    metric: str
    value: float
    cpu_seconds: float

    def family(self) -> str:
        """The method without its setting."""
        return self.method.rpartition(": ")[0]

    def setting(self) -> str:
        """The setting of the method."""
        return self.method.rpartition(": ")[2]


DENSE = "float32: none"  # the method of the network as it is


class File(NamedTuple):
    """All rows of a file together.

    Attributes:
        row: The first of them.
        values: The results by metric.
    """

    row: Row
    values: Mapping[str, float]


def read(path: Path) -> list[Row]:
    """The rows on disk, none if there is no file."""
    if not path.exists():
        return []
    return [Row(**found) for found in json.loads(path.read_bytes())]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes all rows, whole or not at all, one in a line."""
    lines = ",\n".join(json.dumps(row._asdict()) for row in rows)
    files.write(path, f"[\n{lines}\n]\n".encode())


def by_file(rows: Sequence[Row]) -> list[File]:
    """The files, by network, method and size."""
    found: dict[tuple[str, ...], File] = {}
    for row in rows:
        key = row.network, row.method, row.data
        file = found.setdefault(key, File(row, {}))
        found[key] = file._replace(values={**file.values, row.metric: row.value})
    order = {
        network: i for i, network in enumerate(dict.fromkeys(r.network for r in rows))
    }
    return sorted(
        found.values(),
        key=lambda file: (
            order[file.row.network], file.row.family(), file.row.data, file.row.bytes,
        ),
    )  # fmt: skip


def bytes_at(files: Sequence[File], metric: Metric, value: float) -> float | None:
    """The bytes at which a curve reaches a value, between two files on the way.

    Logarithms of bytes and of the loss are interpolated. Of a curve that crosses the
    value several times, the first crossing counts.

    Args:
        files: Of one method, by size.
        metric: What is looked at.
        value: What it shall be.

    Returns:
        That of the smallest file if it is good enough, None if no file is.
    """
    aim = math.log(metric.loss(value))
    before: tuple[float, float] | None = None
    for file in files:
        at = math.log(file.row.bytes)
        loss = math.log(metric.loss(file.values[metric.name]))
        if loss <= aim:
            if before is None:
                return file.row.bytes
            part = (before[1] - aim) / (before[1] - loss)
            return math.exp(before[0] + part * (at - before[0]))
        before = at, loss
    return None


def comparison(files: Sequence[File], metric: Metric) -> Iterator[str]:
    """The table of bytes at the levels of a metric, for the files of one network."""
    dense = [f.values[metric.name] for f in files if f.row.method == DENSE]
    start = dense[0] if metric.above_dense else 0.0
    levels = [start + level for level in metric.levels]
    rows = [("method", "data", *(f"{level:.5g}" for level in levels))]
    families = {(f.row.family(), f.row.data): f for f in files if f.row.method != DENSE}
    for family, data in families:
        own = [f for f in files if (f.row.family(), f.row.data) == (family, data)]
        found = [bytes_at(own, metric, level) for level in levels]
        cells = ("-" if size is None else f"{size:,.0f}" for size in found)
        rows.append((family, data, *cells))
    yield f"bytes at {metric.name}, between files"
    yield from align(rows, {0, 1})


def lines(rows: Sequence[Row], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """The table, a part for each network.

    Args:
        rows: All rows.
        metrics: What methods are compared by, by the name of the network.
    """
    yield "Bytes of whole files, and the quality of the networks decoded from them."
    files = by_file(rows)
    for network in dict.fromkeys(file.row.network for file in files):
        own = [file for file in files if file.row.network == network]
        names = list(dict.fromkeys(name for file in own for name in file.values))
        yield ""
        head = ("method", "setting", "data", "bytes", *names, "CPU s")
        yield network
        yield from align([head, *(_cells(file, names) for file in own)], {0, 1, 2})
        yield ""
        yield from comparison(own, metrics[network])


def _cells(file: File, metrics: Sequence[str]) -> Sequence[str]:
    row = file.row
    values = (file.values.get(metric) for metric in metrics)
    return (
        row.family(), row.setting(), row.data, f"{row.bytes:,}",
        *("" if value is None else f"{value:.5g}" for value in values),
        f"{row.cpu_seconds:.1f}",
    )  # fmt: skip
