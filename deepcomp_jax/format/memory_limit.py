"""The memory that decoding takes, and its limit (C31)."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from deepcomp_jax._errors import FormatError
from deepcomp_jax.format.leaf_header import Layout
from deepcomp_jax.format.records import Entry

MAX_BYTES = 1 << 32  # of memory, if the caller does not say otherwise
SCRATCH = 8  # bytes that decoding takes for a value of a part, besides the value


def check_max_bytes(max_bytes: Any) -> None:
    """Rejects a limit of memory or of a file that is no number.

    Raises:
        TypeError: It is something else, such as "1 GB".
    """
    if not isinstance(max_bytes, numbers.Real):
        raise TypeError(
            f"max_bytes is a number of bytes, such as 2**30, got {max_bytes!r}"
        )


def check(leaves: Iterable[Entry], max_bytes: int) -> None:
    """Rejects leaves whose values would take too much memory.

    Args:
        leaves: Those that are to be decoded, one after the other.
        max_bytes: What their values, and what decoding takes meanwhile, may take.

    Raises:
        FormatError: C31.
    """
    layouts = [entry.layout for entry in leaves]
    values = sum(_bytes(layout, None) for layout in layouts)
    largest = max((layout.largest for layout in layouts), default=0)
    _check_bytes(values, largest, max_bytes)


def check_slice(layout: Layout, rows: slice, max_bytes: int) -> None:
    """Rejects a slice of a leaf whose values would take too much memory.

    Args:
        layout: Of the leaf.
        rows: The indices of its first axis.
        max_bytes: As for `check`.

    Raises:
        FormatError: C31.
    """
    _check_bytes(_bytes(layout, rows), layout.largest, max_bytes)


def taken(layout: Layout, rows: slice | None) -> int:
    """The memory that a leaf takes while it is decoded, as C31 counts it.

    Args:
        layout: Of the leaf.
        rows: The indices of its first axis that are asked for; None for all.
    """
    return _bytes(layout, rows) + SCRATCH * layout.largest


def _bytes(layout: Layout, rows: slice | None) -> int:
    """Those of the values that are asked for, and of all exponents."""
    size = layout.size
    if rows is not None:
        size = (rows.stop - rows.start) * math.prod(layout.shape[1:])
    return size * layout.dtype.itemsize + layout.exponents


def _check_bytes(values: int, largest: int, max_bytes: int) -> None:
    """Rejects bytes of values, and those that decoding the largest part takes."""
    total = values + SCRATCH * largest
    if total > max_bytes:
        raise FormatError(
            f"the values take {values} bytes, {total} with those that decoding takes, "
            f"above max_bytes={max_bytes}: allow more if you trust the file",
            offset=0,
            clause="C31",
        )
