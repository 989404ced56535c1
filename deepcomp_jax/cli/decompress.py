"""`dcz decompress`: a `.dcz` file back into a checkpoint."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepcomp_jax.cli import common, signals
from deepcomp_jax.cli.progress import progress

# Formats of checkpoints, and the endings of their files; folders have none.
FORMATS = {
    "safetensors": ".safetensors",
    "safetensors-sharded": "",
    "npz": ".npz",
    "msgpack": ".msgpack",
    "orbax": "",
}
WITHOUT_METADATA = {"npz", "msgpack"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path,
        help="default: beside IN, in the format that it was made from",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=list(FORMATS),
        help="default: by the ending of OUT, or the one that IN was made from",
    )  # fmt: skip
    common.add_max_bytes(parser)
    common.add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    from deepcomp_jax import checkpoints
    from deepcomp_jax.checkpoints import kinds
    from deepcomp_jax.cli import selection

    with checkpoints.open(args.input, max_bytes=args.max_bytes) as source:
        if source.format != "dcz":
            raise common.UsageError(
                f"{args.input} is no .dcz file, but {source.format}: compress it first"
            )
        asked = args.format or (args.output and kinds.of_ending(args.output))
        name = asked or source.metadata.get(selection.ORIGIN)
        if name not in FORMATS:
            raise common.UsageError(
                f"{args.input} is not to become {name or 'an unknown format'}: give an "
                "output with an ending such as .safetensors, or --format"
            )
        if not asked and args.output and args.output.suffix and FORMATS[name]:
            raise common.UsageError(
                f"{args.output} has no ending that says its format: give "
                f"{FORMATS[name]}, or --format"
            )
        output = args.output or selection.default_output(args.input, FORMATS[name])
        write(args, source.tree, source.metadata, output, name)


def write(
    args: argparse.Namespace,
    tree: Any,
    metadata: Mapping[str, str],
    output: Path,
    format: str,
) -> None:
    """Writes a tree of a `.dcz` file as a checkpoint, and says what became of it."""
    from deepcomp_jax import checkpoints
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.cli import selection

    common.check_target(
        output,
        force=args.force,
        sources=[args.input],
        is_folder=not FORMATS[format],
    )
    signals.load("deepcomp_jax.device", *(["tensorstore"] if format == "orbax" else []))
    kept = selection.own_metadata(metadata)
    if kept and format in WITHOUT_METADATA:
        common.warn(f"{format} has no place for metadata, which are left out")
    with progress(args.verb, quiet=args.quiet) as meter:
        metered = selection.metered(tree, meter)
        checkpoints.write(output, metered, metadata=kept, format=format)
    size = common.size_on_disk(output)
    if args.json:
        tensors = len(containers.named_leaves(tree))
        found = {"input": str(args.input), "output": str(output), "format": format}
        common.print_json(found | {"tensors": tensors, "output_bytes": size})
    elif not args.quiet:
        print(f"{common.shown(str(output))}: {size} bytes on disk")
