"""Labels that are cheap to code and cost little quality, for a whole network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from deepcomp_jax import prune, trees
from deepcomp_jax._errors import listed
from deepcomp_jax.codings import Leaf, grouped
from deepcomp_jax.rate import choice
from deepcomp_jax.rate.grids import grid_for_lambda, step_for_lambda
from deepcomp_jax.rate.importance import floored
from deepcomp_jax.rate.planning import PlannedLeaf
from deepcomp_jax.rules import Rule, ShareMethod, resolve
from deepcomp_jax.rules.weights import find_weights, is_floating, warn_of_others
from deepcomp_jax.share import scaling
from deepcomp_jax.share.fitting import fit
from deepcomp_jax.share.scaling import AxisExponents
from deepcomp_jax.share.weights import SharedWeights


class Problem(NamedTuple):
    """A network to be quantized, the same at every lambda.

    Attributes:
        named: All leaves by name, after pruning.
        treedef: Of the network.
        methods: Of each leaf that is quantized, what makes its codebook; None for a
            grid that suits lambda.
        importance: Of each leaf that is quantized, or None.
        relative: Of each leaf that is quantized, what is known of it; weights get the
            nearest multiples of steps that suit lambda relative to their leaf. None
            for labels by distortion and rate, in the unit of the weights.
    """

    named: Mapping[str, Any]
    treedef: Any
    methods: Mapping[str, ShareMethod | None]
    importance: Mapping[str, np.ndarray] | None
    relative: Mapping[str, PlannedLeaf] | None = None


def problem(
    variables: Any, rules: Sequence[Rule] | None = None, importance: Any = None
) -> Problem:
    """What `quantize` knows of a network before it is told lambda.

    Args:
        variables, rules, importance: As for `quantize`.
    """
    named = trees.named_leaves(variables)
    if rules is None:
        weights = find_weights(variables)
        warn_of_others(variables, weights)
        methods: dict[str, ShareMethod | None] = dict.fromkeys(weights)
    else:
        followed = resolve(rules, named)
        for rule in rules:
            if rule.group is not None:
                raise ValueError(
                    f"rule {rule.pattern!r}: group={rule.group!r} has no effect here, "
                    "where each leaf has a codebook of its own: leave the group out"
                )
        masks = prune.leaf_masks(named, followed)
        leaves = {name: named[name] for name in masks}
        named = named | prune.apply(leaves, masks)
        methods = {
            name: rule.share
            for name, (rule, _) in followed.items()
            if is_floating(named[name])
        }
    leaves = {name: trees.check_weights(name, named[name]) for name in methods}
    return Problem(
        named, trees.treedef(variables), methods, floored(leaves, importance)
    )


def quantize(
    variables: Any,
    rules: Sequence[Rule] | None = None,
    *,
    rd_lambda: float,
    importance: Any = None,
) -> SharedWeights:
    """Puts weights on uniform grids and chooses their labels by distortion and rate.

    Args:
        variables: Any pytree of arrays; zeros are what was pruned and stay zero.
        rules: Which leaves are quantized: those of a floating type that a rule matches.
            A rule without a sharing method gives each of its leaves a grid of its own,
            whose step follows from lambda and the leaf's mean importance; one with a
            method, the codebook of that. What a rule prunes is pruned first. None
            takes the weights of products and tables, known by names and shapes as for
            `default_rules`, and warns where that leaves out most of the network.
        rd_lambda: What a bit costs, in the unit of the distortion; above 0.
        importance: As for `rdoq`.

    Returns:
        The network, ready for `pack`.

    Raises:
        ValueError: Lambda is not positive and finite, a leaf cannot be shared, a rule
            matches none, or it has a group.

    Examples:
        >>> import jax, numpy as np
        >>> from deepcomp_jax import rate
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> shared = rate.quantize(params, rd_lambda=rate.lambda_for_step(1.0, 1.0))
        >>> np.unique(shared.codebooks["kernel"])
        array([-4., -3., -2., -1.,  1.,  2.,  3.,  4.], dtype=float32)
    """
    return solve(problem(variables, rules, importance), rd_lambda)


def solve(problem: Problem, rd_lambda: float) -> SharedWeights:
    """The network at one lambda.

    Args:
        problem: The network.
        rd_lambda: As for `quantize`.
    """
    if not 0 < rd_lambda < np.inf:
        raise ValueError(f"rd_lambda must be positive and finite, got {rd_lambda}")
    codebooks: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    exponents: dict[str, AxisExponents] = {}
    for name, method in problem.methods.items():
        weights = np.asarray(problem.named[name])
        known = (problem.relative or {}).get(name)
        if known is not None and method is None:
            method = known.method(known.step(step_for_lambda(rd_lambda)))
            found = scaling.shared(name, {name: weights}, method, None)
            codebook = found[0]
            labels |= found[1]
            exponents |= found[2]
        else:
            codebook = fit(
                name,
                {name: weights},
                method or grid_for_lambda(rd_lambda),
                problem.importance,
            )
            counts = None if problem.importance is None else problem.importance[name]
            bit = rd_lambda * (known.unit**2 if known else 1)
            labels[name] = _labels(weights, counts, codebook, bit)
        codebooks[name] = codebook
    rest = {name: x for name, x in problem.named.items() if name not in labels}
    groups = tuple((name, name) for name in labels)
    # Hundreds of leaves are put there sooner together than one by one.
    placed, chosen = jax.device_put((codebooks, labels))
    return SharedWeights(placed, chosen, rest, groups, problem.treedef, exponents)


def rdoq(
    shared: SharedWeights,
    variables: Any,
    *,
    rd_lambda: float,
    importance: Any = None,
) -> SharedWeights:
    """Chooses the labels of a shared network anew, by distortion and rate.

    What is zero stays zero; what is not may become zero. Codebooks stay as they are.

    Args:
        shared: The network, with codebooks of any method; a uniform grid
            (`grid`) suits best.
        variables: The weights before sharing, in the structure that was shared.
        rd_lambda: What a bit costs, in the unit of the distortion; 0 gives every weight
            its nearest entry or zero.
        importance: How much the squared error of each weight counts, in the structure
            of `variables`: twice the loss that it causes, if these are mean squared
            gradients. No weight counts less than a fifth of the mean of its leaf.
            None counts all alike.

    Returns:
        The network with other labels.

    Raises:
        ValueError: Lambda is negative or not finite, importance is zero
            everywhere, leaves have scales, or a codebook has more entries than the
            grouped coding, whose bits count here, can hold.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from deepcomp_jax import Rule, rate, share
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> shared = share.share(params, [Rule("kernel", share=rate.grid(0.5))])
        >>> cheaper = rate.rdoq(shared, params, rd_lambda=0.05)
        >>> before, after = shared.labels["kernel"], cheaper.labels["kernel"]
        >>> int(jnp.count_nonzero(before)) > int(jnp.count_nonzero(after)) > 0
        True
    """
    if not 0 <= rd_lambda < np.inf:
        raise ValueError(f"rd_lambda must be finite and not negative, got {rd_lambda}")
    if shared.scales:
        raise ValueError(
            f"leaves with scales have the nearest labels ({listed(shared.scales)}): "
            "share them without `scaled`"
        )
    for group, codebook in shared.codebooks.items():
        if codebook.size > grouped.MAX_ENTRIES:
            raise ValueError(
                f"the codebook of {group!r} has {codebook.size} entries, above "
                f"{grouped.MAX_ENTRIES}: share with fewer clusters"
            )
    named = trees.named_leaves(variables)
    importances = floored({name: named[name] for name in shared.labels}, importance)
    labels = dict(shared.labels)
    for name, group in shared.groups:
        old = np.asarray(labels[name])
        weights = np.where(old == 0, 0, np.asarray(named[name]))
        counts = None if importances is None else importances[name]
        new = _labels(weights, counts, np.asarray(shared.codebooks[group]), rd_lambda)
        labels[name] = jax.device_put(new.astype(old.dtype))
    return replace(shared, labels=labels)


def _labels(
    weights: np.ndarray,
    importance: np.ndarray | None,
    codebook: np.ndarray,
    rd_lambda: float,
) -> np.ndarray:
    """The labels of one leaf, in its shape: uint8, or uint16 above 255 entries."""
    if not (codebook.size and weights.any()):
        dtype = np.min_scalar_type(codebook.size)
        return np.zeros(weights.shape, dtype)
    # Weights, and a lambda that goes with them, of about 1: squares stay in range.
    scale = float(np.abs(codebook.astype(np.float64)).max())
    values = np.empty(weights.size, np.float32)
    np.divide(weights.ravel(), scale, values, dtype=np.float64, casting="same_kind")
    entries = np.append(0.0, codebook / np.float64(scale)).astype(np.float32)
    costs, mean = np.array(1, np.float32), 1.0
    if importance is not None:
        mean = float(importance.mean(dtype=np.float64))
        costs = (importance.ravel() / mean).astype(np.float32)
    bit = min(rd_lambda / mean / scale / scale, 1e30)
    near = choice.nearest(weights, codebook)
    known = choice.Weights(values, costs, near, np.array(0, np.uint8))
    leaf = Leaf(weights.shape, codebook.size, int(np.count_nonzero(codebook < 0)))
    return choice.labels(known, entries, bit, leaf).reshape(weights.shape)
