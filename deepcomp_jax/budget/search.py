"""The best network in a number of bytes, and the smallest file within an error.

Both search lambda, the price of a bit, and look at the file that would be written.
Histograms say how many bits more or fewer another lambda takes, so that two or three
looks are enough.

With importance, labels are chosen by rate and distortion (`rate.quantize`). Without,
weights go to the nearest multiples of steps that are relative to their leaf, and to
its rows and columns, as in `plan`: where nobody knows which weights matter, to make
many a little smaller does harm that no squared error shows.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from deepcomp_jax import api, trees
from deepcomp_jax._types import Compressed, Progress
from deepcomp_jax.api.compression import check_arrays
from deepcomp_jax.budget.calibrated import calibrated
from deepcomp_jax.budget.looks import Looks, Point, Search, point_at
from deepcomp_jax.budget.on_grids import on_grids
from deepcomp_jax.budget.plans import warn_of_kept
from deepcomp_jax.calibration import Calibration
from deepcomp_jax.rate import grids
from deepcomp_jax.rate.planning import TooFewBytes
from deepcomp_jax.rules import Rule

_USED = 0.995  # fraction of the bytes at which a search for them ends
_AIM = 0.998  # fraction that is looked for, and met from 0.1 % below
_CLOSE = 5e-4  # logarithm of the ratio of two steps at which any search ends
_LOOKS = 40  # a search ends after so many files in any case
_TRUSTED = 6  # looks at which histograms say where to look next


def _search(
    variables: Any,
    rules: Sequence[Rule] | None,
    importance: Any,
    calibration: Calibration | None,
    progress: Progress | None = None,
) -> Search:
    check_arrays(trees.named_leaves(variables))
    if calibration is None:
        return on_grids(variables, rules, importance)
    if importance is not None:
        raise ValueError("a calibration is an importance: give one of them")
    if not isinstance(calibration, Calibration):
        raise TypeError(
            "a calibration is what dc.calibrate returns, or dc.calibration.load of a "
            f"file, got {type(calibration).__name__}"
        )
    return calibrated(variables, rules, calibration, progress)


def point(
    variables: Any,
    rules: Sequence[Rule] | None = None,
    *,
    rd_lambda: float,
    importance: Any = None,
    calibration: Calibration | None = None,
) -> Point:
    """The network at one lambda; a sweep over several gives the curve.

    Args:
        variables, rules, importance: As for `rate.quantize`, but that without
            importance labels are the nearest.
        calibration: As for `within_bytes`.
        rd_lambda: What a bit costs, in the unit of importance times squared error; in
            that of squared errors relative to the leaf's mean magnitude if there is no
            importance. A step of d times that suits `rate.lambda_for_step(d, 1.0)`.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import budget
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> sizes = [budget.point(params, rd_lambda=x).file_bytes for x in (0.01, 0.1)]
        >>> sizes[0] > sizes[1]
        True
    """
    if not 0 < rd_lambda < math.inf:
        raise ValueError(f"rd_lambda must be positive and finite, got {rd_lambda}")
    step = grids.step_for_lambda(rd_lambda)
    search = _search(variables, rules, importance, calibration)
    log_step = math.log(step)
    return point_at(log_step, search.compressed(log_step))


def within_bytes(
    variables: Any,
    max_bytes: int,
    rules: Sequence[Rule] | None = None,
    *,
    importance: Any = None,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> Point:
    """The network of least distortion whose file has at most so many bytes.

    The search ends when 99.5 % of the bytes are used or no lambda comes nearer: a file
    of a hundred bytes jumps by more, and no grid has more than 1000 entries. Where
    bytes are left, and are enough for every bit of the network, nothing is changed.

    Args:
        variables: Any pytree of arrays.
        max_bytes: Of the file, with everything in it.
        rules: Which leaves are quantized, as for `rate.quantize`; by default the
            weights of products and tables.
        importance: As for `rate.quantize`; None gives each leaf the same error relative
            to itself, tables, rows and columns as much more or less as `plan` does, and
            labels that are the nearest. With mean squared gradients small files are
            often better, but not always: measure both.
        calibration: What `dc.calibrate` found, in place of an importance: rounds
            weights with feedback, on steps of rows and columns, which needs the fewest
            bytes without retraining. Rules are patterns of leaves then; by default all
            floating leaves are quantized, those that nothing is multiplied with to 8
            significant bits.
        progress: Is called as that of `dc.write` is, for each file that the search
            looks at anew: after each leaf that is written, and with a calibration
            before that after each that is rounded.

    Raises:
        TooFewBytes: No steps make a file so small. (It is a ValueError too.)
        ValueError: The calibration is of another network.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import budget
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (100, 100))}
        >>> found = budget.within_bytes(params, 3000)
        >>> 2950 < found.file_bytes <= 3000
        True
    """
    (found,) = curve(
        variables, [max_bytes], rules, importance=importance, calibration=calibration,
        progress=progress,
    )  # fmt: skip
    return found


def curve(
    variables: Any,
    max_bytes: Sequence[int],
    rules: Sequence[Rule] | None = None,
    *,
    importance: Any = None,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> list[Point]:
    """What `within_bytes` finds for several sizes, having looked at all else once.

    Args:
        variables, rules, importance, calibration, progress: As for `within_bytes`.
        max_bytes: Of each file.

    Raises:
        ValueError: No lambda makes a file as small as one of them.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import budget
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> [point.file_bytes <= 2000 for point in budget.curve(params, [1000, 2000])]
        [True, True]
    """
    sizes = list(max_bytes)
    for most in sizes:
        if not isinstance(most, numbers.Integral):
            raise TypeError(f"max_bytes is a whole number of bytes, got {most!r}")
    search = _search(variables, rules, importance, calibration, progress)
    looks = Looks(search, progress)
    found = [file_within(looks, most) for most in sizes]
    pairs = zip(found, sizes, strict=True)
    spare = [point.file_bytes < _USED * most for point, most in pairs]
    if any(spare):
        whole = _unchanged(variables, progress)
        found = [
            whole if has_spare and whole.file_bytes <= most else point
            for point, has_spare, most in zip(found, spare, sizes, strict=True)
        ]
    if rules is None:
        for most in sizes:
            warn_of_kept(variables, looks.stored, most)
    return found


def _unchanged(variables: Any, progress: Progress | None) -> Point:
    """The network with every bit of it."""
    compressed = api.compress(variables, [])
    data = api.dumps(compressed, progress=progress)
    return Point(0.0, len(data), compressed, data)


def file_within(looks: Looks, max_bytes: int) -> Point:
    """The file of a network of at most so many bytes, see `within_bytes`."""
    low, high = looks.ends
    more: Point | None = None
    best: Point | None = None
    at = looks.find(_AIM * max_bytes)
    for look in range(_LOOKS):
        found = looks.file(at)
        if found.file_bytes <= max_bytes:
            high, best = at, found
        elif at < high:
            low, more = at, found
        else:
            raise TooFewBytes(max_bytes, found.file_bytes)
        if best and (best.file_bytes >= _USED * max_bytes or high - low < _CLOSE):
            break
        at = looks.find(_AIM * max_bytes)
        if more and best and (look > _TRUSTED or not low < at < high):
            at = (low + high) / 2
        at = min(max(at, low), high)
    assert best is not None  # at the greatest step there is a file, or an error
    return best


def within_error(
    variables: Any,
    error: Callable[[Any], float],
    max_error: float,
    rules: Sequence[Rule] | None = None,
    *,
    importance: Any = None,
    calibration: Calibration | None = None,
) -> Point:
    """The smallest file whose network has at most an error.

    Args:
        variables: Any pytree of arrays.
        error: Maps the variables decoded from a file, with NumPy arrays in the
            containers of `variables`, to a number, such as the error on validation
            data. Called about twenty times.
        max_error: The most that `error` may return.
        rules: Which leaves are quantized, as for `rate.quantize`; by default the
            weights of products and tables.
        importance, calibration: As for `within_bytes`.

    Raises:
        ValueError: No steps give so small an error, or it is NaN at the finest ones.
        TypeError: The error is no number.

    Examples:
        >>> import jax, jax.numpy as jnp, deepcomp_jax as dc
        >>> from deepcomp_jax import budget
        >>> kernel = jax.random.normal(jax.random.key(0), (100, 100))
        >>> error = lambda decoded: float(jnp.square(decoded["kernel"] - kernel).mean())
        >>> found = budget.within_error({"kernel": kernel}, error, 0.01)
        >>> found.file_bytes < 6000, error(dc.decompress(found.compressed)) <= 0.01
        (True, True)
    """
    search = _search(variables, rules, importance, calibration)
    good, bad = search.ends

    def measured(found: Compressed) -> float:
        decoded = trees.named_leaves(api.decompress(found))
        return _number(error(trees.rebuild(variables, decoded)))

    best = search.compressed(good)
    least = measured(best)
    if math.isnan(least):
        raise ValueError(
            "the error is NaN at the finest steps: see whether the network itself has "
            "one that is a number"
        )
    if least > max_error:
        raise ValueError(
            f"the error is {least:g} at the finest steps, above {max_error:g}: allow "
            "more, or see whether the network itself has less"
        )
    for _ in range(_LOOKS):
        if bad - good < 10 * _CLOSE:
            break
        middle = (good + bad) / 2
        found = search.compressed(middle)
        if measured(found) <= max_error:
            good, best = middle, found
        else:
            bad = middle
    return point_at(good, best)


def _number(error: Any) -> float:
    """What a function for an error returned."""
    try:
        return float(error)
    except (TypeError, ValueError):
        raise TypeError(
            f"error must return one number, got {error!r:.80}: return a float"
        ) from None
