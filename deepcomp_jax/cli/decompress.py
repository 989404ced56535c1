"""`dcz decompress`: a `.dcz` file back into a checkpoint."""

import argparse
from pathlib import Path

from deepcomp_jax import checkpoints
from deepcomp_jax.cli import common

_FORMATS = [name for name in checkpoints.FORMATS if name != "dcz"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path,
        help="default: beside IN, in the format that it was made from",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=_FORMATS,
        help="default: by the ending of OUT, or the one that IN was made from",
    )  # fmt: skip
    common.add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    with checkpoints.open(args.input) as source:
        origin = source.metadata.get(common.ORIGIN)
        name = args.format or checkpoints.by_ending(args.output) or origin
        if name not in _FORMATS:
            raise common.UsageError(
                f"{args.input} does not say what it was made from: give an output with "
                "an ending such as .safetensors, or --format"
            )
        output = args.output or common.default_output(
            args.input, checkpoints.FORMATS[name].ending
        )
        common.check_target(output, force=args.force, sources=[args.input])
        metadata = common.own_metadata(source.metadata)
        with common.progress("decompress", quiet=args.quiet) as meter:
            tree = common.metered(source.tree, meter)
            checkpoints.write(output, tree, metadata=metadata, format=name)
    if not args.quiet:
        print(f"{common.shown(str(output))}: {common.size_on_disk(output)} bytes")
