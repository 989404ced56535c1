"""Random inputs have the types of an example, and none of its content."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import calibration
from tests.support import sums

R = sums.random(6)
PARAMS = {"tokens": R(1000, 4), "types": R(3, 4)}


def fn(p, batch):
    def looked_up(p, ids):
        return p["tokens"][ids] + p["types"][jnp.zeros_like(ids)]

    h = jax.jit(looked_up)(p, jnp.clip(batch["ids"][:, ::-1].T, 0, 999).T)
    h += jnp.take(p["types"], batch["types"], axis=0)
    return h * batch["mask"][..., None] * batch["sound"].mean() + batch["flags"].sum()


def example():
    return {
        "ids": np.ones((50, 40), np.int32),
        "types": np.zeros((50, 40), np.uint8),
        "mask": np.tile(np.array([1, 1, 0, 1], np.int32), (50, 10)),
        "sound": (3 + 2 * R(400, 300)).astype(np.float32),
        "flags": np.array([True, False]),
    }


def test_each_array_by_its_type():
    given = example()
    drawn = calibration.random_like(fn, PARAMS, given)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), drawn) == jax.tree.map(
        lambda a: (a.shape, a.dtype), given
    )
    ids = drawn["ids"]
    assert ids.min() >= 0 and 990 <= ids.max() < 1000
    np.testing.assert_allclose(ids.mean(), 499.5, rtol=0.05)
    assert set(np.unique(drawn["types"])) == {0, 1, 2}
    assert set(np.unique(drawn["mask"])) == {0, 1}
    np.testing.assert_allclose(drawn["sound"].mean(), given["sound"].mean(), atol=0.05)
    np.testing.assert_allclose(drawn["sound"].std(), given["sound"].std(), rtol=0.02)
    assert (drawn["sound"] != given["sound"]).all()
    assert drawn["flags"].tolist() == [True, False]


def test_integers_that_become_one_hot_rows():
    def one_hot(p, ids):
        return jax.nn.one_hot(ids, 1000) @ p["tokens"] * (ids != 0)[:, None]

    ids = np.zeros(300, int)
    drawn = calibration.random_like(one_hot, PARAMS, ids)
    assert drawn.max() > 900


def test_the_seed_decides():
    a, b, c = (
        calibration.random_like(fn, PARAMS, example(), seed=seed)["ids"]
        for seed in (0, 0, 1)
    )
    assert (a == b).all() and (a != c).any()


def test_a_function_that_cannot_be_traced():
    def host(p, ids):
        return np.asarray(p["tokens"])[np.asarray(ids)]

    ids = np.array([[3, 7], [4, 4]])
    drawn = calibration.random_like(host, PARAMS, ids)
    assert drawn.min() >= 3 and drawn.max() <= 7


def test_random_keys_are_kept():
    def noisy(p, batch):
        ids, key = batch
        return p["tokens"][ids] + jax.random.normal(key, (3, 4))

    key = jax.random.key(3)
    _, kept = calibration.random_like(noisy, PARAMS, (np.arange(3), key))
    assert kept is key


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_ids_that_cannot_reach_the_end_of_their_table(dtype: type):
    drawn = calibration.random_like(
        lambda p, ids: p["tokens"][ids.astype(int)], PARAMS, np.zeros(5000, dtype)
    )
    assert drawn.dtype == dtype
    assert (drawn.min(), drawn.max()) == (0, np.iinfo(dtype).max)


def test_what_is_not_finite_stays():
    mask = np.where(np.arange(600) % 3, R(600), -np.inf).astype(np.float32)
    mask[4] = np.nan
    drawn = calibration.random_like(lambda p, x: p["types"].sum() * x, PARAMS, mask)
    np.testing.assert_array_equal(np.isfinite(drawn), np.isfinite(mask))
    np.testing.assert_array_equal(np.isnan(drawn), np.isnan(mask))
    finite = mask[np.isfinite(mask)]
    assert abs(drawn[np.isfinite(drawn)].std() - finite.std()) < 0.2 * finite.std()
    none = calibration.random_like(
        lambda p, x: p["types"].sum() * x, PARAMS, np.full(3, np.inf, np.float32)
    )
    np.testing.assert_array_equal(none, np.inf)


def test_booleans_come_back_as_numpy():
    drawn = calibration.random_like(fn, PARAMS, jax.tree.map(jnp.asarray, example()))
    assert all(isinstance(own, np.ndarray) for own in jax.tree.leaves(drawn))


def test_a_table_within_a_loop():
    def fn(p, ids):
        def body(state):
            step, total = state
            return step + 1, total + p["tokens"][ids].sum()

        return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, 0.0))[1]

    drawn = calibration.random_like(fn, PARAMS, np.zeros(300, int))
    assert drawn.min() >= 0 and drawn.max() > 900
