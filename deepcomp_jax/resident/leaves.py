"""Leaves in the memory of a device: pytrees that decode themselves.

Decoding is `jax.numpy` of fixed shapes, and so can be part of any program.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax._types import Scales
from deepcomp_jax.format import scales
from deepcomp_jax.format.scales import Split
from deepcomp_jax.resident import lane_loop, lanes
from deepcomp_jax.resident.leaf import ResidentLeaf

_WORTH_CODING = 1 << 12  # values; fewer than its table has remainders cost too much
_TOO_MANY = 1 << 31  # values, or their words are not counted by 32 bits

_Change: TypeAlias = Callable[[Any], Any]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True, eq=False)
class PlainLeaf(ResidentLeaf):
    """A leaf that has no labels, or too few for coding to make it smaller.

    Attributes:
        values: The values.
    """

    values: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of the values."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self.values.dtype

    def __repr__(self) -> str:
        return f"PlainLeaf({self.dtype}{list(self.shape)})"

    def decode(self) -> jax.Array:
        """The values."""
        return self.values

    def layers(self) -> "PlainLeaf":
        """The same leaf, for a scan slices its values."""
        self._check_axes()
        return self


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "words", "states", "starts", "sizes", "frequencies", "values", "rows", "columns"
    ],
    meta_fields=["shape", "split"],
)  # fmt: skip
@dataclasses.dataclass(frozen=True, eq=False)
class CodedLeaf(ResidentLeaf):
    """A leaf whose labels are rANS lanes, one or more for each row.

    Attributes:
        words, states, starts, sizes, frequencies: The lanes, see `lanes.Lanes`.
        values: What each label stands for, [entries + 1].
        rows: The bits of the exponents of rows, uint8, in the shape of the axes before
            `split.split`; None without scales.
        columns: Those of columns, of the axes before `split.batch` and those from
            `split.split` on.
        shape: Of the values.
        split: Where the scales divide the axes.
    """

    words: jax.Array
    states: jax.Array
    starts: jax.Array
    sizes: jax.Array
    frequencies: jax.Array
    values: jax.Array
    rows: jax.Array | None
    columns: jax.Array | None
    shape: tuple[int, ...]
    split: Split

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self.values.dtype

    def __repr__(self) -> str:
        return f"CodedLeaf({self.dtype}{list(self.shape)})"

    def decode(self) -> jax.Array:
        """The values, decoded a symbol of every lane at a time."""
        words, starts = lane_loop.flat(self.words, self.starts)
        ends = starts + self.sizes.astype(jnp.int32)
        steps = self.size // max(self.states.size, 1)
        entries = lane_loop.take(
            words,
            self.states.reshape(-1),
            (starts.reshape(-1), ends.reshape(-1)),
            self.frequencies,
            self.values,
            steps,
        ).reshape(self.shape)
        if self.rows is None or self.columns is None:
            return entries
        batch, split = self.split
        table = jnp.asarray(scales.TABLE)
        rows = table[self.rows].reshape(*self.shape[:split], *[1] * (self.ndim - split))
        between = [1] * (split - batch)
        columns = table[self.columns].reshape(
            *self.shape[:batch], *between, *self.shape[split:]
        )
        return (entries.astype(jnp.float32) * rows * columns).astype(self.dtype)

    @property
    def has_rows(self) -> bool:
        """Whether `at` can look up indices of the first axis."""
        return self.states.ndim > 1

    def at(self, indices: jax.Array | np.ndarray) -> "CodedLeaf":
        """What is at some indices of the first axis, coded as it is.

        Args:
            indices: Whole numbers in bounds, of any shape.

        Returns:
            A leaf of the shape [*indices.shape, *shape[1:]].
        """
        words, starts = lane_loop.flat(self.words, self.starts)
        flat = dataclasses.replace(self, words=words, starts=starts)
        return flat._mapped(
            lambda own: jnp.take(own, indices, axis=0, mode="clip"),
            (*np.shape(indices), *self.shape[1:]),
        )

    def after(self, nought: jax.Array) -> "CodedLeaf":
        """The same leaf, which is decoded once a zero, uint32, is known."""
        return dataclasses.replace(self, states=self.states + nought)

    def layers(self) -> ResidentLeaf:
        """The same by indices of the first axis: the `xs` of a `jax.lax.scan`.

        A leaf of one or two axes is decoded for it as a whole: its rows are no layers.
        """
        self._check_axes()
        if self.ndim < 3:
            return PlainLeaf(self.decode())
        length = self.shape[0]
        return self._mapped(
            lambda own: own,
            self.shape[1:],
            lambda own: jnp.broadcast_to(own, (length, *own.shape)),
        )

    def _mapped(
        self, change: _Change, shape: tuple[int, ...], share: _Change = lambda own: own
    ) -> "CodedLeaf":
        """The same leaf with its arrays changed.

        Args:
            change: Is called with arrays that have the first axis of the leaf.
            shape: Of the leaf then.
            share: Is called with all others.
        """
        batch, split = self.split
        more = len(shape) - self.ndim
        in_words, in_rows = self.words.ndim > 1, split > 0
        in_columns = batch > 0 or split == 0

        def scaled(own: jax.Array | None, has_axis: bool) -> jax.Array | None:
            return own if own is None else (change if has_axis else share)(own)

        return CodedLeaf(
            (change if in_words else share)(self.words),
            change(self.states),
            change(self.starts),
            change(self.sizes),
            share(self.frequencies),
            share(self.values),
            scaled(self.rows, in_rows),
            scaled(self.columns, in_columns),
            shape,
            Split(batch + more * (batch > 0), split + more * (split > 0)),
        )


def code(
    labels: np.ndarray, lookup: np.ndarray, scaled: Scales | None
) -> CodedLeaf | None:
    """Codes the labels of a leaf again, in memory of the host.

    Args:
        labels: In the shape of the leaf.
        lookup: What each label stands for, [entries + 1], in a dtype that JAX has.
        scaled: The scales of its rows and columns, if there are any.

    Returns:
        The leaf, its arrays NumPy's; None if it would take no less than its values, is
        so small that tables take longer than values, or has too many values or entries.
    """
    fits = _WORTH_CODING <= labels.size < _TOO_MANY
    if not fits or lookup.size > lanes.MAX_ENTRIES + 1:
        return None
    shape, rows, columns, divided = labels.shape, None, None, Split(0, 0)
    if scaled is not None:
        batch, split, *exponents = scaled
        divided = Split(batch, split)
        rows, columns = (own.view(np.uint8) for own in exponents)
        rows = rows.reshape(shape[:split])
        columns = columns.reshape(shape[:batch] + shape[split:])
    arrays: Any = *lanes.encode(labels, lookup.size - 1), lookup, rows, columns
    leaf = CodedLeaf(*arrays, shape=shape, split=divided)
    return leaf if leaf.nbytes < leaf.dense_nbytes else None
