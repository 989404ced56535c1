"""The Python of the README runs as it is written there."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import deepcomp_jax as dc
from deepcomp_jax import Rule, prune, retrain
from tests.support import pages

README = Path(__file__).parents[1] / "README.md"


def _variables() -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "params": {
            "conv1_1": {"kernel": draw(3, 3, 3, 8), "bias": draw(8)},
            "bn1_1": {"scale": draw(8), "bias": draw(8)},
            "fc3": {"kernel": draw(8, 10), "bias": draw(10)},
        },
        "batch_stats": {"bn1_1": {"mean": draw(8), "var": jnp.square(draw(8)) + 1}},
    }


def _apply(params: Any, batch: jax.Array) -> jax.Array:
    features = batch * jnp.sum(params["conv1_1"]["kernel"], axis=(0, 1, 2))[None]
    return features @ params["fc3"]["kernel"]


def _loss(params: Any, batch: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(_apply(params, batch)))


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In one namespace, which has what a reader has: a network, a loss, data."""
    monkeypatch.chdir(tmp_path)
    variables = _variables()
    params = variables["params"]
    masks = prune.masks(params, [Rule("kernel$", prune=prune.by_magnitude(0.5))])
    batch = jnp.ones((2, 8))
    own: dict[str, Any] = {
        "dc": dc,
        "variables": variables,
        "params": params,
        "new_masks": masks,
        "state": retrain.keep_pruned(optax.adam(1e-3), masks).init(params),
        "codebooks": {},
        "apply": _apply,
        "loss": _loss,
        "error": lambda _: 16.5,
        "batches": [batch],
    }
    given = dict(own)
    blocks = pages.blocks(README)
    assert len(blocks) > 5
    for block in blocks:
        (tmp_path / "model.dcz").unlink(missing_ok=True)
        given |= own  # the network of the first block is an example
        printed = pages.run_block(README, block, given)
        assert block.output is None or pages.agrees(block.output, printed)
        if "dc.save" in block.code:
            assert dc.report("model.dcz").parameters == sum(
                leaf.size for leaf in jax.tree.leaves(dc.load("model.dcz"))
            )
    assert given["found"].file_bytes > 0
    assert np.isfinite(given["loss_with_rate"](given["params"], batch))
