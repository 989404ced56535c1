"""The command in this process, and a checkpoint for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from deepcomp_jax import checkpoints
from deepcomp_jax.cli import main


class Said(NamedTuple):
    """What a call of the command came to."""

    status: int
    out: str
    err: str


@pytest.fixture
def dcz(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """The command: takes its arguments, returns its status and what it said."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_ENABLE_X64", "0")

    def call(*arguments: Any) -> Said:
        capsys.readouterr()
        status = main(list(map(str, arguments)))
        return Said(status, *capsys.readouterr())

    return call


def network() -> dict[str, np.ndarray]:
    """Twelve layers, a table that is there twice, and what is no weight."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 16)).astype(ml_dtypes.bfloat16)
    layers = {
        f"layer.{i}.{name}": rng.normal(size=shape).astype(np.float32)
        for i in range(12)
        for name, shape in (("weight", (40, 60)), ("bias", (60,)))
    }
    others = {"embed.weight": table, "tied.embed.weight": table, "ids": np.arange(9)}
    eight = rng.normal(size=(8, 9))
    small = {
        "int8.weight": (40 * eight).astype(np.int8),
        "float8.weight": eight.astype(ml_dtypes.float8_e4m3fn),
    }
    return layers | others | small


METADATA = {"format": "pt", "note": "ä \x1b[31m"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The network as a safetensors file, alone in its folder."""
    path = tmp_path / "model.safetensors"
    checkpoints.write(path, network(), metadata=METADATA)
    return path
