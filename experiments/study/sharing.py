"""How weights are shared and labels are written, by the method in the settings."""

from deepcomp_jax import Rule, api, share
from deepcomp_jax.format import container
from deepcomp_jax.rules import ShareMethod
from experiments.study.config import Config
from experiments.study.roles import Roles


def rules(config: Config, roles: Roles, method: str) -> list[Rule]:
    """Makes the rules that say which leaves share a codebook, and how it is computed.

    Args:
        config: The settings, of which bits and penalties are read.
        roles: What the parameters are for, of which the groups are read.
        method: "kmeans", "nonparametric" or "paper".
    """
    others = share.kmeans(bits=config.other_bits)
    if method == "paper":
        kernels = [
            Rule(f"{name}/kernel$", share=linear_kmeans(layer.bits))
            for name, layer in roles.layers.items()
        ]
    elif method == "nonparametric":
        others = share.nonparametric(config.penalty)
        kernels = [Rule("kernel$", share=others)]
    else:
        kernels = [Rule("kernel$", share=share.kmeans(bits=config.kernel_bits))]
    return [*kernels, *group_rules(roles, others)]


def group_rules(roles: Roles, method: ShareMethod) -> list[Rule]:
    """Makes the rules of biases and BatchNorm values, which share in groups."""
    return [Rule(pattern, share=method, group=group) for pattern, group in roles.groups]


def coding_rules(config: Config) -> list[Rule]:
    """Says how labels are written: as in the paper, or in whatever is smallest."""
    return [Rule(".", coding="relative")] if config.sharing == "paper" else []


def file_bytes(config: Config, shared: share.SharedWeights) -> int:
    """The size of the file that a network would have."""
    rules = coding_rules(config) if shared.labels else []  # there may be no labels
    return len(container.dumps(api.pack(shared, rules)))


def linear_kmeans(bits: int) -> ShareMethod:
    """K-means as in section 3.2 of the paper: ten steps from evenly spaced centroids.

    The paper does not say how many steps it takes. The first clusters differ most in
    size, which Huffman coding profits from: the file of a LeNet-5 is 42.8 KB after ten
    steps and 45.0 KB after 300, and fine-tuning lowers the error of either.

    Args:
        bits: The codebook has `2 ** bits` entries.
    """
    return share.lloyd(2**bits, init="linear", iterations=10)
