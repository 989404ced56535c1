"""The curve of size and error is of grids that suit what each leaf matters."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import share
from experiments.study import curve, stages
from tests.experiments.test_study import TINY
from tests.support.small import ROLES

LAYERS = ("loud", "soft")
LOUDER = np.sqrt(1000)  # so that squares of gradients differ by a factor of 1000


class Choir(nn.Module):
    """Two dense layers of the same inputs, of which one is heard more."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images `[batch, 4, 4, 1]` to logits `[batch, 10]`."""
        del train
        x = x.reshape(x.shape[0], -1)
        layers = (nn.Dense(10, use_bias=False, name=name) for name in LAYERS)
        loud, soft = (layer(x) for layer in layers)
        return LOUDER * loud + soft


def test_what_matters_more_is_quantized_more_finely(monkeypatch: pytest.MonkeyPatch):
    """A thousand times as important: at any penalty a step of a thirtieth or so."""
    rng = np.random.default_rng(0)
    kernels = {n: rng.normal(size=(16, 10)).astype(np.float32) for n in LAYERS}
    variables = {"params": {n: {"kernel": jnp.asarray(w)} for n, w in kernels.items()}}
    images = jnp.asarray(rng.integers(0, 256, (256, 4, 4, 1)), jnp.uint8)
    split = stages.Split(images, jnp.zeros(256, jnp.int32))
    points: list[Any] = []
    monkeypatch.setattr(
        stages.Study, "error", lambda _, network: points.append(network["params"]) or 0
    )
    run: Any = SimpleNamespace(measure=lambda _, compute: compute())
    config = dataclasses.replace(TINY, steps=(0.01, 0.02, 0.04))
    study = stages.Study(config, run, Choir(), split, split, ROLES)
    curve.measure(study, variables, share.share(variables, []))

    *grids, own = points
    assert len(grids) == len(config.steps)
    np.testing.assert_array_equal(own["loud"]["kernel"], kernels["loud"])
    for point in grids:
        loud, soft = (
            np.sqrt(np.mean((np.asarray(point[n]["kernel"]) - kernels[n]) ** 2))
            for n in LAYERS
        )
        assert 0 < 10 * loud < soft
