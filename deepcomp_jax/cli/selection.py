"""Checkpoints as verbs take them: a part of one, what it came from, how far it is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import containers
from deepcomp_jax.cli.common import UsageError, shown_list
from deepcomp_jax.cli.progress import Meter

ORIGIN = "dcz.origin"  # key of the metadata that names the format of the source
_ENDINGS = re.compile(
    r"(-\d{5}-of-\d{5})?(\.dcz|\.npz|\.msgpack|\.safetensors(\.index\.json)?)$"
)


def chosen(tree: Any, only: str | None, skip: str | None = None) -> Any:
    """The part of a tree whose leaves have names that match.

    Args:
        tree: Plain containers of leaves.
        only: Regular expression, found in the names of leaves; None for all.
        skip: Regular expression, found in names of leaves that are left out.

    Raises:
        UsageError: Nothing is left, or there is nothing to be left out.
    """
    if only is None and skip is None:
        return tree

    every = list(containers.named_leaves(tree))
    if skip is not None and not any(re.search(skip, name) for name in every):
        raise UsageError(f"{skip!r} matches no tensor: there are {shown_list(every)}")

    def kept(name: str) -> bool:
        wanted = only is None or re.search(only, name)
        return bool(wanted) and not (skip is not None and re.search(skip, name))

    found = containers.kept(tree, kept)
    if not containers.named_leaves(found):
        raise UsageError(f"no tensor is left: there are {shown_list(every)}")
    return found


def metered(tree: Any, meter: Meter) -> Any:
    """The same tree, whose leaves tell when they are read."""
    leaves = len(containers.named_leaves(tree))
    return containers.map_leaves(lambda leaf: _Metered(leaf, meter, leaves), tree)


class _Metered:
    """A leaf that tells when it is read."""

    def __init__(self, leaf: Any, meter: Meter, leaves: int) -> None:
        self._leaf, self._meter, self._leaves = leaf, meter, leaves
        self.shape, self.dtype, self.size = leaf.shape, leaf.dtype, leaf.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self._leaf, dtype)
        self._meter.one_more(self._leaves, values.nbytes)
        return values


def default_output(path: Path, ending: str) -> Path:
    """The name of an input with another ending, beside it."""
    whole = path if path.name not in ("", ".", "..") else path.resolve()
    return whole.with_name(_ENDINGS.sub("", whole.name) + ending)


def source_metadata(checkpoint: checkpoints.Checkpoint) -> dict[str, str]:
    """What a file keeps of the checkpoint that it is made from."""
    return {ORIGIN: checkpoint.format} | checkpoint.metadata


def own_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a file's metadata came from its source."""
    return {key: text for key, text in metadata.items() if key != ORIGIN}
