"""Networks in files that are open: leaves are read when they are asked for."""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

import jax
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._errors import listed
from deepcomp_jax.device import leaf_to_device, take_on_cpu
from deepcomp_jax.format import (
    leaf_reading,
    memory_limit,
    reader,
    records,
    sets,
    structures,
)
from deepcomp_jax.format.lazy_leaf import LazyLeaf, Read
from deepcomp_jax.resident import Resident, ResidentLeaf
from deepcomp_jax.resident.network import of_leaf
from deepcomp_jax.rules import check_pattern
from deepcomp_jax.trees import placement

Place: TypeAlias = Any  # jax.Device or jax.sharding.Sharding; the first is no type yet


def open(
    path: str | PathLike[str], *, max_bytes: int = memory_limit.MAX_BYTES
) -> "File":
    """Opens a `.dcz` file, or a set of them, without reading more than its header.

    Args:
        path: Of the file; of a set, "model.dcz" or any of its files.
        max_bytes: The most memory that what is read at a time may take, see `load`.

    Returns:
        A mapping from names to leaves, which are read when they are asked for: as
        arrays by `np.asarray(file[name])`, in slices of the first axis by
        `file[name][2:5]`, or many at once by `file.load(only="encoder")`.

    Raises:
        FormatError: The header is damaged, or the files are not of one set.
        OSError: There is no such file, or one of the set is missing.

    Examples:
        >>> import os, tempfile, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> tree = {"kernel": np.eye(3, dtype="f4"), "step": np.int32(7)}
        >>> size = dc.write(path, tree, [])
        >>> with dc.open(path) as file:
        ...     print(file["kernel"])
        ...     print(file["kernel"][1], file.load(only="step"))
        Leaf('kernel', float32[3, 3], sparse)
        [0. 1. 0.] {'step': array(7, dtype=int32)}
    """
    stack = contextlib.ExitStack()
    try:
        return File(sets.opened(path, stack), max_bytes, stack)
    except BaseException:
        stack.close()
        raise


class Leaf(LazyLeaf):
    """A leaf of a file that is open; nothing of it is read until it is asked for.

    `np.asarray(leaf)` reads all of it, `leaf[3]` or `leaf[2:5]` no more than what is
    needed for these indices of the first axis. Several threads may read at once.

    Attributes:
        name: Its path, such as "params/fc1/kernel".
        shape, dtype, size, ndim, nbytes: As of the array.
        coding: How it is stored.
        copy_of: Name of the leaf that is stored in its place, if there is one.
        stored_bytes: What its bodies take in the file; 0 if it is a copy of another.
        file: Number of the file of the set that it is in; 0 if there is one.
        entry: What the header says of it.
    """

    def __init__(
        self, entry: records.Entry, file: int, copy_of: str | None, read: Read
    ) -> None:
        """The leaf of an entry of a header, which a function reads."""
        layout = entry.layout
        super().__init__(layout.shape, layout.dtype, read)
        self.name, self.entry, self.file, self.copy_of = (
            entry.name,
            entry,
            file,
            copy_of,
        )
        self.stored_bytes = entry.size
        self.coding = layout.coding_name

    def __repr__(self) -> str:
        return f"Leaf({self.name!r}, {self.dtype}{list(self.shape)}, {self.coding})"


class File(Mapping[str, Leaf]):
    """A network on the disk that is open: a mapping from names to leaves.

    It is closed like a file, and several threads may read from it at once.

    Attributes:
        metadata: The strings that came with the network.
        file_bytes: Of the file, or of all files of the set.
    """

    def __init__(
        self,
        files: Sequence[sets.Opened],
        max_bytes: int,
        stack: contextlib.ExitStack | None = None,
    ) -> None:
        """A network in files that are open; `open` opens them."""
        memory_limit.check_max_bytes(max_bytes)
        self._files, self._max_bytes = files, max_bytes
        self._stack = stack or contextlib.ExitStack()
        self._leaves: dict[str, Leaf] = {}
        for number, entry in sets.leaves(files):
            copied = entry.layout.copy_of
            self._leaves[entry.name] = Leaf(
                entry,
                number,
                None if copied is None else files[number].header.leaves[copied].name,
                functools.partial(self._read, number, entry),
            )
        self.metadata = dict(files[0].header.metadata)
        self.file_bytes = sum(file.source.size for file in files)

    def __getitem__(self, name: str) -> Leaf:
        if name not in self._leaves:
            raise KeyError(f"no leaf {name!r}: there are {listed(self._leaves)}")
        return self._leaves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __repr__(self) -> str:
        return f"File({len(self)} leaves, {self.file_bytes} bytes)"

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; its leaves cannot be read any more."""
        self._files = ()
        self._stack.close()

    @property
    def tree(self) -> Any:
        """The containers of the network, with leaves that have not been read."""
        structure = self._opened(0).header.structure
        return structures.fill(structure, list(self._leaves.values()))

    def select(self, pattern: str) -> dict[str, Leaf]:
        """The leaves in whose names a regular expression is found.

        Raises:
            ValueError: It is no regular expression, or found in no name.
        """
        check_pattern(pattern)
        found = {name: leaf for name, leaf in self.items() if re.search(pattern, name)}
        if not found:
            raise ValueError(f"{pattern!r} matches no leaf: there are {listed(self)}")
        return found

    def load(
        self, like: Any = None, *, only: str | None = None, device: Place | None = None
    ) -> Any:
        """Reads the network, or a part of it, as `dc.load` does.

        Args:
            like, only, device: As for `dc.load`.

        Raises:
            FormatError, ValueError: As for `dc.load`.
        """
        placement.check_places(device)
        chosen = dict(self) if only is None else self.select(only)
        given = trees.named_leaves(like)
        wanted = {n: x for n, x in given.items() if not only or re.search(only, n)}
        if like is not None:
            layouts = {name: leaf.entry.layout for name, leaf in chosen.items()}
            _check_like(wanted, layouts, only)
        named = self._read_all(chosen, device)
        if device is not None:
            named = placement.place(named, placement.places(named, device))
        elif like is not None:
            named = placement.place(named, placement.places_of(wanted))
        if like is not None:
            return trees.rebuild(like, given | named)
        leaves = {i: named[n] for i, n in enumerate(self) if n in named}
        return structures.fill(self._opened(0).header.structure, leaves)

    def on_device(self, device: Any = None) -> Resident:
        """Brings the network to a device in coded form, to be run from that.

        Labels are coded again on the way, by rANS with a lane for each row, so that a
        layer of a stack and a row of a table can be decoded alone; the file stays as it
        is. Leaves without labels, and those that coding would not make smaller, are
        there as they are. `Resident` says how many bytes that takes.

        Args:
            device: A device; None takes the default.

        Returns:
            A mapping from names to coded leaves, whose `apply` runs functions of them.

        Raises:
            FormatError: As for `dc.load`, but that `max_bytes` is for each leaf.

        Examples:
            >>> import os, tempfile, numpy as np, deepcomp_jax as dc
            >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
            >>> drawn = np.random.default_rng(0).standard_normal((64, 96), np.float32)
            >>> size = dc.save(path, dc.compress({"kernel": drawn}))
            >>> with dc.open(path) as file:
            ...     resident = file.on_device()
            >>> values = resident["kernel"].decode()  # also inside `jit`
            >>> bool((values == dc.load(path)["kernel"]).all())
            True
            >>> apply = resident.apply(lambda params, x: x @ params["kernel"])
            >>> apply(np.ones((8, 64), np.float32)).shape
            (8, 96)
        """
        self._opened(0)
        named: dict[str, ResidentLeaf] = {}
        for number in range(len(self._files)):
            source, header = self._opened(number)
            own = [leaf.entry for leaf in self.values() if leaf.file == number]
            reader.check_each(source, header, self._max_bytes, own)
            for entry in own:
                copied = self[entry.name].copy_of
                if copied is None:
                    leaf = leaf_reading.read_leaf(source, header, entry, take_on_cpu)
                    book = entry.layout.codebook
                    codebook = None if book is None else header.codebooks[book]
                    named[entry.name] = of_leaf(leaf, codebook, device)
                else:
                    named[entry.name] = named[copied]
        ordered = {name: named[name] for name in self}
        return Resident(ordered, self._opened(0).header.structure, self.file_bytes)

    def _read_all(
        self, chosen: Mapping[str, Leaf], device: Place | None
    ) -> dict[str, Any]:
        """Leaves by name, in tree order, on the first device if there is one."""
        self._opened(0)
        entries = [leaf.entry for leaf in chosen.values()]
        memory_limit.check(entries, self._max_bytes)
        found: dict[str, Any] = {}
        for number in range(len(self._files)):
            file = self._opened(number)
            own = [leaf.entry for leaf in chosen.values() if leaf.file == number]
            reader.check(file.source, file.header, self._max_bytes, own)
            for name, leaf in reader.read_each(*file, own, take=take_on_cpu):
                if device is None:
                    found[name] = leaf.scaled()
                else:
                    found[name] = leaf_to_device(leaf, _one(device))
        return {name: found[name] for name in chosen}

    def _opened(self, number: int) -> sets.Opened:
        if not self._files:
            raise ValueError("the file was closed: read what you need before that")
        return self._files[number]

    def _read(
        self, number: int, entry: records.Entry, rows: slice | None
    ) -> np.ndarray:
        """The values of a leaf, or those at some indices of its first axis."""
        file = self._opened(number)
        reader.check_leaf(entry, self._max_bytes, rows)
        return leaf_reading.read_values(*file, entry, rows, take=take_on_cpu)


def _check_like(
    wanted: Mapping[str, Any], layouts: Mapping[str, Any], only: str | None
) -> None:
    """Rejects a tree that does not fit, and says how a part of it is loaded."""
    try:
        trees.check_like(wanted, layouts)
    except ValueError as error:
        if only is not None or wanted.keys() - layouts.keys():
            raise
        raise ValueError(f"{error}\nto load a part of it, give `only` too") from None


def _one(place: Place) -> Any:
    """A device that leaves are brought to before they are placed."""
    first = next(iter(jax.tree.leaves(place)), None)
    if first is None or isinstance(first, jax.Device):
        return first
    return min(first.addressable_devices, key=lambda device: device.id)
