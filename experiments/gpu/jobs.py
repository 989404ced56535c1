"""What is to be done on the machine, in the order of its worth.

The plans have the same jobs, but for `leaves`, and differ in their settings:

    full       the slides' protocol and the strongest recipe as they are
    short      the slides' protocol with a quarter of its epochs; all of it in less than
               half an hour of an H100
    rehearsal  the digits of scikit-learn in place of CIFAR-10; minutes on a CPU
"""

from typing import NamedTuple

_STUDY = ("experiments.vgg19_cifar10", "--preset")
_DIGITS = ("--dataset", "digits", "--width", "0.0625", "--compute", "float32")


class Job(NamedTuple):
    """A command, in a process of its own.

    Attributes:
        name: The name of its folder.
        command: A module, and its arguments.
        least: It is not begun with fewer seconds left.
        study: Whether it is a run of a study, which has a directory, stops by itself in
            time and goes on later. All others begin again if they are stopped.
    """

    name: str
    command: tuple[str, ...]
    least: float
    study: bool = False


def _studies(seed: tuple[str, ...], best: tuple[str, ...], least: float) -> list[Job]:
    """The studies, by what their presets are changed in."""
    commands = {
        "seed": (*_STUDY, "seed", *seed),
        "seed-no-l2": (*_STUDY, "seed", *seed, "--l2", "0"),
        "best": (*_STUDY, "best", *best),
    }
    return [Job(name, words, least, study=True) for name, words in commands.items()]


# 390 steps are an epoch of 50,000 images.
_MEASUREMENTS = [
    Job(
        "step",
        ("experiments.benchmarks.training", "--width", "1", "--compute", "bfloat16",
         "--steps", "390"),
        least=180,
    ),
    Job("epoch", ("experiments.benchmarks.epoch",), least=60),
    Job("loading", ("experiments.benchmarks.loading", "--rounds", "3"), least=150),
    Job("leaves", ("experiments.benchmarks.coding_leaves", "--rounds", "3"), least=90),
]  # fmt: skip

_SHORT = ("--dense-epochs", "50", "--epochs", "5", "--tune-epochs", "8")

_TINY_SEED = (
    *_DIGITS, "--batch", "50", "--dense-epochs", "3", "--iterations", "3",
    "--epochs", "1", "--tune-epochs", "1",
)  # fmt: skip
_TINY_BEST = (
    *_DIGITS, "--batch", "50", "--validation", "237", "--dense-epochs", "4",
    "--epochs", "3", "--tune-epochs", "3", "--measurements", "3",
    "--target-bytes", "21000", "20000", "19000",
)  # fmt: skip
_TINY_MEASUREMENTS = [
    Job(
        "step",
        ("experiments.benchmarks.training", "--width", "0.0625", "--batch", "8",
         "--steps", "1", "--rounds", "2"),
        least=10,
    ),
    Job("epoch", ("experiments.benchmarks.epoch", "--batch", "8"), least=10),
    Job(
        "loading",
        ("experiments.benchmarks.loading", "--side", "64", "--rounds", "1"),
        least=10,
    ),
]  # fmt: skip

PLANS: dict[str, list[Job]] = {
    "full": [*_studies((), (), least=90), *_MEASUREMENTS],
    "short": [*_studies(_SHORT, (), least=90), *_MEASUREMENTS],
    "rehearsal": [*_studies(_TINY_SEED, _TINY_BEST, least=10), *_TINY_MEASUREMENTS],
}
