"""VGG19_BN_drop_10: the network of the slides, at any width."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.conv import conv3x3

# Channels of the convolutions between two poolings, at width 1.
BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
HIDDEN = 4096


class Conv3x3(nn.Module):
    """A 3x3 convolution with a bias; the same parameters as `nn.Conv`."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height, width, features]`."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        y = conv3x3(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)


class VGG19(nn.Module):
    """Sixteen convolutions with BatchNorm, then three dense layers with dropout.

    Attributes:
        width: Factor on the channels of every layer. At 1 the network has the
            slides' 38,969,930 variables.
        classes: Outputs.
        dropout: Rate of dropout in front of each dense layer but the first.
        dtype: Of the computation; parameters and BatchNorm statistics are float32.
    """

    width: float = 1.0
    classes: int = 10
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, batch_statistics: bool = False
    ) -> jax.Array:
        """Maps images to logits.

        Args:
            x: float32 `[batch, 32, 32, 3]`.
            train: Whether dropout is on.
            batch_statistics: Whether BatchNorm uses the mean and variance of the batch
                and moves its own towards them.

        Returns:
            float32 `[batch, classes]`.
        """
        x = x.astype(self.dtype)
        for i, block in enumerate(BLOCKS, start=1):
            for j, channels in enumerate(block, start=1):
                x = Conv3x3(
                    self._scaled(channels), dtype=self.dtype, name=f"conv{i}_{j}"
                )(x)
                x = nn.BatchNorm(
                    use_running_average=not batch_statistics,
                    momentum=0.9,
                    dtype=self.dtype,
                    name=f"bn{i}_{j}",
                )(x)
                x = nn.relu(x)
            x = _max_pool(x)
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = nn.Dense(self._scaled(HIDDEN), dtype=self.dtype, name=name)(x)
            x = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="fc3")(x.astype(jnp.float32))

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width))


def _max_pool(x: jax.Array) -> jax.Array:
    """Halves height and width; as a reshape, whose derivative is fast everywhere."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
