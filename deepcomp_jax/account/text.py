"""An account as text: aligned tables, and the sizes in all."""

import math
from collections.abc import Sequence
from typing import Any

_PARTS = (
    *("positions", "indices", "values", "codebook", "tables", "classes", "lanes"),
    *("header", "checksum", "padding"),
)
_BITS_HEAD = (
    "bits",
    "shape",
    "dtype",
    "coding",
    "next best",
    "non-zero",
    "clusters",
    *_PARTS,
    "all",
    "bytes",
)
_COMPARED = _BITS_HEAD.index("next best")
_TABLE_HEAD = (
    *("per layer", "values", "stored %", "weight bits P+Q", "P+Q+H"),
    *("gap bits P+Q", "P+Q+H", "rate % P+Q", "P+Q+H"),
)
_BOUND = "bound: ideal bits of gaps and indices; models, codebooks, values"


def render(report: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The text of a report.

    Args:
        report: What `account.to_dict` returns.
        rows: Those of `account.table`, as dictionaries.
    """
    bits = [_BITS_HEAD, *map(_bits_row, report["per_tensor"]), *_sums(report)]
    if not any(tensor["runner_up"] for tensor in report["per_tensor"]):
        bits = [[*row[:_COMPARED], *row[_COMPARED + 1 :]] for row in bits]
    lines = align(bits)
    lines += ["", *align([_TABLE_HEAD, *map(_table_row, rows)]), ""]
    lines += [
        "P: pruned, Q: shared, H: Huffman-coded. Bits are per value stored or gap;",
        "a rate is bits over 32 bits for each value, P+Q+H with every bit of the file.",
        "",
    ]
    return "\n".join(lines + _sizes(report))


def align(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of text: the first so many to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = list(map(str.ljust, row[:left], widths))
        cells += map(str.rjust, row[left:], widths[left:])
        lines.append("  ".join(cells).rstrip())
    return lines


def _bits_row(tensor: dict[str, Any]) -> list[str]:
    bits = tensor["bits"]
    shape = "x".join(map(str, tensor["shape"])) or "-"
    clusters = str(tensor["clusters"] or "-")
    start = [tensor["name"] or "-", shape, tensor["dtype"], tensor["coding"]]
    return [
        *start,
        _runner_up(tensor),
        str(tensor["nonzero"]),
        clusters,
        *_part_cells(bits),
        *_all(bits["total"]),
    ]


def _runner_up(tensor: dict[str, Any]) -> str:
    """The next best coding, and how much more it would take."""
    other, size = tensor["runner_up"], tensor["body_bytes"]
    if other is None:
        return "-"
    more = 100 * (other["bytes"] / size - 1) if size else math.inf
    return f"{other['coding']} {more:+.1f} %"


def _part_cells(bits: dict[str, int]) -> list[str]:
    return [str(bits[part]) for part in _PARTS]


def _all(total: int) -> list[str]:
    return [str(total), str(total // 8)]


def _sums(report: dict[str, Any]) -> list[list[str]]:
    front, total = report["front_bits"], report["bits"]
    blank = [""] * 6
    file_row = [*_part_cells(front), *_all(sum(front.values()))]
    counts = ["", "", "", "", str(report["nonzero"]), ""]
    total_row = [*_part_cells(total), *_all(8 * report["file_bytes"])]
    return [
        ["(names, containers)", *blank, *file_row],
        ["total", *counts, *total_row],
    ]


def _table_row(row: dict[str, Any]) -> list[str]:
    return [
        row["name"] or "-",
        str(row["size"]),
        _number(row["kept"], 100),
        *(
            _number(row[name])
            for name in (
                *("weight_bits", "weight_bits_coded"),
                *("gap_bits", "gap_bits_coded"),
            )
        ),
        _number(row["rate"], 100),
        _number(row["rate_coded"], 100),
    ]


def _number(value: float | None, scale: float = 1, digits: int = 2) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"


def _sizes(report: dict[str, Any]) -> list[str]:
    bound = report["entropy_bound"]
    above = 8 * report["file_bytes"] / bound - 1 if bound else None
    rows = [
        ("dense fp32 / file", _ratio(report), "counts all: 4 bytes a value, the file"),
        ("file above its bound", f"{_number(above, 100)} %", _BOUND),
        ("total parameters", str(report["parameters"]), ""),
        ("non-zero", str(report["nonzero"]), ""),
        ("unique non-zero", str(report["unique"]), "added up over the codebooks"),
    ]
    return align(rows, left=3)


def _ratio(report: dict[str, Any]) -> str:
    sizes = f"{report['dense_bytes']} / {report['file_bytes']} bytes"
    return f"{sizes} = x{report['ratio']:.2f}"
