"""The paper's tables beside ours, as text."""

from collections.abc import Collection, Iterator, Sequence

from deepcomp_jax.account import Row
from experiments.reporting.published import Published

_HEAD = (
    *("layer", "", "weights", "kept %", "weight bits P+Q", "P+Q+H"),
    *("index bits P+Q", "P+Q+H", "rate % P+Q", "P+Q+H"),
)


def lines(
    published: Published, rows: Sequence[Row], errors: tuple[float, float]
) -> Iterator[str]:
    """Tables 1 and 2 or 3 of arXiv 1510.00149, each line of theirs above ours.

    Args:
        published: What the paper reports of the network.
        rows: Of `account.table`: all tensors of our file, then the total.
        errors: Test errors of our dense network and of the one decoded, in percent.
    """
    total = rows[-1]
    size = total.size * 4
    file_bytes = round(size * (total.rate_coded or 0))
    yield "Table 1 of arXiv 1510.00149 and ours: test error, dense and compressed; size"
    ours = Published(*errors, size, file_bytes, ())
    yield from align([_table_1("paper", published), _table_1("ours", ours)])
    yield ""
    yield "Its table of the layers and ours. P: pruned, Q: shared, H: Huffman-coded."
    by_name = {row.name: row for row in rows} | {"total": total}
    table: list[Sequence[str]] = [_HEAD]
    for row in published.rows:
        name = "total" if row.name == "total" else f"params/{row.name}/kernel"
        table.append([row.name, "paper", *_cells(row)])
        table.append(["", "ours", *_cells(by_name[name])])
    yield from align(table)
    yield "The paper's rows count kernels, positions and codebooks; our total is every"
    yield "bit of the file: biases, code tables, names and checksums too."


def _table_1(whose: str, network: Published) -> list[str]:
    return [
        whose,
        f"{network.dense_error:.2f} %",
        f"{network.error:.2f} %",
        f"{network.dense_bytes:,} bytes",
        f"{network.file_bytes:,} bytes",
        f"{network.dense_bytes / network.file_bytes:.1f}x",
    ]


def _cells(row: Row) -> list[str]:
    return [
        f"{row.size:,}",
        _number(row.kept, "%"),
        *map(_number, (row.weight_bits, row.weight_bits_coded)),
        *map(_number, (row.gap_bits, row.gap_bits_coded)),
        *(_number(rate, "%") for rate in (row.rate, row.rate_coded)),
    ]


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if unit else f"{value:.2f}"


def align(rows: Sequence[Sequence[str]], left: Collection[int] = (0, 1)) -> list[str]:
    """Lines of a table whose columns are as wide as their longest text.

    Args:
        rows: The texts, as many in every row.
        left: Columns with their texts to the left; the others have them to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if i in left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
