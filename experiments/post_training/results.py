"""Rows of the benchmark: on disk, where an ended run goes on, and as a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deepcomp_jax.account.text import align
from deepcomp_jax.format import files


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


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table, a part for each network."""
    yield "Bytes of whole files, and the quality of the networks decoded from them."
    files = by_file(rows)
    for network in dict.fromkeys(file.row.network for file in files):
        own = [file for file in files if file.row.network == network]
        metrics = list(dict.fromkeys(name for file in own for name in file.values))
        yield ""
        head = ("method", "setting", "data", "bytes", *metrics, "CPU s")
        yield network
        yield from align([head, *(_cells(file, metrics) for file in own)], {0, 1, 2})


def _cells(file: File, metrics: Sequence[str]) -> Sequence[str]:
    row = file.row
    values = (file.values.get(metric) for metric in metrics)
    return (
        row.family(), row.setting(), row.data, f"{row.bytes:,}",
        *("" if value is None else f"{value:.5g}" for value in values),
        f"{row.cpu_seconds:.1f}",
    )  # fmt: skip
