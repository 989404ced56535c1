"""What the package offers, all of it documented."""

import inspect
from types import ModuleType

import pytest

import deepcomp_jax as dc


def test_public_names():
    assert sorted(dc.__all__) == [
        "Compressed", "FormatError", "Rule", "budget", "calibrate", "calibration",
        "compress", "decompress", "default_rules", "dumps", "fold", "kmeans", "load",
        "loads", "open", "pack", "prune", "rate", "rate_loss", "report", "retrain",
        "save", "share", "shrink", "write",
    ]  # fmt: skip
    assert len(dc.__all__) <= 25
    assert dir(dc) == sorted(dc.__all__)
    for name in dc.__all__:
        assert getattr(dc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = dc.quantise


def test_everything_public_is_documented():
    for name in dc.__all__:
        item = getattr(dc, name)
        assert item.__doc__, name
        if isinstance(item, ModuleType):
            for inner, value in vars(item).items():
                ours = getattr(value, "__module__", None) == item.__name__
                if ours and not inner.startswith("_") and inspect.isfunction(value):
                    assert value.__doc__, f"{name}.{inner}"
