"""Figure 6 of the paper, measured: pruning alone, sharing alone, and both.

S. Han, H. Mao and W. J. Dally, "Deep Compression" (arXiv 1510.00149), Figure 6. Each
point begins from the same dense network, is pruned in one shot or not at all, and is
trained for a few steps only, so that a sweep is cheap: what the study itself reaches
with iterations and whole epochs is better. Sizes are those of real files.
"""

import zlib
from functools import partial
from typing import Any

import jax

from deepcomp_jax import Rule, prune, share
from experiments.study import sharing, stages
from experiments.study.stages import Study
from experiments.training.runs import Row
from experiments.training.train import Trainer, TrainState, replicate

STEPS = 200  # how long a network is trained after pruning, and after sharing
FACTORS = (0.3, 0.5, 1.0, 1.5, 2.5, 4.0)  # on the fraction of weights the paper keeps
BITS = (1, 2, 3, 4, 6)  # sizes of all codebooks where nothing is pruned


def measure(study: Study, variables: Any, shared: share.SharedWeights) -> None:
    """Logs a row for each point: compressed bytes, and the error on `watch`.

    Args:
        study: The run, whose roles tell what the paper keeps of each layer.
        variables: The dense network.
        shared: What the study itself made of the network.
    """
    trainer = stages.masked_trainer(study, variables)
    for factor in FACTORS:
        row = partial(_pruned, study, trainer, variables, factor)
        study.run.measure(f"tradeoff-prune-{factor:g}", row)
    for bits in BITS:
        row = partial(_shared, study, variables, bits)
        study.run.measure(f"tradeoff-share-{bits}", row)
    study.run.measure("tradeoff-study", lambda: {"study": _measure(study, shared)})


def _pruned(study: Study, trainer: Trainer, variables: Any, factor: float) -> Row:
    """Measures a point of pruning alone, and one of pruning and sharing."""
    pruning = [
        Rule(
            f"{name}/kernel$",
            prune=prune.by_magnitude(1 - min(1.0, factor * layer.kept)),
        )
        for name, layer in study.roles.layers.items()
    ]
    masks = prune.masks(variables["params"], pruning)
    state = stages.pruned_state(variables, masks, trainer)
    state = _train(study, trainer, state, study.config.dense_rate / 2)
    pruned = stages.trained_variables(state)
    rules = sharing.rules(study.config, study.roles, "paper")
    alone = _measure(study, share.share(pruned, []))
    both = _measure(study, _tuned(study, share.share(pruned, rules)))
    return {"factor": factor, "pruned": alone, "both": both}


def _shared(study: Study, variables: Any, bits: int) -> Row:
    """Measures a point of sharing alone."""
    others = share.kmeans(bits=study.config.other_bits)
    rules = [
        Rule("kernel$", share=sharing.linear_kmeans(bits)),
        *sharing.group_rules(study.roles, others),
    ]
    shared = _tuned(study, share.share(variables, rules))
    return {"bits": bits, "shared": _measure(study, shared)}


def _tuned(study: Study, shared: share.SharedWeights) -> share.SharedWeights:
    trainer, state = stages.codebook_training(study, shared)
    state = _train(study, trainer, state, study.config.tune_rate)
    return share.replace_codebooks(shared, state.params)


def _measure(study: Study, shared: share.SharedWeights) -> Row:
    return {
        "bytes": sharing.file_bytes(study.config, shared),
        "watch_error": study.error(share.lookup(shared)),
    }


def _train(
    study: Study, trainer: Trainer, state: TrainState, rate: float
) -> TrainState:
    """Trains for a few steps, at a rate that falls to zero along half a cosine."""
    config = study.config
    steps = min(STEPS, study.train.images.shape[0] // config.batch)
    rates = config.learning_rates(rate, epoch=0, epochs=1, steps=steps)
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(b"tradeoff"))
    state, rates, key = replicate((state, rates, key))
    return trainer.epoch(state, *study.train, key, rates)[0]
