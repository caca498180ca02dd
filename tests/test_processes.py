"""Processes that end: signals, orphans, killed kernels, states of runs, leftovers, results believed by hash"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tsae_nb.cli import main
from tsae_nb.config import merge
from tsae_nb.evaluation import metrics
from tsae_nb.executors import TSAE
from tsae_nb.experiments import expand
from tsae_nb.foundation import CorruptFileError, UserError
from tsae_nb.interop import export_sae, import_sae
from tsae_nb.run_folders import stored_runs, summaries, summarise
from tsae_nb.runs import cache_entries, execute, launch, remove_run
from tsae_nb.sae import load_sae, stored_hash
from tsae_nb.storage import Busy, claim, lock_file, locked, record, verify
from tsae_nb.views.explanations import Explanation
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.training_monitor import TrainingMonitor
from tsae_nb.views.unlearning_explorer import UnlearningExplorer

ROOT = Path(__file__).parents[1]
SMALL = {
    "name": "k", "variants": ["topk", "batch_topk"], "data": {"rows": 96, "evaluation_rows": 16},
    "activations": {"calibration_rows": 16}, "sae": {"dictionary_size": 64},
    "training": {"steps": 40, "rows_per_batch": 8, "checkpoint_every": 5},
}
LONG = {"training": {"steps": 100_000, "checkpoint_every": 400}}


@pytest.fixture
def experiment(tmp_path: Path) -> dict[str, object]:
    return merge(SMALL, {"activations": {"cache_folder": str(tmp_path / "cache")}})


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


class Started:
    """A `tsae` command in a session of its own, whose output goes to a file; nothing of it outlives the test."""

    def __init__(self, folder: Path, experiment: dict[str, object], *arguments: str) -> None:
        self.folder, self.output = folder, folder / "output"
        file = folder / "k.yaml"
        file.write_text(yaml.safe_dump(experiment))
        self.command = [*TSAE, arguments[0], str(file), "--root", str(folder / "runs"), *arguments[1:]]
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
                start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        self.children: list[psutil.Process] = []

    def wait_for(self, what: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None and time.monotonic() < end, self.said
            time.sleep(0.02)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def training(self, count: int) -> bool:
        return len(list((self.folder / "runs" / "k").glob("*.partial/metrics.jsonl"))) >= count

    def ended(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def nothing_lives(self, seconds: float) -> None:
        _, left = psutil.wait_procs(self.children, timeout=seconds)
        assert not alive(left), [process.cmdline() for process in alive(left)]

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def stop(self) -> None:
        for process in [*self.children, *([psutil.Process(self.process.pid)] if self.process.poll() is None else [])]:
            if process.is_running():
                process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def begin(*arguments: object) -> Started:
        started.append(Started(tmp_path, *arguments))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for one in started:
        one.stop()


soak = pytest.mark.skipif(not os.environ.get("TSAE_SOAK"), reason="long: make soak runs it")


@pytest.mark.parametrize("whom", ["group", pytest.param("parent", marks=soak)])
def test_ctrl_c_ends_a_sweep_and_nothing_queued_starts(
    whom: str, start: Callable[..., Started], experiment: dict[str, object]
) -> None:
    sweep = start(merge(experiment, LONG), "sweep", "--processes", "1")
    sweep.wait_for(lambda: sweep.training(1))
    (os.killpg if whom == "group" else os.kill)(sweep.process.pid, signal.SIGINT)
    assert sweep.ended(5) == 130
    sweep.nothing_lives(1)
    assert sweep.said.count("interrupted; the same command continues") == 1, sweep.said
    assert "Traceback" not in sweep.said and not sweep.training(2)
    assert sweep.said.startswith("2 runs to make"), "the first line is ours"
    assert "susceptible" not in sweep.said


@pytest.mark.parametrize("number, status", [
    pytest.param(signal.SIGTERM, 143, marks=soak), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_sweep_takes_its_children_and_their_kernels_along(
    number: signal.Signals, status: int, start: Callable[..., Started], experiment: dict[str, object]
) -> None:
    sweep = start(merge(experiment, LONG), "sweep", "--processes", "2")
    sweep.wait_for(lambda: sweep.training(2))
    assert len(sweep.children) >= 4, "two runs and their kernels"
    os.kill(sweep.process.pid, number)
    assert sweep.ended(5) == status
    sweep.nothing_lives(5)


def test_a_run_ended_by_sigterm_and_a_kernel_that_is_killed(
    start: Callable[..., Started], experiment: dict[str, object], tmp_path: Path
) -> None:
    run = start(merge(experiment, LONG | {"variants": ["topk"]}), "run")
    run.wait_for(lambda: run.training(1) and bool(summaries(tmp_path / "runs")))
    found, = summaries(tmp_path / "runs")
    assert (found.name, found.state) == ("k/topk", "running") and str(run.children[-1].pid) in found.reason
    assert main(run.command[len(TSAE) :]) == 2 and run.process.poll() is None, "an identical run beside it"
    run.process.terminate()
    assert run.ended(5) == 143
    run.nothing_lives(1)
    lines = [line for line in run.said.replace("\r", "\n").splitlines() if line.startswith("tsae: ")]
    assert lines == ["tsae: ended by SIGTERM; the same command continues from the last checkpoint"], run.said
    assert "Traceback" not in run.said and run.said.startswith("k/topk below"), run.said
    assert [run.state for run in summaries(tmp_path / "runs")] == ["interrupted"]
    again = start(merge(experiment, LONG | {"variants": ["topk"]}), "run")
    again.wait_for(lambda: [run.state for run in summaries(tmp_path / "runs")] == ["running"])
    again.children[-1].kill()  # as a system does that is out of memory
    assert again.ended(30) == 2
    assert "the same command continues from the last checkpoint" in again.said and "Traceback" not in again.said
    assert [run.state for run in summaries(tmp_path / "runs")] == ["interrupted"]


@soak
def test_a_killed_run_takes_its_kernel_along_and_continues(
    start: Callable[..., Started], experiment: dict[str, object], tmp_path: Path
) -> None:
    short = merge(experiment, {"variants": ["topk"], "training": {"steps": 600, "checkpoint_every": 100}})
    run = start(short, "run")
    run.wait_for(lambda: run.training(1))
    run.process.kill()
    run.nothing_lives(5)
    assert start(short, "run").ended(600) == 0
    assert summaries(tmp_path / "runs")[0].state == "complete"


def test_a_run_beside_its_twin_says_which_process(
    experiment: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "k.yaml"
    file.write_text(yaml.safe_dump(experiment))
    with locked(tmp_path / "runs" / "k" / "topk", "training"):
        assert main(["run", str(file), "--root", str(tmp_path / "runs")]) == 2
    assert f"process {os.getpid()} (training)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete runs."""
    folder = tmp_path_factory.mktemp("complete")
    execute(expand(merge(SMALL, {"activations": {"cache_folder": str(folder / "cache")}})), folder / "runs", quiet=True)
    return folder


def flip(file: Path) -> None:
    """Change one digit."""
    text = file.read_text()
    file.write_text(text.replace("1", "2", 1))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "shape": lambda run: (run / "evaluation.json").write_text("[1, 2]"),
    "number": lambda run: (run / "evaluation.json").write_text("3"),
    "digit": lambda run: flip(run / "evaluation.json"),
    "config": lambda run: (run / "config.yaml").write_bytes(b"\xff\x00"),
    "config too deep": lambda run: (run / "config.yaml").write_text("[" * 3000),
    "manifest": lambda run: (run / "manifest.json").write_text("null"),
    "list of hashes": lambda run: (run / "stored.json").write_text("{}"),
    "list is gone": lambda run: (run / "stored.json").unlink(),
    "metrics": lambda run: (run / "metrics.jsonl").write_text(""),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_run_hides_no_other(
    damage: str, complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    DAMAGES[damage](tmp_path / "runs" / "k" / "batch_topk")
    assert main(["list", str(tmp_path / "runs")]) == 0
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert lines["k/topk"] == "complete"
    assert lines.get("k/batch_topk") == {"gone": None, "metrics": "complete"}.get(damage, "damaged")
    drawn = [run.name for run in stored_runs(tmp_path / "runs")]
    assert drawn == ["k/topk"]
    assert "k/topk" in TrainingMonitor(tmp_path / "runs").text()
    assert main(["verify", str(tmp_path / "runs")]) == (0 if damage == "gone" else 2)


@pytest.mark.parametrize("file", ["stored.json", "config.yaml", "manifest.json"])
def test_the_same_command_names_a_complete_run_that_is_damaged(file: str, complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "k" / "topk"
    damaged = b"" if file == "stored.json" else (run / file).read_bytes().replace(b"topk", b"bopk")
    (run / file).unlink() if file == "stored.json" else (run / file).write_bytes(damaged)
    experiment = merge(SMALL, {"activations": {"cache_folder": str(complete / "cache")}})
    for command in (execute, lambda configs, root, quiet: FeatureIndex.of_run(run)):
        with pytest.raises(CorruptFileError, match=f"{run / file} is (missing|damaged)"):
            command(expand(experiment), tmp_path / "runs", quiet=True)
    assert sorted(path.name for path in run.parent.iterdir()) == ["batch_topk", "topk"]


@pytest.mark.parametrize("file", ["evaluation.json", "metrics.jsonl", "sae/sae.safetensors", "sae/sae.json"])
def test_what_a_complete_run_holds_is_compared_before_it_counts_as_made(
    file: str, complete: Path, tmp_path: Path
) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    place = tmp_path / "runs" / "k" / "topk" / file
    *whole, last = place.read_bytes()
    experiment = merge(SMALL, {"activations": {"cache_folder": str(complete / "cache")}})
    for damaged in (bytes([*whole, last ^ 1]), None):
        place.unlink() if damaged is None else place.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=f"{place} is (missing|damaged)"):
            execute(expand(experiment), tmp_path / "runs", quiet=True)
        with pytest.raises(CorruptFileError, match=f"{place} is (missing|damaged)"):
            launch(experiment, tmp_path / "runs")


@pytest.mark.parametrize("file", ["stored.json", "sae.json", "sae.safetensors"])
def test_an_sae_that_lacks_a_file_is_named(file: str, complete: Path, tmp_path: Path) -> None:
    sae = shutil.copytree(complete / "runs" / "k" / "topk" / "sae", tmp_path / "sae")
    assert stored_hash(sae) == load_sae(sae).content_hash()
    (sae / file).unlink()
    with pytest.raises(CorruptFileError, match=f"{sae / file} is missing"):
        load_sae(sae)
    run = shutil.copytree(complete / "runs" / "k" / "topk", tmp_path / "topk")
    (run / "sae" / file).unlink()
    assert (run / "sae" / file) in [path for path, _ in verify(run)]


@pytest.mark.parametrize("form", ["saelens", "dictionary_learning", "sparsify"])
def test_an_exported_sae_is_checked_and_a_foreign_one_is_not(form: str, complete: Path, tmp_path: Path) -> None:
    place, sae = tmp_path / "exported", load_sae(complete / "runs" / "k" / "topk" / "sae")
    export_sae(sae, place, form)
    read = import_sae(place)
    file = max((path for path in place.iterdir() if path.name != "stored.json"), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    with pytest.raises(CorruptFileError, match=f"{file} is damaged"):
        import_sae(place)
    file.write_bytes(whole)
    (place / "stored.json").unlink()
    assert import_sae(place).content_hash() == read.content_hash()


def test_an_unlearning_score_that_is_null_is_listed(
    complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "k" / "topk" / "unlearning.json").write_text('{"score": null, "reason": "gate"}')
    assert main(["list", str(tmp_path / "runs")]) == 0
    assert "gate" in capsys.readouterr().out


def test_list_and_monitor_beside_runs_that_come_and_go(complete: Path, tmp_path: Path) -> None:
    source, stop, failed = complete / "runs" / "k" / "topk", threading.Event(), list[BaseException]()
    shutil.copytree(source, tmp_path / "k" / "stays")
    chance = random.Random(0)

    def come_and_go() -> None:
        for _ in range(40):
            place = tmp_path / "k" / f"passing{chance.randrange(5)}{chance.choice(['', '.partial'])}"
            shutil.copytree(source, place, dirs_exist_ok=True)
            shutil.rmtree(place)
        stop.set()

    def follow() -> None:
        monitor = TrainingMonitor(tmp_path)
        try:
            while not stop.is_set():
                assert "k/stays" in monitor.text()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=target) for target in (come_and_go, follow)]
    for thread in threads:
        thread.start()
    while not stop.is_set():
        assert "k/stays" in [run.name for run in summaries(tmp_path) if run.state == "complete"]
    for thread in threads:
        thread.join()
    assert not failed, failed


def begun(complete: Path, folder: Path, name: str = "topk") -> Path:
    """A copy of a complete run as it is just before its manifest: all is measured, nothing has its final name."""
    place = folder / "runs" / "k" / f"{name}.partial"
    shutil.copytree(complete / "runs" / "k" / name, place)
    for file in ("manifest.json", "stored.json", "measured.json"):
        (place / file).unlink(missing_ok=True)
    return place


@pytest.mark.parametrize("written", [(), ("manifest.json",), ("manifest.json", "stored.json"), ("stored.json",)])
def test_a_run_killed_at_its_very_end_is_finished(written: tuple[str, ...], complete: Path, tmp_path: Path) -> None:
    """Before, between and after its manifest, the list of its hashes, and its final name."""
    place, whole = begun(complete, tmp_path), complete / "runs" / "k" / "topk"
    for file in written:
        shutil.copyfile(whole / file, place / file)
    experiment = merge(SMALL, {"variants": ["topk"], "activations": {"cache_folder": str(complete / "cache")}})
    run, = execute(expand(experiment), tmp_path / "runs", quiet=True)
    assert run.complete and not place.exists() and not [path for path, _ in verify(tmp_path / "runs")]
    assert (run.folder / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()


def test_what_a_dead_process_left_beside_a_complete_run_is_removed(complete: Path, tmp_path: Path) -> None:
    """As after a power cut in the last moments: all is done, and there are locks that nobody holds."""
    runs, cache = tmp_path / "runs", tmp_path / "cache"
    shutil.copytree(complete / "runs", runs)
    cache.mkdir()
    left = [lock_file(runs / "k" / "topk"), lock_file(cache / "in-use")]
    for lock in left:
        lock.write_text("")
    execute(expand(merge(SMALL, {"variants": ["topk"], "activations": {"cache_folder": str(cache)}})), runs, quiet=True)
    assert not any(lock.exists() for lock in left)


@pytest.mark.parametrize("damage", ["", "[]", '{"explained_variance": 0.5}', "cut"])
def test_an_evaluation_of_an_unfinished_run_is_believed_by_its_hash(
    damage: str, complete: Path, tmp_path: Path
) -> None:
    place = begun(complete, tmp_path)
    whole = (place / "evaluation.json").read_bytes()
    (place / "evaluation.json").write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage.encode())
    experiment = merge(SMALL, {"variants": ["topk"], "activations": {"cache_folder": str(complete / "cache")}})
    run, = execute(expand(experiment), tmp_path / "runs", quiet=True)
    assert (run.folder / "evaluation.json").read_bytes() == whole


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_measured_is_measured_once_unless_it_is_damaged(
    damaged: bool, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = merge(SMALL, {"variants": ["topk"], "activations": {"cache_folder": str(complete / "cache")}})
    evaluate, asked = metrics.evaluate, list[object]()
    monkeypatch.setattr(metrics, "evaluate", lambda *arguments: (asked.append(arguments), evaluate(*arguments))[1])
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setitem(execute.__globals__, "manifest", interrupted)
        execute(expand(experiment), tmp_path / "runs", quiet=True)
    place = tmp_path / "runs" / "k" / "topk.partial"
    if damaged:
        flip(place / "evaluation.json")
    run, = execute(expand(experiment), tmp_path / "runs", quiet=True)
    assert len(asked) == 1 + damaged
    whole = complete / "runs" / "k" / "topk" / "evaluation.json"
    assert (run.folder / "evaluation.json").read_bytes() == whole.read_bytes()
    assert not (run.folder / "measured.json").exists()


def test_a_failed_evaluation_is_told_and_repeated_alone(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = merge(SMALL, {"activations": {"cache_folder": str(complete / "cache")}})
    evaluate, asked = metrics.evaluate, list[object]()

    def fails_first(*arguments: object) -> object:
        asked.append(arguments)
        if len(asked) == 1:
            raise MemoryError("no room for the evaluation")
        return evaluate(*arguments)

    monkeypatch.setattr(metrics, "evaluate", fails_first)
    with pytest.raises(MemoryError):
        execute(expand(experiment), tmp_path / "runs", quiet=True)
    states = {run.name: (run.state, run.reason) for run in summaries(tmp_path / "runs")}
    assert states == {"k/topk": ("failed", "MemoryError: no room for the evaluation"), "k/batch_topk": ("complete", "")}
    before = (tmp_path / "runs" / "k" / "topk.partial" / "checkpoint" / "state.json").stat().st_mtime_ns
    runs = execute(expand(experiment), tmp_path / "runs", quiet=True)
    assert len(asked) == 3 and all(run.complete for run in runs)
    assert (runs[0].folder / "checkpoint" / "state.json").stat().st_mtime_ns == before, "nothing was trained again"
    assert not (runs[0].folder / "failure.json").exists()
    for run in runs:
        whole = complete / "runs" / run.config.name
        assert (run.folder / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()


def test_a_run_that_diverges_has_failed(tmp_path: Path) -> None:
    changes = {"variants": ["topk"], "training": {"learning_rate": 1e6}, "activations": {"cache_folder": str(tmp_path)}}
    with pytest.raises(Exception, match="training"):
        execute(expand(merge(SMALL, changes)), tmp_path / "runs", quiet=True)
    found, = summaries(tmp_path / "runs")
    assert found.state == "failed" and "at step" in found.reason


NAMES = {
    "topk/b": "would lie in the folder of the run", ".": "means something else", "": "empty part", "a/": "empty part",
    "config.yaml": "means something else", ".topk": "means something else", "damaged-a-1": "means something else",
}


@pytest.mark.parametrize("variant", NAMES)
def test_a_name_that_cannot_be_had_is_refused_at_the_start(
    variant: str, experiment: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "k.yaml"
    file.write_text(yaml.safe_dump(experiment | {"variants": {"topk": {}, variant: {"base": "topk"}}}))
    for command in ("run", "sweep"):
        assert main([command, str(file), "--root", str(tmp_path / "runs")]) == 2
        said = capsys.readouterr().err
        assert NAMES[variant] in said and "choose another name" in said and len(said.splitlines()) == 1, said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("what", ["link", "broken link", "file", "inside"])
def test_a_place_that_cannot_be_had_is_refused_at_the_start(
    what: str, experiment: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "runs" / "k" / "topk"
    place.parent.mkdir(parents=True)
    if what == "file":
        place.write_text("mine")
    elif what == "inside":
        (tmp_path / "runs" / "k" / "manifest.json").write_text("{}")
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / ("elsewhere" if what == "link" else "nowhere"))
    file = tmp_path / "k.yaml"
    file.write_text(yaml.safe_dump(experiment))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert main(["run", str(file), "--root", str(tmp_path / "runs")]) == 2
    assert str(place) in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_killed_writers_left_goes_at_the_next_start(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "k" / "topk"
    code = ("import os, signal, sys; from tsae_nb.storage import whole_file, whole_directory\n"
            "with whole_file(sys.argv[1]) as a, whole_directory(sys.argv[2]) as b:\n"
            "    a.write_text('half'); (b / 'state').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", code, str(run / "metrics.jsonl"), str(run / "checkpoint")], cwd=ROOT)
    (run / ".notes").write_text("mine")
    assert len([path for path in run.glob(".*") if path.name != ".notes"]) == 2
    experiment = merge(SMALL, {"activations": {"cache_folder": str(complete / "cache")}})
    execute(expand(experiment), tmp_path / "runs", quiet=True)
    assert [path.name for path in run.glob(".*")] == [".notes"]


def test_remove_deletes_only_what_is_ours(
    complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    run, other = tmp_path / "runs" / "k" / "topk", tmp_path / "runs" / "k" / "batch_topk"

    def refused(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(["remove", *map(str, arguments)]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    assert "--yes" in refused(run)
    assert "no run" in refused(tmp_path / "runs" / "k", "--yes")
    (other / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(other, "--yes")
    (tmp_path / "link").symlink_to(run)
    assert "left as it is" in refused(tmp_path / "link", "--yes")
    with locked(run, "training"):
        assert f"process {os.getpid()}" in refused(run, "--yes")
    index = FeatureIndex.of_run(run)
    index.labels.set(1, "mine")
    index.explanations.replace([Explanation(1, "what somebody says", "model", "layer")])
    assert main(["remove", str(run), "--yes"]) == 0
    assert not run.exists() and not lock_file(run).exists() and (other / "thesis.txt").is_file()
    partial = run.with_name("topk.partial")
    shutil.copytree(complete / "runs" / "k" / "topk", partial)
    (partial / "manifest.json").unlink()
    assert main(["remove", str(run), "--yes"]) == 0 and not partial.exists()


def test_the_cache_is_shown_and_emptied(
    complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(complete / "cache", tmp_path / "cache")
    mine = tmp_path / "cache" / "activations" / "precious" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    assert main(["cache", str(tmp_path / "cache")]) == 0
    shown = capsys.readouterr().out
    assert "last used" in shown and "kept" in shown, shown
    assert main(["cache", str(tmp_path / "cache"), "--empty"]) == 2, "nobody can be asked here"
    assert main(["cache", str(tmp_path / "cache"), "--empty", "--yes"]) == 0
    assert mine.read_text() == "years of work"
    capsys.readouterr()
    assert main(["cache", str(tmp_path / "cache")]) == 0
    assert "nothing of ours" in capsys.readouterr().out


def test_monitor_and_unlearning_explorer_name_what_is_damaged(complete: Path, tmp_path: Path) -> None:
    run = shutil.copytree(complete / "runs" / "k" / "topk", tmp_path / "runs" / "k" / "topk")
    monitor = TrainingMonitor(tmp_path / "runs")
    assert "metrics.jsonl" not in monitor.text()
    flip(run / "metrics.jsonl")
    assert f"{run / 'metrics.jsonl'} is damaged" in TrainingMonitor(tmp_path / "runs").text()
    (run / "unlearning.json").write_text('{"score": 0.1}')
    record(run, "run", ["unlearning.json"])
    flip(run / "unlearning.json")
    with pytest.raises(CorruptFileError, match="unlearning.json is damaged"):
        UnlearningExplorer(run)


def test_a_complete_run_that_can_only_be_read_is_kept(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*arguments: object, **options: object) -> object:
        raise UserError("cannot write: Read-only file system")

    changes = {"variants": ["topk"], "training": {"keep_optimizer": False},
               "activations": {"cache_folder": str(complete / "cache")}}
    first, = execute(expand(merge(SMALL, changes)), tmp_path / "runs", quiet=True)
    assert not (first.folder / "checkpoint").exists(), "at once"
    monkeypatch.setitem(execute.__globals__, "locked", read_only)
    for _ in range(2):
        assert execute(expand(merge(SMALL, changes)), tmp_path / "runs", quiet=True) == [first]
        shutil.copytree(complete / "runs/k/topk/checkpoint", first.folder / "checkpoint", dirs_exist_ok=True)


def test_a_cache_is_not_emptied_under_a_run_wherever_that_is(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, seen = tmp_path / "cache", list[str]()
    shutil.copytree(complete / "cache", cache)
    experiment = expand(merge(SMALL, {"variants": ["topk"], "activations": {"cache_folder": str(cache)}}))

    def tried(names: dict[str, Any], name: str) -> None:
        plain = names[name]

        def beside(*arguments: object, **options: object) -> object:
            assert main(["cache", str(cache), "--empty", "--yes"]) == 2
            seen.append(name)
            return plain(*arguments, **options)

        monkeypatch.setitem(names, name, beside)

    for module, name in ((execute.__globals__, "open_streams"), (execute.__globals__, "train"),
                         (vars(metrics), "evaluate")):
        tried(module, name)
    execute(experiment, tmp_path / "elsewhere" / "runs", quiet=True)
    assert seen == ["open_streams", "train", "evaluate"]
    assert cache_entries(cache) and main(["cache", str(cache), "--empty", "--yes"]) == 0
    assert not cache_entries(cache) and not list(cache.rglob("*.lock"))


def test_a_run_with_a_killed_build_of_its_index_is_removed_and_one_under_way_is_not(
    complete: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(complete / "runs" / "k" / "topk", tmp_path / "runs" / "k" / "topk")
    claim(run / ".index.building", "feature index under way")
    for name in ("index", "index.labels"):
        lock_file(run / name).write_text("{}")
    (run / "damaged-checkpoint-1").mkdir()
    with locked(run / "index", "building the feature index"), pytest.raises(Busy, match="building the feature index"):
        remove_run(run)
    lock_file(run / "index").write_text("{}")
    remove_run(run)
    assert not list((tmp_path / "runs" / "k").iterdir())


def test_a_complete_run_trained_longer_is_the_run_started_so(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete / "runs", tmp_path / "runs")
    changes = {"training": {"steps": 60}, "activations": {"cache_folder": str(complete / "cache")}}
    longer = execute(expand(merge(SMALL, changes)), tmp_path / "runs", quiet=True)
    whole = execute(expand(merge(SMALL, changes)), tmp_path / "whole", quiet=True)
    for one, other in zip(longer, whole, strict=True):
        for file in ("sae/sae.safetensors", "metrics.jsonl", "evaluation.json"):
            assert (one.folder / file).read_bytes() == (other.folder / file).read_bytes()
    assert all(summarise(run.folder) for run in longer)
    assert main(["verify", str(tmp_path / "runs")]) == 0
