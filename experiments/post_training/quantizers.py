"""Scalar quantizers that others use: integers, NF4, and GPTQ, in rows or in groups.

A matrix is float32 `[out, in]`. A group is some neighboring inputs of one output, which
have a scale in half precision in common: `weight = level of the label * scale`.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

# The levels of NF4: quantiles of a normal distribution, with a zero (Dettmers et al.
# 2023, arXiv 2305.14314, appendix E).
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
        0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
        0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
_DAMPING = 0.01  # of the mean of the Gram matrix's diagonal, as in GPTQ
_BLOCK = 128  # columns after which errors go to all that follow
_SHRINKING = np.linspace(1, 0.4, 25)  # of the largest weight of a group

Scales: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Quantized(NamedTuple):
    """A matrix in few bits.

    Attributes:
        labels: Numbers of levels, int8 `[out, in]`.
        scales: float16 `[out, groups]`; all groups but the last are of one size.
        group: That size.
    """

    labels: np.ndarray
    scales: np.ndarray
    group: int


def integers(bits: int) -> np.ndarray:
    """The levels of symmetric integers; a label is its level."""
    most = 2 ** (bits - 1) - 1
    return np.arange(-most, most + 1, dtype=np.float32)


def dequantize(found: Quantized, levels: np.ndarray) -> np.ndarray:
    """The matrix, float32 `[out, in]`.

    Args:
        found: What was stored of it.
        levels: The levels of the labels, the middle one of which has label 0.
    """
    values = levels[found.labels.astype(np.int32) + (len(levels) - 1) // 2]
    return values * _spread(found.scales, found)


def _spread(scales: np.ndarray, found: Quantized) -> np.ndarray:
    """The scale of each weight."""
    wide = np.repeat(scales.astype(np.float32), found.group, axis=1)
    return wide[:, : found.labels.shape[1]]


def nearest(
    matrix: np.ndarray, levels: np.ndarray, group: int, *, search: bool = False
) -> Quantized:
    """Rounds each weight to the nearest level.

    Args:
        matrix: float32 `[out, in]`.
        levels: Rising, float32.
        group: Weights of a row with a common scale.
        search: Whether scales are those of the least squared error among some, instead
            of such that the largest weight has the largest level.
    """
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % group)))
    groups = padded.reshape(len(matrix), -1, group)
    scales = scales_of(groups, levels, search=search)
    labels = _labels(groups, scales[..., None].astype(np.float32), levels)
    labels = labels.reshape(padded.shape)[:, : matrix.shape[1]]
    return Quantized(np.ascontiguousarray(labels), scales, group)


def scales_of(groups: np.ndarray, levels: np.ndarray, *, search: bool) -> np.ndarray:
    """The scale of each group, float16 `[..., ]`, of weights `[..., group]`."""
    largest = np.abs(groups).max(-1) / levels[-1]
    if not search:
        return largest.astype(np.float16)
    best = largest.astype(np.float16)
    least = np.full(best.shape, np.inf, np.float32)
    for part in _SHRINKING:
        scales = (part * largest).astype(np.float16)
        wide = scales[..., None].astype(np.float32)
        values = levels[_labels(groups, wide, levels) + (len(levels) - 1) // 2] * wide
        errors = np.square(values - groups).sum(-1)
        best = np.where(errors < least, scales, best)
        least = np.minimum(errors, least)
    return best


def _labels(weights: np.ndarray, scales: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The nearest labels, int8; a scale of zero has zeros alone."""
    safe = np.where(scales > 0, scales, np.inf).astype(np.float32)
    between = (levels[1:] + levels[:-1]) / 2
    found = np.searchsorted(between, weights / safe)
    return (found - (len(levels) - 1) // 2).astype(np.int8)


def gptq(
    matrix: np.ndarray, gram: np.ndarray, levels: np.ndarray, group: int
) -> Quantized:
    """Rounds column by column, and lets later columns make up for the errors.

    GPTQ (Frantar et al. 2022, arXiv 2210.17323, algorithm 1), with the scales of least
    squared error: those of rows from the weights as they were, those of groups from
    what the weights are when their first column is reached.

    Args:
        matrix: float32 `[out, in]`.
        gram: Mean of `x x^T` over inputs x, float64 `[in, in]`.
        levels: Rising, float32.
        group: Weights of a row with a common scale.
    """
    weights, width = matrix.astype(np.float32), matrix.shape[1]
    upper = _inverse_factor(gram)
    block = group if group < width else _BLOCK
    labels = np.zeros(matrix.shape, np.int8)
    parts: list[np.ndarray] = []
    for first in range(0, width, block):
        last = min(first + block, width)
        if first == 0 or group < width:
            own = weights[:, first : first + group]
            parts.append(scales_of(own, levels, search=True))
        errors = np.zeros((len(matrix), last - first), np.float32)
        scales = parts[-1].astype(np.float32)
        for j in range(first, last):
            labels[:, j] = _labels(weights[:, j], scales, levels)
            value = levels[labels[:, j] + (len(levels) - 1) // 2] * scales
            errors[:, j - first] = (weights[:, j] - value) / upper[j, j]
            weights[:, j + 1 : last] -= np.outer(
                errors[:, j - first], upper[j, j + 1 : last]
            )
        weights[:, last:] -= errors @ upper[first:last, last:]
    return Quantized(labels, np.stack(parts, 1), group)


def _inverse_factor(gram: np.ndarray) -> np.ndarray:
    """The upper Cholesky factor of the inverse of a damped Gram matrix, float32."""
    damped = gram + np.eye(len(gram)) * max(
        _DAMPING * np.trace(gram) / len(gram), 1e-12
    )
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
