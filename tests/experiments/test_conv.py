"""The convolution for CPUs: its values and derivatives are those of the plain one."""

from collections.abc import Callable

import jax
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
    found = with_derivatives(
        lambda x, kernel: conv.conv2d(x, kernel, padding=padding), size, kernel_size
    )
    expected = with_derivatives(
        lambda x, kernel: convolved(x, kernel, padding), size, kernel_size
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "kernel_size"), [(28, 5), (12, 5), (8, 3), (2, 1)])
def test_pooling_with_the_convolution_is_pooling_after_it(size: int, kernel_size: int):
    found = with_derivatives(conv.pooled_conv2d, size, kernel_size)
    expected = with_derivatives(
        lambda x, kernel: conv.max_pool(convolved(x, kernel, 0)), size, kernel_size
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def convolved(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """The convolution of the library, whose derivatives are left to JAX."""
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=dims
    )


def with_derivatives(
    convolve: Callable[[jax.Array, jax.Array], jax.Array], size: int, kernel_size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a convolution makes of noise, and two derivatives of a weighted sum of it.

    Args:
        convolve: Takes images `[2, size, size, 5]` and a kernel
            `[kernel_size, kernel_size, 5, 7]`.
        size: Height and width of the images.
        kernel_size: Height and width of the kernel.

    Returns:
        The result, and the derivatives by the images and by the kernel.
    """
    rng = np.random.default_rng(size)
    x = rng.standard_normal((2, size, size, 5), np.float32)
    kernel = rng.standard_normal((kernel_size, kernel_size, 5, 7), np.float32)
    made = jax.eval_shape(convolve, x, kernel)
    weights = rng.standard_normal(made.shape, np.float32)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        y, derivatives = jax.vjp(convolve, x, kernel)
        return y, *derivatives(weights)

    return both(x, kernel)
