"""Networks on several devices, of which a process of its own has four."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepcomp_jax as dc

_SETUP = """
import sys
import jax, numpy as np
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import deepcomp_jax as dc
from deepcomp_jax import prune, rate_loss, share

devices = jax.devices()
assert len(devices) == 4
rng = np.random.default_rng(0)
host = {
    "a": rng.standard_normal((64, 8)).astype(np.float32),
    "b": rng.standard_normal((6, 5)).astype(np.float32),
    "step": np.int32(7),
}
weights = {name: host[name] for name in ("a", "b")}
there = {n: jax.device_put(weights[n], d) for n, d in zip("ab", devices[1:3])}
mesh = Mesh(np.array(devices), ("x",))
split, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())

def same(found, expected):
    for name, leaf in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(leaf))
"""


def assert_holds(code: str, *arguments: str) -> None:
    """Code with assertions ends well after the setup, in a process of four devices."""
    flags = "--xla_force_host_platform_device_count=4"
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": root,
    }
    ended = subprocess.run(
        [sys.executable, "-c", _SETUP + code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_leaves_on_different_devices() -> None:
    """Pruned, shared, looked up and priced as on one, and left where they are."""
    assert_holds("""
rules = [dc.Rule("", prune=prune.by_global_magnitude(0.7))]
masks = prune.masks(there, rules)
sizes = np.concatenate([np.abs(w).ravel() for w in weights.values()])
least = np.sort(sizes)[::-1][round(sizes.size * (1 - 0.7)) - 1]
same(masks, {n: np.abs(w) >= least for n, w in weights.items()})
pruned = prune.apply(there, masks)
shared = share.share(pruned, [dc.Rule("", share=share.distinct, group="one")])
back = share.lookup(shared)
same(back, pruned)
for tree in (masks, pruned, back):
    assert all(tree[n].devices() == there[n].devices() for n in there)
steps = rate_loss.step_sizes(there, 1.0, of_vectors=0.1)
prices = rate_loss.position_bits(there, steps)
for name in there:
    one = {name: jnp.asarray(weights[name])}
    sizes = rate_loss.step_sizes(one, 1.0, of_vectors=0.1)
    expected = rate_loss.position_bits(one, sizes)
    np.testing.assert_allclose(prices[name], expected[name], rtol=1e-5)
    assert prices[name].devices() == there[name].devices()
rate_loss.fake_quant(there, steps)
""")


def test_a_rate_of_leaves_on_different_devices() -> None:
    """A sum on one device, with derivatives where the leaves are."""
    assert_holds("""
def rate_of(params, step, prices):
    return rate_loss.expected_bits(params, step, prices)

here = {name: jnp.asarray(leaf) for name, leaf in weights.items()}
parts = NamedSharding(Mesh(np.array(devices[:2]), ("x",)), P("x"))
step = {name: jnp.float32(0.5) for name in weights}
expected, slopes = jax.value_and_grad(rate_of)(
    here, step, rate_loss.position_bits(here, step)
)
half = {"a": jax.device_put(here["a"], parts), "b": there["b"]}
for params in (there, half, here):
    for steps in (step, rate_loss.step_sizes(params, 1.0, of_vectors=0.1)):
        steps = jax.tree.map(lambda x: 0 * x + 0.5, steps)
        prices = rate_loss.position_bits(params, steps)
        np.testing.assert_allclose(rate_of(params, steps, prices), expected, rtol=1e-5)
        found, there_too = jax.value_and_grad(rate_of)(params, steps, prices)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for name, slope in slopes.items():
            np.testing.assert_allclose(there_too[name], slope, rtol=1e-4, atol=1e-6)
            assert there_too[name].devices() == params[name].devices()
on_one = jax.device_put(here, devices[3])
prices = rate_loss.position_bits(on_one, step)
np.testing.assert_allclose(jax.jit(rate_of)(on_one, step, prices), expected, rtol=1e-5)
""")


def test_loading_to_shardings(tmp_path: Path) -> None:
    """One for all, one for each leaf, and those of `like`."""
    assert_holds(
        """
path = sys.argv[1]
rules = [dc.Rule("a|b", share=share.distinct)]
dc.save(path, dc.compress(host, rules))
everywhere = {"a": split, "b": whole, "step": whole}
one = dc.load(path, device=split)
tree = dc.load(path, device=everywhere | {"b": devices[3]})
like = jax.device_put(host, everywhere)
alike = dc.load(path, like=like)
struct = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
)
structs = dc.load(path, like=struct)
for found in (one, tree, alike, structs):
    same(found, host)
    assert found["a"].sharding.is_equivalent_to(split, 2)
for found in (one, alike, structs):
    assert found["b"].sharding.is_equivalent_to(whole, 2)
    assert found["step"].sharding.is_equivalent_to(whole, 0)
assert tree["b"].devices() == {devices[3]}
assert isinstance(dc.load(path, like=host)["a"], np.ndarray)
try:
    dc.load(path, device={"a": split})
except ValueError as error:
    assert "differ in b, step" in str(error)
else:
    raise AssertionError("a tree without some leaves was taken")
""",
        str(tmp_path / "m.dcz"),
    )


@pytest.mark.parametrize("device", ["cpu", {"a": None, "b": 3}], ids=str)
def test_what_is_no_device(device: Any, tmp_path: Path):
    path = tmp_path / "m.dcz"
    dc.write(path, {"a": np.ones(3), "b": np.ones(4)}, [])
    with pytest.raises(
        TypeError, match=r"`device` is ('cpu'|3 for leaf 'b'): give a dev"
    ):
        dc.load(path, device=device)
