"""What a study must be told of a network, besides the network."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.published import Published
from experiments.train import Augmentation, crop_and_flip


class Layer(NamedTuple):
    """What the paper's recipe asks of a layer's kernel.

    Attributes:
        kept: Fraction of its weights.
        bits: Of its codebook.
    """

    kept: float
    bits: int


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
    """

    network: str
    groups: list[tuple[str, str]]
    idle: str | None
    norms: Sequence[tuple[str, str]] = ()
    augment: Augmentation = crop_and_flip
    layers: Mapping[str, Layer] = {}
    published: Published | None = None
