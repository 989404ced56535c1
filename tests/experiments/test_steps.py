"""What a step of training is and what the parts of a study do, by their properties."""

from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import prune, share
from experiments import vgg19_cifar10
from experiments.data import datasets
from experiments.models.vgg import VGG19
from experiments.study import sharing, stages
from experiments.study.config import Config
from experiments.training import train

L2 = 0.3


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


def test_half_of_the_images_are_flipped():
    image = np.zeros((400, 32, 32, 1), np.uint8)
    image[:, 16, 12], image[:, 16, 18] = 100, 200
    changed = np.asarray(train.crop_and_flip(jax.random.key(0), image))[..., 0]
    left, right = (np.argwhere(changed == value)[:, 2] for value in (100, 200))
    assert set(np.abs(right - left)) == {6}
    assert 140 < (left > right).sum() < 260  # six deviations about 200


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


class _Recorder:
    """Stands for a run and a trainer: notes what each epoch is given."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.rates: list[np.ndarray] = []

    def phase(self, name: str, state: Any, epochs: int, train_epoch: Any) -> Any:
        del name
        for epoch in range(epochs):
            state, _ = train_epoch(state, epoch)
        return state

    def epoch(
        self, state: Any, images: Any, labels: Any, key: Any, rates: Any, answers: Any
    ) -> Any:
        del images, labels, answers
        self.keys.append(np.asarray(jax.random.key_data(key)).tobytes())
        self.rates.append(np.asarray(rates))
        return state, {"loss": 0.0, "error": 0.0}

    def expand(self, params: Any, rest: Any) -> Any:
        del params, rest


def _epochs(config: Config, phases: list[str]) -> _Recorder:
    """Phases of three epochs of four steps, from a rate of 1."""
    recorder: Any = _Recorder()
    part = stages.Split(np.zeros((4 * config.batch, 1)), np.zeros(4 * config.batch))
    current: Any = SimpleNamespace(
        config=config, run=recorder, train=part, error=lambda *_, **__: 0.0
    )
    state = train.TrainState({}, {}, ())
    for name in phases:
        stages.train_phase(current, name, recorder, state, 3, 1.0)
    return recorder


def test_every_epoch_of_every_phase_and_seed_has_a_key_of_its_own():
    keys = [
        key
        for seed in (0, 1)
        for key in _epochs(Config("x", "digits", seed=seed), ["dense", "prune-01"]).keys
    ]
    assert len(set(keys)) == len(keys) == 2 * 2 * 3
    assert _epochs(Config("x", "digits", seed=1), ["dense"]).keys == keys[6:9]


@pytest.mark.parametrize("schedule", ["cosine", "steps"])
def test_the_rates_of_the_schedule_reach_the_steps(schedule: Any):
    config = Config("x", "digits", schedule=schedule, drops=(1 / 3, 2 / 3))
    found = _epochs(config, ["prune-01"]).rates
    if schedule == "steps":
        expected = np.repeat([[1], [0.1], [0.01]], 4, axis=1)
    else:  # 12 steps, the first two of which are gentler
        expected = 0.5 + 0.5 * np.cos(np.pi * np.arange(12) / 12)
        expected[0] /= 2
        expected = expected.reshape(3, 4)
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-5)


def test_the_slides_prune_every_parameter_of_25_iterations():
    config = vgg19_cifar10.PRESETS["seed"]
    assert (config.iterations, config.pruning) == (25, "std")
    assert [config.epochs_of(i) for i in range(25)] == [25] * 25
    assert config.tune_epochs == 25
    current: Any = SimpleNamespace(config=config, roles=vgg19_cifar10.ROLES)
    values = jnp.array([[1.0, -1.0, 0.01, -0.01]])  # of a deviation of about 0.7
    layers = {"conv1_1": ("kernel", "bias"), "bn1_1": ("scale", "bias")}
    params = {name: dict.fromkeys(own, values) for name, own in layers.items()}
    masks = prune.masks(params, stages.pruning_rules(current, 0))
    for leaf in jax.tree.leaves(masks):
        np.testing.assert_array_equal(leaf, [[True, True, False, False]])
    assert len(jax.tree.leaves(masks)) == 4


def test_the_nonparametric_method_finds_the_number_of_clusters_itself():
    roles = vgg19_cifar10.ROLES._replace(groups=[])
    rng = np.random.default_rng(0)
    centers = np.array([-3.0, -1.0, 0.5, 2.0, 4.0], np.float32)
    for count in (3, 5):
        values = rng.choice(centers[:count], (30, 40))
        values += 1e-3 * rng.standard_normal(values.shape).astype(np.float32)
        params = {"conv1_1": {"kernel": jnp.array(values)}}
        config = Config("x", "digits", kernel_bits=3)
        for method, entries in (("nonparametric", count), ("kmeans", 8)):
            rules = sharing.rules(config, roles, method)
            (codebook,) = share.share(params, rules).codebooks.values()
            assert codebook.size == entries, method


def test_no_digit_is_both_trained_and_tested_on():
    from sklearn.datasets import load_digits

    loaded: Any = load_digits()
    dataset = datasets.digits()
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    small = np.minimum(16 * loaded.images, 255).reshape(-1, 64)
    found = np.column_stack([images[:, ::4, ::4, 0].reshape(-1, 64), labels])
    every = np.column_stack([small, loaded.target])
    order = [np.lexsort(rows.T) for rows in (found, every)]
    np.testing.assert_array_equal(found[order[0]], every[order[1]])
