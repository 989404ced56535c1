"""`dcz compress --calibration`: a number of bytes, with statistics of the network."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepcomp_jax.cli import common
from deepcomp_jax.cli.progress import Meter

if TYPE_CHECKING:
    from deepcomp_jax.calibration import Calibration
    from deepcomp_jax.rules import Rule

_FIELD = 8  # bytes by which the size of a header may grow with what is in it


def write(
    output: Path,
    tree: Any,
    metadata: dict[str, str],
    limit: int,
    calibration: "Calibration",
    keep: str | None,
    meter: Meter,
) -> int:
    """Writes a file of at most so many bytes, rounded with feedback.

    Args:
        output: Of the file.
        tree: Plain containers of leaves, all of which are read.
        metadata: Of the file.
        limit: Of its bytes, with metadata.
        calibration: Of the leaves, see `read`.
        keep: Regular expression, found in names of leaves that keep every bit.
        meter: Says how far it is, of each file that is tried.

    Returns:
        The size of the file.

    Raises:
        UsageError: No file of these leaves is so small.
    """
    import numpy as np

    from deepcomp_jax import api, budget
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.rate.planning import TooFewBytes

    arrays = containers.map_leaves(np.asarray, tree)
    rules = None if keep is None else _all_but(arrays, keep)
    empty = api.compress({}, [])
    front = len(api.dumps(empty, metadata=metadata)) - len(api.dumps(empty)) + _FIELD
    try:
        found = budget.within_bytes(
            arrays, limit - front, rules, calibration=calibration, progress=meter
        )
    except TooFewBytes as error:
        raise common.UsageError(
            f"a file of these tensors takes about {error.least + front} bytes at the "
            f"least, above the {limit} that were asked for: allow more, or leave "
            "tensors out by --skip"
        ) from None
    size = api.save(output, found.compressed, metadata=metadata)
    if found.rd_lambda > 0:
        common.warn_of_spare(size, limit)
    return size


def _all_but(arrays: Any, keep: str) -> "list[Rule]":
    """Rules of the leaves that can be rounded and are not kept."""
    from deepcomp_jax.budget import plans
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.format.scales import DTYPES
    from deepcomp_jax.rules import Rule

    named = containers.named_leaves(arrays)
    names = [
        name
        for name, leaf in named.items()
        if leaf.dtype in DTYPES and not re.search(keep, name)
    ]
    return [Rule(plans.pattern(names))] if names else []


def read(
    path: Path,
    every: Collection[str],
    chosen: dict[str, Any],
    keep: str | None,
    max_bytes: int,
) -> "Calibration":
    """The statistics of the tensors that are compressed.

    Args:
        path: Of the file of statistics.
        every: Names of all tensors of the checkpoint.
        chosen: Those that are compressed, by name.
        keep: Regular expression, found in names of those that keep every bit.
        max_bytes: The most memory that the statistics may take.

    Raises:
        UsageError: They are of other tensors.
        CheckpointError, OSError: The file cannot be read.
    """
    from deepcomp_jax import calibration
    from deepcomp_jax.format.scales import DTYPES

    found = calibration.load(path, max_bytes=max_bytes)
    if strange := [name for name in found.sensitivity if name not in set(every)]:
        raise common.UsageError(
            f"{path} is of another network: it has {common.shown_list(strange)}, the "
            f"checkpoint {common.shown_list(list(every))}; calibrate a pytree whose "
            "leaves are named like the tensors"
        )
    missing = [
        name
        for name, leaf in chosen.items()
        if leaf.dtype in DTYPES
        and name not in found.sensitivity
        and not (keep is not None and re.search(keep, name))
    ]
    if missing:
        raise common.UsageError(
            f"{path} has no {common.shown_list(missing)}: calibrate them too, or keep "
            "them bit for bit by --keep"
        )
    own = {name: uses for name, uses in found.leaves.items() if name in chosen}
    known = {name: x for name, x in found.sensitivity.items() if name in chosen}
    return found._replace(leaves=own, sensitivity=known)
