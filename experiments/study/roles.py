"""What a study must be told of a network, besides the network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from experiments.reporting.published import Published
from experiments.training.train import Augmentation, crop_and_flip


class Layer(NamedTuple):
    """What the recipe of the paper asks of the kernel of a layer.

    Attributes:
        kept: The fraction of its weights that is kept.
        bits: Its codebook has 2 ** bits entries.
    """

    kept: float
    bits: int


class Axis(NamedTuple):
    """An axis along which a leaf has a part for each unit of a layer.

    Attributes:
        leaf: The name of the leaf among the variables.
        axis: The number of the axis, from 0. It may be several times as long as there
            are units, and then goes through all units as often, as flattened channels
            do.
    """

    leaf: str
    axis: int


class Units(NamedTuple):
    """The units of a layer, which can be left out if nothing reads them.

    Attributes:
        made: What the outputs are made by; they are zero where all of it is zero. The
            first is the kernel, whose axis is as long as there are units.
        read: What reads the outputs.
        carried: What else has a part for each unit, such as variances. It adds nothing
            to an output, and is the same for all units whose outputs are zero.
    """

    made: tuple[Axis, ...]
    read: tuple[Axis, ...]
    carried: tuple[Axis, ...] = ()


class Roles(NamedTuple):
    """What the parameters of a network are for, and what its images allow.

    Attributes:
        network: The name of the architecture, for the report.
        groups: Which biases and BatchNorm values share a codebook, as pairs of a
            pattern and the name of the group.
        idle: A pattern of parameters that have no effect, such as biases that BatchNorm
            subtracts again. They are pruned with the kernels. None if there are none.
        norms: Which biases BatchNorms take over when they are folded, as for `bias_of`
            of `fold.batchnorm`. Empty if the network has no BatchNorm.
        augment: Changes images at random without changing what they show.
        layers: What the recipe of the paper asks of each layer, by name.
        published: What the paper reports of the network, to compare with.
        units: The units of each layer by name, so that idle ones can be left out.
        rebuild: Makes the network, with fewer units and no dropout, that variables
            belong to. None if idle units are never left out.
    """

    network: str
    groups: list[tuple[str, str]]
    idle: str | None
    norms: Sequence[tuple[str, str]] = ()
    augment: Augmentation = crop_and_flip
    layers: Mapping[str, Layer] = {}
    published: Published | None = None
    units: Mapping[str, Units] = {}
    rebuild: Callable[[Mapping[str, Any]], nn.Module] | None = None
