"""A network in the memory of a device, coded."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._errors import listed
from deepcomp_jax._types import DenseLeaf, SharedLeaf, Structure
from deepcomp_jax.device import leaf_to_device, to_device
from deepcomp_jax.format import leaf_body, structures
from deepcomp_jax.format.leaf_reading import Unscaled
from deepcomp_jax.format.scales import Exponents, Split
from deepcomp_jax.resident import leaves
from deepcomp_jax.resident.applied import Applied
from deepcomp_jax.resident.leaf import ResidentLeaf
from deepcomp_jax.resident.leaves import PlainLeaf


class _Static:
    """What of a network is no array, and the same for the same file.

    Attributes:
        names: Of the leaves.
        structure: The containers.
        file_bytes: Of the file.
    """

    def __init__(
        self, names: tuple[str, ...], structure: Structure, file_bytes: int
    ) -> None:
        self.names, self.structure, self.file_bytes = names, structure, file_bytes

    def __hash__(self) -> int:
        return hash((self.names, self.file_bytes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and vars(self) == vars(other)


@jax.tree_util.register_pytree_node_class
class Resident(Mapping[str, ResidentLeaf]):
    """A network in the memory of a device, coded: a mapping from names to leaves.

    It is a pytree of the coded arrays, and so can be an argument of compiled functions.

    Attributes:
        file_bytes: Of the file that it came from.
    """

    def __init__(
        self, named: Mapping[str, ResidentLeaf], structure: Structure, file_bytes: int
    ) -> None:
        """A network of leaves in tree order; `dc.open(path).on_device()` makes one."""
        self._leaves = dict(named)
        self._static = _Static(tuple(named), structure, file_bytes)
        self.file_bytes = file_bytes

    def __getitem__(self, name: str) -> ResidentLeaf:
        if name not in self._leaves:
            raise KeyError(
                f"no leaf {name!r}: there are {listed(self._leaves)}; `apply(fn)` runs "
                "a function of the parameters, and `tree()` gives their containers"
            )
        return self._leaves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __repr__(self) -> str:
        return (
            f"Resident({len(self)} leaves, {self.nbytes} bytes on the device, "
            f"{self.dense_nbytes} decoded, {self.file_bytes} in the file)"
        )

    @property
    def nbytes(self) -> int:
        """Bytes on the device; leaves that are copies of others count once."""
        arrays = {id(own): own for own in jax.tree.leaves(self)}
        return sum(own.nbytes for own in arrays.values())

    @property
    def dense_nbytes(self) -> int:
        """Bytes that all values would take."""
        return sum(leaf.dense_nbytes for leaf in self.values())

    def tree(self, like: Any = None) -> Any:
        """The containers of the network, with coded leaves.

        Args:
            like: A pytree with leaves of the same names, such as the state of a model
                of Flax NNX; None gives the containers as the file has them.

        Raises:
            ValueError: Names, shapes or dtypes differ from those of `like`.
        """
        if like is None:
            return structures.fill(self._static.structure, list(self.values()))
        trees.check_like(trees.named_leaves(like), self._leaves)
        return trees.rebuild(like, self._leaves)

    def apply(self, fn: Callable[..., Any], like: Any = None) -> Callable[..., Any]:
        """A function of parameters as one of its other arguments, compiled.

        Each leaf is decoded when `fn` reads it and dropped after. Peak memory is that
        of the coded leaves and of the largest that is decoded: of a stack that
        `jax.lax.scan` goes over one layer, of a table that is indexed the rows that are
        asked for. What a loop has as a constant is decoded before it.

        Args:
            fn: Takes the parameters first, then arrays or pytrees of them. Booleans of
                Python, strings, functions and other leaves that are no arrays reach it
                as they are: it is compiled anew for each, as for static arguments of
                `jax.jit`, and they must be hashable.
            like: As for `tree`: what `fn` takes, if that is not made of dictionaries,
                lists and tuples, such as a module of Equinox or a state of NNX.

        Returns:
            A function `g` for which `g(*args, **kwargs)` is `fn(params, *args,
            **kwargs)`. Inside another `jit` use `resident.decoding` instead, and pass
            the leaves as an argument.

        Raises:
            TypeError: `fn` is no function.
            ValueError: As for `tree`.

        Examples:
            >>> import os, tempfile, numpy as np, deepcomp_jax as dc
            >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
            >>> drawn = np.random.default_rng(0).standard_normal((4, 256, 256), "f4")
            >>> size = dc.save(path, dc.compress({"kernel": drawn / 16}))
            >>> with dc.open(path) as file:
            ...     resident = file.on_device()
            >>> resident["kernel"], resident.nbytes < resident.dense_nbytes / 4
            (CodedLeaf(float32[4, 256, 256]), True)
            >>> def network(params, x):
            ...     step = lambda x, kernel: (x @ kernel, None)
            ...     return jax.lax.scan(step, x, params["kernel"])[0]
            >>> network = resident.apply(network)
            >>> network(np.ones((8, 256), "f4")).shape
            (8, 256)
        """
        return Applied(fn, self.tree(like), is_plain=like is None)

    def tree_flatten(self) -> tuple[tuple[ResidentLeaf, ...], _Static]:
        """What JAX sees: the leaves, and what is static."""
        return tuple(self._leaves.values()), self._static

    @classmethod
    def tree_unflatten(cls, static: _Static, children: Any) -> "Resident":
        """The network again, of leaves that JAX has changed."""
        named = dict(zip(static.names, children, strict=True))
        return cls(named, static.structure, static.file_bytes)


def of_leaf(
    leaf: DenseLeaf | SharedLeaf, codebook: np.ndarray | None, place: Any
) -> ResidentLeaf:
    """Brings a leaf as it is stored to a device.

    Args:
        leaf: Its values or its labels.
        codebook: What the labels stand for.
        place: A device; None takes the default.
    """
    if isinstance(leaf, DenseLeaf):
        return PlainLeaf(to_device(leaf.values, place))
    assert codebook is not None
    lookup = leaf_body.lookup_of(codebook).view(codebook.dtype)
    narrow = lookup.astype(jax.dtypes.canonicalize_dtype(lookup.dtype), copy=False)
    coded = leaves.code(leaf.labels, narrow, leaf.scales)
    if coded is not None:
        return jax.device_put(coded, place)
    return PlainLeaf(leaf_to_device(_unscaled(leaf, lookup), place))


def _unscaled(leaf: SharedLeaf, lookup: np.ndarray) -> Unscaled:
    entries = lookup[leaf.labels]
    if leaf.scales is None:
        return Unscaled(entries, None, 0)
    batch, split, first, last = leaf.scales
    view = Split(batch, split).view(entries.shape)
    return Unscaled(entries, Exponents(view, first.ravel(), last.ravel()), 0)
