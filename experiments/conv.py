"""3x3 convolutions that train fast on a CPU, inside a scan too."""

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with a 3x3 kernel, stride 1, zero padding that keeps the size.

    On a CPU, XLA has a fast routine for a convolution written as in the forward pass,
    and none, inside a loop, for the two convolutions that its derivative makes of it
    (70 and 300 times slower). So the derivative is written here by hand: as a forward
    convolution for the images and as matrix products for the kernel. On any other
    device the derivative is left to XLA.

    Args:
        x: Images, `[batch, height, width, in]`.
        kernel: `[3, 3, in, out]`.

    Returns:
        `[batch, height, width, out]`.
    """
    return lax.platform_dependent(x, kernel, cpu=_conv_on_cpu, default=_conv)


def _conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT
    )


def _forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # On maps of 2x2 and less the padding is most of the work for the library routine.
    if x.shape[1] > 2:
        return _conv(x, kernel)
    height, width = x.shape[1:3]
    padded = _pad(x)
    views = [
        padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(views, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


@jax.custom_vjp
def _conv_on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _forward(x, kernel)


def _conv_on_cpu_fwd(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _forward(x, kernel), (x, kernel)


def _conv_on_cpu_bwd(
    saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    back = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return _forward(grad, back), _kernel_gradient(x, grad)


_conv_on_cpu.defvjp(_conv_on_cpu_fwd, _conv_on_cpu_bwd)


def _kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """One matrix product for each row of the kernel, its three columns side by side."""
    height, width, channels = x.shape[1:]
    padded = _pad(x)
    columns = jnp.concatenate([padded[:, :, j : j + width] for j in range(3)], axis=-1)
    flat = grad.reshape(-1, grad.shape[-1])
    rows = [
        columns[:, i : i + height].reshape(-1, 3 * channels).T @ flat for i in range(3)
    ]
    return jnp.stack(rows).reshape(3, 3, channels, -1)


def _pad(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
