"""Cutting all units that do nothing, verified by running both networks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.shrink import cuts, grouping, leaves, samples, units
from deepcomp_jax.shrink.axes import label
from deepcomp_jax.shrink.cuts import Cuts, Network, Remark
from deepcomp_jax.shrink.facts import forward
from deepcomp_jax.shrink.grouping import Note
from deepcomp_jax.shrink.program import trace
from deepcomp_jax.shrink.rewriting import evaluate

_TRIALS = 2
_LONG = 240  # characters of what an error says, in a note


class Shrunk(NamedTuple):
    """A network with fewer units that computes the same.

    Attributes:
        params: The parameters, of the same structure, with smaller leaves.
        kept: For each leaf that became smaller the indices that are left of each axis,
            an int array; None for an axis that is whole.
        widths: How many units each group of them had and has. A group is named by a
            leaf that has it and the axis: `"fc1/kernel:1"`.
        notes: What was left because it could not be proved idle.
        blank: The original parameters with zeros wherever something was cut.
    """

    params: Any
    kept: Mapping[str, leaves.Indices]
    widths: Mapping[str, tuple[int, int]]
    notes: tuple[Note, ...]
    blank: Any

    def __repr__(self) -> str:
        cut = sum(before > after for before, after in self.widths.values())
        return (
            f"Shrunk({cut} of {len(self.widths)} groups of units narrower, "
            f"{len(self.notes)} notes)"
        )

    def cut(self, tree: Any) -> Any:
        """Cuts a tree like the original parameters, such as their momenta.

        Raises:
            ValueError: Names or shapes of leaves are not those of the parameters that
                `exact` was given.
        """
        where = "the parameters that `exact` was given"
        named = leaves.like(tree, self.blank, "original", where)
        cut = {name: leaves.cut(x, self.kept.get(name)) for name, x in named.items()}
        return trees.rebuild(tree, cut)

    def restore(self, params: Any) -> Any:
        """Puts smaller parameters, trained further or not, back into the old shapes.

        Cut units have zeros for weights, and their old values in leaves such as
        variances, for which zero is no neutral number. The function is the same.

        Args:
            params: A tree like `self.params`.

        Raises:
            ValueError: Names or shapes of leaves are not those of `self.params`.
        """
        where = "`params` of this record"
        named = leaves.like(params, self.params, "smaller", where)
        whole = trees.named_leaves(self.blank)
        for name, kept in self.kept.items():
            named[name] = leaves.put(whole[name], kept, named[name])
        return trees.rebuild(self.blank, named)


class _Run(NamedTuple):
    """What is to be shrunk, and how to run the result."""

    fn: Callable[..., Any]
    params: Any
    example: Any
    network: Network
    rebuild: Callable[[Any], Callable[..., Any]] | None


class _Attempt(NamedTuple):
    """What was cut, the result, how to run it, and why the code itself does not."""

    cuts: Cuts
    smaller: Shrunk
    runner: Callable[..., Any]
    refusal: str = ""


def exact(
    fn: Callable[..., Any],
    params: Any,
    example: Any,
    *,
    rebuild: Callable[[Any], Callable[..., Any]] | None = None,
) -> Shrunk:
    """Cuts all units that can be proved to do nothing, whatever framework made them.

    A unit (a channel, a hidden unit, a head or one of its dimensions) is cut from every
    leaf that has it if no product reads it with a weight other than zero, or if what is
    read does not depend on the data and a bias behind can take it over. What depends on
    the data is followed through the operations of the function as JAX traces them. A
    unit stays, with a note where that is worth one, if it is an input or an output; if
    its axis is reduced over (LayerNorm, softmax), windowed, sorted or looked up in; if
    an unknown primitive reads it; or if it is a constant other than zero behind padding
    or without a bias. A group keeps one unit at least. Other sizes of padded images and
    values that are not finite are not considered.

    At last the result is run beside the original on random batches like the example. A
    group of units is then left if the code treats them otherwise at another width, as
    attention does that divides by the square root of it, or cannot have that width.

    Seconds pass even for a small network: products, convolutions and some others are
    compiled for each of their shapes, and both networks as a whole; one more for each
    group that is tried alone because the code does not answer the same with all cut.

    Args:
        fn: The function, called as `fn(params, batch)`.
        params: Its parameters, a pytree of arrays that are not traced.
        example: A batch, arrays or `jax.ShapeDtypeStruct`. Positions that a constant
            may depend on, such as those of a sequence, are told apart only if there
            are two at least.
        rebuild: Makes the function that takes the smaller parameters, with which it is
            called, for code that has widths beside them: modules of Linen, the
            attention of NNX, zeros that a loop begins with. Without it such code cannot
            be run here: the traced operations are, and widths over which two values of
            the data are multiplied stay, since code often scales by them.

    Returns:
        The smaller parameters and what was cut. `fn(smaller.params, batch)` works if
        the code takes its widths from the parameters; the last note says if it does
        not, and `widths` what to build it with.

    Raises:
        ValueError: The smaller network answers otherwise whatever is left, or a leaf of
            the parameters is traced or has no values.

    Examples:
        The second of three hidden units is not read.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import shrink
        >>> def net(params, x):
        ...     return jax.nn.relu(x @ params["first"]) @ params["second"]
        >>> params = {"first": jnp.ones((2, 3)), "second": jnp.array([[1.0], [0], [2]])}
        >>> smaller = shrink.exact(net, params, jnp.zeros((4, 2)))
        >>> smaller.widths
        {'first:1': (3, 2)}
        >>> smaller.params["second"].tolist()
        [[1.0], [2.0]]
        >>> smaller.restore(smaller.params)["first"].tolist()
        [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """
    run = _Run(fn, params, example, network_of(fn, params, example), rebuild)
    avoided: dict[int, Remark] = {}
    attempt = _attempt(run, avoided)
    if attempt.refusal:
        text = "left, since code with widths of its own may scale by it: pass `rebuild`"
        scaled = attempt.cuts.kept.keys() & cuts.between_data(run.network)
        avoided.update((atom, Remark(atom, "dot_general", text)) for atom in scaled)
        attempt = _attempt(run, avoided)
    if _difference(run, attempt):
        for atom in attempt.cuts.kept:
            if difference := _difference(run, _attempt(run, avoided, atom)):
                text = f"left, since at another width the code {difference}"
                avoided[atom] = Remark(atom, "", text)
        attempt = _attempt(run, avoided)
        # What a module that still does not take them raises, is for the user.
        attempt.runner(attempt.smaller.params, samples.like(run.example, 1))
        if _difference(run, attempt):
            raise ValueError(
                "the smaller network answers otherwise than the original, however "
                "little is cut: is the function random, or does it have a state?"
            )
    return attempt.smaller


def network_of(fn: Callable[..., Any], params: Any, example: Any) -> Network:
    """Traces and labels a function, and finds what depends on what."""
    leaves.check(params)
    program = trace(fn, params, example)
    spaces, axes = label(program)
    values = list(trees.named_leaves(params).values())
    data = jax.tree.leaves(samples.like(example, 0))
    return Network(program, spaces, axes, forward(program, values, data))


def _attempt(
    run: _Run, avoided: Mapping[int, Remark], only: int | None = None
) -> _Attempt:
    """Cuts what may be cut, or units of one space only."""
    network = run.network
    left = set(avoided)
    if only is not None:
        left |= set(cuts.cuttable(network)) - {only}
    found = cuts.find(network, left)
    found.remarks.extend(avoided.values())
    smaller = _shrunk(run, found)
    if run.rebuild is not None:
        return _Attempt(found, smaller, _rebuilt(run.rebuild))
    refusal = _refusal(run.fn, smaller.params, run.example)
    if not refusal:
        return _Attempt(found, smaller, jax.jit(run.fn))

    def traced(params: Any, batch: Any) -> list[Any]:
        own = jax.tree.leaves(params), jax.tree.leaves(batch)
        program, spaces, axes, _ = network
        return evaluate(program, spaces, axes, found.kept, *own)

    text = (
        f"the code has widths of its own ({refusal}): build it with those of `widths`"
    )
    smaller = smaller._replace(notes=(*smaller.notes, Note("", "", text)))
    return _Attempt(found, smaller, jax.jit(traced), refusal)


def _rebuilt(rebuild: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    return lambda params, batch: jax.jit(rebuild(params))(params, batch)


def _refusal(fn: Callable[..., Any], params: Any, example: Any) -> str:
    """What a function raises when it is traced with these parameters, if it does."""
    try:
        jax.eval_shape(fn, params, example)
    except Exception as error:  # whatever code raises that has widths of its own
        return _in_short(error)
    return ""


def _in_short(error: Exception) -> str:
    """The type of an error and the first line of its text."""
    line = str(error).strip().partition("\n")[0][:_LONG]
    return f"{type(error).__name__}: {line}".removesuffix(": ")


def _shrunk(run: _Run, found: Cuts) -> Shrunk:
    """Makes the smaller parameters of what can be cut."""
    named = trees.named_leaves(run.params)
    names, network = list(named), run.network
    changed, blank = dict(named), dict(named)
    for change in found.changes:
        name = names[network.program.leaves.index(change.leaf)]
        changed[name] = leaves.added(changed[name], change.delta)
    kept: dict[str, leaves.Indices] = {}
    used = grouping.uses(network.program)
    for name, value, use in zip(names, network.program.leaves, used, strict=True):
        axes = network.axes[value]
        masks = [units.mask(network.spaces, space, found.kept) for space in axes]
        if all(mask.all() for mask in masks):
            continue
        kept[name] = tuple(None if m.all() else np.flatnonzero(m) for m in masks)
        if not use.carried:
            blank[name] = leaves.zeroed(named[name], kept[name])
    smaller = {name: leaves.cut(x, kept.get(name)) for name, x in changed.items()}
    return Shrunk(
        trees.rebuild(run.params, smaller),
        kept,
        grouping.widths(grouping.groups_of(network, names), found.kept),
        tuple(grouping.note(network, names, remark) for remark in found.remarks),
        trees.rebuild(run.params, blank),
    )


def _difference(run: _Run, attempt: _Attempt) -> str:
    """What the smaller or the restored network does that the original does not."""
    fn, smaller = jax.jit(run.fn), attempt.smaller
    restored = smaller.restore(smaller.params)
    for seed in range(1, 1 + _TRIALS):
        batch = samples.like(run.example, seed)
        try:
            found = attempt.runner(smaller.params, batch)
        except Exception as error:  # a module that cannot have these widths
            return f"fails ({_in_short(error)})"
        wanted = fn(run.params, batch)
        others = (found, fn(restored, batch))
        if not all(samples.agree(wanted, own) for own in others):
            return "answers otherwise"
    return ""
