"""`dcz verify`: decodes all of a file, and checks every clause of the format."""

import argparse
from pathlib import Path

import numpy as np

from deepcomp_jax import api
from deepcomp_jax.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "The exit status is 0 if the file is right, and 1 if it is not."
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    parser.add_argument(
        "--max-bytes", type=common.size_of, default=1 << 40, metavar="SIZE",
        help="the most memory that a tensor may take",
    )  # fmt: skip
    common.add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    with (
        api.open(args.input, max_bytes=args.max_bytes) as file,
        common.progress("verify", quiet=args.quiet) as meter,
    ):
        read = 0
        for number, leaf in enumerate(file.values(), 1):
            np.asarray(leaf)
            read += leaf.nbytes
            meter(number, len(file), read, 0)
    if not args.quiet:
        print(
            f"{common.shown(str(args.input))}: right; {len(file)} tensors of {read} "
            f"bytes in {file.file_bytes}"
        )
