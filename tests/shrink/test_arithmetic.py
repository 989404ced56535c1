"""What NumPy computes in place of JAX has the same bits, and is not compiled."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deepcomp_jax import shrink
from deepcomp_jax.shrink import arithmetic, program
from tests.shrink import networks

X = jax.ShapeDtypeStruct
ODD = [0.0, -0.0, 1.0, -2.5, 3e38, -3e38, 1e-30, np.inf, -np.inf, np.nan, 7, 1e9]

OPERATIONS: dict[str, Callable[..., Any]] = {
    "abs": lax.abs,
    "add": lax.add,
    "to float16": lambda x, y: lax.convert_element_type(x, jnp.float16),
    "from booleans": lambda x, y: lax.convert_element_type(lax.lt(x, y), jnp.int8),
    "to integers": lambda x, y: lax.convert_element_type(x, jnp.int16),
    "to bfloat16": lambda x, y: lax.convert_element_type(x, jnp.bfloat16),
    "compared": lambda x, y: [
        f(x, y) for f in (lax.eq, lax.ge, lax.gt, lax.le, lax.lt, lax.ne)
    ],
    "max": lax.max,
    "min": lax.min,
    "mul": lax.mul,
    "neg": lax.neg,
    "reshape": lambda x, y: lax.reshape(x, (x.size, 1)),
    "select_n": lambda x, y: lax.select_n(lax.lt(x, y), x, y),
    "select_n of numbers": lambda x, y: lax.select_n(jnp.int32(1), x, y),
    "select_n of many": lambda x, y: lax.select_n(
        lax.full(x.shape, 2, jnp.int32), x, y, x
    ),
    "square": lax.square,
    "stop_gradient": lambda x, y: lax.stop_gradient(x),
    "sub": lax.sub,
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "int8"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_jax(name: str, dtype: str):
    values = np.where(np.isfinite(ODD), ODD, 3) % 128 if "int" in dtype else ODD
    with np.errstate(all="ignore"):
        pairs = np.array(np.meshgrid(values, values)).reshape(2, -1).astype(dtype)
        if name == "to integers":
            pairs = np.nan_to_num(pairs.astype("f4") % 100).astype(dtype)
    first, second = pairs
    fn = OPERATIONS[name]
    one = name in ("abs", "neg", "square")
    args = (first,) if one else (first, second)
    own = program.trace(lambda _, args: fn(*args), (), args)
    known: dict[int, Any] = dict(zip(own.data, args, strict=True))
    known.update(own.constants)
    assert own.ops or name == f"to {dtype}"
    for op in own.ops:
        values = [known[value] for value in op.inputs]
        found = arithmetic.compute(op, values)
        right = program.bind(op, values)
        for ours, theirs in zip(found, right, strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_array_equal(
                np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
            )
        known.update(zip(op.outputs, right, strict=True))


def test_only_sums_of_many_and_whole_networks_are_compiled(
    caplog: pytest.LogCaptureFixture,
):
    params = networks.normal(3, networks.MLP)
    params["w1"][3] = 0
    with caplog.at_level(logging.WARNING, "jax"), jax.log_compiles(True):
        shrink.exact(networks.mlp, params, X((7, 4), jnp.float32))
    compiled = [
        record.getMessage().split()[4]
        for record in caplog.records
        if record.getMessage().startswith("Finished XLA compilation of")
    ]
    assert {"jit(mlp)", "jit(dot_general)"} <= set(compiled)
    assert set(compiled) <= {"jit(mlp)", "jit(dot_general)", "jit(tanh)"}
