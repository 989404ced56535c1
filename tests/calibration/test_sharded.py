"""Networks and batches that lie on several devices give the sums of one device."""

import os
import subprocess
import sys

CODE = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import deepcomp_jax as dc

rng = np.random.default_rng(0)
draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
params = {"e": draw(10, 4), "layers": draw(3, 4, 4), "k": draw(3, 4, 6)}
ids = rng.integers(0, 10, (8, 5))

def fn(p, ids):
    x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), p["e"][ids], p["layers"])
    return jax.lax.conv_general_dilated(
        x, p["k"], (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    )

assert jax.device_count() == 2
mesh = Mesh(jax.devices(), "d")
put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
sharded = {
    "e": put(params["e"], "d"), "layers": put(params["layers"], None, None, "d"),
    "k": put(params["k"], None, "d"),
}
whole = dc.calibrate(fn, params, [ids, ids])
found = dc.calibrate(fn, sharded, [put(ids, "d"), put(ids, "d")])
assert found.notes == whole.notes == ()
for name, (use,) in whole.leaves.items():
    (own,) = found.leaves[name]
    assert own[:4] == use[:4] and own.count == use.count
    for a, b in zip(own[4:6], use[4:6]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.sensitivity[name], whole.sensitivity[name], 1e-4)
print("alike")
"""


def test_two_devices():
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    output = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout  # fmt: skip
    assert output == "alike\n"
