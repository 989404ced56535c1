"""The large studies on a machine that has a GPU, but no network and not much time.

    python -m experiments.gpu pack LOADS --data-dir DIR     # where there is a network
    python -m experiments.gpu run --loads LOADS/1           # there; once for each load
    python -m experiments.gpu run --seconds 540             # there, until it exits 0
    python -m experiments.gpu collect OUTPUT                # there
    tar -xzf OUTPUT/short.tar.gz -C runs/gpu                # what is done, here again

`pack` makes loads, folders of parts that are each small enough to be carried alone: the
packages that the machine lacks and CIFAR-10. `run` unpacks what is given, installs the
packages into its own folder, and runs the jobs of a plan in their order: the preset
`seed` with L2 and without, `best` with its three sizes, then measurements on the quiet
machine. It ends before its time does. Stopped or killed, the same command goes on; the
exit status is 0 when all is done, 75 when something is left, 1 when a job failed (its
`log.txt` says why) and no other is left.
"""

# Not tyro, as in the other commands: `run` must start where it is yet to be installed.
import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import STARTED
from experiments.gpu import collecting, packing, parts, running
from experiments.gpu.jobs import PLANS, Job

_MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; packs, runs or collects.

    Args:
        arguments: Those of the command; None takes those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.gpu", description=(__doc__ or "").splitlines()[0]
    )
    verbs = parser.add_subparsers(required=True, metavar="pack | run | collect")
    _add_pack(verbs.add_parser("pack", help="makes loads, where there is a network"))
    _add_run(verbs.add_parser("run", help="runs what is left of the jobs of a plan"))
    _add_collect(verbs.add_parser("collect", help="puts what to keep into an archive"))
    args = parser.parse_args(arguments)
    try:
        return args.do(args)
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        parser.error(str(error))


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loads", type=Path, help="folder that the loads go to")
    parser.add_argument(
        "--data-dir", type=Path, help="folder of CIFAR-10 as it is published"
    )
    parser.add_argument(
        "--packages", nargs="*", default=["tyro"],
        help="packages that the machine lacks; what they need comes too",
    )  # fmt: skip
    parser.add_argument("--python", default="3.12", help="its version there")
    parser.add_argument("--glibc", default="2.28", help="its version there, or less")
    parser.add_argument("--mib", type=int, default=44, help="MiB of a load, at most")
    parser.set_defaults(do=_pack)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", choices=PLANS, default="short")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/gpu"))


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_plan(parser)
    parser.add_argument(
        "--jobs", nargs="*", metavar="JOB", help="of the plan; by default all"
    )
    parser.add_argument(
        "--loads", type=Path, nargs="*", default=[],
        help="loads that are here, or the folder of them",
    )  # fmt: skip
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="end before the process is so old",
    )
    parser.set_defaults(do=_run)


def _add_collect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, help="folder of the archive")
    _add_plan(parser)
    parser.add_argument("--mib", type=int, default=15, help="MiB of it, at most")
    parser.set_defaults(do=_collect)


def _pack(args: argparse.Namespace) -> int:
    manifest = packing.pack(
        args.loads,
        data_dir=args.data_dir,
        packages=args.packages,
        python=args.python,
        glibc=args.glibc,
        most=args.mib * _MIB,
    )
    for number in range(1, len(manifest.loads) + 1):
        load = args.loads / str(number)
        size = sum(path.stat().st_size for path in load.iterdir())
        print(f"{load}: {size:,} bytes")
    return 0


def _run(args: argparse.Namespace) -> int:
    jobs = _chosen(args.plan, args.jobs)
    inputs = args.work_dir.resolve() / "inputs"
    packed = args.loads or (inputs / parts.MANIFEST).exists()
    if packed and (coming := parts.unpack(args.loads, inputs)):
        print(f"still to come: loads {', '.join(coming)}")
        return running.UNFINISHED
    deadline = STARTED + args.seconds
    status = running.run(jobs, args.work_dir.resolve(), args.plan, deadline)
    print("\n".join(running.table(PLANS[args.plan], args.work_dir / args.plan)))
    return status


def _chosen(plan: str, names: Sequence[str] | None) -> list[Job]:
    """The jobs of a plan that were named, in the order of the plan."""
    jobs = {job.name: job for job in PLANS[plan]}
    for name in names or ():
        if name not in jobs:
            raise ValueError(f"{name!r} is no job: there are {', '.join(jobs)}")
    return [job for name, job in jobs.items() if names is None or name in names]


def _collect(args: argparse.Namespace) -> int:
    made = collecting.collect(
        PLANS[args.plan], args.work_dir, args.plan, args.output, args.mib * _MIB
    )
    print(made.summary.read_text(), end="")
    for path in made.left_out:
        print(f"left out, {path.stat().st_size:,} bytes: {path}")
    print(f"{made.archive}: {made.archive.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
