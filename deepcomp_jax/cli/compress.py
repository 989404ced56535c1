"""`dcz compress`: a checkpoint into a `.dcz` file."""

import argparse
import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepcomp_jax.cli import calibrated, common, signals
from deepcomp_jax.cli.progress import Meter, progress

if TYPE_CHECKING:
    from deepcomp_jax.rules import Rule

_LOWER = 0.998  # of what should be just right is aimed at next
_LEAST = 0.5  # of the limit; a plan that has to aim lower does not meet it
_NOTHING = 16  # bytes in which tensors of zeros are, and few others
_UNMATCHED = 0.1  # of the weights; if no rule is for more, there is a warning

# The key of the state of an optimizer, beside "params".
_OPTIMIZER = re.compile(r"opt(im)?|opt(im)?_?states?|optimizer(_states?)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = (
        "Without one of the settings of size, weights are rounded so little that the "
        "network hardly changes: to about a fifth of float32, or a sixth. IN is kept."
    )
    parser.add_argument("input", metavar="IN", type=Path, help="the checkpoint")
    parser.add_argument(
        "-o", "--output", metavar="OUT.dcz", type=Path, help="default: beside IN"
    )
    _add_sizes(parser)
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE",
        help="with --bytes or --bits-per-weight: what dc.calibrate found, by which "
        "outputs change least; holds the network in memory",
    )  # fmt: skip
    for option, what in (
        ("--keep", "change no bit of tensors of matching names"),
        ("--only", "put only tensors of matching names into OUT"),
        ("--skip", "leave tensors of matching names out of OUT"),
    ):
        parser.add_argument(option, type=common.pattern, metavar="REGEX", help=what)
    common.add_max_bytes(parser)
    common.add_output(parser)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    """Adds the settings of how large the file becomes, of which one is given."""
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
        "--max-relative-error", type=common.fraction, metavar="E",
        help="no tensor of weights changes by more, as root mean square of its values; "
        "below 1",
    )  # fmt: skip
    size.add_argument(
        "--rules", type=Path, metavar="RULES.toml",
        help="which tensors are pruned and shared, and how",
    )  # fmt: skip
    size.add_argument(
        "--lossless", action="store_true", help="change no bit of any value"
    )


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    from deepcomp_jax import checkpoints
    from deepcomp_jax.checkpoints import containers, kinds
    from deepcomp_jax.cli import selection

    if args.calibration and args.bytes is None and args.bits_per_weight is None:
        raise common.UsageError(
            "--calibration goes with --bytes or --bits-per-weight: give one of them"
        )
    output = args.output or selection.default_output(args.input, ".dcz")
    sources = [path for path in (args.input, args.calibration) if path]
    common.check_target(output, force=args.force, sources=sources)
    if kinds.of_ending(output) not in (None, "dcz"):
        raise common.UsageError(
            f"{output} has the ending of another format: choose one that ends in .dcz"
        )
    with checkpoints.open(args.input, max_bytes=args.max_bytes) as source:
        tree = selection.chosen(source.tree, args.only, args.skip)
        leaves = containers.named_leaves(tree)
        _check_keep(args, leaves)
        _check_dtypes(leaves)
        if not (args.quiet or args.only or args.skip) and _is_training_state(tree):
            common.warn(
                "the state of an optimizer goes into the file too: --only '^params/' "
                "takes the parameters alone"
            )
        values = sum(leaf.size for leaf in leaves.values())
        dense = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves.values())
        metadata = selection.source_metadata(source)
        if any(leaf.dtype.name == "float64" for leaf in leaves.values()):
            # JAX would cut such values to 32 bits; what it is asked as it is loaded.
            os.environ.setdefault("JAX_ENABLE_X64", "1")
        with progress("compress", quiet=args.quiet) as meter, _hints(args):
            names = containers.named_leaves(source.tree)
            size = _write(args, output, tree, names, metadata, meter)
        if gone := _vanished(output, leaves, args.max_bytes):
            common.warn(
                f"of {common.shown_list(gone)} nothing is left but zeros: allow more "
                "bytes, or keep them by --keep"
            )
    found = {
        "input": str(args.input), "output": str(output),
        "tensors": len(leaves), "values": values,
        "input_bytes": source.file_bytes, "dense_bytes": dense, "output_bytes": size,
    }  # fmt: skip
    if args.json:
        common.print_json(found)
    elif not args.quiet:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    dense, size, values = found["dense_bytes"], found["output_bytes"], found["values"]
    ratio = dense / size  # what was left out of the file does not count
    bits = f", {8 * size / values:.2f} bits a value" if values else ""
    print(f"{common.shown(found['input'])}: {found['input_bytes']} bytes on disk")
    print(
        f"{found['tensors']} tensors of {dense} bytes, {ratio:.2f} times those of the "
        f"file{bits}"
    )
    print(f"{common.shown(found['output'])}: {size} bytes on disk")


def _check_keep(args: argparse.Namespace, names: Collection[str]) -> None:
    if args.keep is None:
        return
    if args.lossless or args.rules:
        raise common.UsageError(
            "--keep goes with neither --lossless, which keeps all tensors, nor "
            "--rules, where a rule of nothing but a pattern does the same"
        )
    if not any(re.search(args.keep, name) for name in names):
        raise common.UsageError(
            f"{args.keep!r} matches no tensor: there are "
            f"{common.shown_list(list(names))}"
        )


def _check_dtypes(leaves: Mapping[str, Any]) -> None:
    from deepcomp_jax.format.dtypes import check_dtype

    for name, leaf in leaves.items():
        try:
            check_dtype(name, leaf.dtype)
        except ValueError as error:
            raise common.UsageError(f"{error}, or leave it out by --skip") from None


def _vanished(output: Path, leaves: Mapping[str, Any], max_bytes: int) -> list[str]:
    """Tensors that were not all zero, and are so in a file."""
    import numpy as np

    from deepcomp_jax import api

    # Hardly anything is stored of zeros, and few others are as small.
    with api.open(output, max_bytes=max_bytes) as file:
        return [
            name
            for name, leaf in leaves.items()
            if file[name].stored_bytes <= _NOTHING
            and not np.any(np.asarray(file[name]))
            and np.any(np.asarray(leaf))
        ]


def _is_training_state(tree: Any) -> bool:
    """Whether a tree holds parameters, and beside them the state of an optimizer."""
    if type(tree) is not dict or "params" not in tree:
        return False
    return any(_OPTIMIZER.fullmatch(str(key)) for key in tree)


@contextlib.contextmanager
def _hints(args: argparse.Namespace) -> Iterator[None]:
    """Errors that name a leaf say how it is left out of this command."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("leaf "):
            raise
        hints = ["--skip leaves them out"]
        if not args.lossless:
            hints = [
                "--keep keeps tensors bit for bit",
                *hints,
                "--lossless changes none",
            ]
        raise ValueError(f"{error}; here, {', '.join(hints)}") from None


def _write(
    args: argparse.Namespace,
    output: Path,
    tree: Any,
    names: Collection[str],
    metadata: dict[str, str],
    meter: Meter,
) -> int:
    signals.load("deepcomp_jax.api", "deepcomp_jax.budget", "deepcomp_jax.cli.rules")
    from deepcomp_jax.checkpoints import containers

    limit, leaves = args.bytes, containers.named_leaves(tree)
    if args.bits_per_weight is not None:
        values = sum(leaf.size for leaf in leaves.values())
        limit = int(args.bits_per_weight * values / 8)
    if limit is None:
        return _write_by_rules(args, output, tree, metadata, meter)
    if args.calibration is None:
        return _write_within(output, tree, metadata, limit, args.keep, meter)
    known = calibrated.read(args.calibration, names, leaves, args.keep, args.max_bytes)
    return calibrated.write(output, tree, metadata, limit, known, args.keep, meter)


def _write_by_rules(
    args: argparse.Namespace,
    output: Path,
    tree: Any,
    metadata: dict[str, str],
    meter: Meter,
) -> int:
    from deepcomp_jax import api, budget
    from deepcomp_jax.checkpoints import containers
    from deepcomp_jax.cli.rules import read_rules

    rules = None
    if args.lossless:
        rules = []
    elif args.rules is not None:
        rules = read_rules(args.rules)
        _warn_of_unmatched(rules, containers.named_leaves(tree))
    elif args.max_relative_error is not None:
        error = args.max_relative_error
        rules = budget.plan(tree, max_relative_error=error, skip=args.keep)
    elif args.keep is not None:
        others = containers.kept(tree, lambda name: not re.search(args.keep, name))
        rules = api.default_rules(others)
    return api.write(output, tree, rules, metadata=metadata, progress=meter)


def _warn_of_unmatched(rules: "Sequence[Rule]", leaves: Mapping[str, Any]) -> None:
    """Says so if rules leave many of the weights as they are."""
    from deepcomp_jax.rules.weights import find_weights

    every = find_weights(leaves)
    others = [
        name for name in every if not any(re.search(r.pattern, name) for r in rules)
    ]
    left = sum(leaves[name].size for name in others)
    share = left / max(1, sum(leaves[name].size for name in every))
    if share > _UNMATCHED:
        common.warn(
            f"no rule is for {common.shown_list(others)}, {100 * share:.0f} % of the "
            'weights, which stay as they are: a last rule with the pattern "" is for '
            "all others"
        )


def _write_within(
    output: Path,
    tree: Any,
    metadata: dict[str, str],
    limit: int,
    keep: str | None,
    meter: Meter,
) -> int:
    """Writes a file of at most so many bytes.

    A plan meets a number of bytes to about 1 %. If the file has more than the limit,
    the next plan aims as much lower.
    """
    from deepcomp_jax import api, budget
    from deepcomp_jax.api.streaming import TooLarge
    from deepcomp_jax.rate.planning import TooFewBytes

    # A plan knows of no metadata.
    strings = sum(len(text.encode()) for item in metadata.items() for text in item)
    aim, least = max(limit - strings, 1), 0
    while aim >= min(limit * _LEAST, limit - strings):
        try:
            rules = budget.plan(tree, max_bytes=aim, skip=keep)
            size = api.write(
                output, tree, rules, max_bytes=limit, metadata=metadata, progress=meter
            )
            if rules:
                common.warn_of_spare(size, limit)
            return size
        except TooLarge as error:
            least = error.size
            aim = int(aim * limit / error.size * _LOWER)
        except TooFewBytes as error:
            least = max(least, error.least + strings)
            break
    raise common.UsageError(
        f"a file of these tensors takes about {least} bytes at the least, above the "
        f"{limit} that were asked for: allow more, leave tensors out by --skip, or "
        "prune them by --rules instead"
    )
