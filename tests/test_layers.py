"""Imports point one way, and reading a file needs no JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "deepcomp_jax"

# Each module may import only from lines above its own.
LAYERS = [
    {"_types", "_errors"},
    {"bits", "_code", "_measures", "_report"},
    {"_stream", "_runs", "_tree", "trees"},
    {"gaps", "huffman", "kmeans"},
    {"_layout", "prune", "share", "lanes"},
    {"_header"},
    {"_section"},
    {"container", "_counting"},
    {"account", "retrain"},
    {"pipeline"},
    {"__init__"},
]
DEVICE = {"trees", "prune", "share", "lanes", "retrain", "pipeline", "__init__"}


def imported(source: str) -> set[str]:
    """Modules of the package that a source imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "deepcomp_jax":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == "deepcomp_jax" and module:
                found.add(module)
    return found


def violations(module: str, source: str) -> set[str]:
    """What a module imports from its own layer or from above it."""
    level = next(i for i, layer in enumerate(LAYERS) if module in layer)
    return imported(source) - set().union(*LAYERS[:level])


@pytest.mark.parametrize("module", sorted(set().union(*LAYERS)))
def test_imports_point_one_way(module: str):
    source = (PACKAGE / f"{module}.py").read_text()
    assert violations(module, source) == set()
    uses_jax = any(
        isinstance(node, ast.Import)
        and any(a.name.startswith("jax") for a in node.names)
        for node in ast.walk(ast.parse(source))
    )
    assert not uses_jax or module in DEVICE


def test_every_module_has_a_layer():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set().union(*LAYERS)


def test_an_upward_import_would_be_seen():
    assert violations("gaps", "from deepcomp_jax import container") == {"container"}
    assert violations("bits", "from deepcomp_jax.share import check") == {"share"}


@pytest.mark.parametrize(
    ("module", "loaded"), [("container", False), ("account", False), ("share", True)]
)
def test_reading_a_file_does_not_import_jax(module: str, loaded: bool):
    code = f"import sys, deepcomp_jax.{module}; print('jax' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(loaded)
