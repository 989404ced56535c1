"""`dcz diff`: what differs between two files."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax.cli import common, signals
from deepcomp_jax.cli.progress import Meter, progress

TROUBLE = 2  # exit status for a bad file: 1 says that two differ
_BLOCK = 1 << 20  # values compared together


class Difference(NamedTuple):
    """How a tensor differs.

    Attributes:
        name: Its name.
        what: In words.
        greatest: The greatest difference of two values, infinite if only one is NaN;
            None if they do not compare.
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
        "--only", type=common.pattern, metavar="REGEX",
        help="compare only tensors of matching names",
    )  # fmt: skip
    common.add_max_bytes(parser)
    common.add_json(parser)
    common.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    signals.load("deepcomp_jax.checkpoints", "deepcomp_jax.device")
    from deepcomp_jax import checkpoints

    with (
        checkpoints.open(args.left, max_bytes=args.max_bytes) as left,
        checkpoints.open(args.right, max_bytes=args.max_bytes) as right,
    ):
        a, b = _chosen(left.leaves, args.only), _chosen(right.leaves, args.only)
        names = sorted(a.keys() | b.keys(), key=common.natural)
        if args.only is not None and not names:
            raise common.UsageError(f"{args.only!r} matches no tensor of either file")
        with progress("diff", quiet=args.quiet) as meter:
            found = list(_differences(names, a, b, meter))
    if args.json:
        common.print_json([difference._asdict() for difference in found])
    elif not args.quiet and found:
        heads = "tensor", "greatest", "relative", "what"
        common.print_table(heads, [_row(difference) for difference in found])
        print(f"{len(found)} of {len(names)} tensors differ")
    return int(bool(found))


def _chosen(leaves: Mapping[str, Any], only: str | None) -> dict[str, Any]:
    return {k: v for k, v in leaves.items() if only is None or re.search(only, k)}


def _row(own: Difference) -> tuple[str, ...]:
    numbers = (f"{x:.3g}" if x is not None else "-" for x in own[2:])
    return common.shown_short(own.name), *numbers, own.what


def _differences(
    names: Sequence[str],
    left: Mapping[str, Any],
    right: Mapping[str, Any],
    meter: Meter,
) -> Iterator[Difference]:
    for name in names:
        if name not in left or name not in right:
            yield Difference(name, f"only in {'B' if name in right else 'A'}")
            continue
        a, b = left[name], right[name]
        meter.one_more(len(names), a.nbytes)
        if a.shape != b.shape:
            yield Difference(name, f"{list(a.shape)} and {list(b.shape)}")
        elif found := _compare(name, np.asarray(a), np.asarray(b)):
            yield found


def _compare(name: str, a: np.ndarray, b: np.ndarray) -> Difference | None:
    """How the values differ, looked at in blocks."""
    same = a.dtype == b.dtype
    if "U" in (a.dtype.kind, b.dtype.kind):  # texts of Orbax and of Flax
        return None if same and (a == b).all() else Difference(name, "texts")
    flat = a.reshape(-1), b.reshape(-1)
    greatest = squares = scale = 0.0
    equal = same
    for first in range(0, a.size, _BLOCK):
        x, y = (own[first : first + _BLOCK] for own in flat)
        if same and x.tobytes() == y.tobytes():
            with np.errstate(invalid="ignore", over="ignore"):
                scale += float(np.square(np.abs(_wide(x))).sum())
            continue
        equal = False
        wide, other = _wide(x), _wide(y)
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.abs(wide - other)
            off = np.where((wide == other) | (np.isnan(wide) & np.isnan(other)), 0, off)
            off = np.where(np.isnan(off), np.inf, off)
            greatest = max(greatest, float(off.max()))
            squares += float(np.square(off).sum())
            scale += float(np.square(np.abs(wide)).sum())
    if equal:
        return None
    what = "values" if same else f"{a.dtype} and {b.dtype}"
    relative = float(squares > 0)
    if not np.isfinite(squares + scale):
        relative = np.inf if squares else 0.0
    elif scale > 0:
        relative = float(np.sqrt(squares / scale))
    return Difference(name, what, greatest, relative)


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
