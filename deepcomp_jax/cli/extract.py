"""`dcz extract`: some tensors of a file into another."""

import argparse
import re
from pathlib import Path
from typing import Any

from deepcomp_jax.cli import common, decompress, signals
from deepcomp_jax.cli.progress import progress


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
    """Writes a `.dcz` file, in which what has a codebook has one again."""
    signals.load("deepcomp_jax.api", "deepcomp_jax.share")
    from deepcomp_jax import api, share
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.format.dtypes import FLOATING
    from deepcomp_jax.rules import Rule

    common.check_target(args.output, force=args.force, sources=[args.input])
    leaves = containers.named_leaves(tree)
    names = [name for name, leaf in leaves.items() if _has_codebook(leaf, FLOATING)]
    escaped = (re.escape(name).replace("\\[", "\\x5b") for name in names)
    rule = Rule(rf"\A(?:{'|'.join(escaped)})\Z", share=share.distinct)
    with progress(args.verb, quiet=args.quiet) as meter:
        size = api.write(
            args.output, tree, [rule] if names else [], metadata=metadata,
            progress=meter,
        )  # fmt: skip
    if args.json:
        found = {"input": str(args.input), "output": str(args.output), "format": "dcz"}
        common.print_json(found | {"tensors": len(leaves), "output_bytes": size})
    elif not args.quiet:
        print(f"{common.shown(str(args.output))}: {size} bytes on disk")


def _has_codebook(leaf: Any, floating: tuple[Any, ...]) -> bool:
    entry = getattr(leaf, "entry", None)
    if entry is None or leaf.dtype not in floating:
        return False
    # What is scaled has many values, and its labels are not those of its values.
    return entry.layout.codebook is not None and entry.layout.scales is None
