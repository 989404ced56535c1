"""The rates of learning that a configuration gives to phases and their steps."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import vgg19_cifar10
from tests.experiments.test_study import TINY


def test_the_slides_learning_rates():
    seed = vgg19_cifar10.PRESETS["seed"]
    rates = [seed.rate_of(i) for i in range(25)]
    assert rates == [0.05] + 17 * [0.01] + 7 * [0.001]
    within = [
        seed.learning_rates(0.01, epoch=e, epochs=25, steps=1)[0] for e in range(25)
    ]
    expected = 3 * [1e-2] + 9 * [1e-3] + 6 * [1e-4] + 7 * [1e-5]
    np.testing.assert_allclose(within, expected, rtol=1e-5)


@given(times=st.integers(1, 40), rate=st.floats(1e-4, 1.0))
def test_a_phase_of_any_length_drops_where_one_of_25_epochs_does(
    times: int, rate: float
):
    seed = vgg19_cifar10.PRESETS["seed"]
    epochs = 25 * times
    rates = [
        seed.learning_rates(rate, epoch=e, epochs=epochs, steps=1)[0]
        for e in range(epochs)
    ]
    lengths = [3 * times, 9 * times, 6 * times, 7 * times]
    expected = np.repeat([rate, rate / 10, rate / 100, rate / 1000], lengths)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@given(epochs=st.integers(1, 24), rate=st.floats(1e-4, 1.0))
def test_a_short_phase_drops_within_its_epochs(epochs: int, rate: float):
    seed = vgg19_cifar10.PRESETS["seed"]
    steps = 25
    rates = [
        seed.learning_rates(rate, epoch=e, epochs=epochs, steps=steps)
        for e in range(epochs)
    ]
    lengths = [3 * epochs, 9 * epochs, 6 * epochs, 7 * epochs]
    expected = np.repeat([rate, rate / 10, rate / 100, rate / 1000], lengths)
    np.testing.assert_allclose(np.concatenate(rates), expected, rtol=1e-5)


@pytest.mark.parametrize("drop", [3, 1.0, 0.0, -0.1, float("nan")])
def test_drops_that_are_no_parts_of_a_phase(drop: float):
    with pytest.raises(ValueError, match=r"drops=.*: give parts of a phase"):
        dataclasses.replace(TINY, drops=(0.5, drop))


def test_a_cosine_falls_to_zero():
    rates = np.concatenate(
        [TINY.learning_rates(0.1, epoch=e, epochs=4, steps=200) for e in range(4)]
    )
    assert rates[0] < 0.01
    assert rates.max() <= 0.1
    assert rates[-1] < 1e-4
    assert (np.diff(rates[100:]) <= 0).all()
