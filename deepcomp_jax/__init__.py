"""Deep Compression for JAX: prune, share and entropy-code a network into one file.

The five verbs are `compress`, `decompress`, `save`, `load` and `report`. Modules are
loaded when first used, so that a program that only reads files (`container`) or counts
bits (`account`) needs NumPy and `ml_dtypes` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepcomp_jax import (
        account,
        bits,
        budget,
        container,
        fold,
        gaps,
        huffman,
        kmeans,
        lanes,
        pipeline,
        prune,
        rate,
        retrain,
        share,
        soft_rate,
        trees,
    )
    from deepcomp_jax._errors import FormatError
    from deepcomp_jax._types import Compressed, Dense, Shared
    from deepcomp_jax.pipeline import (
        Rule,
        compress,
        decompress,
        default_rules,
        load,
        pack,
        report,
        save,
    )

__version__ = "0.1.0"

_MODULES = (
    "account",
    "bits",
    "budget",
    "container",
    "fold",
    "gaps",
    "huffman",
    "kmeans",
    "lanes",
    "pipeline",
    "prune",
    "rate",
    "retrain",
    "share",
    "soft_rate",
    "trees",
)
_NAMES = {
    "Compressed": "_types",
    "Dense": "_types",
    "FormatError": "_errors",
    "Rule": "pipeline",
    "Shared": "_types",
    "compress": "pipeline",
    "decompress": "pipeline",
    "default_rules": "pipeline",
    "load": "pipeline",
    "pack": "pipeline",
    "report": "pipeline",
    "save": "pipeline",
}

__all__ = (
    "Compressed",
    "Dense",
    "FormatError",
    "Rule",
    "Shared",
    "account",
    "bits",
    "budget",
    "compress",
    "container",
    "decompress",
    "default_rules",
    "fold",
    "gaps",
    "huffman",
    "kmeans",
    "lanes",
    "load",
    "pack",
    "pipeline",
    "prune",
    "rate",
    "report",
    "retrain",
    "save",
    "share",
    "soft_rate",
    "trees",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"deepcomp_jax.{name}")
    if name in _NAMES:
        return getattr(import_module(f"deepcomp_jax.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'deepcomp_jax' has no attribute {name!r}")
