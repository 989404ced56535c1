"""Checkpoints for the benchmark of the tool; a process of its own makes each of them.

python -m experiments.benchmarks.tool_checkpoints llama DIR 22
python -m experiments.benchmarks.tool_checkpoints cast IN.safetensors OUT bfloat16
python -m experiments.benchmarks.tool_checkpoints start OUT.safetensors
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import shards

# TinyLlama, arXiv 2401.02385: the widths of a layer, of keys, and its vocabulary.
_WIDTH, _INNER, _KEYS, _WORDS = 2048, 5632, 256, 32000
_SHARD = 760_000_000  # bytes, so that 22 layers are in three files


class Drawn(NamedTuple):
    """Weights like trained ones, drawn when they are asked for.

    They are of Student's t distribution with five degrees of freedom, whose tails are
    heavy, and each row has a scale of its own.

    Attributes:
        shape: Of the leaf.
        seed: Of its values.
    """

    shape: tuple[int, ...]
    seed: int

    @property
    def dtype(self) -> np.dtype:
        """That of large checkpoints."""
        return np.dtype(ml_dtypes.bfloat16)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        values = rng.standard_normal(self.shape, np.float32)
        if len(self.shape) == 1:  # the scales of a normalization
            return (1 + 0.1 * values).astype(self.dtype)
        values /= np.sqrt(rng.standard_gamma(2.5, self.shape, np.float32) / 2.5)
        values *= 0.02 * np.exp(0.3 * rng.standard_normal((self.shape[0], 1)))
        return values.astype(self.dtype)


def llama(path: str, layers: str) -> None:
    """Writes a language model into a folder of safetensors files with an index."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (_WORDS, _WIDTH)}
    for layer in range(int(layers)):
        of_layer = {
            "input_layernorm": (_WIDTH,),
            "self_attn.q_proj": (_WIDTH, _WIDTH),
            "self_attn.k_proj": (_KEYS, _WIDTH),
            "self_attn.v_proj": (_KEYS, _WIDTH),
            "self_attn.o_proj": (_WIDTH, _WIDTH),
            "post_attention_layernorm": (_WIDTH,),
            "mlp.gate_proj": (_INNER, _WIDTH),
            "mlp.up_proj": (_INNER, _WIDTH),
            "mlp.down_proj": (_WIDTH, _INNER),
        }
        for name, shape in of_layer.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    shapes |= {"model.norm.weight": (_WIDTH,), "lm_head.weight": (_WORDS, _WIDTH)}
    leaves = {name: Drawn(shape, i) for i, (name, shape) in enumerate(shapes.items())}
    shards.write(path, leaves, {"format": "pt"}, _SHARD)


def cast(source: str, path: str, dtype: str) -> None:
    """Writes the float32 values of a checkpoint, and nothing else of it, as a dtype."""
    with checkpoints.open(source) as opened:
        leaves = {
            name: np.asarray(leaf).astype(dtype)
            for name, leaf in opened.leaves.items()
            if leaf.dtype == np.float32
        }
    checkpoints.write(path, leaves)


def start(path: str) -> None:
    """Writes one small tensor: what is done with it takes no more than a start."""
    values = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    checkpoints.write(path, {"dense.weight": values})


_MAKERS: dict[str, Callable[..., None]] = {"llama": llama, "cast": cast, "start": start}

if __name__ == "__main__":
    _MAKERS[sys.argv[1]](*sys.argv[2:])
