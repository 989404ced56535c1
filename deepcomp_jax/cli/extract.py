"""`dcz extract`: some tensors of a file into another."""

import argparse
from pathlib import Path

from deepcomp_jax import checkpoints
from deepcomp_jax.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "Of IN no more is read than these tensors need."
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    parser.add_argument("pattern", metavar="REGEX", help="found in their names")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True)
    parser.add_argument(
        "--format", choices=list(checkpoints.FORMATS), help="default: by the ending"
    )
    common.add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    common.check_target(args.output, force=args.force, sources=[args.input])
    with checkpoints.open(args.input) as source:
        tree = common.chosen(source.tree, args.pattern)
        metadata = common.own_metadata(source.metadata)
        with common.progress("extract", quiet=args.quiet) as meter:
            metered = common.metered(tree, meter)
            checkpoints.write(
                args.output, metered, metadata=metadata, format=args.format
            )
    if not args.quiet:
        size = common.size_on_disk(args.output)
        print(f"{common.shown(str(args.output))}: {size} bytes")
