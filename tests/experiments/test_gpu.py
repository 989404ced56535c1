"""Jobs in slices of time: stopped, killed, gone on with, collected."""

import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import tyro

from experiments.gpu import __main__ as command
from experiments.gpu import collecting, jobs, running
from experiments.gpu.jobs import PLANS, Job
from experiments.study.config import Config
from experiments.vgg19_cifar10 import PRESETS

STUB = "tests.support.counting_job"
STUDY = Job("count", (STUB, "--to", "60"), least=0.5, study=True)  # 3 seconds
SHORT = STUDY._replace(command=(STUB, "--to", "3"))
CLOCK = Job("clock", ("timeit", "-n", "1", "pass"), least=0.1)
FAILING = Job("failing", ("json.tool", "/no/such/file"), least=0.1)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices end half a second before their time."""
    monkeypatch.setattr(running, "_END", 0.5)


def _run(work: Path, *todo: Job, seconds: float = 60.0) -> int:
    return running.run(todo, work, "plan", time.monotonic() + seconds)


def _states(work: Path) -> dict[str, str]:
    states = running.read_states(work / "plan")
    return {name: state.status for name, state in states.items()}


def _starts(work: Path) -> list[int]:
    """The numbers that the study began to count from, in each of its processes."""
    text = (work / "plan" / "count" / "phases" / "starts.json").read_text()
    return [int(line) for line in text.split()]


def test_a_study_goes_on_in_the_next_slice(tmp_path: Path, capsys):
    slices = 0
    while (status := _run(tmp_path, STUDY, CLOCK, seconds=2.5)) == running.UNFINISHED:
        assert _states(tmp_path)["count"] == "stopped"
        slices += 1
    assert status == 0
    assert _states(tmp_path) == {"count": "done", "clock": "done"}
    starts = _starts(tmp_path)
    assert len(starts) == slices + 1 > 1
    assert starts == sorted(set(starts)), "each slice got further"
    assert (tmp_path / "plan" / "count" / "report.txt").read_text() == "counted to 60\n"
    assert "stopped after" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(tmp_path: Path):
    for _ in range(2):
        assert _run(tmp_path, SHORT) == 0
    assert _starts(tmp_path) == [0]


def test_a_job_is_not_begun_when_it_would_not_end(tmp_path: Path):
    long = STUDY._replace(least=100.0)
    assert _run(tmp_path, long, CLOCK, seconds=50.0) == running.UNFINISHED
    assert _states(tmp_path) == {"clock": "done"}


def test_a_job_that_does_not_stop_is_killed_in_time(tmp_path: Path):
    sleeping = Job("sleep", ("timeit", "-n", "1", "import time; time.sleep(60)"), 0.1)
    began = time.monotonic()
    assert _run(tmp_path, sleeping, seconds=2.0) == running.UNFINISHED
    assert time.monotonic() - began < 2.0
    assert _states(tmp_path) == {"sleep": "stopped"}


def test_a_job_that_fails_keeps_none_from_running(tmp_path: Path):
    for tries in (1, 2):
        assert _run(tmp_path, FAILING, CLOCK) == 1
        assert _states(tmp_path) == {"failing": "failed", "clock": "done"}
        state = running.read_states(tmp_path / "plan")["failing"]
        assert len(state.seconds) == tries
        assert "No such file" in state.said
        table = list(running.table([FAILING, CLOCK, STUDY], tmp_path / "plan"))
        assert "No such file" in table[1] and "failed" in table[1]
        assert table[2].split()[:2] == ["clock", "done"]
        assert table[3].split()[:3] == ["count", "not", "begun"]


# ---- processes that are killed ------------------------------------------------------


def _started(work: Path) -> subprocess.Popen[bytes]:
    """A process, and all that it starts, in a group, which has begun to count."""
    code = (
        "import sys, math; from pathlib import Path; from tests.experiments import "
        "test_gpu as t; t._run(Path(sys.argv[1]), t.STUDY, t.CLOCK)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(work)], start_new_session=True
    )
    state = work / "plan" / "count" / "phases" / "count.msgpack"
    until = time.monotonic() + 60
    while not (state.exists() and int(state.read_text()) >= 3):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return process


def test_killed_with_its_job_it_goes_on(tmp_path: Path):
    process = _started(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert _states(tmp_path) == {"count": "begun"}

    assert _run(tmp_path, STUDY, CLOCK) == 0
    first, second = _starts(tmp_path)
    assert first == 0 and second >= 3


def test_two_do_not_work_in_one_folder(tmp_path: Path):
    """Not even if what started the job that still runs was killed."""
    process = _started(tmp_path)
    try:
        with pytest.raises(RuntimeError, match="jobs of another command still run in"):
            _run(tmp_path, STUDY)
        process.kill()
        process.wait()
        with pytest.raises(RuntimeError, match="jobs of another command still run in"):
            _run(tmp_path, STUDY)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert _starts(tmp_path) == [0]


# ---- what is kept -------------------------------------------------------------------


def _collected(work: Path, output: Path, most: int) -> tuple[set[str], set[str]]:
    """Names of files in the archive, and of those that were left out."""
    made = collecting.collect([STUDY, CLOCK], work, "plan", output, most)
    size = made.archive.stat().st_size + made.summary.stat().st_size
    assert size <= most
    with tarfile.open(made.archive) as tar:
        names = {name.removeprefix("plan/") for name in tar.getnames()}
    return names, {path.name for path in made.left_out}


REPORTS = {"jobs.json", "count/log.txt", "count/phases/starts.json"}


def test_of_a_finished_study_all_but_its_states_is_collected(tmp_path: Path):
    _run(tmp_path, SHORT, CLOCK)
    names, left_out = _collected(tmp_path, tmp_path / "out", 1 << 20)
    kept = {"count/report.txt", "count/model.dcz", "count/figure.png", "clock/log.txt"}
    assert names == REPORTS | kept
    assert left_out == set()
    summary = (tmp_path / "out" / "plan.txt").read_text().splitlines()
    assert [line.split()[1] for line in summary[1:]] == ["done", "done"]


def test_figures_are_left_out_before_files_and_these_before_reports(tmp_path: Path):
    _run(tmp_path, SHORT, CLOCK)
    folder = tmp_path / "plan" / "count"
    (folder / "model.dcz").write_bytes(os.urandom(300_000))
    (folder / "figure.png").write_bytes(os.urandom(300_000))
    everything = {"count/report.txt", "clock/log.txt", *REPORTS}
    names, left_out = _collected(tmp_path, tmp_path / "out", 400_000)
    assert names == everything | {"count/model.dcz"}
    assert left_out == {"figure.png"}
    names, left_out = _collected(tmp_path, tmp_path / "out", 100_000)
    assert names == everything
    assert left_out == {"figure.png", "model.dcz"}


def test_elsewhere_a_study_goes_on_from_what_was_collected(tmp_path: Path):
    work, other = tmp_path / "work", tmp_path / "other"
    assert _run(work, CLOCK, STUDY, seconds=2.5) == running.UNFINISHED
    names, _ = _collected(work, tmp_path / "out", 1 << 20)
    assert names == REPORTS | {"count/phases/count.msgpack", "clock/log.txt"}
    with tarfile.open(tmp_path / "out" / "plan.tar.gz") as tar:
        tar.extractall(other, filter="data")
    assert _run(other, CLOCK, STUDY) == 0
    assert len(_starts(other)) == len(_starts(work)) + 1
    assert _starts(other)[-1] > 0


def test_large_states_are_left_out(tmp_path: Path):
    _run(tmp_path, STUDY, seconds=2.5)
    large = tmp_path / "plan" / "count" / "phases" / "dense.msgpack"
    large.write_bytes(bytes(2 << 20))
    names, left_out = _collected(tmp_path, tmp_path / "out", 1 << 20)
    assert names == REPORTS
    assert left_out == {"dense.msgpack", "count.msgpack"}


def test_nothing_to_collect(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no job was begun in"):
        _collected(tmp_path, tmp_path / "out", 1 << 20)


# ---- plans and the command ----------------------------------------------------------


def _config(job: Job) -> Config:
    module, flag, preset, *settings = job.command
    assert (module, flag) == ("experiments.vgg19_cifar10", "--preset")
    return tyro.cli(Config, default=PRESETS[preset], args=settings)


def test_the_studies_of_the_plans():
    for plan in PLANS.values():
        studies = {job.name: _config(job) for job in plan if job.study}
        assert list(studies) == ["seed", "seed-no-l2", "best"]
        assert [job.study for job in plan[:3]] == [True] * 3, "studies come first"
        assert studies["seed"].l2 > studies["seed-no-l2"].l2 == 0
        assert len(studies["best"].target_bytes) == 3
    full, short = (
        {job.name: _config(job) for job in PLANS[name] if job.study}
        for name in ("full", "short")
    )
    assert full["seed"] == PRESETS["seed"] and full["best"] == PRESETS["best"]
    assert short["seed"].iterations == 25 and short["best"] == PRESETS["best"]
    assert short["seed"].total_epochs() < 0.3 * full["seed"].total_epochs()


def test_the_modules_of_all_jobs_are_there():
    for plan in PLANS.values():
        for job in plan:
            assert importlib.util.find_spec(job.command[0]) is not None, job


def _plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.PLANS, "short", [SHORT, CLOCK])


def test_the_command_runs_and_collects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    _plan(monkeypatch)
    work = ["--work-dir", str(tmp_path)]
    assert command.main(["run", *work, "--jobs", "clock"]) == 0
    assert "count       not begun" in capsys.readouterr().out
    assert command.main(["run", *work]) == 0
    assert command.main(["collect", str(tmp_path / "out"), *work]) == 0
    assert (tmp_path / "out" / "short.tar.gz").exists()
    assert "clock       done" in capsys.readouterr().out


def test_the_command_waits_for_all_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    _plan(monkeypatch)
    data = tmp_path / "cifar-10-binary.tar.gz"
    data.write_bytes(os.urandom(1_500_000))
    loads = tmp_path / "loads"
    pack = ["--data-dir", str(tmp_path), "--packages", "--mib", "1"]
    assert command.main(["pack", str(loads), *pack]) == 0
    work = ["--work-dir", str(tmp_path / "work"), "--jobs", "clock"]
    first = ["run", *work, "--loads", str(loads / "1")]
    assert command.main(first) == running.UNFINISHED
    assert "still to come: loads 2" in capsys.readouterr().out
    assert command.main(["run", *work]) == running.UNFINISHED
    assert command.main(["run", *work, "--loads", str(loads / "2")]) == 0
    there = tmp_path / "work" / "inputs" / "data" / data.name
    assert there.read_bytes() == data.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--jobs", "other"], "'other' is no job: there are count, clock"),
        (["run", "--loads", "/none"], "/none is no load"),
        (["collect", "out", "--work-dir", "/none"], "no job was begun in /none"),
    ],
)
def test_mistakes(arguments: list[str], message: str, monkeypatch, capsys: Any):
    _plan(monkeypatch)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_it_starts_without_any_package():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "experiments.gpu", "run", "--help"],
        capture_output=True,
        check=True,
    )
    assert b"--seconds" in done.stdout
