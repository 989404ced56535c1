"""An account as text: tables with aligned columns, and the sizes of the whole file."""

import math
from collections.abc import Collection, Sequence
from typing import Any

_PARTS = (
    *("positions", "indices", "values", "codebook", "scales", "tables", "classes"),
    *("lanes", "header", "checksum", "padding"),
)
_BITS_HEAD = (
    *("bits", "shape", "dtype", "coding", "next best", "non-zero", "clusters"),
    *(*_PARTS, "all", "bytes"),
)
_TABLE_HEAD = (
    *("per layer", "values", "stored %", "weight bits P+Q", "P+Q+H"),
    *("gap bits P+Q", "P+Q+H", "rate % P+Q", "P+Q+H"),
)
_BOUND = "bound: ideal bits of gaps and indices; models, codebooks, values"


def render(report: dict[str, Any], rows: Sequence[tuple[Any, ...]]) -> str:
    """Writes a report as text.

    Args:
        report: The account of a file, as `account.to_dict` returns it.
        rows: The paper's table of the same file, as `account.table` returns it.
    """
    bits = [_BITS_HEAD, *map(_bits_row, report["per_tensor"]), *_sums(report)]
    if not any(tensor["runner_up"] for tensor in report["per_tensor"]):
        bits = _without(bits, "next best")
    if not report["bits"]["scales"]:
        bits = _without(bits, "scales")
    table = [[name or "-", str(size), *cells(row)] for name, size, *row in rows]
    lines = [*align(bits), "", *align([_TABLE_HEAD, *table]), ""]
    lines += [
        "P: pruned, Q: shared, H: Huffman-coded. Bits are per value stored or gap;",
        "a rate is bits over 32 bits for each value, P+Q+H with every bit of the file.",
        "",
    ]
    return "\n".join(lines + _sizes(report))


def _without(rows: Sequence[Sequence[str]], column: str) -> list[Sequence[str]]:
    """A table without a column in which nothing is said."""
    at = rows[0].index(column)
    return [[*row[:at], *row[at + 1 :]] for row in rows]


def align(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Writes a table whose columns are as wide as their longest text.

    Args:
        rows: The texts, the same number in each row.
        left: Numbers of the columns that are aligned to the left; the others are
            aligned to the right.

    Returns:
        A line for each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        padded = (
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return lines


def cells(row: Sequence[float | None]) -> list[str]:
    """The numbers of a row of the paper's table; fractions become percent.

    Args:
        row: The fields of `account.Row` after the name and the size.
    """
    kept, *bits, rate, rate_coded = row
    return [
        *(_number(kept, 100), *map(_number, bits)),
        *(_number(rate, 100), _number(rate_coded, 100)),
    ]


def _number(value: float | None, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:.2f}"


def _bits_row(tensor: dict[str, Any]) -> list[str]:
    """The line of a tensor: what it is, and its bits by purpose."""
    return [
        tensor["name"] or "-",
        "x".join(map(str, tensor["shape"])) or "-",
        tensor["dtype"],
        tensor["coding"],
        _runner_up(tensor),
        str(tensor["nonzero"]),
        str(tensor["clusters"] or "-"),
        *_bits(tensor["bits"], tensor["bits"]["total"]),
    ]


def _runner_up(tensor: dict[str, Any]) -> str:
    """The next best coding, and how much larger the body would be."""
    other, size = tensor["runner_up"], tensor["body_bytes"]
    if other is None:
        return "-"
    more = 100 * (other["bytes"] / size - 1) if size else math.inf
    return f"{other['coding']} {more:+.1f} %"


def _bits(bits: dict[str, int], total: int) -> list[str]:
    """The bits of each part, and of all of them, which are bytes too."""
    return [*(str(bits[part]) for part in _PARTS), str(total), str(total // 8)]


def _sums(report: dict[str, Any]) -> list[list[str]]:
    """The lines below the tensors."""
    front, nonzero = report["front_bits"], str(report["nonzero"])
    blank = [""] * 4
    return [
        ["(names, containers)", *blank, "", "", *_bits(front, sum(front.values()))],
        [
            "total",
            *blank,
            nonzero,
            "",
            *_bits(report["bits"], 8 * report["file_bytes"]),
        ],
    ]


def _sizes(report: dict[str, Any]) -> list[str]:
    """The lines about the file as a whole, each with what it counts."""
    dense, size = report["dense_bytes"], report["file_bytes"]
    ratio = f"{dense} / {size} bytes = x{report['ratio']:.2f}"
    bound = report["entropy_bound"]
    above = 8 * size / bound - 1 if bound else None
    rows = [
        ("dense fp32 / file", ratio, "counts all: 4 bytes a value, the file"),
        ("file above its bound", f"{_number(above, 100)} %", _BOUND),
        ("total parameters", str(report["parameters"]), ""),
        ("non-zero", str(report["nonzero"]), ""),
        ("unique non-zero", str(report["unique"]), "added up over the codebooks"),
    ]
    return align(rows, left=range(3))
