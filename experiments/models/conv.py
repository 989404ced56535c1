"""Convolutions and poolings that train fast on a CPU, inside a scan too."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_LARGEST_MAP = 16  # up to which matrix products make the gradient of images faster


class Conv(nn.Module):
    """A convolution with a bias; the same parameters as `nn.Conv`.

    Attributes:
        features: Channels of the result.
        size: Height and width of the kernel.
        padding: How many zeros are put around the images.
        pool: Whether a maximum over each 2x2 pixels follows; only without `padding`.
        dtype: The dtype to compute in.
    """

    features: int
    size: int = 3
    padding: int = 1
    pool: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, ..., ..., features]`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.pool:
            y = pooled_conv2d(x, kernel)
        else:
            y = conv2d(x, kernel, padding=self.padding)
        return y + bias.astype(self.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """Halves height and width, by a reshape, whose derivative is fast everywhere."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def pooled_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves without padding, then takes the maximum of each 2x2 places.

    A place of the result looks at a window one pixel larger than the kernel. With each
    2x2 pixels of `x` as one of four times as many channels, that is a convolution of
    about half the size, whose four results (the kernel in each corner of the window)
    are compared. Half as much again is multiplied, but in large products that take a
    CPU half the time; and the map before the maximum never exists.

    Args:
        x: Images, `[batch, height, width, in]`, of even height and width.
        kernel: `[size, size, in, out]`, of odd size.

    Returns:
        `[batch, (height - size + 1) / 2, likewise, out]`.
    """
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    blocks = blocks.reshape(batch, height // 2, width // 2, 4 * channels)
    corners = [
        jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)))
        for i in range(2)
        for j in range(2)
    ]
    windows = jnp.stack(corners, axis=3)
    size = windows.shape[0] // 2
    windows = windows.reshape(size, 2, size, 2, channels, -1).swapaxes(1, 2)
    windows = windows.reshape(size, size, 4 * channels, -1)
    y = conv2d(blocks, windows, padding=0)
    return y.reshape(*y.shape[:3], 4, -1).max(3)


def conv2d(x: jax.Array, kernel: jax.Array, *, padding: int) -> jax.Array:
    """Convolves with a square kernel, stride 1.

    On a CPU, XLA has a fast routine for a convolution written as in the forward pass,
    and none, inside a loop, for the two convolutions that its derivative makes of it
    (70 and 300 times slower). So the derivative is written here by hand, as forward
    convolutions and matrix products. On any other device it is left to XLA.

    Args:
        x: Images, `[batch, height, width, in]`.
        kernel: `[size, size, in, out]`.
        padding: Zeros put on each side of the images, 0 to `size - 1`. `(size - 1) / 2`
            keeps height and width.

    Returns:
        `[batch, height + 2 * padding - size + 1, likewise, out]`.
    """
    return lax.platform_dependent(
        x, kernel, cpu=partial(_conv_on_cpu, padding), default=partial(_conv, padding)
    )


def _conv(padding: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    zeros = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), zeros, dimension_numbers=_LAYOUT)


def _forward(padding: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    # On maps of 2x2 and less the padding is most of the work for the library routine.
    if x.shape[1] > 2:
        return _conv(padding, x, kernel)
    size = kernel.shape[0]
    height, width = (n + 2 * padding - size + 1 for n in x.shape[1:3])
    padded = _pad(padding, x)
    views = [
        padded[:, i : i + height, j : j + width]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(views, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv_on_cpu(padding: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _forward(padding, x, kernel)


def _conv_on_cpu_fwd(
    padding: int, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _forward(padding, x, kernel), (x, kernel)


def _conv_on_cpu_bwd(
    padding: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    to_images = _image_gradient(padding, grad, kernel)
    return to_images, _kernel_gradient(_pad(padding, x), grad, kernel.shape[0])


_conv_on_cpu.defvjp(_conv_on_cpu_fwd, _conv_on_cpu_bwd)


def _image_gradient(padding: int, grad: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves on large maps, and multiplies matrices for each kernel row on others.

    The product is what each place of `grad` adds to its surroundings, and is then moved
    there. For 5x5 kernels that is a quarter of the work of a convolution.
    """
    size = kernel.shape[0]
    if grad.shape[1] > _LARGEST_MAP:
        back = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        return _forward(size - 1 - padding, grad, back)
    batch, height, width, channels = grad.shape
    flat = grad.reshape(-1, channels)
    total = none = jnp.zeros((), grad.dtype)
    for i, row in enumerate(kernel):
        parts = (flat @ row.reshape(-1, channels).T).reshape(
            batch, height, width, size, -1
        )
        moved = [_framed(parts[:, :, :, j], 2, j, size - 1 - j) for j in range(size)]
        total = total + _framed(sum(moved, none), 1, i, size - 1 - i)
    inner = slice(padding, -padding or None)
    return total[:, inner, inner]


def _framed(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    """Puts zeros before and after an axis."""
    zeros = [(0, 0)] * x.ndim
    zeros[axis] = (before, after)
    return jnp.pad(x, zeros)


def _kernel_gradient(padded: jax.Array, grad: jax.Array, size: int) -> jax.Array:
    """One matrix product for each row of the kernel, its columns side by side."""
    height, width = grad.shape[1:3]
    views = [padded[:, :, j : j + width] for j in range(size)]
    columns = jnp.concatenate(views, axis=-1)
    flat = grad.reshape(-1, grad.shape[-1])
    rows = [
        columns[:, i : i + height].reshape(-1, columns.shape[-1]).T @ flat
        for i in range(size)
    ]
    return jnp.stack(rows).reshape(size, size, padded.shape[-1], -1)


def _pad(padding: int, x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
