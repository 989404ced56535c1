"""The convolution for CPUs: its values and derivatives are those of the plain one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import conv


@pytest.mark.parametrize(
    ("size", "kernel_size", "padding"),
    [
        *[(1, 3, 1), (2, 3, 1), (4, 3, 1), (8, 3, 1), (18, 3, 1)],
        *[(5, 5, 0), (9, 5, 0), (9, 4, 3), (24, 5, 0)],
    ],
)
def test_hand_written_derivatives_are_those_of_the_convolution(
    size: int, kernel_size: int, padding: int
):
    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv.conv2d(x, kernel, padding=padding)

    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _reference(x, kernel, padding)

    _assert_same_with_derivatives(ours, reference, size, kernel_size)


@pytest.mark.parametrize(("size", "kernel_size"), [(28, 5), (12, 5), (8, 3), (2, 1)])
def test_pooling_with_the_convolution_is_pooling_after_it(size: int, kernel_size: int):
    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv.max_pool(_reference(x, kernel, 0))

    _assert_same_with_derivatives(conv.pooled_conv2d, reference, size, kernel_size)


def _reference(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=dims
    )


def _assert_same_with_derivatives(
    ours: Callable[..., jax.Array],
    reference: Callable[..., jax.Array],
    size: int,
    kernel_size: int,
) -> None:
    """Two convolutions have the same values and the same derivatives."""
    keys = jax.random.split(jax.random.key(size), 3)
    x = jax.random.normal(keys[0], (2, size, size, 5))
    kernel = jax.random.normal(keys[1], (kernel_size, kernel_size, 5, 7))
    expected = reference(x, kernel)
    weights = jax.random.normal(keys[2], expected.shape)

    np.testing.assert_allclose(ours(x, kernel), expected, rtol=1e-4, atol=1e-4)
    found, expected = (
        jax.grad(lambda x, k, f=f: jnp.sum(weights * f(x, k)), (0, 1))(x, kernel)
        for f in (ours, reference)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
