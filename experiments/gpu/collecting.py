"""What is worth keeping of the jobs, in an archive that is small enough to carry."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.gpu import running
from experiments.gpu.jobs import Job

_BESIDE = 2048  # bytes that an archive takes for each file beside its content, at most
_REPORTS = (".txt", ".json", ".jsonl")
_STATE = ".msgpack"  # of a network in training


class Collected(NamedTuple):
    """What was written.

    Attributes:
        archive: The archive, which unpacks to the folder of a plan.
        summary: How long each job took and what is left, as text.
        left_out: The files that did not fit.
    """

    archive: Path
    summary: Path
    left_out: tuple[Path, ...]


def collect(
    jobs: Sequence[Job], work: Path, plan: str, output: Path, most: int
) -> Collected:
    """Writes `PLAN.tar.gz` and `PLAN.txt`.

    Unpacked in an empty folder that is given as `--work-dir`, the archive is what the
    jobs go on from: what is done is not done again. Of studies that are not done it has
    the states of training too, if all of a study fit.

    Args:
        jobs: The jobs.
        work: The folder that they ran in.
        plan: The name of the folder of these jobs in it.
        output: Where the two files go.
        most: The most bytes that they may take.

    Raises:
        FileNotFoundError: No such job was begun.
    """
    folder = work / plan
    states = running.read_states(folder)
    if not states:
        raise FileNotFoundError(f"no job was begun in {folder}")
    summary = ("\n".join(running.table(jobs, folder)) + "\n").encode()
    room = most - len(summary) - 10 * _BESIDE  # tar ends in blocks of 10 KB
    taken: list[Path] = []
    left_out: list[Path] = []
    unfinished = [name for name, state in states.items() if state.status != "done"]
    for together in _by_worth(folder, unfinished):
        size = sum(path.stat().st_size + _BESIDE for path in together)
        if size <= room:
            room -= size
            taken += together
        else:
            left_out += together
    made = Collected(output / f"{plan}.tar.gz", output / f"{plan}.txt", (*left_out,))
    output.mkdir(parents=True, exist_ok=True)
    made.summary.write_bytes(summary)
    with tarfile.open(made.archive, "w:gz") as tar:
        for path in taken:
            tar.add(path, path.relative_to(work).as_posix())
    return made


def _by_worth(folder: Path, unfinished: Sequence[str]) -> Iterator[list[Path]]:
    """Files, and those that are worth nothing alone together, the most needed first."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    usable = [p for p in found if p.name != "lock" and not p.name.startswith(".")]
    reports = [p for p in usable if p.suffix in _REPORTS]
    files = [p for p in usable if p.suffix == ".dcz"]
    states = [p for p in usable if p.suffix == _STATE]
    others = [p for p in usable if p not in {*reports, *files, *states}]
    # What holds the states of all jobs, above their folders, comes first.
    yield from ([p] for p in sorted(reports, key=lambda p: len(p.parts)))
    yield from ([p] for p in (*files, *others))
    for name in unfinished:
        own = [p for p in states if (folder / name) in p.parents]
        if own:
            yield own
