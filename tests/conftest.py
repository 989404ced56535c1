"""Strict JAX, and hypothesis that finds the same examples on every machine.

`HYPOTHESIS_PROFILE=thorough` draws ten times as many.
"""

import os
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("default"), max_examples=300
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# What a process has compiled, those that it starts need not. Workers of a session have
# a folder each, for JAX reads there what another process may still be writing.
_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker is None:
    _programs = tempfile.TemporaryDirectory(prefix="deepcomp-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
else:
    _folder = os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], _worker)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _folder

# Files whose tests take long begin first, so that no worker is left alone with one.
_LONG = "tests/experiments/", "tests/test_guide.py", "tests/test_readme.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


# Flax adds biases by broadcasting, and so do the experiments.
_BROADCASTING = {
    "test_forward",
    "test_lenet",
    "test_onto_grids",
    "test_post_training",
    "test_post_training_networks",
    "test_idle_units",
    "test_rate_training",
    "test_study",
    "test_train",
}


@pytest.fixture(autouse=True)
def _no_silent_broadcast(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the library, adding arrays of different ranks is an error."""
    if request.module.__name__.rpartition(".")[2] in _BROADCASTING:
        yield
        return
    import jax

    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def even_few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of few symbols or lanes are coded and decoded in compiled loops too."""
    from deepcomp_jax.device import rans_coding, rans_lanes, rounding

    monkeypatch.setattr(rans_coding, "WORTH_COMPILING", 1)
    monkeypatch.setattr(rans_coding, "WORTH_LOCK_STEP", 1)
    monkeypatch.setattr(rans_lanes, "WORTH_LOCK_STEP", 1)
    monkeypatch.setattr(rounding, "WORTH_COMPILING", 1)
    monkeypatch.setattr(rounding, "BLOCK", 1 << 12)
