"""What the package offers, all of it documented."""

import inspect
import pydoc
import re
from pathlib import Path
from types import ModuleType

import pytest

import deepcomp_jax as dc

ROOT = Path(__file__).parents[1]


def test_public_names():
    assert sorted(dc.__all__) == [
        "Compressed", "FormatError", "Rule", "budget", "calibrate", "calibration",
        "compress", "decompress", "default_rules", "dumps", "fold", "kmeans", "load",
        "loads", "open", "pack", "prune", "rate", "rate_loss", "report", "retrain",
        "save", "share", "shrink", "write",
    ]  # fmt: skip
    assert len(dc.__all__) <= 25
    # Two modules are there for those who look, and not taken by `import *`.
    assert dir(dc) == sorted([*dc.__all__, "checkpoints", "resident"])
    for name in dir(dc):
        assert getattr(dc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = dc.quantise


MODULES = [name for name in dir(dc) if isinstance(getattr(dc, name), ModuleType)]


@pytest.mark.parametrize("name", MODULES)
def test_help_and_the_page_of_a_module_show_what_is_public(name: str):
    module = getattr(dc, name)
    own = [inner for inner, value in vars(module).items() if _is_own(value, module)]
    public = getattr(module, "__all__", own)
    text = pydoc.plain(pydoc.render_doc(module))
    shown = re.findall(r"^    (?:class )?(\w+)(?:\(| =)", text, re.M)
    assert public
    assert set(public) - set(shown) == set()
    if hasattr(module, "__path__"):  # the site shows by itself what a file defines
        page = (ROOT / f"specs/api/{name}.md").read_text()
        assert sorted(re.findall(r"^ +- (\w+)$", page, re.M)) == sorted(public)


def _is_own(value: object, module: ModuleType) -> bool:
    name = getattr(value, "__name__", "_")
    ours = getattr(value, "__module__", None) == module.__name__
    return ours and not name.startswith("_") and inspect.isfunction(value)


def test_everything_public_is_documented():
    for name in dir(dc):
        item = getattr(dc, name)
        assert item.__doc__, name
        if isinstance(item, ModuleType):
            for inner, value in vars(item).items():
                ours = getattr(value, "__module__", None) == item.__name__
                if ours and not inner.startswith("_") and inspect.isfunction(value):
                    assert value.__doc__, f"{name}.{inner}"
