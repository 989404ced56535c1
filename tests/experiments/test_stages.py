"""What the parts of a study hand on: keys, rates, rules of pruning and sharing."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import prune, share
from experiments import vgg19_cifar10
from experiments.study import sharing, stages
from experiments.study.config import Config
from experiments.training import train


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
