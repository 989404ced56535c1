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
    """Brings leaves to where one program can use them all.

    They stay where they are unless they are on different devices; then all of them go
    to a device of the first one.

    Args:
        leaves: Any arrays.
        beside: Arrays on the same devices as the leaves, one for each, which are asked
            where they are if the leaves are being differentiated and do not tell.
    """
    placed = beside if any(isinstance(leaf, Tracer) for leaf in leaves) else leaves
    if any(isinstance(x, Tracer) or not isinstance(x, jax.Array) for x in placed):
        return list(leaves)  # they are in a program, which has one place for all
    sets = [x.sharding.device_set for x in placed]
    if all(devices == sets[0] for devices in sets):
        return list(leaves)
    device = min(sets[0], key=lambda device: device.id)
    return [jax.device_put(leaf, device) for leaf in leaves]


def beside(array: jax.Array, leaf: jax.Array) -> jax.Array:
    """Puts an array where a leaf of the same shape was put, divided as that is."""
    if isinstance(leaf, Tracer) or not leaf.committed:
        return array
    return jax.device_put(array, leaf.sharding)


def near(array: jax.Array, leaf: Any) -> jax.Array:
    """Puts a small array, whole, on every device that a leaf was put on."""
    if isinstance(leaf, Tracer) or not getattr(leaf, "committed", False):
        return array
    if isinstance(leaf.sharding, NamedSharding):
        return jax.device_put(array, _whole(leaf.sharding))
    if len(leaf.devices()) > 1:
        return array
    return jax.device_put(array, leaf.sharding)


def copied(array: Any) -> Any:
    """Copies an array to new memory, so that a program may consume one of the two.

    Unlike `jnp.copy`, this compiles no program for each shape.
    """
    if not isinstance(array, jax.Array):
        return np.copy(array)
    return jax.device_put(array, may_alias=False)


def place(named: Mapping[str, Any], where: Mapping[str, Any]) -> dict[str, Any]:
    """Puts leaves onto devices.

    Args:
        named: The leaves by name.
        where: A device or sharding for some or all of them, by name. None leaves a leaf
            where it is.
    """
    return {
        name: leaf if where.get(name) is None else jax.device_put(leaf, where[name])
        for name, leaf in named.items()
    }


def check_places(device: Any) -> None:
    """Rejects what is neither a device nor a sharding, nor a pytree of them."""
    if isinstance(device, (jax.Device, Sharding)):
        return
    for name, own in trees.named_leaves(device).items():
        if not isinstance(own, (jax.Device, Sharding, type(None))):
            where = f" for leaf {name!r}" if name else ""
            raise TypeError(
                f"`device` is {own!r}{where}: give a device, such as jax.devices()[0], "
                "or a sharding"
            )


def places(named: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Decides where each leaf goes.

    Args:
        named: The leaves by name.
        device: One device or sharding for all leaves, or a pytree of them in the
            structure of the network. Where one sharding cannot divide a leaf, such as a
            scalar, each of its devices gets the whole leaf.

    Returns:
        A device or sharding for each leaf, by name.

    Raises:
        ValueError: The names in the pytree are not those of the leaves.
    """
    if isinstance(device, (jax.Device, Sharding)):
        return {name: _divided(leaf, device) for name, leaf in named.items()}
    devices = trees.named_leaves(device)
    if strange := sorted(devices.keys() ^ named.keys()):
        raise ValueError(
            f"`device` and the network differ in {listed(strange)}: give one "
            "device or sharding, or one for each leaf"
        )
    return devices


def places_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """The shardings of leaves that were put somewhere, and None for all others."""
    return {
        name: leaf.sharding
        if isinstance(leaf, jax.ShapeDtypeStruct) or getattr(leaf, "committed", False)
        else None
        for name, leaf in named.items()
    }


def _divided(leaf: Any, place: Any) -> Any:
    """A place, or the whole leaf on all of its devices if it cannot divide it."""
    if not isinstance(place, NamedSharding):
        return place
    if len(place.spec) > np.ndim(leaf):
        return _whole(place)
    try:
        place.shard_shape(np.shape(leaf))
    except ValueError:
        return _whole(place)
    return place


def _whole(sharding: NamedSharding) -> NamedSharding:
    """The sharding that puts a whole array on each of the same devices."""
    return NamedSharding(sharding.mesh, PartitionSpec())
