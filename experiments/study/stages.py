"""Deep Compression of one network: train, prune and retrain, share, fine-tune, write.

The study knows no particular network and no particular data.
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepcomp_jax import Rule, api, fold, prune, retrain, share, trees
from deepcomp_jax._types import SharedLeaf
from experiments.data.datasets import Dataset
from experiments.study import sharing
from experiments.study.config import Config
from experiments.study.roles import Roles
from experiments.training.runs import Row, Run
from experiments.training.train import (
    Array,
    Augmentation,
    Trainer,
    TrainState,
    adam,
    cut_out,
    evaluate,
    place,
    replicate,
    sgd,
    split,
    with_statistics,
)


class Split(NamedTuple):
    """Images and labels of one part of the data."""

    images: Array
    labels: Array


class Study(NamedTuple):
    """A run in progress.

    Attributes:
        config: Its settings.
        run: Where it is saved.
        model: The network.
        train: What is trained on.
        watch: What is measured on while training and choosing.
        roles: What the parameters of the network are for.
    """

    config: Config
    run: Run
    model: nn.Module
    train: Split
    watch: Split
    roles: Roles

    def error(self, variables: Any, *, exact: bool = True) -> float:
        """Error on `watch`, in percent; `exact` as in `train.logits`."""
        return evaluate(self.model, variables, *self.watch, exact=exact)[0]

    def trainer(
        self,
        optimizer: optax.GradientTransformation,
        **parts: Any,
    ) -> Trainer:
        """Trains the network by an optimizer, as the settings say.

        Args:
            optimizer: Of `train`.
            parts: Fields of `Trainer`, in place of what the settings say.
        """
        config = self.config
        augment = self.roles.augment if config.augment else None
        model = self.model
        if config.compute != "float32":
            model = model.clone(dtype=jnp.dtype(config.compute))
        settings = {"augment": augment, "l2": config.l2}
        return Trainer(model, optimizer, config.batch, **settings | parts)


def splits(dataset: Dataset, config: Config) -> tuple[Split, Split]:
    """What is trained on, and what is measured on along the way."""
    images, labels = dataset.train_images, dataset.train_labels
    if config.validation == 0:
        test = dataset.test_images, dataset.test_labels
        return replicate((Split(images, labels), Split(*test)))
    order = np.random.default_rng(config.seed).permutation(len(labels))
    held, used = order[: config.validation], order[config.validation :]
    parts = tuple(Split(images[part], labels[part]) for part in (used, held))
    return replicate(parts)


def train_dense(study: Study) -> Any:
    """Trains all weights, on a cosine; returns the network's variables."""
    config = dataclasses.replace(study.config, schedule="cosine")
    study = study._replace(config=config)
    shape = (1, *study.train.images.shape[1:])
    init = jax.jit(study.model.init)
    variables = init(jax.random.key(config.seed), jnp.zeros(shape))
    optimizer = {"sgd": sgd, "adam": adam}[config.dense_optimizer]()
    trainer = study.trainer(optimizer)
    if config.cut_out:
        augment = _then_cut_out(trainer.augment, config.cut_out)
        trainer = dataclasses.replace(trainer, augment=augment)
    state = _state(variables, trainer)
    state = train_phase(
        study, "dense", trainer, state, config.dense_epochs, config.dense_rate
    )
    variables = trained_variables(state)
    study.run.measure("dense-end", lambda: {"watch_error": study.error(variables)})
    return variables


def _then_cut_out(augment: Augmentation | None, side: int) -> Augmentation:
    """Augments as before, and then cuts squares out of the images."""

    def both(key: jax.Array, images: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        images = images if augment is None else augment(keys[0], images)
        return cut_out(keys[1], images, side=side)

    return both


def prune_and_retrain(study: Study, variables: Any) -> Any:
    """Prunes and retrains in iterations; returns the network's variables."""
    config = study.config
    masks = jax.tree.map(lambda _: jnp.array(True), variables["params"])
    trainer = masked_trainer(study, variables)
    for i in range(config.iterations):
        rules = pruning_rules(study, i)
        masks = prune.masks(variables["params"], rules, masks)
        state = pruned_state(variables, masks, trainer)
        name = f"prune-{i + 1:02d}"
        state = train_phase(
            study, name, trainer, state, config.epochs_of(i), config.rate_of(i)
        )
        variables = trained_variables(state)
        study.run.measure(
            f"{name}-end", partial(_measure_pruned, study, i + 1, variables)
        )
    return variables


def pruning_rules(study: Study, iteration: int) -> list[Rule]:
    """Which parameters are pruned and how, in one iteration, counted from 0."""
    config = study.config
    if config.pruning == "std":
        return [Rule(".", prune=prune.by_std(config.quality))]

    def sparsity(final: float) -> float:
        schedule = prune.cubic_schedule(0.0, final, config.iterations)
        return float(schedule(iteration + 1))

    if config.pruning == "paper":
        return [
            Rule(f"{name}/kernel$", prune=prune.by_magnitude(sparsity(1 - layer.kept)))
            for name, layer in study.roles.layers.items()
        ]
    make = {
        "erk": prune.by_erk,
        "global": prune.by_global_magnitude,
        "magnitude": prune.by_magnitude,
    }[config.pruning]
    rules = [Rule("kernel$", prune=make(sparsity(config.sparsity)))]
    if study.roles.idle is not None:
        rules.append(Rule(study.roles.idle, prune=prune.by_magnitude(1.0)))
    return rules


def masked_trainer(study: Study, variables: Any) -> Trainer:
    """Trains what masks keep, by one program for all masks of `pruned_state`."""
    masks = jax.tree.map(lambda _: jnp.array(True), variables["params"])
    return study.trainer(retrain.keep_pruned(sgd(), masks))


def pruned_state(variables: Any, masks: Any, trainer: Trainer) -> TrainState:
    """Where the retraining of what the masks keep begins.

    Args:
        variables: Of the network, before the masks are applied.
        masks: Of its parameters. True = kept.
        trainer: Of `masked_trainer`.
    """
    pruned = variables | {"params": prune.apply(variables["params"], masks)}
    state = _state(pruned, trainer)
    opt_state: Any = state.opt_state
    masked = retrain.set_masks(trainer.optimizer, opt_state, masks)
    return state._replace(opt_state=masked)


def folded(study: Study, variables: Any, *, kernels: bool = False) -> Any:
    """BatchNorm as constants, which is how it is shared and stored.

    Running statistics cannot be shared as they are: a channel that nothing reaches any
    more has hardly a variance, and a rounded mean is many such deviations off. Nor can
    its folded scale, hundreds of times as large as others: it becomes zero where it
    multiplies nothing.

    The bias of a convolution goes into that of the BatchNorm behind it, with which it
    is one number in use: a group has it once, in its effect on the output. Shared as a
    value of its own it would be rounded before the scale multiplies it, and its error
    with it; and where the scale becomes zero it would be lost.

    Args:
        study: The run.
        variables: Of the network, which may be without BatchNorm.
        kernels: As for `fold.batchnorm`.
    """
    if "batch_stats" not in variables:
        return variables
    norms = study.roles.norms
    found = fold.batchnorm(variables, bias_of=norms, kernels=kernels)
    if kernels:
        return found
    leaves = trees.named_leaves(found)
    for units in study.roles.units.values():
        name, own = units.made[0]
        others = tuple(axis for axis in range(leaves[name].ndim) if axis != own)
        idle = ~jnp.any(leaves[name] != 0, axis=others)
        for name in (axis.leaf for axis in units.made if axis.leaf.endswith("scale")):
            leaves[name] = jnp.where(idle, 0, leaves[name])
    return trees.rebuild(found, leaves)


def fine_tune(study: Study, variables: Any, method: str) -> share.SharedWeights:
    """Shares the weights, trains the codebooks of the kernels and rounds them all.

    The codebooks of biases and BatchNorm values stay as they are.

    Raises:
        runs.OutOfTime: Sharing may not end before the deadline of the run.
    """
    config = study.config
    study.run.check_time()
    rules = sharing.rules(study.config, study.roles, method)
    shared = share.share(folded(study, variables), rules)
    study.run.measure(f"{method}-start", partial(measure_shared, study, shared))
    trainer, state = codebook_training(study, shared)
    state = train_phase(
        study, method, trainer, state, config.tune_epochs, config.tune_rate
    )
    shared = share.replace_codebooks(shared, state.params)
    # Eleven bits of an entry are more than its accuracy; a file needs half the bytes.
    shared = share.cast_codebooks(shared, "float16")
    study.run.measure(f"{method}-end", partial(measure_shared, study, shared))
    return shared


def codebook_training(
    study: Study, shared: share.SharedWeights
) -> tuple[Trainer, TrainState]:
    """Trains the codebooks of the kernels; the state where that begins."""
    trainer = study.trainer(adam(), expand=_with_codebooks, move=None)
    kernels = {g: c for g, c in shared.codebooks.items() if g.endswith("kernel")}
    return trainer, TrainState(kernels, shared, trainer.optimizer.init(kernels))


def _with_codebooks(params: Any, rest: share.SharedWeights) -> Any:
    return share.lookup(share.replace_codebooks(rest, params))


def _as_it_is(state: TrainState, epoch: int) -> tuple[TrainState, Row]:
    del epoch
    return state, {}


def train_phase(
    study: Study,
    name: str,
    trainer: Trainer,
    state: TrainState,
    epochs: int,
    rate: float,
    *,
    prepare: Callable[[TrainState, int], tuple[TrainState, Row]] = _as_it_is,
    answers: jax.Array | None = None,
) -> TrainState:
    """Trains one phase of a run, or what is left of it.

    Args:
        study: The run.
        name: Of the phase.
        trainer: Makes its steps.
        state: Where it begins.
        epochs: Of the phase.
        rate: Initial learning rate.
        prepare: Changes the state before an epoch, counted from 0, and says what is
            worth noting. The epoch consumes what it returns.
        answers: Logits of a teacher for the images of `study.train`, if the loss asks.
    """
    config = study.config
    steps = study.train.images.shape[0] // config.batch
    base = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))

    def train_epoch(state: TrainState, epoch: int) -> tuple[TrainState, Row]:
        rates = config.learning_rates(rate, epoch=epoch, epochs=epochs, steps=steps)
        key = jax.random.fold_in(base, epoch)
        state, noted = prepare(state, epoch)
        state, rates, key = place((state, rates, key))
        state, metrics = trainer.epoch(state, *study.train, key, rates, answers)
        row = {
            "rate": float(rates.max()),
            **noted,
            "loss": float(metrics["loss"]),
            "train_error": float(metrics["error"]),
            "watch_error": study.error(
                trainer.expand(state.params, state.rest), exact=False
            ),
        }
        return state, row

    return study.run.phase(name, replicate(state), epochs, train_epoch)


def _state(variables: Any, trainer: Trainer) -> TrainState:
    params, rest = split(variables)
    return TrainState(params, rest, trainer.optimizer.init(params))


def trained_variables(state: TrainState) -> Any:
    """The variables of a network whose weights were trained."""
    return with_statistics(state.params, state.rest)


def _measure_pruned(study: Study, iteration: int, variables: Any) -> Row:
    """The pruned network, and what sharing alone would make of it."""
    config = study.config
    rules = sharing.rules(config, study.roles, config.methods()[0])
    shared = share.share(folded(study, variables), rules)
    after = measure_shared(study, shared)
    return {
        "iteration": iteration,
        "nonzero": after["nonzero"],
        "watch_error": study.error(variables),
        "shared_unique": after["unique"],
        "shared_watch_error": after["watch_error"],
    }


def measure_shared(study: Study, shared: share.SharedWeights) -> Row:
    """Weights kept, distinct values and error of a network, as a file would have it."""
    packed = api.pack(shared)
    labels = [leaf.labels for leaf in packed.leaves if isinstance(leaf, SharedLeaf)]
    return {
        "nonzero": sum(int(np.count_nonzero(own)) for own in labels),
        "unique": sum(codebook.size for codebook in packed.codebooks),
        "watch_error": study.error(share.lookup(shared)),
    }
