"""What a study must be told of a network, besides the network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from experiments.reporting.published import Published
from experiments.training.train import Augmentation, crop_and_flip


class Layer(NamedTuple):
    """What the paper's recipe asks of a layer's kernel.

    Attributes:
        kept: Fraction of its weights.
        bits: Of its codebook.
    """

    kept: float
    bits: int


class Axis(NamedTuple):
    """An axis along which a leaf has a part for each unit of a kind.

    Attributes:
        leaf: Its name among the variables.
        axis: Counted from 0. An axis that is several times as long as there are units
            is several rounds through all units, as of flattened channels.
    """

    leaf: str
    axis: int


class Units(NamedTuple):
    """Units of a layer, which can be left out if nothing reads them.

    Attributes:
        made: By what their outputs are made: they are zero if all of this is zero. The
            first is of the kernel, whose axis has the length of their number.
        read: By what their outputs are read.
        carried: What else has a part for each, such as variances. It makes nothing of a
            unit, and is the same for all units that make nothing.
    """

    made: tuple[Axis, ...]
    read: tuple[Axis, ...]
    carried: tuple[Axis, ...] = ()


class Roles(NamedTuple):
    """What the parameters of a network are for, and what its images allow.

    Attributes:
        network: Name of the architecture, for the report.
        groups: Which biases and BatchNorm values share a codebook: pairs of a pattern
            and the name of the group.
        idle: Pattern of parameters that change nothing, such as biases that BatchNorm
            subtracts again: they are pruned with the kernels. None if there are none.
        norms: Which biases BatchNorms take over when they are folded, as in
            `fold.batchnorm`. Empty if the network has none.
        augment: Changes images at random without changing what they show.
        layers: By name of the layer, for the recipe of the paper.
        published: What the paper reports, to be compared with.
        units: By name of the layer, so that idle units can be left out of training.
        rebuild: Makes the network of fewer units that variables are of, without
            dropout. None where idle units stay in.
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
