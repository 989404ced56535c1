"""The training step, its augmentation, evaluation, and devices that share a batch."""

import os
import subprocess
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.vgg import VGG19
from experiments.training import train
from tests.support.small import Small, drawn

L2 = 0.3
SHARDED = """
import jax, numpy as np
from experiments.training import train
from tests.support.small import Small

images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
labels = np.arange(16, dtype=np.int32) % 10
model = Small()
images_like = np.zeros((1, 32, 32, 3), np.float32)
variables = jax.jit(model.init)(jax.random.key(0), images_like)
optimizer = train.sgd()
trainer = train.Trainer(model, optimizer, batch=8, l2=1e-4)
state = train.TrainState(
    variables["params"],
    {"batch_stats": variables["batch_stats"]},
    optimizer.init(variables["params"]),
)
rates = np.full(2, 0.01, np.float32)
state, metrics = trainer.epoch(state, images, labels, jax.random.key(1), rates)
print(jax.device_count(), float(metrics["loss"]))
"""


class Linear(nn.Module):
    """One dense layer, whose training NumPy can follow."""

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, batch_statistics: bool = False
    ) -> jax.Array:
        """Maps images to logits of three classes."""
        del train, batch_statistics
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def _numpy_sgd(
    kernel: np.ndarray,
    bias: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    rates: list[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Nesterov's method with momentum 0.9 on all images, in float64."""
    x = (images.reshape(len(images), -1) - 127.5) / 64
    moments = [np.zeros_like(kernel), np.zeros_like(bias)]
    for rate in rates:
        powers = np.exp(x @ kernel + bias)
        wrong = (powers / powers.sum(1, keepdims=True) - np.eye(3)[labels]) / len(x)
        slopes = [x.T @ wrong + L2 * kernel, wrong.sum(0)]
        moments = [0.9 * m + g for m, g in zip(moments, slopes, strict=True)]
        kernel = kernel - rate * (slopes[0] + 0.9 * moments[0])
        bias = bias - rate * (slopes[1] + 0.9 * moments[1])
    return kernel, bias


def test_steps_are_those_of_nesterov_on_the_loss_with_l2():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 2, 2, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, 8).astype(np.int32)
    kernel, bias = rng.standard_normal((4, 3)), rng.standard_normal(3)
    trainer = train.Trainer(Linear(), train.sgd(), batch=8, l2=L2)
    dense = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
    params = {"Dense_0": dense}
    state = train.TrainState(params, {}, trainer.optimizer.init(params))
    rates = [0.3, 0.02, 0.1]  # one step an epoch, as a batch has all images
    for i, rate in enumerate(rates):
        state = train.replicate(state)
        key = jax.random.key(i)
        state, _ = trainer.epoch(
            state, jnp.array(images), jnp.array(labels), key, jnp.full(1, rate)
        )
    expected = _numpy_sgd(kernel, bias, images, labels, rates)
    found = state.params["Dense_0"]
    np.testing.assert_allclose(found["kernel"], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["bias"], expected[1], rtol=1e-4, atol=1e-5)


def test_the_slides_count_of_variables():
    shapes = jax.eval_shape(VGG19().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    trained = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]

    assert sum(sizes) == 38_969_930
    assert sum(trained) == 38_958_922


def test_vgg_drops_half_of_both_hidden_layers():
    """Units of one, passed on unchanged: a unit that survives twice is worth four."""
    units = 1000
    model = VGG19(((1,),) * 5, (units, units), classes=units)
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    params = variables["params"]
    params["fc1"]["bias"] += 1
    for name in ("fc2", "fc3"):
        params[name]["kernel"] = jnp.eye(units)

    def answers(**how: Any) -> np.ndarray:
        return np.asarray(model.apply(variables, images, **how))

    np.testing.assert_array_equal(answers(), 1)
    dropped = answers(train=True, rngs={"dropout": jax.random.key(1)})
    assert set(np.unique(dropped)) == {0, 4}
    assert 170 < (dropped == 4).sum() < 330  # six deviations about 250


def test_four_devices_compute_the_loss_of_one():
    losses = {}
    for count in (1, 4):
        flags = f"--xla_force_host_platform_device_count={count}"
        output = subprocess.run(
            [sys.executable, "-c", SHARDED],
            env=os.environ | {"XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        losses[int(output[0])] = float(output[1])
    assert losses.keys() == {1, 4}
    assert losses[4] == pytest.approx(losses[1], abs=1e-5)


def test_crops_are_shifts_by_at_most_four_pixels():
    image = np.zeros((1, 32, 32, 1), np.uint8)
    image[0, 16, 16] = 255
    places = set()
    for seed in range(60):
        moved = np.asarray(train.crop_and_flip(jax.random.key(seed), image))
        assert moved.dtype == np.uint8
        (where,) = np.argwhere(moved[0, :, :, 0])
        places.add(tuple(where))
    rows, columns = ({place[i] for place in places} for i in (0, 1))
    assert min(rows) == 12
    assert max(rows) == 20
    assert min(columns) >= 11
    assert max(columns) <= 20
    assert len(places) > 30


def test_half_of_the_images_are_flipped():
    image = np.zeros((400, 32, 32, 1), np.uint8)
    image[:, 16, 12], image[:, 16, 18] = 100, 200
    changed = np.asarray(train.crop_and_flip(jax.random.key(0), image))[..., 0]
    left, right = (np.argwhere(changed == value)[:, 2] for value in (100, 200))
    assert set(np.abs(right - left)) == {6}
    assert 140 < (left > right).sum() < 260  # six deviations about 200


def test_cut_out_makes_one_square_gray():
    images = jnp.zeros((400, 32, 32, 3), jnp.uint8)
    cut = np.asarray(train.cut_out(jax.random.key(0), images, side=16))
    assert set(np.unique(cut)) == {0, 128}
    gray = cut[..., 0] == 128
    np.testing.assert_array_equal(cut, 128 * gray[..., None].repeat(3, -1))
    sizes = set()
    for image in gray:
        rows, columns = image.any(1), image.any(0)
        np.testing.assert_array_equal(image, np.outer(rows, columns))
        for places in (rows, columns):
            assert (np.diff(np.flatnonzero(places)) == 1).all()
            sizes.add(int(places.sum()))
    assert sizes == set(range(8, 17))  # those at the edges are partly outside


def test_evaluation_pads_the_last_batch():
    class Pixel(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            bright = x.mean((1, 2, 3)) > 0
            return jnp.stack([~bright, bright], axis=-1).astype(jnp.float32)

    images = np.zeros((501, 2, 2, 1), np.uint8)
    images[::3] = 255
    labels = jnp.array((np.arange(501) % 3 == 0).astype(np.int32))

    error, _ = train.evaluate(Pixel(), {}, images, labels)
    assert error == 0
    error, _ = train.evaluate(Pixel(), {}, images, labels.at[0].set(0))
    assert error == pytest.approx(100 / 501)


def test_bfloat16_computes_and_float32_is_kept():
    model = Small()
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    labels = jnp.arange(16) % 10
    variables = drawn(model)
    moved: dict[str, Any] = {}
    for dtype in ("float32", "bfloat16"):
        trainer = train.Trainer(model.clone(dtype=jnp.dtype(dtype)), train.sgd(), 16)
        params, rest = train.split(variables)
        state = train.TrainState(params, rest, trainer.optimizer.init(params))
        key, rates = jax.random.key(2), jnp.full(1, 1e-2)
        state = train.replicate(state)  # an epoch consumes it
        state, _ = trainer.epoch(state, images, labels, key, rates)
        assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.rest))} == {
            jnp.dtype("float32")
        }
        changes = jax.tree.map(np.subtract, state.params, params)
        moved[dtype] = np.concatenate([x.ravel() for x in jax.tree.leaves(changes)])

    # Eight bits of accuracy, and gradients of sixteen images that largely cancel.
    apart = np.linalg.norm(moved["bfloat16"] - moved["float32"])
    assert 0 < apart < 0.3 * np.linalg.norm(moved["float32"])
