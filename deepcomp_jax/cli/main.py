"""Reads the arguments, and runs a verb."""

import argparse
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from deepcomp_jax.cli import common, signals

VERBS = {
    "compress": "compress a checkpoint into a .dcz file",
    "decompress": "turn a .dcz file back into a checkpoint",
    "inspect": "show what is in a file and what it takes",
    "verify": "decode all of a .dcz file and check it",
    "diff": "compare the tensors of two files",
    "extract": "write some tensors of a .dcz file to another file",
    "bench": "measure how fast a .dcz file is encoded and decoded here",
}
_EPILOG = """\
Checkpoints are .safetensors (a file, or a folder or index of several), .npz, Flax's
.msgpack, folders of Orbax, and .dcz. `dcz VERB --help` tells more of a verb.

  dcz compress model.safetensors --bits-per-weight 4
  dcz inspect model.dcz
  dcz decompress model.dcz -o again.safetensors
  dcz diff model.safetensors again.safetensors

The exit status is 0, 1 for a bad file, and 2 for a bad call."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those after its name; None takes those of the process.

    Returns:
        The exit status: 0, 1 for a bad file or, from `diff`, two that differ, 2 for a
        bad call or, from `diff`, a bad file, 130 after Ctrl-C.
    """
    try:
        # Accelerators are left to those who train: nothing here needs one.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        given = list(sys.argv[1:] if arguments is None else arguments)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore
        with signals.stopping(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run(given)
    except KeyboardInterrupt:
        return common.fail("interrupted; nothing was written", 130)


def _run(given: Sequence[str]) -> int:
    parser, verbs = _parser()
    # Only the verb that is called is imported: --help is quick.
    verb = next((word for word in given if not word.startswith("-")), None)
    module = None
    if verb is not None and verb in VERBS:
        module = importlib.import_module(f"deepcomp_jax.cli.{verb}")
        module.add_arguments(verbs[verb])
    try:
        if module is not None and verb == given[0]:
            # Options may stand anywhere, also between the paths.
            args = verbs[given[0]].parse_intermixed_args(given[1:])
            args.verb = verb
        else:
            args = parser.parse_args(given)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    if module is None:
        parser.print_help()
        return 2
    return _run_verb(module, args)


def _run_verb(module: Any, args: argparse.Namespace) -> int:
    trouble = getattr(module, "TROUBLE", 1)
    try:
        status = module.run(args) or 0
        sys.stdout.flush()
        return status
    except common.UsageError as error:
        return common.fail(str(error), 2)
    except BrokenPipeError:
        # Whoever read our output has enough of it, and so has the rest of Python.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return common.fail(f"{where}{error.strerror or error}", trouble)
    except MemoryError:
        return common.fail("there is not enough memory for this", trouble)
    except ValueError as error:  # of what is in a file, or of what is asked of it
        return common.fail(str(error), trouble)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    common.warn(str(message))


class _Version(argparse.Action):
    """Prints the version that is installed, which is looked for only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import version

        print(f"dcz {version('deepcomp-jax')}")
        parser.exit()


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="dcz",
        description="Small files of trained networks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    verbs = {
        name: commands.add_parser(
            name, help=text, description=f"{text.capitalize()}.", allow_abbrev=False
        )
        for name, text in VERBS.items()
    }
    return parser, verbs
