"""The statistics of a network, and the file that they are kept in."""

import json
import math
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax.calibration.moments import Use
from deepcomp_jax.checkpoints import npz
from deepcomp_jax.checkpoints.leaves import CheckpointError, Leaf
from deepcomp_jax.format.memory_limit import MAX_BYTES

_INDEX = "index"
_VERSION = 1
_MAX_INDEX = 1 << 26  # bytes of the list of leaves
_MAX_AXES = 64  # of an array, as NumPy bounds them
_KINDS = ("product", "table")


class Calibration(NamedTuple):
    """What the leaves of a network meet, summed over all batches.

    Attributes:
        leaves: For the name of each leaf that is multiplied with data, or that rows are
            looked up in, its uses: a tied embedding has two. Leaves that only shift or
            scale, such as biases, are not here.
        notes: What was not followed: the leaf, the primitives and what that means. Also
            leaves that are not used, and constants within the function that may be
            weights.
        sensitivity: For the name of each floating leaf how much the outputs change with
            it: the sum over examples of the squared derivative of a random projection
            of the outputs, float64, of the whole leaf; or for each index of the
            leading axes if those are the batch of all its uses.
        examples: The number of examples, which is that of batches if the arrays of a
            batch have no leading axis in common.
    """

    leaves: Mapping[str, tuple[Use, ...]]
    notes: tuple[str, ...]
    sensitivity: Mapping[str, np.ndarray]
    examples: int

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the statistics into an `.npz` file; see `load`.

        Args:
            path: Is replaced if it exists, whole or not at all.

        Raises:
            OSError: The path cannot be written.
        """
        arrays: dict[str, np.ndarray] = {}
        listed: dict[str, Any] = {}
        for position, (name, uses) in enumerate(self.leaves.items()):
            listed[name] = [_described(use) for use in uses]
            for which, use in enumerate(uses):
                arrays[f"inputs/{position}/{which}"] = use.input_moments
                arrays[f"outputs/{position}/{which}"] = use.output_moments
        for position, value in enumerate(self.sensitivity.values()):
            arrays[f"sensitivity/{position}"] = np.asarray(value, np.float64)
        index = {
            "version": _VERSION,
            "examples": self.examples,
            "notes": list(self.notes),
            "leaves": listed,
            "sensitivity": list(self.sensitivity),
        }
        text = json.dumps(index).encode()
        arrays = {_INDEX: np.frombuffer(text, np.uint8), **arrays}
        npz.write(path, arrays, {})


def _described(use: Use) -> dict[str, Any]:
    axes = {role: list(getattr(use, role)) for role in ("batch", "inputs", "outputs")}
    return {"kind": use.kind, **axes, "count": int(use.count)}


def load(path: str | PathLike[str], *, max_bytes: int = MAX_BYTES) -> Calibration:
    """Reads statistics that `Calibration.save` has written.

    Nothing in the file is run, and no more memory is taken than is allowed, whoever
    wrote it.

    Args:
        path: The file.
        max_bytes: The most that all arrays may take together, which the file says
            before any is read.

    Raises:
        CheckpointError: The file holds no statistics, is damaged, or takes more than
            that. (It is a ValueError too.)
        OSError: The file cannot be opened.

    Examples:
        >>> import os, tempfile, jax.numpy as jnp
        >>> import deepcomp_jax as dc
        >>> calibration = dc.calibrate(
        ...     lambda params, x: x @ params["w"], {"w": jnp.ones((3, 2))},
        ...     [jnp.ones((5, 3))],
        ... )
        >>> path = os.path.join(tempfile.mkdtemp(), "calibration.npz")
        >>> calibration.save(path)
        >>> dc.calibration.load(path).leaves["w"][0].input_moments[0]
        array([5., 5., 5.], dtype=float32)
    """
    with npz.read(path) as archive:
        where = fspath(path)
        leaves = archive.leaves
        size = sum(leaf.nbytes for leaf in leaves.values())
        if size > max_bytes:
            raise CheckpointError(
                f"{where} takes {size} bytes, above max_bytes={max_bytes}: allow more "
                "if you trust the file"
            )
        try:
            return _read(leaves, max_bytes)
        except (KeyError, TypeError, IndexError, RecursionError, ValueError) as error:
            reason = str(error)[:200]
            raise CheckpointError(
                f"{where} holds no statistics of a network ({reason}): make it with "
                "Calibration.save"
            ) from None


def _read(leaves: Mapping[str, Leaf], max_bytes: int) -> Calibration:
    index = _index(leaves[_INDEX])
    if index["version"] != _VERSION:
        raise ValueError(f"version {index['version']!r} is not known here")

    def array(name: str, dtype: type) -> np.ndarray:
        leaf = leaves[name]
        if leaf.dtype != dtype:
            raise ValueError(f"{name} is {leaf.dtype}")
        leaf.limit(2 * max_bytes, name)
        values = np.asarray(leaf)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite")
        return values

    uses = {}
    for position, (name, listed) in enumerate(index["leaves"].items()):
        pairs = (
            [
                array(f"{what}/{position}/{which}", np.float32)
                for which in range(len(listed))
            ]
            for what in ("inputs", "outputs")
        )
        uses[name] = tuple(map(_use, listed, *pairs))
    sensitivity = {
        _text(name): array(f"sensitivity/{position}", np.float64)
        for position, name in enumerate(index["sensitivity"])
    }
    notes = tuple(map(_text, index["notes"]))
    return Calibration(uses, notes, sensitivity, _whole(index["examples"]))


def _index(leaf: Leaf) -> dict[str, Any]:
    if leaf.dtype != np.uint8 or leaf.ndim != 1 or leaf.nbytes > _MAX_INDEX:
        raise ValueError("the list of leaves is none")
    index = json.loads(np.asarray(leaf).tobytes())
    if not isinstance(index, dict) or not isinstance(index["leaves"], dict):
        raise ValueError("the list of leaves is none")
    return index


def _use(listed: Mapping[str, Any], inputs: np.ndarray, outputs: np.ndarray) -> Use:
    """A use as it was, checked against its arrays."""
    kind = listed["kind"]
    roles = tuple(_axes(listed[role]) for role in ("batch", "inputs", "outputs"))
    axes = [axis for role in roles for axis in role]
    if kind not in _KINDS or sorted(axes) != list(range(len(axes))):
        raise ValueError(f"a use of kind {str(kind)[:20]!r} with axes {axes}")
    batch = len(roles[0])
    for moments in (inputs, outputs):
        square = moments.shape[batch:]
        if len(square) not in (1, 2) or len(set(square)) != 1:
            raise ValueError(f"moments of shape {moments.shape}")
    if inputs.shape[:batch] != outputs.shape[:batch]:
        raise ValueError(f"moments of {inputs.shape} beside {outputs.shape}")
    return Use(
        kind, roles[0], roles[1], roles[2], inputs, outputs, _whole(listed["count"])
    )


def _axes(listed: Iterable[Any]) -> tuple[int, ...]:
    axes = tuple(map(_whole, listed))
    if len(axes) > _MAX_AXES:
        raise ValueError(f"{len(axes)} axes")
    return axes


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0 or not math.isfinite(number):
        raise ValueError(f"{str(number)[:20]!r} is no count")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:20]!r} is no text")
    return value
