"""A network of the shape of VGG19 that compiles in a second."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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


def drawn(model: nn.Module, *, noise: float = 0.0, seed: int = 0) -> Any:
    """Variables of a network of 32x32 images, for which nothing is compiled.

    Kernels are drawn as at the start of a training, scales and variances are 1, all
    else is 0, and to everything some noise is added.
    """
    rng = np.random.default_rng(seed)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)

    def values(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        found = noise * rng.standard_normal(leaf.shape)
        if path[-1].key == "kernel":
            variance = (2 if leaf.ndim > 2 else 1) / np.prod(leaf.shape[:-1])
            found += np.sqrt(variance) * rng.standard_normal(leaf.shape)
        found += path[-1].key in ("scale", "var")
        return found.astype(np.float32)

    return jax.tree_util.tree_map_with_path(values, shapes)
