"""An account as text: aligned tables, and each measure with what it leaves out."""

from collections.abc import Sequence
from typing import Any

_PARTS = (
    *("positions", "indices", "values", "codebook", "tables", "lanes"),
    *("header", "checksum", "padding"),
)
_BITS_HEAD = ("bits", "shape", "dtype", "non-zero", "clusters", *_PARTS, "all", "bytes")
_TABLE_HEAD = (
    *("per layer", "values", "stored %", "weight bits P+Q", "P+Q+H"),
    *("gap bits P+Q", "P+Q+H", "rate % P+Q", "P+Q+H"),
)


def render(report: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The text of a report.

    Args:
        report: What `account.to_dict` returns.
        rows: Those of `account.table`, as dictionaries.
    """
    lines = align([_BITS_HEAD, *map(_bits_row, report["per_tensor"]), *_sums(report)])
    lines += ["", *align([_TABLE_HEAD, *map(_table_row, rows)]), ""]
    lines += [
        "P: pruned, Q: shared, H: Huffman-coded. Bits are per value stored or gap;",
        "a rate is bits over 32 bits for each value, P+Q+H with every bit of the file.",
        "",
    ]
    return "\n".join(lines + _measures(report))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [
            text.rjust(width) for text, width in zip(others, widths[1:], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _bits_row(tensor: dict[str, Any]) -> list[str]:
    bits = tensor["bits"]
    shape = "x".join(map(str, tensor["shape"])) or "-"
    clusters = str(tensor["clusters"] or "-")
    start = [tensor["name"] or "-", shape, tensor["dtype"], str(tensor["nonzero"])]
    return [*start, clusters, *_part_cells(bits), *_all(bits["total"])]


def _part_cells(bits: dict[str, int]) -> list[str]:
    return [str(bits[part]) for part in _PARTS]


def _all(total: int) -> list[str]:
    return [str(total), str(total // 8)]


def _sums(report: dict[str, Any]) -> list[list[str]]:
    front, total = report["front_bits"], report["bits"]
    blank = ["", "", "", ""]
    file_row = [*_part_cells(front), *_all(sum(front.values()))]
    counts = ["", "", str(report["nonzero"]), ""]
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


def _measures(report: dict[str, Any]) -> list[str]:
    measures = report["measures"]
    bound = report["entropy_bound"]
    above = 100 * (8 * report["file_bytes"] / bound - 1) if bound else None
    n, k = report["nonzero"], report["unique"]
    values = [
        ("dense fp32 / file", _ratio(report), "nothing: bytes over bytes on disk"),
        (
            "file above its entropy",
            f"{_number(above)} %",
            "entropy: order 0, of gaps and indices, plus tables, codebooks and values",
        ),
        ("total parameters", str(report["parameters"]), "-"),
        ("non-zero", str(n), "-"),
        ("unique non-zero", str(k), "counted codebook by codebook"),
        (
            "unique / non-zero",
            f"{_number(measures['unique_per_nonzero'], digits=14)} %",
            "not counted: the index of each weight, positions",
        ),
        (
            "unique / parameters",
            f"{_number(measures['unique_per_parameters'], digits=16)} %",
            "not counted: the index of each weight, positions",
        ),
        (
            "parameters / unique",
            f"x{_number(measures['parameters_per_unique'])}",
            "no ratio of sizes: counts distinct values only",
        ),
        (
            "equation 1, b2 = 8",
            f"x{_number(measures['equation_1'], digits=5)}",
            "not counted: positions, pruning; one codebook of 8-bit entries",
        ),
        (
            "equation 1, b2 = 32",
            f"x{_number(measures['equation_1_paper'], digits=5)}",
            "not counted: positions, pruning; one codebook (the paper's form)",
        ),
        (
            "parameters / non-zero",
            f"x{_number(measures['parameters_per_nonzero'], digits=4)}",
            "not counted: positions",
        ),
        (
            "product of the levels",
            f"x{_number(measures['product'], digits=8)}",
            "not counted: positions, tables, headers (b2 = 8)",
        ),
    ]
    return align_left(values)


def _ratio(report: dict[str, Any]) -> str:
    sizes = f"{report['dense_bytes']} / {report['file_bytes']} bytes"
    return f"{sizes} = x{report['ratio']:.2f}"


def align_left(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, all to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(map(str.ljust, row, widths)).rstrip()  # one width for each cell
        for row in rows
    ]
