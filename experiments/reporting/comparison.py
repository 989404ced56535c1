"""The tables of the paper beside ours, as text."""

from collections.abc import Iterator, Sequence

from deepcomp_jax.account import Row
from deepcomp_jax.account.text import align, cells
from experiments.reporting.published import Published

_HEAD = (
    *("layer", "", "weights", "kept %", "weight bits P+Q", "P+Q+H"),
    *("index bits P+Q", "P+Q+H", "rate % P+Q", "P+Q+H"),
)
_LEFT = (0, 1)  # columns of text


def lines(
    published: Published, rows: Sequence[Row], errors: tuple[float, float]
) -> Iterator[str]:
    """Writes Tables 1 and 2 or 3 of arXiv 1510.00149, each line of theirs above ours.

    Args:
        published: What the paper reports of the network.
        rows: The table of our file, as `account.table` returns it.
        errors: Test errors of our dense network and of the decoded one, in percent.
    """
    total = rows[-1]
    dense_bytes = 4 * total.size
    file_bytes = round(dense_bytes * (total.rate_coded or 0))
    yield "Table 1 of arXiv 1510.00149 and ours: test error, dense and compressed; size"
    ours = Published(*errors, dense_bytes, file_bytes, ())
    yield from align([_sizes("paper", published), _sizes("ours", ours)], _LEFT)
    yield ""
    yield "Its table of the layers and ours. P: pruned, Q: shared, H: Huffman-coded."
    by_name = {row.name: row for row in rows} | {"total": total}
    table: list[Sequence[str]] = [_HEAD]
    for row in published.rows:
        name = "total" if row.name == "total" else f"params/{row.name}/kernel"
        for title, whose, line in (
            (row.name, "paper", row),
            ("", "ours", by_name[name]),
        ):
            table.append([title, whose, f"{line.size:,}", *cells(line[2:])])
    yield from align(table, _LEFT)
    yield "The paper's rows count kernels, positions and codebooks; our total is every"
    yield "bit of the file: biases, code tables, names and checksums too."


def _sizes(whose: str, network: Published) -> list[str]:
    """A line of Table 1."""
    return [
        whose,
        f"{network.dense_error:.2f} %",
        f"{network.error:.2f} %",
        f"{network.dense_bytes:,} bytes",
        f"{network.file_bytes:,} bytes",
        f"{network.dense_bytes / network.file_bytes:.1f}x",
    ]
