"""Examples in docstrings are run: what they print is what they say."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def with_examples() -> list[str]:
    """Dotted names of the modules of the package that have examples."""
    found = []
    for path in sorted((ROOT / "deepcomp_jax").rglob("*.py")):
        if ">>> " in path.read_text():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found.append(name.removesuffix(".__init__"))
    return found


def run(module: ModuleType) -> doctest.TestResults:
    """Runs the examples of a module; prints those that fail."""
    return doctest.testmod(module, optionflags=OPTIONS)


@pytest.mark.parametrize("name", with_examples())
def test_examples_of(name: str):
    results = run(importlib.import_module(name))
    assert results.attempted > 0, f"{name}: no docstring holds its examples"
    assert results.failed == 0


def test_wrong_examples_would_be_seen():
    module = ModuleType("wrong", ">>> 1 + 1\n3\n>>> print('a   b')\na b\n")
    assert run(module) == (1, 2)
