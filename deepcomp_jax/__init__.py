"""Deep Compression for JAX: prune, share and entropy-code a network into one file.

The five verbs are `compress`, `decompress`, `save`, `load` and `report`. Modules are
loaded when first used, so that a program that only reads files (`format.container`) or
counts bits (`account`) needs NumPy and `ml_dtypes` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepcomp_jax import (
        budget,
        calibration,
        fold,
        kmeans,
        prune,
        rate,
        rate_loss,
        retrain,
        share,
        shrink,
    )
    from deepcomp_jax import checkpoints as checkpoints
    from deepcomp_jax import resident as resident
    from deepcomp_jax._errors import FormatError
    from deepcomp_jax._types import Compressed
    from deepcomp_jax.api import (
        compress,
        decompress,
        default_rules,
        dumps,
        load,
        loads,
        open,
        pack,
        report,
        save,
        write,
    )
    from deepcomp_jax.calibration import calibrate
    from deepcomp_jax.rules import Rule

__version__ = "0.1.0"

_MODULES = (
    "budget",
    "calibration",
    "checkpoints",
    "fold",
    "kmeans",
    "prune",
    "rate",
    "rate_loss",
    "resident",
    "retrain",
    "share",
    "shrink",
)
_NAMES = {
    "Compressed": "_types",
    "FormatError": "_errors",
    "Rule": "rules",
    "calibrate": "calibration",
    "compress": "api",
    "decompress": "api",
    "default_rules": "api",
    "dumps": "api",
    "load": "api",
    "loads": "api",
    "open": "api",
    "pack": "api",
    "report": "api",
    "save": "api",
    "write": "api",
}

__all__ = (
    "Compressed",
    "FormatError",
    "Rule",
    "budget",
    "calibrate",
    "calibration",
    "compress",
    "decompress",
    "default_rules",
    "dumps",
    "fold",
    "kmeans",
    "load",
    "loads",
    "open",
    "pack",
    "prune",
    "rate",
    "rate_loss",
    "report",
    "retrain",
    "save",
    "share",
    "shrink",
    "write",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"deepcomp_jax.{name}")
    if name in _NAMES:
        return getattr(import_module(f"deepcomp_jax.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'deepcomp_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
