"""What tiny runs share; a module of tests has a function `run` that makes its own."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from experiments.reporting import figures


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile() -> Iterator[None]:
    """Programs are hardly optimized, here and in processes that tests start.

    Those of a tiny run take seconds to compile and milliseconds to run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    quick_to_compile: None,
) -> Path:
    """The directory of a finished run of the module."""
    del quick_to_compile
    directory = tmp_path_factory.mktemp("run")
    request.module.run(directory)
    return directory


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no figures, which takes longer than all else in them."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])
