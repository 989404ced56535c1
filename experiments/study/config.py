"""Every knob of a run, in one frozen record."""

import dataclasses
from typing import Annotated, Literal

import numpy as np
import tyro


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run depends on, besides the data and the versions of the packages.

    Attributes:
        preset: Name of the preset that the settings began from.
        dataset: "digits" (embedded in scikit-learn), "cifar10" or "mnist".
        width: Factor on the channels of every layer.
        dropout: Rate of the dropout in front of the dense layers.
        seed: Seed of the initial weights, the order of images, augmentation, dropout.
        validation: How many training images are held out, on which everything but the
            test errors of the report is measured. With 0, all are trained on, and the
            test set is measured on.
        batch: How many images a step takes.
        compute: Dtype of what is computed in training, for networks that have a
            `dtype`; weights, statistics, losses and all measurements are float32.
        augment: Whether images are changed at random: shifted, and flipped if a mirror
            image means the same.
        cut_out: Side in pixels of a random square that each image loses in the training
            before any pruning; 0 for none.
        l2: Weight of half the sum of squares of the kernels in the loss.
        schedule: How the learning rate falls within a phase after the dense training,
            which has a cosine: by a "cosine" to zero, or in "steps", to a tenth after
            each part in `drops`.
        drops: Parts of a phase after which the rate drops, whatever its length: 3, 12
            and 18 of 25 epochs are 0.12, 0.48 and 0.72.
        dense_epochs: Epochs of the dense training, before any pruning.
        dense_rate: Initial learning rate of the dense training.
        dense_optimizer: Its optimizer: "sgd" (Nesterov's method) or "adam".
        pruning: "std" (quality x standard deviation, every parameter); "erk", "global"
            or "magnitude" (a cubic schedule up to `sparsity`, kernels only); "paper"
            (the same, each layer to what the paper keeps of it); or "rate" (bits have
            a price in the loss, and weights that are not worth it vanish).
        quality: The quality parameter, for "std".
        sparsity: Sparsity of the kernels after the last iteration, for "erk", "global"
            and "magnitude".
        iterations: How often the network is pruned and retrained; "rate" does so once.
        epochs: Epochs of the retraining in each iteration; the last value holds for
            the rest.
        rates: Initial learning rate of each iteration; again the last value holds for
            the rest. For "rate" it is in steps of the grids.
        sharing: What ends up in the file: "kmeans" or "nonparametric", which are
            compared; "paper" (k-means from a linear start, bits by layer); or "grid"
            (uniform grids that the network is trained on, for the pruning "rate").
        kernel_bits: The codebook of each kernel has 2 ** bits entries, by k-means.
        other_bits: The same for each group of biases and BatchNorm values, for "paper"
            too.
        penalty: What a further entry must save in squared error, in variances of its
            group, for "nonparametric".
        tune_epochs: Epochs of the fine-tuning of the codebooks, for each method that is
            compared; for "grid" epochs of the training on grids, for each size.
        tune_rate: Initial learning rate of the fine-tuning by Adam; for "grid" in steps
            of the grids.
        steps: Steps of the grids for the curve of size and error, over the root mean
            square of the weights; there is a point for each.
        target_bytes: About what sizes the files should have, in falling order; there is
            a file for each. For "rate", like the settings below.
        measurements: How often the file is written in memory while the weights are
            trained on their grids, to see its size.
        bit_price: What a bit costs in the loss of the sparse phase, in nats; it sets
            the size to begin with.
        distilled: Weight of the answers of the dense network in the loss, 0 to 1; the
            labels have the rest.
        calibrated: Whether weights below half a step are zero in the sparse phase
            already, and a calibration of the sparse network then chooses how coarse
            the grid of each kernel is, and rounds onto it with feedback.
        grid_step: Step of a kernel's grid, in root mean squares of the dense kernel;
            if `calibrated`, only in the sparse phase.
        vector_grid_step: Step of all other grids, such as those of biases.
    """

    preset: Annotated[str, tyro.conf.Suppress]
    dataset: Literal["digits", "cifar10", "mnist"]
    width: float = 1.0
    dropout: float = 0.5
    seed: int = 0
    validation: int = 5000
    batch: int = 128
    compute: Literal["float32", "bfloat16"] = "float32"
    augment: bool = True
    cut_out: int = 0
    l2: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: tuple[float, ...] = (0.12, 0.48, 0.72)
    dense_epochs: int = 10
    dense_rate: float = 0.05
    dense_optimizer: Literal["sgd", "adam"] = "sgd"
    pruning: Literal["std", "erk", "global", "magnitude", "paper", "rate"] = "global"
    quality: float = 0.3
    sparsity: float = 0.95
    iterations: int = 4
    epochs: tuple[int, ...] = (2,)
    rates: tuple[float, ...] = (0.05,)
    sharing: Literal["kmeans", "nonparametric", "paper", "grid"] = "kmeans"
    kernel_bits: int = 4
    other_bits: int = 5
    penalty: float = 0.02
    tune_epochs: int = 1
    tune_rate: float = 5e-4
    steps: tuple[float, ...] = (0.05, 0.07, 0.1, 0.14, 0.2)
    target_bytes: tuple[int, ...] = (50_000,)
    measurements: int = 30
    bit_price: float = 1e-5
    distilled: float = 0.7
    calibrated: bool = False
    grid_step: float = 3.0
    vector_grid_step: float = 0.6

    def __post_init__(self) -> None:
        """Rejects mistakes that only the end of a run would show."""
        for name in ("target_bytes", "epochs", "rates"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give one at least")
        sizes = self.target_bytes
        if min(sizes) <= 0 or list(sizes) != sorted(set(sizes), reverse=True):
            raise ValueError(
                f"target_bytes={sizes}: give sizes above 0, each smaller than the one "
                "before"
            )
        if self.measurements < 1:
            raise ValueError(
                f"measurements={self.measurements}: sizes must be looked at, give 1 or "
                "more"
            )
        if not all(0 < drop < 1 for drop in self.drops):
            raise ValueError(
                f"drops={self.drops}: give parts of a phase, between 0 and 1, as 0.12 "
                "for 3 epochs of 25"
            )
        if (self.pruning == "rate") != (self.sharing == "grid"):
            raise ValueError(
                f"pruning={self.pruning!r} with sharing={self.sharing!r}: 'rate' and "
                "'grid' go together, and with nothing else"
            )

    def epochs_of(self, iteration: int) -> int:
        """How many epochs an iteration has, counted from 0."""
        return self.epochs[min(iteration, len(self.epochs) - 1)]

    def rate_of(self, iteration: int) -> float:
        """The initial learning rate of an iteration, counted from 0."""
        return self.rates[min(iteration, len(self.rates) - 1)]

    def total_epochs(self) -> int:
        """How many epochs all phases have."""
        iterations = 1 if self.pruning == "rate" else self.iterations
        retraining = sum(self.epochs_of(i) for i in range(iterations))
        tuning = len(self.tuning_phases()) * self.tune_epochs
        return self.dense_epochs + retraining + tuning

    def methods(self) -> tuple[str, ...]:
        """Methods of sharing to try; the first is measured after each iteration too."""
        if self.sharing in ("paper", "grid"):
            return (self.sharing,)
        return ("kmeans", "nonparametric")

    def tuning_phases(self) -> tuple[str, ...]:
        """Names of the phases after pruning: one for each method, or size of a file."""
        if self.sharing != "grid":
            return self.methods()
        further = range(2, len(self.target_bytes) + 1)
        return ("grid", *(f"grid-{i}" for i in further))

    def learning_rates(
        self, rate: float, *, epoch: int, epochs: int, steps: int
    ) -> np.ndarray:
        """Computes the learning rate of each step of an epoch, float32 `[steps]`.

        Args:
            rate: The learning rate at the start of the phase.
            epoch: The number of the epoch, from 0.
            epochs: How many epochs the phase has.
            steps: How many steps an epoch has.
        """
        done = (epoch + np.arange(steps) / steps) / epochs
        if self.schedule == "steps":
            dropped = np.sum(done[:, None] >= np.array(self.drops), axis=1)
            return (rate * 0.1**dropped).astype(np.float32)
        # The first steps of a phase are smaller, since its moments are still empty.
        gentle = min(100, epochs * steps // 10 + 1)
        warm = np.minimum(1.0, (epoch * steps + np.arange(steps) + 1) / gentle)
        return (rate * warm * (1 + np.cos(np.pi * done)) / 2).astype(np.float32)
