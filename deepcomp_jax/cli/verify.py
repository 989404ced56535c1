"""`dcz verify`: decodes all of a file, and checks every clause of the format."""

import argparse
import contextlib
from pathlib import Path

from deepcomp_jax.cli import common, signals
from deepcomp_jax.cli.progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "The exit status is 0 if the file is right, and 1 if it is not."
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    common.add_max_bytes(parser)
    common.add_quiet(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; the exit status."""
    try:
        _verify(args)
    except ValueError as error:
        if not args.json:
            raise
        common.print_json(
            {"input": str(args.input), "right": False, "error": str(error)}
        )
        return 1
    return 0


def _verify(args: argparse.Namespace) -> None:
    signals.load("deepcomp_jax.device")
    from deepcomp_jax.checkpoints.dcz import naming
    from deepcomp_jax.device import take_on_cpu
    from deepcomp_jax.format import leaf_reading, reader, sets

    with (
        contextlib.ExitStack() as stack,
        naming(args.input),
        progress("verify", quiet=args.quiet) as meter,
    ):
        files = sets.opened(args.input, stack)
        leaves, read = len(files[0].header.leaves), 0
        for file, header in files:
            reader.check_each(file, header, args.max_bytes, header.held)
            for entry in header.held:
                if entry.layout.copy_of is None:  # of a copy there is nothing else
                    leaf_reading.read_values(file, header, entry, take=take_on_cpu)
                taken = entry.layout.size * entry.layout.dtype.itemsize
                read += taken
                meter.one_more(leaves, taken)
        size = sum(file.size for file, _ in files)
    if args.json:
        found = {"input": str(args.input), "right": True, "tensors": leaves}
        common.print_json(found | {"bytes_of_values": read, "file_bytes": size})
    elif not args.quiet:
        print(f"right: {leaves} tensors, {read} bytes of values")
        print(f"{common.shown(str(args.input))}: {size} bytes on disk")
