"""Classes of the indices of axes, in a stream whose models learn from what they coded.

    classes = varint axes | for each axis in `axes` (bit a for axis a): u8 most,
              varint context | rANS stream of one lane, if there is an axis

Format notes:

- The stream holds the class of each index, axis after axis; classes are 0 to `most`.
- With context = 2 d + p the *neighborhood* of an index i is the class of index i - d,
  if d > 0, plus that of index i - 1, if p is 1; classes before the first count 0.
- A class seen n times in a neighborhood of that sum, of N classes seen there, is
  expected with a share of 4 n + 1 in 4 N + most + 1: see `Learner`.

A pixel's density resembles its neighbors', beside it and a row above, and that of
a channel resembles the same channel's one pixel before: hence the distance.
"""

import functools
import itertools
import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common, grouping
from deepcomp_jax.codings.grouping import Classes
from deepcomp_jax.streams import bits, rans

# Both bound the time of a reader: some microseconds an index, more for more classes.
MAX_INDICES = 1 << 16  # of all axes that have classes
MAX_CLASS = 15
_GAIN = 4  # of a count, when its class is seen
_MAX_DISTANCE = 1024
_FEW = 3  # distances that are looked at closely


class Learner:
    """Models of the classes of an axis, which learn.

    Attributes:
        most: The greatest class.
        seen: The classes so far.
    """

    def __init__(self, most: int, context: int) -> None:
        self.most = most
        self.seen: list[int] = []
        self._distance, self._beside = divmod(context, 2)
        self._size = most + 1
        self._spare = rans.TOTAL - self._size  # each class has one at least
        self._counts: dict[int, list[int]] = {}

    def find(self, remainder: int) -> tuple[int, int]:
        """Start and frequency of the next class, which is that of a remainder."""
        counts = self._here()
        sums = list(itertools.accumulate(counts, initial=0))
        starts = [c + self._spare * below // sums[-1] for c, below in enumerate(sums)]
        symbol = bisect_right(starts, remainder) - 1
        self._learn(counts, symbol)
        return starts[symbol], starts[symbol + 1] - starts[symbol]

    def _here(self) -> list[int]:
        """The counts of the next class's neighborhood."""
        seen, around = self.seen, 0
        if self._beside and seen:
            around = seen[-1]
        if 0 < self._distance <= len(seen):
            around += seen[-self._distance]
        return self._counts.setdefault(around, [1] * self._size)

    def _learn(self, counts: list[int], symbol: int) -> None:
        counts[symbol] += _GAIN
        self.seen.append(symbol)


# ---- writing ------------------------------------------------------------------------


def put(classes: Classes) -> bytes:
    """Writes classes, of each axis uint8[n] or None if all are 0."""
    present = {axis: given for axis, given in enumerate(classes) if given is not None}
    head = bits.put_varint(sum(1 << axis for axis in present))
    if not present:
        return head
    found: list[tuple[int, int]] = []
    for given in present.values():
        most, (context, _) = int(given.max()), choose(given)
        head += bytes([most]) + bits.put_varint(context)
        found += intervals(given, most, context)
    return head + rans.encode_each(found)


def intervals(
    classes: NDArray[np.uint8], most: int, context: int
) -> list[tuple[int, int]]:
    """Start and frequency of each class of an axis: what `Learner.find` finds.

    Args:
        classes: uint8[n], n > 0.
        most: The greatest class that there may be.
        context: The context.
    """
    around, size = _around(classes, context), most + 1
    order = np.argsort(around, kind="stable")
    own = classes[order].astype(np.int64)[:, None]
    is_class = own == np.arange(size)
    seen = np.cumsum(is_class, axis=0) - is_class
    first = np.append(True, np.diff(around[order]) != 0)  # of each neighborhood
    seen -= seen[first].repeat(np.diff(np.append(np.flatnonzero(first), own.size)), 0)
    counts = 1 + _GAIN * seen
    sums = np.cumsum(counts, axis=1)
    spare = rans.TOTAL - size
    above = np.take_along_axis(sums, own, 1)
    below = above - np.take_along_axis(counts, own, 1)
    starts, ends = (spare * part // sums[:, -1:] for part in (below, above))
    found = np.empty((own.size, 2), np.int64)
    found[order] = np.hstack([own + starts, 1 + ends - starts])
    return [(start, frequency) for start, frequency in found.tolist()]


def _around(classes: NDArray[np.uint8], context: int) -> NDArray[np.int64]:
    """The neighborhood of each class."""
    distance, beside = divmod(context, 2)
    around = np.zeros(classes.size, np.int64)
    if beside:
        around[1:] += classes[:-1]
    if distance:
        around[distance:] += classes[:-distance]
    return around


def choose(classes: NDArray[np.uint8]) -> tuple[int, float]:
    """The best context for the classes of an axis, and about how many bits they take.

    Args:
        classes: uint8[n], n > 0.
    """
    last = min(classes.size // 2, _MAX_DISTANCE)
    # Products of classes a distance apart, whole numbers: the same everywhere.
    centered = 16 * classes.astype(np.int64)
    centered -= int(centered.sum()) // classes.size
    spectrum = np.fft.rfft(centered, 2 * classes.size)
    products = np.rint(np.fft.irfft(spectrum * spectrum.conj()))[2 : last + 1]
    alike = products / (classes.size - np.arange(2, last + 1))
    near = (np.argsort(-alike, kind="stable")[:_FEW] + 2).tolist()
    contexts = [0, 1, *(2 * d + p for d in near for p in (0, 1))]
    prices = [_price(classes, context) for context in contexts]
    best = int(np.argmin(prices))
    return contexts[best], prices[best]


def _price(classes: NDArray[np.uint8], context: int) -> float:
    """Bits of classes by models that learn, but for the rounding to frequencies.

    The shares of a neighborhood multiply to one of gamma functions, in any order.
    """
    around, size = _around(classes, context), int(classes.max()) + 1
    counts = np.bincount(
        around * size + classes, minlength=size * (int(around.max()) + 1)
    )
    counts = counts.reshape(-1, size)
    each, all_of_them = 1 / _GAIN, size / _GAIN
    shares = _log_gammas(each, classes.size)[counts].sum()
    shares -= counts.size * math.lgamma(each)
    shares -= _log_gammas(all_of_them, classes.size)[counts.sum(axis=1)].sum()
    shares += len(counts) * math.lgamma(all_of_them)
    return float(-shares / math.log(2))


@functools.lru_cache(maxsize=64)
def _log_gammas(first: float, most: int) -> NDArray[np.float64]:
    """The logarithms of the gamma function at `first + n`, for n up to `most`."""
    return np.array([math.lgamma(first + n) for n in range(most + 1)])


# ---- reading ------------------------------------------------------------------------


def count_indices(data: bytes, shape: tuple[int, ...]) -> int:
    """How many indices have classes, by the start of a body; 0 if it is corrupt."""
    try:
        _, axes = bits.get_varint(data, 0, clause="C3")
    except FormatError:  # whoever reads the body says so
        return 0
    return sum(size for axis, size in enumerate(shape) if axes >> axis & 1)


def get(data: bytes, shape: tuple[int, ...]) -> tuple[int, Classes]:
    """Reads classes of the axes of a leaf from the start of a body.

    Returns:
        The position after them, and what `put` was given.

    Raises:
        FormatError: L1, L8, L9, L18, L20, C3, or a clause of the stream (E).
    """
    pos, axes = bits.get_varint(data, 0, clause="C3")
    if axes.bit_length() > len(shape):
        raise FormatError("no such axis", offset=0, clause="L8")
    present = [axis for axis in range(len(shape)) if axes >> axis & 1]
    if sum(shape[axis] for axis in present) > MAX_INDICES:
        raise FormatError(
            f"axes of more than {MAX_INDICES} indices have classes",
            offset=0,
            clause="L18",
        )
    if not present:
        return pos, (None,) * len(shape)
    pos, learners = _get_learners(data, pos, present)
    end, state = rans.begin(data, pos)
    for axis, learner in learners.items():
        state = rans.take_each(state, learner.find, shape[axis])
    rans.finish(state)
    classes: list[NDArray[np.uint8] | None] = [None] * len(shape)
    for axis, learner in learners.items():
        if max(learner.seen) != learner.most:
            raise FormatError(
                f"no index of axis {axis} has class {learner.most}, its greatest",
                offset=pos,
                clause="L20",
            )
        classes[axis] = np.array(learner.seen, np.uint8)
    return end, tuple(classes)


def _get_learners(
    data: bytes, pos: int, present: list[int]
) -> tuple[int, dict[int, Learner]]:
    """The position after what is said of the axes with classes, and their models."""
    learners: dict[int, Learner] = {}
    groups = 1
    for axis in present:
        at, (pos, most) = pos, common.get_byte(data, pos)
        groups += most
        if not 0 < most <= MAX_CLASS or groups > grouping.MAX_GROUPS:
            raise FormatError(
                f"an axis of {most + 1} classes, {groups} groups so far",
                offset=at,
                clause="L9",
            )
        pos, context = bits.get_varint(data, pos, clause="C3")
        learners[axis] = Learner(most, context)
    return pos, learners
