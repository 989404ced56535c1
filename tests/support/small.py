"""A network of the shape of VGG19 that compiles in a second."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.conv import Conv
from experiments.study.roles import Roles

ROLES = Roles(
    network="small",
    groups=[
        (r"(?:conv|bn)(\d)/(?:bias|scale)$", r"bn\1"),
        (r"(fc)/bias$", r"\1/bias"),
        ("^batch_stats/", "statistics"),
    ],
    idle=r"^conv.*/bias$",
    norms=[("conv(.*)", r"bn\1")],
)


class Small(nn.Module):
    """Two convolutions with BatchNorm, and a dense layer.

    Attributes:
        dtype: Of the computation, but that of the dense layer.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, batch_statistics: bool = False
    ) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to logits `[batch, 10]`."""
        for i in (1, 2):
            x = Conv(8, dtype=self.dtype, name=f"conv{i}")(x)
            normalize = nn.BatchNorm(
                not batch_statistics, dtype=self.dtype, name=f"bn{i}"
            )
            x = nn.relu(normalize(x))
        x = nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
        x = x.astype(jnp.float32)
        return nn.Dense(10, name="fc")(x)
