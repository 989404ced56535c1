"""The codebook of one group of leaves, by any method, and the importance it heeds."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._types import MAX_CODEBOOK
from deepcomp_jax.rules import ShareMethod


def fit(
    group: str,
    leaves: Mapping[str, Any],
    method: ShareMethod,
    importance: Mapping[str, np.ndarray] | None,
) -> np.ndarray:
    """The codebook of a group, strictly ascending, in the dtype of its leaves."""
    dtypes = {leaf.dtype for leaf in leaves.values()}
    if len(dtypes) > 1:
        raise ValueError(
            f"group {group!r} has leaves of dtypes {sorted(map(str, dtypes))}: a "
            "codebook has one dtype; give the rules different groups"
        )
    parts = [np.asarray(leaf).ravel() for leaf in leaves.values()]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    kept = values != 0
    weights = None
    if importance is not None:
        weights = np.concatenate([importance[name].ravel() for name in leaves])[kept]
        if not weights.any():
            weights = None  # all importances are zero: weight values equally
    if not kept.all():
        values = values[kept]
    if not values.size:
        return np.zeros(0, values.dtype)
    # A method may go beyond the range of half precision.
    limits = ml_dtypes.finfo(values.dtype)
    found = np.asarray(method(values, weights), np.float64)
    if not found.size or np.isnan(found).any():
        raise ValueError(
            f"the method of group {group!r} returned "
            f"{'NaN' if found.size else 'no centroids'} for {values.size} weights: a "
            "sharing method must return one number or more"
        )
    found = found.clip(float(limits.min), float(limits.max))
    codebook = np.unique(found.astype(values.dtype))
    if len(codebook) > MAX_CODEBOOK:
        raise ValueError(
            f"the codebook of group {group!r} has {len(codebook)} entries, above "
            f"{MAX_CODEBOOK}: share with fewer clusters"
        )
    return codebook


def weighted(
    leaves: Mapping[str, Any], importance: Any
) -> dict[str, np.ndarray] | None:
    """The importance of leaves, by name; None if there is none.

    Args:
        leaves: By name, some or all of those of a network.
        importance: In the structure of that network, or None.

    Raises:
        ValueError: A leaf has no importance or one of another shape, or it holds
            negative values, NaN or infinity.
    """
    if importance is None:
        return None
    named = trees.named_leaves(importance)
    found: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        if name not in named:
            raise ValueError(
                f"there is no importance for leaf {name!r}: give it in the structure "
                "of the network, or choose other leaves"
            )
        found[name] = own = np.asarray(named[name])
        if own.shape != np.shape(leaf):
            raise ValueError(
                f"the importance of leaf {name!r} has shape {own.shape}, the leaf "
                f"{np.shape(leaf)}"
            )
        if not (np.isfinite(own).all() and (own >= 0).all()):
            raise ValueError(
                f"the importance of leaf {name!r} is negative, NaN or infinite "
                "somewhere: give mean squared gradients, or the like"
            )
    return found
