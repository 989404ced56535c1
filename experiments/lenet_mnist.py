"""Deep Compression of the paper's two LeNets on MNIST, from training to one small file.

    python -m experiments.lenet_mnist --network lenet300 --data-dir DIR
    python -m experiments.lenet_mnist --network lenet5 --preset paper --data-dir DIR
    python -m experiments.lenet_mnist --network lenet5 --preset small --data-dir DIR
    python -m experiments.lenet_mnist --evaluate model.dcz --data-dir DIR

Killed at any moment, the same command goes on where it was. The work directory
(`runs/NETWORK-PRESET` unless `--work-dir` is given) then holds what that of
`vgg19_cifar10` holds, and the report compares the file with the paper's tables.
"""

import dataclasses
from functools import partial

from experiments import command
from experiments.command import Network
from experiments.data.mnist import mnist
from experiments.models.lenet import LeNet5, LeNet300, rebuild
from experiments.reporting import published
from experiments.study.config import Config
from experiments.study.roles import Axis, Layer, Roles, Units
from experiments.training.train import crop

# The paper keeps biases as they are; here all of a network share one small codebook.
BIASES = [("bias$", "biases")]


def _units(made: str, read: str, *, made_axis: int = 0, read_axis: int = 1) -> Units:
    """The units of a layer, which another one reads."""
    return Units(
        (Axis(f"params/{made}/kernel", made_axis), Axis(f"params/{made}/bias", 0)),
        (Axis(f"params/{read}/kernel", read_axis),),
    )


# Section 5.1 of the paper: bits of the codebooks; Tables 2 and 3: kept weights.
LENET300 = Roles(
    network="LeNet-300-100",
    groups=BIASES,
    idle=None,
    augment=partial(crop, by=1),
    layers={"ip1": Layer(0.08, 6), "ip2": Layer(0.09, 6), "ip3": Layer(0.26, 6)},
    published=published.LENET300,
    units={"ip1": _units("ip1", "ip2"), "ip2": _units("ip2", "ip3")},
    rebuild=rebuild,
)
LENET5 = Roles(
    network="LeNet-5",
    groups=BIASES,
    idle=None,
    augment=partial(crop, by=1),
    layers={
        "conv1": Layer(0.66, 8),
        "conv2": Layer(0.12, 8),
        "ip1": Layer(0.08, 5),
        "ip2": Layer(0.19, 5),
    },
    published=published.LENET5,
    units={
        "conv1": _units("conv1", "conv2", made_axis=3, read_axis=2),
        "conv2": _units("conv2", "ip1", made_axis=3),
        "ip1": _units("ip1", "ip2"),
    },
    rebuild=rebuild,
)

# Dropout is less than usual: more of it helps the dense network and harms the pruned.
PAPER300 = Config(
    preset="paper",
    dataset="mnist",
    dropout=0.1,
    validation=3000,
    augment=False,
    dense_epochs=20,
    dense_rate=0.1,
    pruning="paper",
    epochs=(5, 5, 5, 20),
    rates=(0.1,),
    sharing="paper",
    other_bits=4,
    tune_epochs=2,
)
PAPER5 = dataclasses.replace(
    PAPER300,
    augment=True,
    dense_epochs=14,
    dense_rate=0.03,
    epochs=(2, 2, 2, 8),
    rates=(0.03,),
    tune_epochs=1,
)

# Files come out smaller than asked for, since the price of a bit falls slowly: they are
# below 8.0, 4.5, 3.0 and 1.4 KB.
SMALL300 = Config(
    preset="small",
    dataset="mnist",
    dropout=0.0,
    l2=0.0,
    dense_epochs=15,
    dense_rate=2e-3,
    dense_optimizer="adam",
    pruning="rate",
    iterations=1,
    epochs=(30,),
    rates=(0.02,),
    target_bytes=(7600,),
    bit_price=5e-6,
    sharing="grid",
    tune_epochs=30,
    tune_rate=0.02,
)
SMALLEST300 = dataclasses.replace(
    SMALL300, preset="smallest", target_bytes=(4300,), bit_price=1.5e-5
)
SMALL5 = dataclasses.replace(
    SMALL300,
    validation=1000,
    dense_epochs=20,
    epochs=(15,),
    target_bytes=(3150,),
    bit_price=2e-5,
    tune_epochs=120,
    grid_step=2.0,
    vector_grid_step=0.2,
)
# More epochs brought the smallest nothing on validation data.
SMALLEST5 = dataclasses.replace(
    SMALL5,
    preset="smallest",
    validation=5000,
    target_bytes=(1450,),
    bit_price=6e-5,
    tune_epochs=60,
    measurements=60,
    grid_step=3.0,
)


def lenet300(config: Config, classes: int) -> LeNet300:
    """LeNet-300-100 of the width and dropout of the settings."""
    return LeNet300(_scaled(config, 300, 100), classes, config.dropout)


def lenet5(config: Config, classes: int) -> LeNet5:
    """LeNet-5 of the width and dropout of the settings."""
    *channels, hidden = _scaled(config, 20, 50, 500)
    return LeNet5(tuple(channels), hidden, classes, config.dropout)


NETWORKS = {
    "lenet300": Network(
        LENET300,
        {"paper": PAPER300, "small": SMALL300, "smallest": SMALLEST300},
        {"mnist": mnist},
        "mnist",
        lenet300,
        rebuild,
    ),
    "lenet5": Network(
        LENET5,
        {"paper": PAPER5, "small": SMALL5, "smallest": SMALLEST5},
        {"mnist": mnist},
        "mnist",
        lenet5,
        rebuild,
    ),
}


def main(args: list[str] | None = None) -> None:
    """Reads the command line and runs, or evaluates a file.

    Args:
        args: The arguments of the command; None takes those of the process.
    """
    command.main(NETWORKS, args)


def _scaled(config: Config, *units: int) -> tuple[int, ...]:
    return tuple(max(1, round(count * config.width)) for count in units)


if __name__ == "__main__":
    main()
