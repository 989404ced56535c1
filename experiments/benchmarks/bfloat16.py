"""What computing in bfloat16 costs VGG19 in error.

    python -m experiments.benchmarks.bfloat16 --data-dir DIR --width 0.25 --epochs 5

Trains the dense network of the preset `best` on whole images of CIFAR-10 twice, in
float32 and in bfloat16, with the same initial weights and the same order of images, and
prints the errors on validation data. Weights, statistics and losses are float32 in
both.

Here bfloat16 is emulated, for most CPUs are slow at it: everything that enters or
leaves a layer, and its kernel, is rounded to eight bits, and so are the derivatives
there. Sums are float32, as in the matrix units of accelerators.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.benchmarks import timing
from experiments.data.cifar10 import cifar10
from experiments.models.conv import Conv
from experiments.study import stages
from experiments.study.config import Config
from experiments.training import train
from experiments.vgg19_cifar10 import NETWORK, PRESETS, ROLES

_ROUNDED = ("conv", "fc1", "fc2")  # layers that have a dtype, by how their names begin


@dataclasses.dataclass(frozen=True)
class Rounded:
    """A network whose layers compute in emulated bfloat16."""

    model: nn.Module

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """As that of the network."""
        with nn.intercept_methods(_round_around):
            return self.model.apply(*args, **kwargs)


def main() -> None:
    """Trains twice and prints a table."""
    parser = timing.parser(__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    config = dataclasses.replace(
        PRESETS["best"],
        width=args.width,
        compute="float32",
        validation=5000,
        dense_epochs=args.epochs,
    )
    parts = stages.splits(cifar10(args.data_dir), config)
    model = NETWORK.build(config, 10)
    no_run: Any = None  # nothing is written
    plain = stages.Study(config, no_run, model, *parts, ROLES).trainer(train.sgd())
    rounded = dataclasses.replace(
        plain,
        model=Rounded(model),
        expand=lambda params, rest: train.with_statistics(_kernels(params), rest),
    )
    print(f"VGG19, width {args.width}, {jax.devices()[0]}, error on validation data")
    print("epoch   float32  bfloat16")
    columns = [_errors(each, model, config, *parts) for each in (plain, rounded)]
    for epoch, (wide, narrow) in enumerate(zip(*columns, strict=True), start=1):
        print(f"{epoch:5} {wide:9.2f} {narrow:9.2f}")


def _errors(
    trainer: train.Trainer,
    model: nn.Module,
    config: Config,
    used: stages.Split,
    held: stages.Split,
) -> list[float]:
    """Error of a network after each epoch of its dense training, in percent."""
    shape = (1, *used.images.shape[1:])
    variables = jax.jit(model.init)(jax.random.key(config.seed), jnp.zeros(shape))
    params, rest = train.split(variables)
    state = train.TrainState(params, rest, trainer.optimizer.init(params))
    errors = []
    for epoch in range(config.dense_epochs):
        rates = config.learning_rates(
            config.dense_rate,
            epoch=epoch,
            epochs=config.dense_epochs,
            steps=used.images.shape[0] // config.batch,
        )
        state, _ = trainer.epoch(state, *used, jax.random.key(epoch), rates)
        weights = train.with_statistics(state.params, state.rest)
        errors.append(train.evaluate(model, weights, *held)[0])
    return errors


def _round(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _kernels(params: Any) -> Any:
    return {
        name: jax.tree.map(_round, layer) if name.startswith(_ROUNDED) else layer
        for name, layer in params.items()
    }


def _round_around(
    call: Callable[..., Any], args: Any, kwargs: Any, context: Any
) -> Any:
    layer = isinstance(context.module, (Conv, nn.BatchNorm, nn.Dense))
    if not layer or context.module.name == "fc3" or context.method_name != "__call__":
        return call(*args, **kwargs)
    return _round(call(*map(_round, args), **kwargs))


if __name__ == "__main__":
    main()
