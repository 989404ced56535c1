"""`dcz extract`: some tensors of a file into another."""

import argparse
from pathlib import Path
from typing import Any

from deepcomp_jax.cli import common, decompress, signals
from deepcomp_jax.cli.progress import Meter, progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = "Of IN no more is read than these tensors need."
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    parser.add_argument(
        "pattern", metavar="REGEX", type=common.pattern, help="found in their names"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True,
        help="a .dcz file or a checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=[*decompress.FORMATS, "dcz"], help="default: by the ending"
    )
    common.add_max_bytes(parser)
    common.add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    from deepcomp_jax import checkpoints
    from deepcomp_jax.cli import selection

    format = args.format or checkpoints.of_ending(args.output)
    if format is None:
        raise common.UsageError(
            f"{args.output} has no ending that says its format: give --format"
        )
    with checkpoints.open(args.input, max_bytes=args.max_bytes) as source:
        tree = selection.chosen(source.tree, args.pattern)
        if format != "dcz":
            decompress.write(args, tree, source.metadata, args.output, format)
            return
        _write_again(args, tree, source.metadata)


def _write_again(args: argparse.Namespace, tree: Any, metadata: dict[str, str]) -> None:
    """Writes a `.dcz` file, in which what had labels has the same."""
    signals.load("deepcomp_jax.api")
    from deepcomp_jax import api
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.checkpoints.dcz import StoredLeaf

    common.check_target(args.output, force=args.force, sources=[args.input])
    leaves = containers.named_leaves(tree)
    with progress(args.verb, quiet=args.quiet) as meter:
        if all(isinstance(leaf, StoredLeaf) for leaf in leaves.values()):
            size = _write_stored(args.output, tree, metadata, meter)
        else:
            size = api.write(args.output, tree, [], metadata=metadata, progress=meter)
    if args.json:
        found = {"input": str(args.input), "output": str(args.output), "format": "dcz"}
        common.print_json(found | {"tensors": len(leaves), "output_bytes": size})
    elif not args.quiet:
        print(f"{common.shown(str(args.output))}: {size} bytes on disk")


def _write_stored(
    output: Path, tree: Any, metadata: dict[str, str], meter: Meter
) -> int:
    """Writes leaves as they are stored, and returns the size of the file."""
    from deepcomp_jax import trees
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.device import put_on_cpu
    from deepcomp_jax.format import files, leaf_encoding
    from deepcomp_jax.format.writer import Writer

    leaves = containers.named_leaves(tree)
    read = written = 0
    with files.spool(output) as spool, files.replacing(output) as out:
        writer = Writer(trees.structure(tree)[0], spool)
        for done, name in enumerate(writer.names, 1):
            leaf, codebook = leaves[name].stored()
            encoded = leaf_encoding.put(name, leaf, codebook, put_on_cpu)
            written += writer.put(encoded, codebook)
            read += leaves[name].nbytes
            meter(done, len(leaves), read, written)
        return writer.finish(out, metadata)
