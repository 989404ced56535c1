"""`dcz diff`: what differs between two files."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import checkpoints, trees
from deepcomp_jax.cli import common

TROUBLE = 2  # exit status for a bad file: 1 says that two differ
_BLOCK = 1 << 20  # values compared together


class Difference(NamedTuple):
    """How a tensor differs.

    Attributes:
        name: Its name.
        what: In words.
        greatest: The greatest difference of two values; None if they do not compare.
        relative: Root mean square of the differences, over that of the first's values.
    """

    name: str
    what: str
    greatest: float | None = None
    relative: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = (
        "The exit status is 0 if names, shapes, dtypes and all bits are the same, 1 if "
        "not, and 2 if a file cannot be read."
    )
    parser.add_argument("left", metavar="A", type=Path)
    parser.add_argument("right", metavar="B", type=Path)
    parser.add_argument(
        "--only", metavar="REGEX", help="compare only tensors of matching names"
    )
    common.add_json(parser)
    common.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    with checkpoints.open(args.left) as left, checkpoints.open(args.right) as right:
        if args.only is None:
            sides = left.leaves, right.leaves
        else:
            sides = tuple(
                trees.named_leaves(common.chosen(own.tree, args.only))
                for own in (left, right)
            )
        found = list(_differences(*sides))
    if args.json:
        common.print_json([difference._asdict() for difference in found])
    elif not args.quiet and found:
        heads = "tensor", "greatest", "relative", "what"
        common.print_table(heads, [_row(difference) for difference in found])
    return int(bool(found))


def _row(own: Difference) -> tuple[str, ...]:
    numbers = (f"{x:.3g}" if x is not None else "-" for x in own[2:])
    return common.shown(own.name), *numbers, own.what


def _differences(left: dict[str, Any], right: dict[str, Any]) -> Iterator[Difference]:
    for name in sorted(left.keys() | right.keys(), key=common.natural):
        if name not in left or name not in right:
            where = "B" if name in right else "A"
            yield Difference(name, f"only in {where}")
            continue
        a, b = left[name], right[name]
        if a.shape != b.shape:
            yield Difference(name, f"{list(a.shape)} and {list(b.shape)}")
        elif found := _compare(name, np.asarray(a), np.asarray(b)):
            yield found


def _compare(name: str, a: np.ndarray, b: np.ndarray) -> Difference | None:
    """How the values differ, looked at in blocks."""
    same = a.dtype == b.dtype
    flat = a.reshape(-1), b.reshape(-1)
    greatest = squares = scale = 0.0
    equal = same
    for first in range(0, a.size, _BLOCK):
        x, y = (own[first : first + _BLOCK] for own in flat)
        if same and x.tobytes() == y.tobytes():
            scale += float(np.square(np.abs(_wide(x))).sum())
            continue
        equal = False
        wide, other = _wide(x), _wide(y)
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.abs(wide - other)
            off = np.where((wide == other) | (np.isnan(wide) & np.isnan(other)), 0, off)
            greatest = max(greatest, float(np.nan_to_num(off, nan=np.inf).max()))
            squares += float(np.square(off).sum())
            scale += float(np.square(np.abs(wide)).sum())
    if equal:
        return None
    what = "values" if same else f"{a.dtype} and {b.dtype}"
    relative = float(np.sqrt(squares / scale)) if scale > 0 else float(squares > 0)
    return Difference(name, what, greatest, relative)


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
