"""Training for the fewest bytes: the rate in the loss, a teacher, coarse grids.

Two phases take the place of pruning in iterations and of sharing. In `sparsify` bits
get a price in the loss, which rises until few weights are left and these are large; in
`grid` the network computes with the multiples of one coarse step in each leaf, to which
the weights adapt. What is rounded to zero may come back until the end, and no mask is
needed; there the price goes on rising or falling, gently, so that the file ends at the
size that is asked for. Both phases learn from the dense network besides the labels.
(Distillation: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.)
"""

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deepcomp_jax import Rule, rate_loss, share, shrink, trees
from experiments.study import onto_grids, sharing, unit_order
from experiments.study.config import Config
from experiments.study.stages import Study, folded, measure_shared, train_phase
from experiments.training.runs import Row
from experiments.training.train import (
    Seen,
    Trainer,
    TrainState,
    adam,
    cross_entropy,
    logits,
    split,
)

_TEMPERATURE = 2.0  # of the teacher's answers
_RISE = 0.6  # of `sparsify`, in which the price of a bit rises to its full height
# In `grid` the size falls evenly, in ratio, over this part of the epochs, to what is
# asked for. To that end the price changes by a power of (size / size by then) before
# each epoch, and falls less willingly than it rises: weights that it has let live do
# not leave by themselves. Faster is worse: what a price too high has zeroed stays away.
_FALL = 0.5
_UP, _DOWN = 1.0, 0.1
_FASTEST = 1.15
_FIRST = 1.3  # the size after a calibration, over what is asked for


class Rest(NamedTuple):
    """What a step looks at besides the weights.

    Attributes:
        statistics: The other collections of the network, such as what is left of the
            statistics of BatchNorm.
        steps: The step of the grid of each leaf.
        prices: The prices of positions during the epoch.
        bit: The price of a bit in the loss, in nats.
        each: Bytes of the file for each weight that is not zero, as last measured.
    """

    statistics: Any
    steps: Any
    prices: Any
    bit: jax.Array
    each: jax.Array


class Fall(NamedTuple):
    """The sizes of the file, in bytes, where a phase on grids begins and should end."""

    first: int
    to: int


@dataclasses.dataclass(frozen=True)
class RateLoss:
    """Cross entropy with the labels and with the answers of a teacher, plus the rate.

    Attributes:
        distilled: The weight of the teacher's answers, 0 to 1; labels have the rest.
    """

    distilled: float

    def __call__(self, seen: Seen, params: Any, rest: Rest) -> jax.Array:
        """The loss of a batch, in nats."""
        if seen.answers is None:
            raise ValueError("this loss needs the answers of a teacher")
        teacher = jax.nn.log_softmax(seen.answers / _TEMPERATURE)
        student = jax.nn.log_softmax(seen.logits / _TEMPERATURE)
        divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1).mean()
        bits = rate_loss.expected_bits(params, rest.steps, rest.prices)
        return (
            (1 - self.distilled) * cross_entropy(seen, params, rest)
            + self.distilled * _TEMPERATURE**2 * divergence
            + rest.bit * bits
        )


def run(study: Study, trained: Any) -> tuple[Any, dict[str, share.SharedWeights]]:
    """Runs the two phases.

    Args:
        study: The run.
        trained: The dense network, where the first phase begins and which is the
            teacher of both.

    Returns:
        The variables of the sparse network and, by the name of its phase, the network
        on grids for each size that is asked for.
    """
    config = study.config
    # BatchNorm is trained as it will be stored. Else no weight would be worth its bits,
    # since what a BatchNorm divides by its deviation can shrink and do the same. The
    # scales go into the kernels, so that the effect of a weight is in its size alone.
    params, statistics = split(folded(study, trained, kernels=True))
    steps = rate_loss.step_sizes(
        params, config.grid_step, of_vectors=config.vector_grid_step
    )
    prices = rate_loss.position_bits(params, steps)
    bit = jnp.float32(config.bit_price)
    rest = Rest(statistics, steps, prices, bit, each=jnp.float32(0))
    answers = logits(study.model, trained, study.train.images)
    full = _of_units(study, trained)
    trainer = _trainer(full, steps, _zeroed if config.calibrated else _sparse)
    epochs = config.epochs_of(0)
    state = train_phase(
        full,
        "sparsify",
        trainer,
        TrainState(params, rest, trainer.optimizer.init(params)),
        epochs,
        config.rate_of(0),
        prepare=partial(_rising, config.bit_price, epochs),
        answers=answers,
    )
    sparse = _sparse(_without_small(state.params, steps), state.rest)
    study.run.measure("sparsify-end", partial(_measure_sparse, study, sparse))
    return sparse, train_on_grids(study, sparse, state.rest, answers)


def train_on_grids(
    study: Study, sparse: Any, rest: Rest, answers: jax.Array
) -> dict[str, share.SharedWeights]:
    """Runs the second phase: leaves idle units out, and trains all others on grids.

    There is one such phase for each size that is asked for, which begins where the one
    before ended, or with a calibration from the sparse network again, on its own grids.
    The price of a bit goes on from where the phase before left it in both cases.

    Args:
        study: The run.
        sparse: The variables after the first phase.
        rest: What a step of the first phase looked at.
        answers: The logits of the teacher for the images of `study.train`.

    Returns:
        The networks by the names of the phases.
    """
    config = study.config
    variables, restore = _without_idle(study, sparse)
    slim = _of_units(study, variables)
    params, statistics = split(variables)
    rest = rest._replace(
        statistics=statistics, prices=rate_loss.position_bits(params, rest.steps)
    )

    def wide(state: TrainState) -> share.SharedWeights:
        narrow = _on_grids(state.params, state.rest)
        return shared_weights(
            study, unit_order.sort(restore(narrow), study.roles.units)
        )

    start: onto_grids.Sparse | None = None
    if config.calibrated:
        study.run.check_time()
        start = onto_grids.sparse(slim, params, statistics, rest.steps)
    networks: dict[str, share.SharedWeights] = {}
    for name, target in zip(config.tuning_phases(), config.target_bytes, strict=True):
        if start is not None:
            params, rest = _coarsened(study, name, start, rest, target, wide)
        trainer = _trainer(slim, rest.steps, _on_grids)
        state = TrainState(params, rest, trainer.optimizer.init(params))
        first = study.run.measure(
            f"{name}-start", partial(_measure, study, wide, state)
        )
        trained = train_phase(
            slim,
            name,
            trainer,
            state,
            config.tune_epochs,
            config.tune_rate,
            prepare=partial(_adapted, config, wide, Fall(first["bytes"], target)),
            answers=answers,
        )
        params, rest = trained.params, trained.rest
        study.run.measure(f"{name}-end", partial(_measure, study, wide, trained))
        networks[name] = wide(trained)
    return networks


def shared_weights(study: Study, variables: Any) -> share.SharedWeights:
    """Labels the weights of a network on its grids, and shares all other leaves.

    All vectors have the same step, and so one codebook.
    """
    trained = trees.named_leaves({"params": variables["params"]})
    rules = [
        Rule(
            f"^{re.escape(name)}$",
            share=share.distinct,
            group=None if leaf.ndim > 1 else "vectors",
        )
        for name, leaf in trained.items()
    ]
    rest = trees.named_leaves(variables).keys() - trained.keys()
    others = [
        rule
        for rule in sharing.rules(study.config, study.roles, "kmeans")
        if any(re.search(rule.pattern, name) for name in rest)
    ]
    return share.share(variables, [*rules, *others])


def _coarsened(
    study: Study,
    name: str,
    start: onto_grids.Sparse,
    rest: Rest,
    target: int,
    wide: Callable[[TrainState], share.SharedWeights],
) -> tuple[Any, Rest]:
    """The sparse network on grids so coarse that its file is a little too large."""

    def placed(found: onto_grids.Coarsened) -> TrainState:
        prices = rate_loss.position_bits(found.params, found.steps)
        own = rest._replace(steps=found.steps, prices=prices)
        return TrainState(found.params, own, None)

    def size(found: onto_grids.Coarsened) -> int:
        return sharing.file_bytes(study.config, wide(placed(found)))

    def search() -> Row:
        return {"coarseness": start.coarseness(size, _FIRST * target)}

    row = study.run.measure(f"{name}-steps", search)
    state = placed(start.coarsened(row["coarseness"]))
    return state.params, state.rest


def _without_idle(study: Study, variables: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Leaves out the units that do nothing, to train the others faster.

    Returns:
        The variables of the narrow network, which computes what the wide one does, and
        a function that puts such variables back to their places, with zeros for what is
        left out.
    """
    rebuild = study.roles.rebuild
    if rebuild is None:
        return variables, lambda narrow: narrow
    shape = (2, *study.train.images.shape[1:])
    smaller = shrink.exact(
        study.model.apply,
        variables,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        rebuild=lambda narrow: rebuild(narrow).apply,
    )
    return smaller.params, smaller.restore


def _trainer(study: Study, steps: Any, expand: Callable[[Any, Rest], Any]) -> Trainer:
    """Makes a trainer by steps of the grids, with the rate in the loss."""
    optimizer = rate_loss.scale_by_step_size(adam(), steps)
    loss = RateLoss(study.config.distilled)
    return study.trainer(
        optimizer, expand=expand, batch_statistics=False, loss=loss, l2=0.0
    )


def _of_units(study: Study, variables: Any) -> Study:
    """The study of the network that has these variables, and no dropout."""
    if study.roles.rebuild is None:
        return study
    return study._replace(model=study.roles.rebuild(variables))


def _sparse(params: Any, rest: Rest) -> Any:
    return {"params": params, **rest.statistics}


def _zeroed(params: Any, rest: Rest) -> Any:
    """Small weights are zero, but gradients pass on to them unchanged."""
    small = jax.tree.map(
        lambda leaf, kept: jax.lax.stop_gradient(leaf - kept),
        params,
        _without_small(params, rest.steps),
    )
    return _sparse(jax.tree.map(jnp.subtract, params, small), rest)


def _on_grids(params: Any, rest: Rest) -> Any:
    return _sparse(rate_loss.fake_quant(params, rest.steps), rest)


def _rising(
    price: float, epochs: int, state: TrainState, epoch: int
) -> tuple[TrainState, Row]:
    """Sets the prices for one of the epochs of `sparsify`, and says what to log."""
    bit = price * min(1.0, (epoch + 1) / (_RISE * epochs))
    kept = _nonzero(_on_grids(state.params, state.rest))
    return _priced(state, bit), {"nonzero": kept, "bit_price": bit}


def _adapted(
    config: Config,
    shared: Callable[[TrainState], share.SharedWeights],
    fall: Fall,
    state: TrainState,
    epoch: int,
) -> tuple[TrainState, Row]:
    """Sets the prices for an epoch of `grid`: bits cost more if the file is too big.

    Args:
        config: The settings of the run.
        shared: Makes the network that goes into a file.
        fall: The sizes that the phase goes from and to.
        state: The state before the epoch.
        epoch: The number of the epoch, from 0.

    Returns:
        The state with the new prices, and what to log.
    """
    kept = _nonzero(_on_grids(state.params, state.rest))
    noted: Row = {}
    # In between, the size is estimated from the number of weights: writing the file of
    # a large network takes longer than an epoch on an accelerator.
    if epoch % max(1, config.tune_epochs // config.measurements) == 0:
        size = noted["bytes"] = sharing.file_bytes(config, shared(state))
        each = jnp.float32(size / max(1, kept))
        state = state._replace(rest=state.rest._replace(each=each))
    size = float(state.rest.each) * kept
    left = max(0.0, 1 - epoch / (_FALL * config.tune_epochs))
    aim = fall.to * (fall.first / fall.to) ** left
    change = (size / aim) ** (_UP if size > aim else _DOWN)
    change = min(max(change, 1 / _FASTEST), _FASTEST)
    bit = float(state.rest.bit) * change
    return _priced(state, bit), {**noted, "nonzero": kept, "bit_price": bit}


def _priced(state: TrainState, bit: float) -> TrainState:
    prices = rate_loss.position_bits(state.params, state.rest.steps)
    rest = state.rest._replace(prices=prices, bit=jnp.float32(bit))
    return state._replace(rest=rest)


def _without_small(params: Any, steps: Any) -> Any:
    """Zero where a grid would have zero, all else as it is."""
    return jax.tree.map(
        lambda leaf, step: jnp.where(jnp.abs(leaf) > 0.5 * step, leaf, 0.0),
        params,
        steps,
    )


def _measure_sparse(study: Study, variables: Any) -> Row:
    return {"nonzero": _nonzero(variables), "watch_error": study.error(variables)}


def _nonzero(variables: Any) -> int:
    return int(_count(variables["params"]))


@jax.jit
def _count(params: Any) -> jax.Array:
    counts = [jnp.count_nonzero(leaf) for leaf in jax.tree.leaves(params)]
    return jnp.sum(jnp.stack(counts))


def _measure(
    study: Study,
    network: Callable[[TrainState], share.SharedWeights],
    state: TrainState,
) -> Row:
    shared = network(state)
    size = sharing.file_bytes(study.config, shared)
    return measure_shared(study, shared) | {"bytes": size}
