"""Deep Compression of the paper's two LeNets on MNIST, from training to one small file.

    python -m experiments.lenet_mnist --network lenet300 --data-dir DIR
    python -m experiments.lenet_mnist --network lenet5 --preset paper --data-dir DIR
    python -m experiments.lenet_mnist --evaluate model.dcz --data-dir DIR

Killed at any moment, the same command goes on where it was. The work directory
(`runs/NETWORK-PRESET` unless `--work-dir` is given) then holds what that of
`vgg19_cifar10` holds, and the report compares the file with the paper's tables.
"""

from experiments import command, published
from experiments.command import Network
from experiments.config import Config
from experiments.lenet import LeNet5, LeNet300, rebuild
from experiments.mnist import mnist
from experiments.roles import Layer, Roles
from experiments.train import crop

# The paper keeps biases as they are; here all of a network share one small codebook.
BIASES = [("bias$", "biases")]

# Section 5.1 of the paper: bits of the codebooks; Tables 2 and 3: kept weights.
LENET300 = Roles(
    network="LeNet-300-100",
    groups=BIASES,
    idle=None,
    augment=crop,
    layers={"ip1": Layer(0.08, 6), "ip2": Layer(0.09, 6), "ip3": Layer(0.26, 6)},
    published=published.LENET300,
)
LENET5 = Roles(
    network="LeNet-5",
    groups=BIASES,
    idle=None,
    augment=crop,
    layers={
        "conv1": Layer(0.66, 8),
        "conv2": Layer(0.12, 8),
        "ip1": Layer(0.08, 5),
        "ip2": Layer(0.19, 5),
    },
    published=published.LENET5,
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
PAPER5 = Config(
    preset="paper",
    dataset="mnist",
    dropout=0.1,
    validation=3000,
    augment=False,
    dense_rate=0.03,
    pruning="paper",
    epochs=(2, 2, 2, 8),
    rates=(0.03,),
    sharing="paper",
    other_bits=4,
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
        LENET300, {"paper": PAPER300}, {"mnist": mnist}, "mnist", lenet300, rebuild
    ),
    "lenet5": Network(
        LENET5, {"paper": PAPER5}, {"mnist": mnist}, "mnist", lenet5, rebuild
    ),
}


def main(args: list[str] | None = None) -> None:
    """Reads the command line and runs, or evaluates a file.

    Args:
        args: Of the command line; None takes those of the process.
    """
    command.main(NETWORKS, args)


def _scaled(config: Config, *units: int) -> tuple[int, ...]:
    return tuple(max(1, round(count * config.width)) for count in units)


if __name__ == "__main__":
    main()
