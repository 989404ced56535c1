"""What tiny runs share; a module of tests has a function `run` that makes its own."""

from pathlib import Path

import pytest

from experiments.reporting import figures


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory of a finished run of the module."""
    directory = tmp_path_factory.mktemp("run")
    request.module.run(directory)
    return directory


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no figures, which takes longer than all else in them."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])
