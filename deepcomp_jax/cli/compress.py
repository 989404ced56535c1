"""`dcz compress`: a checkpoint into a `.dcz` file."""

import argparse
from pathlib import Path
from typing import Any

from deepcomp_jax import api, budget, checkpoints, trees
from deepcomp_jax.cli import common
from deepcomp_jax.cli.rules import read_rules
from deepcomp_jax.rules import Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = (
        "Without one of the settings of size, weights are rounded so little that the "
        "network hardly changes: to a sixth to a quarter of float32."
    )
    parser.add_argument("input", metavar="IN", type=Path, help="the checkpoint")
    parser.add_argument(
        "-o", "--output", metavar="OUT.dcz", type=Path, help="default: beside IN"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--bytes", type=common.size_of, metavar="SIZE",
        help="at most so large a file, such as 20MB",
    )  # fmt: skip
    size.add_argument(
        "--bits-per-weight", type=common.positive, metavar="B",
        help="at most so many bits of the file for each value, such as 4",
    )  # fmt: skip
    size.add_argument(
        "--max-relative-error", type=common.positive, metavar="E",
        help="no tensor of weights changes by more, as root mean square of its values",
    )  # fmt: skip
    size.add_argument(
        "--rules", type=Path, metavar="RULES.toml",
        help="which tensors are pruned and shared, and how",
    )  # fmt: skip
    size.add_argument(
        "--lossless", action="store_true", help="change no bit of any value"
    )
    parser.add_argument(
        "--only", metavar="REGEX", help="put only tensors of matching names into OUT"
    )
    parser.add_argument(
        "--skip", metavar="REGEX", help="leave tensors of matching names out of OUT"
    )
    common.add_output(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    output = args.output or common.default_output(args.input, ".dcz")
    common.check_target(output, force=args.force, sources=[args.input])
    with checkpoints.open(args.input) as source:
        tree = common.chosen(source.tree, args.only, args.skip)
        metadata = common.source_metadata(source)
        with common.progress("compress", quiet=args.quiet) as meter:
            size = _write(args, output, tree, metadata, meter)
        values = sum(leaf.size for leaf in source.leaves.values())
    if args.json:
        common.print_json(
            {
                "input": str(args.input), "output": str(output),
                "input_bytes": source.file_bytes, "output_bytes": size,
                "ratio": source.file_bytes / size,
            }
        )  # fmt: skip
    elif not args.quiet:
        ratio = source.file_bytes / size
        bits = f", {8 * size / values:.2f} bits a value" if values else ""
        print(
            f"{common.shown(str(output))}: {size} bytes, 1/{ratio:.2f} of the "
            f"{source.file_bytes} of {common.shown(str(args.input))}{bits}"
        )


def _write(
    args: argparse.Namespace,
    output: Path,
    tree: Any,
    metadata: dict[str, str],
    meter: common.Meter,
) -> int:
    limit = _limit(args, tree)
    if limit is not None:
        return budget.write_within(
            output, tree, limit, metadata=metadata, progress=meter
        )
    rules: list[Rule] | None = None
    if args.lossless:
        rules = []
    elif args.rules is not None:
        rules = read_rules(args.rules)
    elif args.max_relative_error is not None:
        rules = budget.plan(tree, max_relative_error=args.max_relative_error)
    return api.write(output, tree, rules, metadata=metadata, progress=meter)


def _limit(args: argparse.Namespace, tree: Any) -> int | None:
    """The bytes that the file may have."""
    if args.bits_per_weight is None:
        return args.bytes
    values = sum(leaf.size for leaf in trees.named_leaves(tree).values())
    return int(args.bits_per_weight * values / 8)
