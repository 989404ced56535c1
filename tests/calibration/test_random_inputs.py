"""Random inputs have the types of an example, and none of its content."""

import jax
import jax.numpy as jnp
import numpy as np

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
    assert (ids.min(), ids.max()) >= (0, 990) and ids.max() < 1000
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
