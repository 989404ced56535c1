"""Jobs one after the other, in slices of time, each of which may be the last.

    WORK/inputs/        what came in parts: `data` and `wheels`
    WORK/packages/      the wheels, installed
    WORK/programs/      what JAX compiled, so that the next slice need not
    WORK/PLAN/jobs.json how far each job is, and how long it took
    WORK/PLAN/JOB/      `log.txt`; of a study all that its directory holds

Only the standard library is needed before the packages are installed.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from experiments import locking
from experiments.gpu import parts
from experiments.gpu.jobs import Job

UNFINISHED = 75  # exit status of a study that ran out of time, and of a slice
STATES = "jobs.json"
LOG = "log.txt"
_ROOT = Path(__file__).parents[2]
_NEEDED = ("flax", "jax", "matplotlib", "ml_dtypes", "optax", "tqdm", "tyro")
_END = 5.0  # seconds of a slice that are kept for its end


class State(NamedTuple):
    """How far a job is.

    Attributes:
        status: "begun", also if its process was killed; "stopped" in time; "failed",
            which is tried again in the next slice; or "done".
        seconds: How long it ran in each slice that it lived to the end of.
        said: The last line of its log.
    """

    status: str
    seconds: tuple[float, ...] = ()
    said: str = ""


def run(jobs: Sequence[Job], work: Path, plan: str, deadline: float) -> int:
    """Runs what is left of some jobs, until the time is over.

    Args:
        jobs: The jobs, in order.
        work: The folder that everything is in.
        plan: The name of the folder of these jobs in it.
        deadline: When to have ended, on the clock of `time.monotonic`, in seconds.

    Returns:
        The exit status: 0 if all jobs are done, 1 if one failed and no other is left to
        go on with, else `UNFINISHED`.

    Raises:
        RuntimeError: Another process works in the folder, or packages are missing.
    """
    folder = work / plan
    folder.mkdir(parents=True, exist_ok=True)
    failed: set[str] = set()
    taken = f"jobs of another command still run in {folder}: wait for them, or end them"
    with locking.lock(folder / "lock", taken) as lock:
        machine = _Machine(folder, _environment(work), lock)
        for job in jobs:
            done = _is_done(read_states(folder), job)
            # A shorter job may still fit where a longer one does not.
            if not done and _left(deadline) >= job.least:
                status = _run_one(job, machine, deadline)
                failed |= {job.name} if status == "failed" else set()
    states = read_states(folder)
    left = {job.name for job in jobs if not _is_done(states, job)}
    return UNFINISHED if left - failed else int(bool(failed))


def read_states(folder: Path) -> dict[str, State]:
    """How far the jobs are that were begun, by name."""
    path = folder / STATES
    if not path.is_file():
        return {}
    fields = json.loads(path.read_text())
    return {
        name: State(each["status"], tuple(each["seconds"]), each["said"])
        for name, each in fields.items()
    }


def table(jobs: Sequence[Job], folder: Path) -> Iterator[str]:
    """Lines that say how long each job took, and what is left."""
    states = read_states(folder)
    yield f"{'job':<12}{'':<10}{'seconds':>8}  slices"
    for job in jobs:
        state = states.get(job.name, State("not begun"))
        total = f"{sum(state.seconds):.0f}" if state.seconds else "-"
        end = "" if state.status == "done" else f"  {state.said}"
        slices = len(state.seconds)
        yield f"{job.name:<12}{state.status:<10}{total:>8}{slices:>8}{end}".rstrip()


class _Machine(NamedTuple):
    """Where jobs run.

    Attributes:
        folder: Of the plan.
        environment: Of their processes.
        lock: Of the folder; a process that outlives this one keeps it.
    """

    folder: Path
    environment: Mapping[str, str]
    lock: BinaryIO


def _run_one(job: Job, machine: _Machine, deadline: float) -> str:
    """Runs a job, writes down how far it got, and returns its status."""
    folder = machine.folder
    before = read_states(folder).get(job.name, State("")).seconds
    _note(folder, job.name, State("begun", before))
    print(f"{job.name} begins; {_left(deadline):.0f} s are left", flush=True)
    began = time.monotonic()
    status = _work(job, machine, deadline)
    took = round(time.monotonic() - began, 1)
    said = _last_line(folder / job.name / LOG)
    _note(folder, job.name, State(status, (*before, took), said))
    print(f"{job.name} {status} after {took:.0f} s: {said}", flush=True)
    return status


def _work(job: Job, machine: _Machine, deadline: float) -> str:
    """Runs a job in a process, and returns its status."""
    own = machine.folder / job.name
    own.mkdir(exist_ok=True)
    command = [sys.executable, "-m", *job.command]
    if job.study:
        limit = f"{_left(deadline):.1f}"  # it ends some seconds earlier
        command += ["--work-dir", str(own), "--time-limit", limit]
        command += ["--data-dir", str(machine.folder.parent / "inputs" / "data")]
    with (own / LOG).open("ab" if job.study else "wb") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, env=machine.environment, stdout=log,
            stderr=subprocess.STDOUT, pass_fds=[machine.lock.fileno()],
        )  # fmt: skip
        try:
            status = process.wait(max(0.0, _left(deadline)))
        except subprocess.TimeoutExpired:
            return "stopped"
        finally:
            process.kill()
            process.wait()
    return {0: "done", UNFINISHED: "stopped"}.get(status, "failed")


def _left(deadline: float) -> float:
    """Seconds that a job may take."""
    return deadline - time.monotonic() - _END


def _environment(work: Path) -> dict[str, str]:
    """The environment of the jobs: the packages are there, and programs are kept.

    Raises:
        RuntimeError: Packages are neither installed nor among the wheels.
    """
    packages = work / "packages"
    missing = _missing(packages)
    wheels = sorted((work / "inputs" / "wheels").glob("*.whl"))
    if missing and wheels:
        _install(wheels, packages)
        missing = _missing(packages)
    if missing:
        raise RuntimeError(
            f"this machine lacks {', '.join(missing)}: pack again with these "
            "--packages, and give the loads"
        )
    paths = [str(_ROOT), str(packages), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(work / "programs"),
    }


def _missing(packages: Path) -> list[str]:
    """Names of packages that cannot be imported, here or from a folder."""
    importlib.invalidate_caches()
    return [
        name
        for name in _NEEDED
        if importlib.util.find_spec(name) is None and not (packages / name).is_dir()
    ]


def _install(wheels: Sequence[Path], packages: Path) -> None:
    """Installs wheels into a folder of their own, without a network.

    Raises:
        RuntimeError: pip is missing, or a wheel does not fit this machine.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
    command += ["--no-deps", "--upgrade", "--target", str(packages)]
    done = subprocess.run([*command, *map(str, wheels)], check=False)
    if done.returncode:
        raise RuntimeError(
            "pip could not install the wheels: pack again, for this Python and glibc"
        )


def _is_done(states: Mapping[str, State], job: Job) -> bool:
    return job.name in states and states[job.name].status == "done"


def _note(folder: Path, name: str, state: State) -> None:
    """Writes down how far a job is."""
    states = read_states(folder) | {name: state}
    fields = {each: own._asdict() for each, own in states.items()}
    parts.write(folder / STATES, json.dumps(fields, indent=1).encode())


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
