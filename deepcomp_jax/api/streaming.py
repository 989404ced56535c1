"""From a network to a file in the memory of a few leaves, however large it is."""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._types import Progress, Structure
from deepcomp_jax.api.compression import (
    check_arrays,
    check_codings,
    default_rules,
    pack_leaves,
    share_pruned,
)
from deepcomp_jax.device import put_on_cpu
from deepcomp_jax.format import files as format_files
from deepcomp_jax.format import leaf_encoding, sets, structures
from deepcomp_jax.format.leaf_encoding import Encoded
from deepcomp_jax.format.leaf_header import ELSEWHERE, Layout
from deepcomp_jax.format.memory_limit import check_max_bytes
from deepcomp_jax.format.writer import Writer
from deepcomp_jax.rules import Followed, Rule, resolve

_Finished: TypeAlias = tuple[Encoded, np.ndarray | None]  # a leaf and its codebook


class TooLarge(ValueError):
    """A file has more bytes than it may.

    Attributes:
        size: That it would have.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(f"the file would have {size} bytes, above {max_bytes}")
        self.size = size


_AT_ONCE = 1 << 26  # bytes of small leaves that are worked on at a time


def write(
    path: str | PathLike[str],
    variables: Any,
    rules: Sequence[Rule] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    max_bytes: int | None = None,
    files: int = 1,
    file: int | None = None,
) -> int:
    """Compresses a network into a `.dcz` file, or replaces one, leaf after leaf.

    The file is the same as that of `save(path, compress(variables, rules))`. The memory
    is what the largest leaf takes while it is compressed, at most three times its own
    bytes and 300 MB, and not that of the network; where one rule prunes several leaves,
    or several share a codebook, these are needed at once.

    Args:
        path: Of the file. One that exists is replaced, and keeps its mode and owner;
            links are followed.
        variables: Any pytree of arrays. A leaf need only have `shape`, `dtype`, `size`
            and `__array__`, which is called when it is its turn: leaves of files that
            `dc.open` or `checkpoints.open` opened are read one at a time.
        rules: As for `compress`; none at all, `[]`, changes no value.
        metadata: As for `save`.
        progress: Is called after each leaf with the number of leaves that are done and
            of all leaves, the bytes of those that are done, and those of the file.
        max_bytes: A file that would be larger is not written.
        files: Of how many files the network is to be a set, "model-00001-of-00004.dcz"
            for path "model.dcz" and so on, with about as many bytes of leaves in each;
            `load` and `open` take the path of the set. It replaces "model.dcz", and a
            set of another number of files.
        file: Writes this one of them alone, counted from 0, so that each process of a
            run on several machines writes `file=jax.process_index()` of
            `files=jax.process_count()`. All must be given the same names, shapes,
            dtypes and rules, and a process reads only the leaves of its file. If one
            of them fails, the files of an older set of as many files are still there,
            and are not told from the new ones: give each set a name of its own.

    Returns:
        The size of what was written, in bytes.

    Raises:
        TooLarge: The file would have more than `max_bytes`.
        ValueError, OSError: As for `compress` and `save`; nothing on disk is changed,
            but for files of a set that were finished before.

    Examples:
        >>> import os, tempfile, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> tree = {"kernel": np.eye(100, dtype="f4"), "bias": np.zeros(100, "f4")}
        >>> size = dc.write(path, tree)
        >>> size == os.path.getsize(path) == len(dc.dumps(dc.compress(tree)))
        True
    """
    if not 1 <= files <= sets.MAX_FILES or not (file is None or 0 <= file < files):
        raise ValueError(
            f"file={file} of files={files}: a set has 1 to {sets.MAX_FILES} files, "
            "counted from 0"
        )
    if max_bytes is not None:
        check_max_bytes(max_bytes)
    named = trees.named_leaves(variables)
    check_arrays(named)
    if rules is None:
        rules = default_rules(variables)
    followed = resolve(rules, named)
    structure, _ = trees.structure(variables)
    names, _ = structures.leaf_names(structure)
    batches = _batches(names, followed)
    progress = progress or (lambda *_: None)
    job = _Job(structure, named, rules, followed, metadata or {}, progress, max_bytes)
    if files == 1:
        return _write_file(path, job, batches)
    total = 0
    for number, own in enumerate(_divided(batches, named, files)):
        if file is None or number == file:
            member = sets.path_of(path, number + 1, files)
            total += _write_file(member, job, own)
    if not file:  # of several processes the first one does so
        for other in sets.outdated(path, files):
            other.unlink()
    return total


class _Job(NamedTuple):
    """What is the same for all files of a set.

    Attributes:
        structure: The containers of the network.
        named: Its leaves.
        rules: What was asked for.
        followed: The rules that they follow.
        metadata: Strings that go with it.
        progress: Who is told of it.
        max_bytes: Of a file; None for any.
    """

    structure: Structure
    named: Mapping[str, Any]
    rules: Sequence[Rule]
    followed: Mapping[str, Followed]
    metadata: Mapping[str, str]
    progress: Progress
    max_bytes: int | None


def _write_file(
    path: str | PathLike[str], job: _Job, batches: Sequence[Sequence[str]]
) -> int:
    """Writes the leaves of some batches into a file; the others are elsewhere."""
    here = {name for batch in batches for name in batch}
    with (
        format_files.spool(path) as spool,
        format_files.replacing(path) as out,
        contextlib.closing(_in_turn(batches, job)) as in_turn,
    ):
        writer = Writer(job.structure, spool)
        order = iter(writer.names)
        waiting: dict[str, _Finished] = {
            name: (Encoded(_elsewhere(leaf), ()), None)
            for name, leaf in job.named.items()
            if name not in here
        }
        labeled: set[str] = set()
        done = read = written = 0
        following = next(order, None)
        # Leaves of other files may come first, or be all that there is.
        for finished in itertools.chain([{}], in_turn):
            waiting |= finished
            while following in waiting:
                encoded, codebook = waiting.pop(following)
                if codebook is not None:
                    labeled.add(following)
                written += writer.put(encoded, codebook)
                if following in here:
                    done, read = done + 1, read + _nbytes(job.named[following])
                    job.progress(done, len(here), read, written)
                following = next(order, None)
        if len(here) == len(writer.names):
            check_codings(job.rules if here else (), job.followed, labeled)
        size = writer.finish(out, job.metadata)
        if job.max_bytes is not None and size > job.max_bytes:
            raise TooLarge(size, job.max_bytes)
        return size


def _elsewhere(leaf: Any) -> Layout:
    return Layout(np.shape(leaf), np.dtype(leaf.dtype), ELSEWHERE)


def _divided(
    batches: Sequence[list[str]], named: Mapping[str, Any], files: int
) -> list[list[list[str]]]:
    """Batches by file: the largest first, each to the file that has least."""
    sizes = [sum(_nbytes(named[name]) for name in batch) for batch in batches]
    members: list[list[int]] = [[] for _ in range(files)]
    totals = [0] * files
    for number in sorted(range(len(batches)), key=lambda i: -sizes[i]):
        least = totals.index(min(totals))
        members[least].append(number)
        totals[least] += sizes[number]
    return [[batches[number] for number in sorted(own)] for own in members]


def _nbytes(leaf: Any) -> int:
    return np.size(leaf) * getattr(leaf, "dtype", np.dtype(float)).itemsize


def _batches(names: Sequence[str], followed: Mapping[str, Followed]) -> list[list[str]]:
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
    return list(batches.values())


def _in_turn(
    batches: Sequence[Sequence[str]], job: _Job
) -> Generator[dict[str, _Finished], None, None]:
    """Works on batches, on several while they are small; yields them in order."""
    running: deque[tuple[int, Future[dict[str, _Finished]]]] = deque()
    under_way = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for batch in batches:
                size = sum(_nbytes(job.named[name]) for name in batch)
                while running and under_way + size > _AT_ONCE:
                    ended, future = running.popleft()
                    yield future.result()
                    under_way -= ended
                running.append((size, pool.submit(_finish, batch, job)))
                under_way += size
            while running:
                yield running.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)


def _finish(batch: Sequence[str], job: _Job) -> dict[str, _Finished]:
    """Prunes, shares and encodes some leaves."""
    own = {name: _read(job.named[name]) for name in batch}
    rules = {name: job.followed[name] for name in batch if name in job.followed}
    shared = share_pruned(own, rules, trees.treedef(own))
    del own
    finished: dict[str, _Finished] = {}
    packed = pack_leaves(shared, rules)
    del shared
    for name in batch:
        leaf, codebook = packed.pop(name)
        finished[name] = leaf_encoding.put(name, leaf, codebook, put_on_cpu), codebook
    return finished


def _read(leaf: Any) -> Any:
    """A leaf in memory; those of JAX and numbers of Python stay what they are."""
    if isinstance(leaf, jax.Array | np.ndarray) or not hasattr(leaf, "__array__"):
        return leaf
    return np.asarray(leaf)
