"""Files of this library, as checkpoints like others."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepcomp_jax import api
from deepcomp_jax.checkpoints.common import Checkpoint


def open(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Opens a file or a set; see `dc.open`."""
    file = stack.enter_context(api.open(path))
    return Checkpoint("dcz", file.tree, file.metadata, file.file_bytes, stack)


def write(path: Path, tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file that changes no value; see `dc.write`."""
    api.write(path, tree, [], metadata=metadata)
