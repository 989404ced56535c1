"""Where the leaves of a network are, on one device or on several."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from deepcomp_jax import trees
from deepcomp_jax._errors import listed


def together(leaves: Sequence[jax.Array], beside: Sequence[Any] = ()) -> list[Any]:
    """Leaves where one program can have them: on the first one's if devices differ.

    Args:
        leaves: Any arrays.
        beside: An array on the devices of each leaf. A leaf that is differentiated does
            not say where it is.
    """
    placed = beside if any(isinstance(leaf, Tracer) for leaf in leaves) else leaves
    if any(isinstance(x, Tracer) or not isinstance(x, jax.Array) for x in placed):
        return list(leaves)  # within a program, which has one place for all
    sets = [x.sharding.device_set for x in placed]
    if all(devices == sets[0] for devices in sets):
        return list(leaves)
    first = sets[0]
    one = min(first, key=lambda device: device.id)
    return [jax.device_put(leaf, one) for leaf in leaves]


def beside(array: jax.Array, leaf: jax.Array) -> jax.Array:
    """An array in the shape of a leaf, placed as that is."""
    if isinstance(leaf, Tracer) or not leaf.committed:
        return array
    return jax.device_put(array, leaf.sharding)


def near(array: jax.Array, leaf: Any) -> jax.Array:
    """A small array on every device of a leaf that was put somewhere."""
    if isinstance(leaf, Tracer) or not getattr(leaf, "committed", False):
        return array
    if isinstance(leaf.sharding, NamedSharding):
        return jax.device_put(array, NamedSharding(leaf.sharding.mesh, PartitionSpec()))
    if len(leaf.devices()) > 1:
        return array
    return jax.device_put(array, leaf.sharding)


def copied(array: Any) -> Any:
    """Another array in memory of its own: programs that are given both may free both.

    JAX would compile a program for each shape to copy by itself.
    """
    if not isinstance(array, jax.Array):
        return np.copy(array)
    return jax.device_put(array, may_alias=False)


def place(named: Mapping[str, Any], where: Mapping[str, Any]) -> dict[str, Any]:
    """Puts leaves onto devices.

    Args:
        named: Leaves by name.
        where: Device or sharding of some or all of them, by name; None leaves a leaf
            as it is.
    """
    return {
        name: leaf if where.get(name) is None else jax.device_put(leaf, where[name])
        for name, leaf in named.items()
    }


def places(named: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Where each leaf goes.

    Args:
        named: Leaves by name.
        device: A device; a sharding, which leaves that it cannot divide (scalars,
            axes of other lengths) have whole on each of its devices; or a pytree of
            them in the structure of the network.

    Raises:
        ValueError: There is a pytree, and its names are not those of the leaves.
    """
    if isinstance(device, (jax.Device, Sharding)):
        return {name: _divided(leaf, device) for name, leaf in named.items()}
    found = trees.named_leaves(device)
    if strange := sorted(found.keys() ^ named.keys()):
        raise ValueError(
            f"`device` and the network differ in {listed(strange)}: give one "
            "device or sharding, or one for each leaf"
        )
    return found


def places_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """Where leaves were put: their shardings, None for those that nobody placed."""
    return {
        name: leaf.sharding
        if isinstance(leaf, jax.ShapeDtypeStruct) or getattr(leaf, "committed", False)
        else None
        for name, leaf in named.items()
    }


def _divided(leaf: Any, place: Any) -> Any:
    """A place, or all its devices alike if it cannot divide the leaf."""
    if not isinstance(place, NamedSharding):
        return place
    whole = NamedSharding(place.mesh, PartitionSpec())
    if len(place.spec) > np.ndim(leaf):
        return whole
    try:
        place.shard_shape(np.shape(leaf))
    except ValueError:
        return whole
    return place
