"""From a network to a file in the memory of a few leaves, however large it is."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from typing import Any, TypeAlias

import jax
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.api.compression import (
    check_arrays,
    check_codings,
    default_rules,
    pack_leaves,
    share_pruned,
)
from deepcomp_jax.format import files, leaf_body
from deepcomp_jax.format.leaf_body import Encoded
from deepcomp_jax.format.writer import Writer
from deepcomp_jax.rules import Followed, Rule, resolve

# Called with leaves done, all leaves, bytes read of them, and bytes of the file so far.
Progress: TypeAlias = Callable[[int, int, int, int], None]
_Finished: TypeAlias = tuple[Encoded, np.ndarray | None]  # a leaf and its codebook

_AT_ONCE = 1 << 26  # bytes of small leaves that are worked on at a time


def write(
    path: str | PathLike[str],
    variables: Any,
    rules: Sequence[Rule] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> int:
    """Compresses a network into a `.dcz` file, leaf after leaf.

    The file is the same as that of `save(path, compress(variables, rules))`. The memory
    is what the largest leaf takes while it is compressed, about three times its own
    bytes, and not that of the network; where one rule prunes several leaves, or several
    share a codebook, these are needed at once.

    Args:
        path: Is replaced if it exists, and keeps its mode and owner; links are
            followed.
        variables: Any pytree of arrays. A leaf need only have `shape`, `dtype`, `size`
            and `__array__`, which is called when it is its turn: leaves of files that
            `dc.open` or `checkpoints.open` opened are read one at a time.
        rules: As for `compress`; none at all, `[]`, changes no value.
        metadata: As for `save`.
        progress: Is called after each leaf with the number of leaves that are done and
            of all leaves, the bytes of those that are done, and those of the file.

    Returns:
        The size of the file, in bytes.

    Raises:
        ValueError, OSError: As for `compress` and `save`; nothing on disk is changed.

    Examples:
        >>> import os, tempfile, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> tree = {"kernel": np.eye(100, dtype="f4"), "bias": np.zeros(100, "f4")}
        >>> size = dc.write(path, tree)
        >>> size == os.path.getsize(path) == len(dc.dumps(dc.compress(tree)))
        True
    """
    named = trees.named_leaves(variables)
    check_arrays(named)
    if rules is None:
        rules = default_rules(variables)
    followed = resolve(rules, named)
    numbers, _ = trees.structure(variables)
    with files.spool(path) as spool, files.replacing(path) as out:
        writer = Writer(numbers, spool)
        done = _Done(named, len(writer.names), progress)
        waiting: dict[str, _Finished] = {}
        labeled: set[str] = set()
        place = iter(writer.names)
        following = next(place, None)
        for finished in _in_turn(_batches(writer.names, followed), named, followed):
            waiting |= finished
            while following in waiting:
                encoded, codebook = waiting.pop(following)
                if codebook is not None:
                    labeled.add(following)
                done.add(following, writer.put(encoded, codebook))
                following = next(place, None)
        check_codings(rules if named else (), followed, labeled)
        return writer.finish(out, metadata)


class _Done:
    """Counts what is done, and tells."""

    def __init__(
        self, named: Mapping[str, Any], leaves: int, progress: Progress | None
    ) -> None:
        self._named, self._leaves, self._progress = named, leaves, progress
        self._count = self._read = self._written = 0

    def add(self, name: str, size: int) -> None:
        self._count += 1
        self._read += _nbytes(self._named[name])
        self._written += size
        if self._progress is not None:
            self._progress(self._count, self._leaves, self._read, self._written)


def _nbytes(leaf: Any) -> int:
    return np.size(leaf) * getattr(leaf, "dtype", np.dtype(float)).itemsize


def _batches(
    names: Sequence[str], followed: Mapping[str, Followed]
) -> Iterator[list[str]]:
    """Leaves that are needed at once, in the order of the first of each batch."""
    batches: dict[object, list[str]] = {}
    for name in names:
        key: object = name
        if name in followed:
            rule, group = followed[name]
            if rule.prune is not None:
                key = id(rule)
            elif rule.share is not None:
                key = id(rule), group
        batches.setdefault(key, []).append(name)
    yield from batches.values()


def _in_turn(
    batches: Iterator[list[str]],
    named: Mapping[str, Any],
    followed: Mapping[str, Followed],
) -> Iterator[dict[str, _Finished]]:
    """Works on batches, on several while they are small; yields them in order."""
    running: deque[tuple[int, Future[dict[str, _Finished]]]] = deque()
    under_way = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for batch in batches:
                size = sum(_nbytes(named[name]) for name in batch)
                while running and under_way + size > _AT_ONCE:
                    ended, future = running.popleft()
                    yield future.result()
                    under_way -= ended
                running.append((size, pool.submit(_finish, batch, named, followed)))
                under_way += size
            while running:
                yield running.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)


def _finish(
    batch: Sequence[str], named: Mapping[str, Any], followed: Mapping[str, Followed]
) -> dict[str, _Finished]:
    """Prunes, shares and encodes some leaves."""
    own = {name: _read(named[name]) for name in batch}
    rules = {name: followed[name] for name in batch if name in followed}
    shared = share_pruned(own, rules, trees.treedef(own))
    del own
    finished: dict[str, _Finished] = {}
    packed = pack_leaves(shared, rules)
    del shared
    for name in batch:
        leaf, codebook = packed.pop(name)
        finished[name] = leaf_body.put(name, leaf, codebook), codebook
    return finished


def _read(leaf: Any) -> Any:
    """A leaf in memory; those of JAX and numbers of Python stay what they are."""
    if isinstance(leaf, jax.Array | np.ndarray) or not hasattr(leaf, "__array__"):
        return leaf
    return np.asarray(leaf)
