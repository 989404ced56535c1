"""How long an epoch of VGG19 should take on an accelerator, from operation counts.

    python -m experiments.benchmarks.epoch --batch 128

Nothing is trained: the table is arithmetic. A layer takes as long as its products or
its traffic with memory, whichever is longer; every kernel takes a fixed time to start.
The products are counted a second time by XLA, which lowers the whole training step.
The defaults are those of an H100 SXM computing in bfloat16.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks import timing
from experiments.models.vgg import BLOCKS, HIDDEN, VGG19

_IMAGES = 50_000
_SIDE = 32
_CLASSES = 10
_BYTES = 2  # of an activation, bfloat16
# Times that the output of a convolution is read or written in a step: the convolution,
# BatchNorm (statistics, then values) and ReLU forward; backward about twice as often.
_PASSES = 12
# Bytes moved for a weight: a copy in bfloat16, read three times; its gradient; weight
# and momentum in float32, read and written.
_WEIGHT_BYTES = 2 * 4 + 2 * 2 + 4 * 4
_KERNELS = 25  # started for each layer and step, forward, backward and update


class Work(NamedTuple):
    """What a step does in a layer.

    Attributes:
        name: Of the layers.
        layers: How many there are.
        flop: Floating-point operations of products, of the whole batch.
        traffic: Bytes read and written.
    """

    name: str
    layers: int
    flop: float
    traffic: float


def main() -> None:
    """Counts and prints a table."""
    parser = timing.parser(__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tflops", type=float, default=989.0, help="at its best")
    parser.add_argument("--bandwidth", type=float, default=3350.0, help="GB a second")
    parser.add_argument(
        "--utilization",
        type=float,
        default=0.35,
        help="of both; 3x3 convolutions of few channels rarely reach half",
    )
    parser.add_argument("--launch", type=float, default=3.0, help="us for a kernel")
    args = parser.parse_args()
    steps = _IMAGES // args.batch
    print(f"VGG19, width 1, batch {args.batch}, {steps} steps an epoch; a step:")
    print("layers        GFLOP   MB moved      us")
    total = 0.0
    everything = work(args.batch)
    for part in everything:
        products = part.flop / (args.tflops * 1e12 * args.utilization)
        moving = part.traffic / (args.bandwidth * 1e9 * args.utilization)
        seconds = max(products, moving) + part.layers * _KERNELS * args.launch * 1e-6
        total += seconds
        print(
            f"{part.name:<12} {part.flop / 1e9:6.1f} {part.traffic / 1e6:10.1f} "
            f"{1e6 * seconds:7.0f}"
        )
    counted = sum(part.flop for part in everything)
    print(f"{'all':<12} {counted / 1e9:6.1f} {'':10} {1e6 * total:7.0f}")
    print(f"by XLA       {counted_by_xla(args.batch) / 1e9:6.1f}")
    print(f"estimated: {total * steps:.2f} s an epoch")


def work(batch: int) -> list[Work]:
    """What a training step of `batch` images does, by block of layers."""
    parts: list[Work] = []
    side, read = _SIDE, 3
    for i, block in enumerate(BLOCKS, start=1):
        flop = traffic = 0.0
        for j, made in enumerate(block):
            # Forward, and for weights and images backward; images need no gradient.
            times = 2 if i == 1 and j == 0 else 3
            flop += times * 2 * batch * side**2 * 9 * read * made
            traffic += batch * side**2 * made * _BYTES * _PASSES
            traffic += 9 * read * made * _WEIGHT_BYTES
            read = made
        parts.append(Work(f"block {i}", len(block), flop, traffic))
        side //= 2
    sizes = [(read, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, _CLASSES)]
    weights = sum(a * b for a, b in sizes)
    parts.append(
        Work("dense", len(sizes), 3 * 2 * batch * weights, weights * _WEIGHT_BYTES)
    )
    return parts


def counted_by_xla(batch: int) -> float:
    """Floating-point operations of the lowered step, everything included."""
    model = VGG19(dropout=0.0)
    images = jax.ShapeDtypeStruct((batch, _SIDE, _SIDE, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(params: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        logits, _ = model.apply(
            {"params": params, **rest},
            images,
            batch_statistics=True,
            mutable=["batch_stats"],
        )
        losses = optax.losses.softmax_cross_entropy_with_integer_labels
        return losses(logits, labels).mean()

    rest = {"batch_stats": variables["batch_stats"]}
    step = jax.jit(jax.grad(loss))
    lowered = step.lower(variables["params"], rest, images, labels)
    counted: Any = lowered.cost_analysis()
    return counted["flops"]


if __name__ == "__main__":
    main()
