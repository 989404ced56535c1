"""A network runs coded in a process whose memory its dense weights would not fit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax._types import Compressed, SharedLeaf

LAYERS, WIDTH, INNER = 24, 1024, 4096  # 384 MiB of float32
RUN = f"""
import sys
import jax, jax.numpy as jnp, numpy as np, resource
import deepcomp_jax as dc

path, form = sys.argv[1:]
jax.block_until_ready(jnp.ones(8) @ jnp.ones((8, 8)))
with open("/proc/self/status") as status:
    now = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
limit = now * 2**10 + 300 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

def fn(params, x):
    def layer(x, kernel):
        return x + jnp.tanh(x @ kernel).reshape(len(x), -1, {WIDTH}).sum(1), None
    return jax.lax.scan(layer, x, params["kernel"])[0]

x = np.ones((4, {WIDTH}), np.float32)
if form == "coded":
    with dc.open(path) as file:
        outputs = file.on_device().apply(fn)(x)
else:
    outputs = jax.jit(fn)(dc.load(path), x)
print(float(outputs.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_stack_of_layers_that_would_not_fit(tmp_path: Path):
    layer = np.random.default_rng(0).integers(0, 3, (WIDTH, INNER)).astype(np.uint8)
    labels = np.stack([np.roll(layer, i) for i in range(LAYERS)])
    kernel = Compressed(
        {"kernel": 0}, (SharedLeaf(labels, 0),), (np.float32([-0.01, 0.01]),)
    )
    path = tmp_path / "stack.dcz"
    dc.save(path, kernel)

    def run(form: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", RUN, str(path), form]
        return subprocess.run(command, capture_output=True, text=True)

    dense, coded = run("dense"), run("coded")
    assert dense.returncode != 0 and "Unable to allocate 384. MiB" in dense.stderr
    assert coded.returncode == 0, coded.stderr
    assert np.isfinite(float(coded.stdout))
