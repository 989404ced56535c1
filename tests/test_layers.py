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
    {
        "bits",
        "_code",
        "_dtypes",
        "_files",
        "_keys",
        "_measures",
        "_report",
        "_rans_loops",
        "lanes._sizes",
    },
    {"_index", "_runs", "_tree", "trees", "_rans_models"},
    {"_codebook", "_devices", "_weights", "_words"},
    {"_stream", "rans", "gaps", "kmeans"},
    {"huffman", "codings._groups", "fold", "prune", "share"},
    {"codings._body"},
    {"codings._classes", "codings._models"},
    {"codings._fit", "codings._gapped"},
    {"codings.packed", "codings.relative", "codings.dense", "codings.density"},
    {"codings._prices"},
    {"codings"},
    {"_layout", "rate", "lanes._huffman", "lanes._places", "lanes._rans"},
    {"lanes._leaves", "soft_rate"},
    {"lanes"},
    {"_header"},
    {"_section"},
    {"container", "_counting"},
    {"account", "retrain"},
    {"pipeline"},
    {"budget"},
    {"__init__"},
]
DEVICE = {
    "_devices", "_keys", "trees", "_weights", "fold", "prune", "share", "lanes",
    "lanes._sizes", "lanes._huffman", "lanes._places", "lanes._rans", "lanes._leaves",
    "retrain", "rate", "soft_rate", "pipeline", "budget", "__init__",
}  # fmt: skip


def imported(source: str) -> set[str]:
    """Modules of the package that a source imports, anywhere in it."""
    own = (n.partition(".") for n in names(source))
    return {module for package, _, module in own if package == "deepcomp_jax"}


def path_of(module: str) -> Path:
    """Where a module is: a file, or a folder with an `__init__`."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def names(source: str) -> set[str]:
    """Dotted names of all that a source imports; no relative ones are allowed."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = str(node.module)
            # `from deepcomp_jax import gaps` names a module, other imports its content.
            inner = [f"{module}.{alias.name}" for alias in node.names]
            is_folder = path_of(module.partition(".")[2]).name == "__init__.py"
            named = [n for n in inner if path_of(n.partition(".")[2]).exists()]
            found.update(named if is_folder and named else [module])
    return found


def uses_jax(source: str) -> bool:
    """Whether a source imports JAX, or a library on top of it."""
    return any(name.split(".")[0] in {"jax", "flax", "optax"} for name in names(source))


def violations(module: str, source: str) -> set[str]:
    """What a module imports from its own layer or from above it."""
    level = next(i for i, layer in enumerate(LAYERS) if module in layer)
    return imported(source) - set().union(*LAYERS[:level])


@pytest.mark.parametrize("module", sorted(set().union(*LAYERS)))
def test_imports_point_one_way(module: str):
    source = path_of(module).read_text()
    assert violations(module, source) == set()
    assert not uses_jax(source) or module in DEVICE


def test_every_module_has_a_layer():
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts) for path in files}
    modules = {module.removesuffix(".__init__") for module in modules}
    assert modules == set().union(*LAYERS)


def test_an_upward_import_would_be_seen():
    assert violations("gaps", "from deepcomp_jax import container") == {"container"}
    assert violations("bits", "from deepcomp_jax.share import check") == {"share"}
    assert violations("bits", "import deepcomp_jax.share") == {"share"}
    with pytest.raises(AssertionError, match="a relative import"):
        violations("bits", "from .share import check")


@pytest.mark.parametrize(
    "source", ["import jax.numpy as jnp", "from jax import numpy", "import optax"]
)
def test_a_use_of_jax_would_be_seen(source: str):
    assert uses_jax(source)
    assert not uses_jax("import jaxtyping")


@pytest.mark.parametrize(
    ("module", "loaded"), [("container", False), ("account", False), ("share", True)]
)
def test_reading_a_file_does_not_import_jax(module: str, loaded: bool):
    code = f"import sys, deepcomp_jax.{module}; print('jax' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(loaded)
