"""Imports point one way, and reading a file needs no JAX."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "deepcomp_jax"

# A file or a folder may import only from rows above its own, and the files of a folder
# from each other, without circles.
LAYERS = [
    {"_types", "_errors", "_threads", "kmeans"},
    {"streams", "trees", "jaxprs"},
    {"codings", "retrain"},
    {"format", "rules"},
    {"account", "device", "fold", "prune", "share", "shrink"},
    {"resident"},
    {"rate", "rate_loss", "api"},
    {"checkpoints"},
    {"calibration"},
    {"feedback"},
    {"budget"},
    {"cli"},
    {"__init__", "__main__"},
]
DEVICE = {
    "trees", "jaxprs", "rules", "fold", "prune", "share", "device", "retrain", "rate",
    "rate_loss", "api", "budget", "calibration", "shrink", "feedback", "resident",
    "__init__",
}  # fmt: skip


@functools.cache
def files() -> dict[str, Path]:
    """Dotted names of all modules in the package, and where they are."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def names(source: str) -> set[str]:
    """Dotted names of all that a source imports; no relative ones are allowed."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = str(node.module)
            # `from deepcomp_jax import prune` names a module, others its content.
            inner = {
                f"{module}.{alias.name}"
                for alias in node.names
                if f"{module}.{alias.name}".removeprefix("deepcomp_jax.") in files()
            }
            found.update(inner or {module})
    return found


def imported(source: str) -> set[str]:
    """Modules of the package that a source imports, anywhere in it."""
    own = (name.partition(".") for name in names(source))
    return {module for package, _, module in own if package == "deepcomp_jax"}


def room(module: str) -> str:
    """The file or folder at the top of the package where a module is."""
    return module.partition(".")[0]


def uses_jax(source: str) -> bool:
    """Whether a source imports JAX, or a library on top of it."""
    return any(name.split(".")[0] in {"jax", "flax", "optax"} for name in names(source))


def violations(module: str, source: str) -> set[str]:
    """Rooms on its own floor or above it that a module imports from."""
    floor = next(i for i, layer in enumerate(LAYERS) if room(module) in layer)
    others = {room(name) for name in imported(source)} - {room(module)}
    return others - set().union(*LAYERS[:floor])


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules of which each is imported by the next and the first one is the last."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("module", sorted(files()))
def test_imports_point_one_way(module: str):
    source = files()[module].read_text()
    assert violations(module, source) == set()
    assert not uses_jax(source) or room(module) in DEVICE


def test_every_room_has_a_floor():
    assert {room(module) for module in files()} == set().union(*LAYERS)


def test_no_module_imports_itself_through_others():
    imports = {name: imported(path.read_text()) for name, path in files().items()}
    # The package loads its modules lazily; a folder is imported with any file in it.
    del imports["__init__"]
    assert circle(imports) == []


def test_a_wrong_import_would_be_seen():
    assert violations("streams.gaps", "from deepcomp_jax import format") == {"format"}
    assert violations("streams.bits", "import deepcomp_jax.share") == {"share"}
    text = "from deepcomp_jax.format.container import dumps"
    assert violations("codings.order0", text) == {"format"}
    assert imported(text) == {"format.container"}
    assert imported("from deepcomp_jax.streams import bits, gaps") == {
        "streams.bits",
        "streams.gaps",
    }
    own = {"streams.bits": {"streams.gaps"}, "streams.gaps": {"streams.bits"}}
    assert set(circle(own)) == set(own)
    with pytest.raises(AssertionError, match="a relative import"):
        violations("streams.bits", "from .share import check")


@pytest.mark.parametrize(
    "source", ["import jax.numpy as jnp", "from jax import numpy", "import optax"]
)
def test_a_use_of_jax_would_be_seen(source: str):
    assert uses_jax(source)
    assert not uses_jax("import jaxtyping")


@pytest.mark.parametrize(
    ("module", "loaded"),
    [("format.container", False), ("account", False), ("share", True)],
)
def test_reading_a_file_does_not_import_jax(module: str, loaded: bool):
    code = f"import sys, deepcomp_jax.{module}; print('jax' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(loaded)
