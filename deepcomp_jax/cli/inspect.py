"""`dcz inspect`: what is in a file, and what it takes."""

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

from deepcomp_jax import api, checkpoints
from deepcomp_jax.cli import common
from deepcomp_jax.rules import check_pattern


class Row(NamedTuple):
    """A tensor.

    Attributes:
        name: Its name.
        shape: Of the array.
        dtype: Name of its dtype.
        size: Number of values.
        bytes: What it takes in the file, without its line in the header.
        bits: The same for each value, in bits.
        coding: How it is stored; of other formats, nothing.
    """

    name: str
    shape: list[int]
    dtype: str
    size: int
    bytes: int
    bits: float
    coding: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "Nothing is decoded, except for --parts."
    parser.add_argument("input", metavar="IN", type=Path, help="any checkpoint")
    parser.add_argument(
        "pattern", metavar="REGEX", nargs="?", help="only tensors of matching names"
    )
    parser.add_argument(
        "--parts", action="store_true",
        help="of a .dcz file, decode all and say what every bit is spent on",
    )  # fmt: skip
    parser.add_argument(
        "--depth", type=int, default=1, metavar="N",
        help="totals by the first N parts of names (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="draw where the bytes are"
    )
    common.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    if args.parts:
        account = api.report(args.input, max_bytes=1 << 40)
        _print_parts(args, account)
        return
    with checkpoints.open(args.input) as source:
        rows = _rows(source, args.pattern)
    totals = _totals(rows, args.depth)
    if args.plot is not None:
        from deepcomp_jax.cli.plot import draw

        draw(args.plot, totals, source.file_bytes)
    if args.json:
        common.print_json(
            {
                "format": source.format,
                "file_bytes": source.file_bytes,
                "values": sum(row.size for row in rows),
                "metadata": dict(source.metadata),
                "tensors": [row._asdict() for row in rows],
            }
        )
        return
    _print(rows, totals, source)


def _rows(source: checkpoints.Checkpoint, pattern: str | None) -> list[Row]:
    named = source.leaves
    if pattern is not None:
        check_pattern(pattern)
        named = {name: own for name, own in named.items() if re.search(pattern, name)}
        if not named:
            raise ValueError(
                f"{pattern!r} matches no tensor of {list(source.leaves)[:5]}"
            )
    return [_row(name, named[name]) for name in sorted(named, key=common.natural)]


def _row(name: str, leaf: Any) -> Row:
    stored = getattr(leaf, "stored_bytes", leaf.nbytes)
    bits = 8 * stored / leaf.size if leaf.size else 0.0
    dtype, coding = str(leaf.dtype), getattr(leaf, "coding", "")
    return Row(name, list(leaf.shape), dtype, leaf.size, stored, bits, coding)


def _totals(rows: list[Row], depth: int) -> dict[str, tuple[int, int]]:
    """Values and bytes by the beginning of names, if there is more than one."""
    totals: dict[str, tuple[int, int]] = {}
    for row in rows:
        parts = re.split(r"[/.]", row.name)
        prefix = "/".join(parts[:depth])
        size, taken = totals.get(prefix, (0, 0))
        totals[prefix] = size + row.size, taken + row.bytes
    return totals


def _print(
    rows: list[Row],
    totals: dict[str, tuple[int, int]],
    source: checkpoints.Checkpoint,
) -> None:
    cells = [
        (
            common.shown(row.name), "x".join(map(str, row.shape)) or "()", row.dtype,
            row.coding or "-", str(row.bytes), f"{row.bits:.3f}",
        )
        for row in rows
    ]  # fmt: skip
    common.print_table(
        ("tensor", "shape", "dtype", "coding", "bytes", "bits/value"), cells
    )
    if 1 < len(totals) < len(rows):
        print()
        lines = [
            (
                common.shown(name),
                str(size),
                str(taken),
                f"{8 * taken / max(size, 1):.3f}",
            )
            for name, (size, taken) in totals.items()
        ]
        common.print_table(("total of", "values", "bytes", "bits/value"), lines)
    if source.metadata:
        print()
        for key, text in source.metadata.items():
            short = text if len(text) < 200 else f"{text[:200]}..."
            print(f"{common.shown(key)}: {common.shown(short)}")
    values = sum(row.size for row in rows)
    bits = f"{8 * source.file_bytes / values:.3f} bits a value" if values else "empty"
    print()
    print(f"{len(rows)} tensors of {values} values; {bits}, all of the file counted")
    print(f"{source.file_bytes} bytes on disk")


def _print_parts(args: argparse.Namespace, account: Any) -> None:
    from deepcomp_jax.account import to_dict

    if args.json:
        common.print_json(to_dict(account))
    else:
        print(str(account))
