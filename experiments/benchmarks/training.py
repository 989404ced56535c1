"""A training step of VGG19: plain, masked, and PyTorch's.

    python -m experiments.benchmarks.training --width 0.25 --batch 128
    python -m experiments.benchmarks.training --width 1 --compute bfloat16 --steps 100

Prints milliseconds a step and two ratios: the masked step over the plain one, and the
plain one over PyTorch's at the same width and batch. The JAX step is that of the
experiments: inside the compiled scan of an epoch, with augmentation. PyTorch's has
none, is channels-last, on a GPU compiled, with bfloat16 by autocast, and is left out
where PyTorch is not installed.
The three run in turn, several rounds.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import Rule, prune, retrain
from experiments.benchmarks import timing
from experiments.models.vgg import BLOCKS, HIDDEN, of_width
from experiments.training.train import (
    Trainer,
    TrainState,
    crop_and_flip,
    replicate,
    sgd,
)


def main() -> None:
    """Measures and prints a table."""
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--compute", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    args = parser.parse_args()
    steps = {
        "JAX, plain": _jax_steps(args, masked=False),
        "JAX, masked": _jax_steps(args, masked=True),
    }
    torch = timing.installed("torch")
    if torch is None:
        print("PyTorch is not installed: its row is left out")
    else:
        steps["PyTorch"] = _torch_steps(torch, args)
    times = {
        name: [took.wall / args.steps for took in rounds]
        for name, rounds in timing.in_turns(steps, args.rounds).items()
    }
    print(
        f"VGG19, width {args.width}, batch {args.batch}, {args.compute}, "
        f"{jax.devices()[0]}"
    )
    for name, seconds in times.items():
        print(f"{name:<12} {1e3 * np.median(seconds):8.1f} ms a step")
    _ratio("masked / plain", times["JAX, masked"], times["JAX, plain"])
    if "PyTorch" in times:
        _ratio("plain / PyTorch", times["JAX, plain"], times["PyTorch"])


def _ratio(name: str, above: list[float], below: list[float]) -> None:
    ratios = np.array(above) / np.array(below)
    low, high = ratios.min(), ratios.max()
    print(f"{name:<16} {np.median(ratios):.3f}   ({low:.3f} to {high:.3f})")


def _jax_steps(args: argparse.Namespace, *, masked: bool) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    count = args.steps * args.batch
    images = jnp.array(rng.integers(0, 256, (count, 32, 32, 3), np.uint8))
    labels = jnp.array(rng.integers(0, 10, count), jnp.int32)
    model = of_width(args.width, dtype=jnp.dtype(args.compute))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    params = variables["params"]
    rest = {"batch_stats": variables["batch_stats"]}
    optimizer = sgd()
    if masked:
        rule = Rule("kernel$", prune=prune.by_global_magnitude(0.9))
        masks = prune.masks(params, [rule])
        params = prune.apply(params, masks)
        optimizer = retrain.keep_pruned(optimizer, masks)
    trainer = Trainer(model, optimizer, args.batch, crop_and_flip, l2=5e-4)
    state = TrainState(params, rest, optimizer.init(params))
    rates = jnp.full(args.steps, 0.01, jnp.float32)
    # As an epoch returns it, or the second call would compile the epoch again.
    state, images, labels = replicate((state, images, labels))
    held = [state]

    def run() -> None:
        held[0], _ = trainer.epoch(held[0], images, labels, jax.random.key(0), rates)
        jax.block_until_ready(held[0])

    run()
    return run


def _torch_steps(torch: Any, args: argparse.Namespace) -> Callable[[], None]:
    nn = torch.nn
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layers: list[Any] = []
    channels = 3
    for block in BLOCKS:
        for features in block:
            out = round(features * args.width)
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)]
            layers.append(nn.ReLU(inplace=True))
            channels = out
        layers.append(nn.MaxPool2d(2))
    hidden = round(HIDDEN * args.width)
    layers += [nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout()]
    layers += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()]
    layers.append(nn.Linear(hidden, 10))
    net = nn.Sequential(*layers).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    images = torch.randn(args.batch, 3, 32, 32, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (args.batch,), device=device)
    compiled = torch.compile(net) if device == "cuda" else net
    narrow = torch.autocast(device, torch.bfloat16, enabled=args.compute == "bfloat16")

    def run() -> None:
        for _ in range(args.steps):
            optimizer.zero_grad()
            with narrow:
                loss = nn.functional.cross_entropy(compiled(images), labels)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return run


if __name__ == "__main__":
    main()
