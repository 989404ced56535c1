"""Examples in docstrings are run: what they print is what they say."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import deepcomp_jax as dc

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


def functions() -> dict[str, object]:
    """The functions that users call, by name: at the top and in its modules."""
    found = {}
    for name in dir(dc):
        item = getattr(dc, name)
        if isinstance(item, ModuleType):
            for inner in getattr(item, "__all__", vars(item)):
                value = getattr(item, inner)
                own = getattr(value, "__module__", "").startswith(item.__name__)
                if own and inspect.isfunction(value) and not inner.startswith("_"):
                    found[f"{name}.{inner}"] = value
        elif inspect.isfunction(item):
            found[name] = item
    return found


def test_every_function_of_users_has_an_example():
    assert len(functions()) > 40
    assert [
        n for n, call in functions().items() if ">>> " not in str(call.__doc__)
    ] == []


def test_wrong_examples_would_be_seen():
    module = ModuleType("wrong", ">>> 1 + 1\n3\n>>> print('a   b')\na b\n")
    assert run(module) == (1, 2)
