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
    """The images and labels of one part of the data."""

    images: Array
    labels: Array


class Study(NamedTuple):
    """A run in progress.

    Attributes:
        config: The settings of the run.
        run: Where the run is saved.
        model: The network.
        train: The data to train on.
        watch: The data that errors are measured on while training and choosing.
        roles: What the parameters of the network are for.
    """

    config: Config
    run: Run
    model: nn.Module
    train: Split
    watch: Split
    roles: Roles

    def error(self, variables: Any, *, exact: bool = True) -> float:
        """The error on `watch`, in percent; `exact` is as in `train.logits`."""
        return evaluate(self.model, variables, *self.watch, exact=exact)[0]

    def trainer(self, optimizer: optax.GradientTransformation, **parts: Any) -> Trainer:
        """Makes a trainer of the network, as the settings say.

        Args:
            optimizer: An optimizer of `train`.
            parts: Fields of `Trainer` that replace what the settings say.
        """
        config, model = self.config, self.model
        if config.compute != "float32":
            model = model.clone(dtype=jnp.dtype(config.compute))
        augment = self.roles.augment if config.augment else None
        settings = {"augment": augment, "l2": config.l2}
        return Trainer(model, optimizer, config.batch, **settings | parts)


def splits(dataset: Dataset, config: Config) -> tuple[Split, Split]:
    """The data to train on, and those that are measured on along the way."""
    train = Split(dataset.train_images, dataset.train_labels)
    if config.validation == 0:
        return replicate((train, Split(dataset.test_images, dataset.test_labels)))
    order = np.random.default_rng(config.seed).permutation(len(train.labels))
    held, used = order[: config.validation], order[config.validation :]
    parts = (Split(*(array[part] for array in train)) for part in (used, held))
    return replicate(tuple(parts))


def train_dense(study: Study) -> Any:
    """Trains all weights by a cosine schedule, and returns the network's variables."""
    config = dataclasses.replace(study.config, schedule="cosine")
    study = study._replace(config=config)
    image = jnp.zeros((1, *study.train.images.shape[1:]))
    variables = jax.jit(study.model.init)(jax.random.key(config.seed), image)
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
    """An augmentation that also cuts squares out of the images."""

    def both(key: jax.Array, images: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        images = images if augment is None else augment(keys[0], images)
        return cut_out(keys[1], images, side=side)

    return both


def prune_and_retrain(study: Study, variables: Any) -> Any:
    """Prunes and retrains in iterations, and returns the network's variables."""
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
    """Says which parameters an iteration prunes, and how; the first is number 0."""
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
    """Makes a trainer of what masks keep; one program serves all masks.

    Its masks keep everything, until `pruned_state` replaces them.
    """
    masks = jax.tree.map(lambda _: jnp.array(True), variables["params"])
    return study.trainer(retrain.keep_pruned(sgd(), masks))


def pruned_state(variables: Any, masks: Any, trainer: Trainer) -> TrainState:
    """Applies masks to a network, and makes the state where its retraining begins.

    Args:
        variables: The network before the masks are applied.
        masks: The masks of its parameters. True = kept.
        trainer: What `masked_trainer` returned.
    """
    pruned = variables | {"params": prune.apply(variables["params"], masks)}
    state = _state(pruned, trainer)
    opt_state = retrain.set_masks(trainer.optimizer, state.opt_state, masks)
    return state._replace(opt_state=opt_state)


def folded(study: Study, variables: Any, *, kernels: bool = False) -> Any:
    """Turns BatchNorm into constants, which is how it is shared and stored.

    Running statistics cannot be shared as they are: a channel that nothing reaches any
    more has almost no variance, and a rounded mean is many such deviations off. Nor can
    the folded scale of such a channel, which is hundreds of times as large as others.
    It becomes zero, since it multiplies nothing.

    The bias of a convolution goes into that of the BatchNorm behind it, since only
    their sum has an effect. If it were shared by itself, it would be rounded before the
    scale multiplies it, and its error with it; and where the scale becomes zero it
    would be lost.

    Args:
        study: The run.
        variables: The network, which may be without BatchNorm.
        kernels: Whether the scales go on into the kernels, as in `fold.batchnorm`.
    """
    if "batch_stats" not in variables:
        return variables
    norms = study.roles.norms
    constant = fold.batchnorm(variables, bias_of=norms, kernels=kernels)
    if kernels:
        return constant
    leaves = trees.named_leaves(constant)
    for units in study.roles.units.values():
        kernel, outputs = units.made[0]
        others = tuple(axis for axis in range(leaves[kernel].ndim) if axis != outputs)
        idle = ~jnp.any(leaves[kernel] != 0, axis=others)
        for name, _ in units.made:
            if name.endswith("scale"):
                leaves[name] = jnp.where(idle, 0, leaves[name])
    return trees.rebuild(constant, leaves)


def fine_tune(study: Study, variables: Any, method: str) -> share.SharedWeights:
    """Shares the weights, trains the codebooks of the kernels and rounds all codebooks.

    The codebooks of biases and BatchNorm values are not trained.

    Raises:
        runs.OutOfTime: Sharing may not end before the deadline of the run.
    """
    config = study.config
    study.run.check_time()
    rules = sharing.rules(config, study.roles, method)
    shared = share.share(folded(study, variables), rules)
    study.run.measure(f"{method}-start", partial(measure_shared, study, shared))
    trainer, state = codebook_training(study, shared)
    state = train_phase(
        study, method, trainer, state, config.tune_epochs, config.tune_rate
    )
    shared = share.replace_codebooks(shared, state.params)
    # The eleven bits of float16 are more than enough for an entry, in half the bytes.
    shared = share.cast_codebooks(shared, "float16")
    study.run.measure(f"{method}-end", partial(measure_shared, study, shared))
    return shared


def codebook_training(
    study: Study, shared: share.SharedWeights
) -> tuple[Trainer, TrainState]:
    """A trainer of the codebooks of the kernels, and the state where it begins."""
    trainer = study.trainer(adam(), expand=_with_codebooks, batch_statistics=False)
    kernels = {g: c for g, c in shared.codebooks.items() if g.endswith("kernel")}
    return trainer, TrainState(kernels, shared, trainer.optimizer.init(kernels))


def _with_codebooks(params: Any, rest: share.SharedWeights) -> Any:
    return share.lookup(share.replace_codebooks(rest, params))


def train_phase(
    study: Study,
    name: str,
    trainer: Trainer,
    state: TrainState,
    epochs: int,
    rate: float,
    *,
    prepare: Callable[[TrainState, int], tuple[TrainState, Row]] | None = None,
    answers: jax.Array | None = None,
) -> TrainState:
    """Trains one phase of a run, or what is left of it.

    Args:
        study: The run.
        name: The name of the phase, unique in the run.
        trainer: Makes the steps.
        state: The state where the phase begins.
        epochs: How many epochs the phase has.
        rate: Its initial learning rate.
        prepare: Maps the state before an epoch, and the number of the epoch from 0, to
            the state that the epoch begins with and consumes, and what to log of it.
        answers: The logits of a teacher for the images of `study.train`, for a loss
            that needs them.
    """
    config = study.config
    steps = study.train.images.shape[0] // config.batch
    base = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))

    def train_epoch(state: TrainState, epoch: int) -> tuple[TrainState, Row]:
        rates = config.learning_rates(rate, epoch=epoch, epochs=epochs, steps=steps)
        key = jax.random.fold_in(base, epoch)
        state, noted = prepare(state, epoch) if prepare else (state, {})
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
    """The variables of a network after the training of its weights."""
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
    """The weights kept, distinct values and error of a network, as in its file."""
    packed = api.pack(shared)
    labels = [leaf.labels for leaf in packed.leaves if isinstance(leaf, SharedLeaf)]
    return {
        "nonzero": sum(int(np.count_nonzero(array)) for array in labels),
        "unique": sum(codebook.size for codebook in packed.codebooks),
        "watch_error": study.error(share.lookup(shared)),
    }
