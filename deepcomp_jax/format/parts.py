"""How a large leaf is divided into parts, each with a body of its own.

Parts bound the memory of a writer and a reader whatever the size of a leaf, let a
machine work on several at once, and let a slice of a leaf be read without most of the
rest. How a leaf is divided follows from its shape, so that a file need not say it
(C58): one of more than `MOST` values is cut along its leading axes, taken together as
one, into parts of as many indices as have at most `MOST` values.

    shape                  parts       shape of each
    [512, 512]             1           [512, 512]
    [4096, 4096]           4           [1024, 4096]
    [24, 1024, 4096]       24          [1, 1024, 4096]
    [50000, 384]           5           [10922, 384], the last one [6312, 384]
    [2, 3000, 4096]        6           [1024, 4096], the last one [880, 4096]
"""

import math
from typing import NamedTuple

MOST = 1 << 22  # values of a part


class Parts(NamedTuple):
    """The parts of a leaf.

    Attributes:
        rows: Indices of the leading axes, taken together as one.
        step: Indices in each part; the last one may have fewer.
        inner: The shape of what is at one index; for a leaf in one part, `rows` and
            `step` are 1 and this is its whole shape.
        stacked: Whether the leaf is in parts by its leading axes, so that the shape of
            a part begins with a number of indices.
    """

    rows: int
    step: int
    inner: tuple[int, ...]
    stacked: bool

    @property
    def number(self) -> int:
        """How many parts there are."""
        return -(-self.rows // self.step)

    @property
    def row_size(self) -> int:
        """Values at one index."""
        return math.prod(self.inner)

    @property
    def largest(self) -> int:
        """Values of the largest part."""
        return self.step * self.row_size

    def shape(self, part: int) -> tuple[int, ...]:
        """The shape of a part, as the codings see it."""
        if not self.stacked:
            return self.inner
        return min(self.step, self.rows - part * self.step), *self.inner

    def span(self, part: int) -> slice:
        """Which of the values of the leaf, flattened, are in a part."""
        first = part * self.step * self.row_size
        return slice(first, first + math.prod(self.shape(part)))


def divide(shape: tuple[int, ...]) -> Parts:
    """The parts of a leaf of this shape.

    Examples:
        >>> from deepcomp_jax.format import parts
        >>> found = parts.divide((50000, 384))
        >>> found.number, found.shape(0), found.shape(4)
        (5, (10922, 384), (6312, 384))
    """
    if math.prod(shape) <= MOST:
        return Parts(1, 1, shape, stacked=False)
    row_size, axis = 1, len(shape)
    while row_size * shape[axis - 1] <= MOST:
        axis -= 1
        row_size *= shape[axis]
    rows = math.prod(shape[:axis])
    return Parts(rows, MOST // row_size, shape[axis:], stacked=True)
