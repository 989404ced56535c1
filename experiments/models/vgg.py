"""VGG19_BN_drop_10: the network of the slides, at any width."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.conv import Conv, max_pool

# Channels of the convolutions between two poolings, at width 1.
BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
HIDDEN = 4096


class VGG19(nn.Module):
    """Sixteen convolutions with BatchNorm, then three dense layers with dropout.

    Attributes:
        blocks: Channels of the convolutions between two poolings.
        hidden: Units of the dense layers but the last.
        classes: How many outputs there are.
        dropout: Rate of dropout in front of each dense layer but the first.
        dtype: The dtype to compute in; parameters and statistics are float32.
    """

    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    hidden: tuple[int, int] = (HIDDEN, HIDDEN)
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
        for i, block in enumerate(self.blocks, start=1):
            for j, channels in enumerate(block, start=1):
                x = Conv(channels, dtype=self.dtype, name=f"conv{i}_{j}")(x)
                x = nn.BatchNorm(
                    use_running_average=not batch_statistics,
                    momentum=0.9,
                    dtype=self.dtype,
                    name=f"bn{i}_{j}",
                )(x)
                x = nn.relu(x)
            x = max_pool(x)
        x = x.reshape(x.shape[0], -1)
        for i, units in enumerate(self.hidden, start=1):
            x = nn.Dense(units, dtype=self.dtype, name=f"fc{i}")(x)
            x = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="fc3")(x.astype(jnp.float32))


def of_width(width: float, classes: int = 10, **others: Any) -> VGG19:
    """Makes a VGG19 with a fraction of the channels and units of every layer.

    Args:
        width: The fraction. At 1 the network has the slides' 38,969,930 variables.
        classes: How many outputs there are.
        others: Other fields of `VGG19`.
    """

    def scaled(count: int) -> int:
        return max(1, round(count * width))

    blocks = tuple(tuple(map(scaled, block)) for block in BLOCKS)
    hidden = scaled(HIDDEN)
    return VGG19(blocks, (hidden, hidden), classes, **others)


def rebuild(variables: Mapping[str, Any]) -> VGG19:
    """Makes the VGG19 that fits variables, such as those of a file, without dropout."""
    sizes = {name: layer["bias"].size for name, layer in variables["params"].items()}
    blocks = tuple(
        tuple(sizes[f"conv{i}_{j}"] for j in range(1, len(block) + 1))
        for i, block in enumerate(BLOCKS, start=1)
    )
    return VGG19(blocks, (sizes["fc1"], sizes["fc2"]), sizes["fc3"], dropout=0.0)
