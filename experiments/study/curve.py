"""The curve of size and error: grids at several prices of a bit.

Each point begins from the pruned network before any sharing, with its BatchNorms
folded, and is not trained again. Sizes are those of real files.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from deepcomp_jax import Rule, api, budget, rate, share
from experiments.study import sharing
from experiments.study.stages import Study, folded
from experiments.training.runs import Row
from experiments.training.train import normalize, split

BATCHES = 64  # whose gradients are squared
BATCH = 16  # images in each of them
SMOOTHING = 0.2  # this part of a leaf's mean importance is added to that of each weight


def measure(study: Study, variables: Any, shared: share.SharedWeights) -> None:
    """Logs a row for each step of the grids: bytes, and the error on `watch`.

    Args:
        study: The run.
        variables: The pruned network.
        shared: What the study itself made of the network.
    """
    steps = study.config.steps
    if not steps:
        return
    size = sharing.file_bytes(study.config, shared)
    weights = folded(study, variables)
    squares: list[Any] = []

    def look(step: float) -> Row:
        if not squares:  # a run that has all points already needs no gradients
            squares.append(importance(study, weights))
        scale = mean_square(weights["params"], squares[0]["params"])
        rd_lambda = rate.lambda_for_step(step, scale)
        point = budget.point(
            weights, [Rule("^params/")], rd_lambda=rd_lambda, importance=squares[0]
        )
        return {
            "penalty": rd_lambda,
            "bytes": point.file_bytes,
            "watch_error": study.error(api.decompress(point.compressed)),
        }

    for step in steps:
        study.run.measure(f"curve-{step:g}", partial(look, step))
    study.run.measure(
        "curve-study",
        lambda: {"bytes": size, "watch_error": study.error(share.lookup(shared))},
    )


def mean_square(weights: Any, importance: Any) -> float:
    """The mean of importance times square over the weights that are not zero."""
    kept = sum(jnp.count_nonzero(w) for w in jax.tree.leaves(weights))
    products = jax.tree.map(lambda w, i: (i * w**2).sum(), weights, importance)
    return float(sum(jax.tree.leaves(products)) / kept)


def importance(study: Study, variables: Any) -> Any:
    """Measures how much the logits change with each weight, as smoothed mean squares.

    The gradients of the loss would vanish for a network that has learnt its images by
    heart. So these are gradients of the logits, added up with random signs, whose
    squares are on average those of the Jacobian.

    Args:
        study: The run, for its network and data.
        variables: The variables of the network.

    Returns:
        The importance of each weight, in the structure of `variables`, and zeros for
        what is not trained.
    """
    weights, rest = split(variables)

    def project(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, key = batch
        logits = jnp.asarray(
            study.model.apply(rest | {"params": params}, normalize(images))
        )
        return (logits * jax.random.rademacher(key, logits.shape)).sum()

    images = jax.device_get(study.train.images[: BATCHES * BATCH])
    key = jax.random.key(study.config.seed)
    batches = (
        (images[first : first + BATCH], jax.random.fold_in(key, first))
        for first in range(0, len(images) - BATCH + 1, BATCH)
    )
    squares = rate.fisher_diagonal(project, weights, batches)
    smooth = jax.tree.map(lambda x: x + SMOOTHING * x.mean(), squares)
    return jax.tree.map(jnp.zeros_like, rest) | {"params": smooth}
