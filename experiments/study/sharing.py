"""How weights are shared and labels are written, by the method in the settings."""

from deepcomp_jax import Rule, api, share
from deepcomp_jax.format import container
from deepcomp_jax.rules import ShareMethod
from experiments.study.config import Config
from experiments.study.roles import Roles


def rules(config: Config, roles: Roles, method: str) -> list[Rule]:
    """Which leaves share a codebook, and how it is found.

    Args:
        config: For bits and penalties.
        roles: For the groups.
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
    """The rules of the groups that share a codebook: biases and BatchNorm values."""
    return [Rule(p, share=method, group=group) for p, group in roles.groups]


def coding_rules(config: Config) -> list[Rule]:
    """How labels are written: as the paper does, or in whatever is smallest."""
    return [Rule(".", coding="relative")] if config.sharing == "paper" else []


def file_bytes(config: Config, shared: share.SharedWeights) -> int:
    """Size of the file that a network would have, whether any weights are shared."""
    rules = coding_rules(config) if shared.labels else []
    return len(container.dumps(api.pack(shared, rules)))


def linear_kmeans(bits: int) -> ShareMethod:
    """Ten steps of k-means from centroids spaced evenly, as section 3.2 of the paper.

    The paper does not say how many steps it takes. The first clusters differ most in
    size, which Huffman coding profits from: the file of a LeNet-5 is 42.8 KB after ten
    steps and 45.0 KB after 300, and fine-tuning lowers the error of either.

    Args:
        bits: Of the codebook, which has `2 ** bits` entries.
    """
    return share.lloyd(2**bits, init="linear", iterations=10)
