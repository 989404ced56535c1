"""The two LeNets of the paper, with the names that Caffe gives their layers."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from experiments.models.conv import Conv


class Dense(nn.Module):
    """A dense layer whose kernel is `[out, in]`, as Caffe stores it.

    Positions are coded along the last axis: what the kept inputs of one unit have in
    common, such as neighboring pixels, makes short gaps.

    Attributes:
        features: How many units there are.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, in]` to `[batch, features]`."""
        init = nn.initializers.lecun_normal(in_axis=1, out_axis=0)
        kernel = self.param("kernel", init, (self.features, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return x @ kernel.T + bias


class LeNet300(nn.Module):
    """Dense layers; as LeNet-300-100 of 266,610 parameters on MNIST.

    Attributes:
        hidden: Units of the layers but the last.
        classes: How many outputs there are.
        dropout: Rate of dropout in front of each layer but the first.
    """

    hidden: tuple[int, ...] = (300, 100)
    classes: int = 10
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, batch_statistics: bool = False
    ) -> jax.Array:
        """Maps images to logits.

        Args:
            x: float32 `[batch, height, width, channels]`, of `train.normalize`.
            train: Whether dropout is on.
            batch_statistics: Unused, for there is no BatchNorm.

        Returns:
            float32 `[batch, classes]`.
        """
        del batch_statistics
        x = _from_black(x).reshape(x.shape[0], -1)
        for i, units in enumerate(self.hidden, start=1):
            x = nn.relu(Dense(units, name=f"ip{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.classes, name=f"ip{len(self.hidden) + 1}")(x)


class LeNet5(nn.Module):
    """Caffe's LeNet-5: convolutions, two dense layers; 431,080 parameters on MNIST.

    As in Caffe's, no ReLU follows the convolutions.

    Attributes:
        channels: Channels of the convolutions.
        hidden: Units of the first dense layer.
        classes: How many outputs there are.
        dropout: Rate of dropout in front of the last layer.
    """

    channels: tuple[int, ...] = (20, 50)
    hidden: int = 500
    classes: int = 10
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, batch_statistics: bool = False
    ) -> jax.Array:
        """As `LeNet300` does, of images of 28 x 28 pixels."""
        del batch_statistics
        x = _from_black(x)
        for i, channels in enumerate(self.channels, start=1):
            x = Conv(channels, size=5, padding=0, pool=True, name=f"conv{i}")(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(self.hidden, name="ip1")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.classes, name="ip2")(x)


def rebuild(variables: Mapping[str, Any]) -> nn.Module:
    """Makes the LeNet that fits variables of any width, such as those of a file."""
    sizes = {name: layer["bias"].size for name, layer in variables["params"].items()}
    if "conv1" in sizes:
        return LeNet5((sizes["conv1"], sizes["conv2"]), sizes["ip1"], sizes["ip2"])
    return LeNet300((sizes["ip1"], sizes["ip2"]), sizes["ip3"])


def _from_black(x: jax.Array) -> jax.Array:
    """Shifts and scales pixels to [0, 1), as in Caffe, so that black is exactly 0.

    Pixels that are always black then teach their weights nothing, and these are pruned.
    """
    return x / 4 + 127.5 / 256
