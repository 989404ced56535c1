"""`dcz inspect`: what is in a file, and what it takes."""

import argparse
import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deepcomp_jax.cli import common

_ANY = 1 << 62  # bytes of all tensors together
_CODINGS = {  # what each does, for people
    "raw": "the values as they are",
    "sparse": "the values other than zero, and where they are",
    "planes": "the values without loss, their bytes regrouped and compressed",
    "packed": "numbers of values in a codebook, all in as many bits",
    "relative": "the same for values other than zero, and gaps between, by Huffman",
    "order0": "numbers of values in a codebook, by rANS",
    "grouped": "numbers and gaps by rANS, by groups of equally dense values",
    "copy": "equal to a tensor before it",
}


class Row(NamedTuple):
    """A tensor, or several of which the names begin alike.

    Attributes:
        name: Its name, or the beginning.
        shape: Of the array; of several, nothing.
        dtype: Name of its dtype; of several, nothing.
        coding: How it is stored, in a `.dcz` file.
        values: How many there are.
        parts: What it takes of the file, in bits by part.
        ideal: Bits that its codes need at their entropy; None if nothing was decoded.
    """

    name: str
    shape: list[int] | None
    dtype: str | None
    coding: str | None
    values: int
    parts: dict[str, int]
    ideal: float | None = None

    @property
    def bits(self) -> int:
        """All bits that it takes."""
        return sum(self.parts.values())


class Content(NamedTuple):
    """What is in a file.

    Attributes:
        format: Of the file.
        file_bytes: What it takes on the disk.
        metadata: The strings that came with it.
        rows: Of its tensors, in natural order.
        whole: Whether these are all of its tensors.
    """

    format: str
    file_bytes: int
    metadata: Mapping[str, str]
    rows: Sequence[Row]
    whole: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "Nothing is decoded, except for --parts."
    parser.add_argument("input", metavar="IN", type=Path, help="any checkpoint")
    parser.add_argument(
        "pattern", metavar="REGEX", nargs="?", type=common.pattern,
        help="only tensors of matching names",
    )  # fmt: skip
    parser.add_argument(
        "--parts", action="store_true",
        help="of a .dcz file, decode all and say what every bit is spent on, and what "
        "its codes need at their entropy",
    )  # fmt: skip
    parser.add_argument(
        "--depth", type=common.count, metavar="N",
        help="totals by the first N parts of names (default: the first that differ)",
    )  # fmt: skip
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="draw where the bytes are"
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace FILE.png if it is there"
    )
    common.add_max_bytes(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    if args.plot is not None:
        common.check_target(args.plot, force=args.force, sources=[args.input])
    content = _content(args.input, args.pattern, args.max_bytes if args.parts else None)
    totals = _totals(content.rows, args.depth)
    if args.plot is not None:
        from deepcomp_jax.cli.plot import draw

        draw(args.plot, totals, content.file_bytes if content.whole else None)
    if args.json:
        common.print_json(_to_dict(content, totals))
    else:
        _print(content, totals)


# ---- what is looked at --------------------------------------------------------------


def _content(path: Path, pattern: str | None, max_bytes: int | None) -> Content:
    """What is in a file, decoded if a memory is given for that."""
    from deepcomp_jax import checkpoints

    with checkpoints.open(path) as source:
        if max_bytes is not None and source.format != "dcz":
            raise common.UsageError(f"--parts is for .dcz files, and not for {path}")
        rows = {name: _row(name, leaf) for name, leaf in source.leaves.items()}
    if max_bytes is not None:
        rows |= _decoded_rows(path, max_bytes)
    chosen = sorted(rows, key=common.natural)
    if pattern is not None:
        chosen = [name for name in chosen if re.search(pattern, name)]
        if not chosen:
            raise common.UsageError(
                f"{pattern!r} matches no tensor: there are "
                f"{common.shown_list(list(rows))}"
            )
    return Content(
        source.format,
        source.file_bytes,
        source.metadata,
        [rows[name] for name in chosen],
        len(chosen) == len(rows),
    )


def _row(name: str, leaf: Any) -> Row:
    taken = getattr(leaf, "part_bytes", {"values": leaf.nbytes})
    parts = {part: 8 * size for part, size in taken.items()}
    coding = getattr(leaf, "coding", None)
    return Row(name, list(leaf.shape), str(leaf.dtype), coding, leaf.size, parts)


def _decoded_rows(path: Path, max_bytes: int) -> dict[str, Row]:
    """Rows of a `.dcz` file with what every bit of a body is spent on."""
    from deepcomp_jax.account import account_files
    from deepcomp_jax.checkpoints.dcz import naming
    from deepcomp_jax.format import reader, sets

    with naming(path), contextlib.ExitStack() as stack:
        files = sets.opened(path, stack)
        for file, header in files:
            reader.check_each(file, header, max_bytes, header.held)
        account = account_files(files, max_bytes=_ANY)  # one of them after the other
    return {
        tensor.name: Row(
            tensor.name, list(tensor.layout.shape), str(tensor.layout.dtype),
            tensor.coding, tensor.size, tensor.parts._asdict(), tensor.ideal,
        )
        for tensor in account.tensors
    }  # fmt: skip


def _totals(rows: Sequence[Row], depth: int | None) -> list[Row]:
    """Rows of tensors of which the names begin alike."""
    if depth is None:
        most = max((len(re.findall("[/.]", row.name)) for row in rows), default=0)
        depths = range(1, most + 2)
        depth = next((d for d in depths if len(_beginnings(rows, d)) > 1), 1)
    found = []
    for beginning, own in _beginnings(rows, depth).items():
        parts = sum((Counter(row.parts) for row in own), Counter())
        values = sum(row.values for row in own)
        found.append(Row(beginning, None, None, None, values, dict(parts)))
    return found


def _beginnings(rows: Sequence[Row], depth: int) -> dict[str, list[Row]]:
    """Rows by the first parts of their names."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        pieces = re.split("([/.])", row.name)  # with the separators between them
        found.setdefault("".join(pieces[: 2 * depth - 1]), []).append(row)
    return found


# ---- what is said -------------------------------------------------------------------


def _to_dict(content: Content, totals: Sequence[Row]) -> dict[str, Any]:
    values = sum(row.values for row in content.rows)
    return {
        "format": content.format,
        "file_bytes": content.file_bytes,
        "values": values,
        "metadata": dict(content.metadata),
        "tensors": [row._asdict() | {"bits": row.bits} for row in content.rows],
        "totals": [
            {"name": row.name, "values": row.values, "parts": row.parts}
            for row in totals
        ],
    }


def _print(content: Content, totals: Sequence[Row]) -> None:
    _print_rows(content.rows)
    if 1 < len(totals) < len(content.rows):
        print()
        heads = "total of", "values", "bytes", "bits/value"
        common.print_table(
            heads,
            [
                (common.shown_short(row.name), str(row.values), *_size(row))
                for row in totals
            ],
        )
    if content.metadata:
        print()
        for key, text in content.metadata.items():
            short = text if len(text) < 200 else f"{text[:200]}..."
            print(f"{common.shown(key)}: {common.shown(short)}")
    print()
    values = sum(row.values for row in content.rows)
    taken = sum(row.bits for row in content.rows) / 8
    print(f"{len(content.rows)} tensors of {values} values in {taken:.0f} bytes")
    if content.whole and content.format == "dcz":
        rest = content.file_bytes - taken
        print(f"{rest:.0f} bytes of names, containers and metadata")
    bits = ""
    if content.whole and values:
        bits = f", {8 * content.file_bytes / values:.3f} bits a value"
    print(f"{content.file_bytes} bytes on disk{bits}")


def _print_rows(rows: Sequence[Row]) -> None:
    """The tensors; what their bits are spent on too if that is known."""
    decoded = any(row.ideal is not None for row in rows)
    names = list(dict.fromkeys(p for r in rows for p, bits in r.parts.items() if bits))
    heads = ["tensor", "shape", "dtype", "coding"]
    heads += [*names, "entropy"] if decoded else []
    cells = []
    for row in rows:
        shape = "x".join(map(str, row.shape or [])) or "()"
        own = [common.shown_short(row.name), shape, row.dtype or "", row.coding or "-"]
        if decoded:
            own += [_bits(row.parts.get(part, 0), row.values) for part in names]
            own.append(_bits(row.ideal or 0, row.values))
        cells.append([*own, *_size(row)])
    common.print_table([*heads, "bytes", "bits/value"], cells)
    known = {row.coding for row in rows if row.coding}
    if known:
        print()
    for coding in filter(known.__contains__, _CODINGS):
        print(f"{coding}: {_CODINGS[coding]}")
    if decoded:
        print("Parts and the entropy of the codes are in bits a value.")


def _size(row: Row) -> tuple[str, str]:
    return f"{row.bits / 8:.0f}", _bits(row.bits, row.values)


def _bits(bits: float, values: int) -> str:
    return f"{bits / values:.3f}" if values else "-"
