"""Sweeps over GPUs and on a cluster: a GPU a slot; the script of an array job, run by a stand-in and by a real Slurm"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import own_slurm
import pretend_cuda
import pytest
import yaml
from pretend_cuda import guard

from tsae_nb.cli import main
from tsae_nb.config import merge
from tsae_nb.executors import VISIBLE
from tsae_nb.experiments import expand
from tsae_nb.run_folders import partial_folder, summaries, summarise
from tsae_nb.runs import execute
from tsae_nb.slurm import queue
from tsae_nb.storage import holder

ROOT = Path(__file__).parents[1]
PLANTED = {
    "name": "small", "variants": ["topk", "batch_topk"], "sae": {"dictionary_size": 32, "sparse_code": {"active": 2}},
    "planted": {"width": 16, "slow": 12, "fast": 12, "evaluation_rows": 16, "seed": None},
    "activations": {"calibration_rows": 4}, "training": {"steps": 20, "rows_per_batch": 4, "checkpoint_every": 10},
}
TEXT = {
    "name": "small", "variants": ["topk"], "data": {"rows": 64, "evaluation_rows": 8},
    "activations": {"calibration_rows": 16}, "sae": {"dictionary_size": 64},
    "training": {"steps": 20, "rows_per_batch": 8, "checkpoint_every": 10},
}


@pytest.fixture()
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, whose processes find this checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    return tmp_path


def written(experiment: dict[str, Any]) -> str:
    Path("small.yaml").write_text(yaml.safe_dump(experiment))
    return "small.yaml"


def measured(root: Path) -> dict[str, bytes]:
    """Each run's evaluation.json, by name."""
    found = sorted((root / "small").glob("*/evaluation.json"))
    return {path.parent.name: path.read_bytes() for path in found if path.parent.suffix != ".partial"}


# -- a GPU a slot ------------------------------------------------------------------------------------------------------

@pytest.mark.skipif(guard.compiler() is None, reason="needs a C++ compiler")
def test_each_slot_sees_its_own_gpu(folder: Path) -> None:
    file = written(merge(PLANTED, {"seeds": [0, 1], "variants": ["topk"]}))
    environment = pretend_cuda.environment() | {VISIBLE: "4,7"}  # as a cluster may give them
    command = [sys.executable, "-m", "tsae_nb", "sweep", file, "--gpus", "1,0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    given = dict(re.findall(r"^(small/\S+): on GPU (\d)$", done.stdout, re.MULTILINE))
    assert sorted(given) == ["small/topk", "small/topk-seed1"] and sorted(given.values()) == ["4", "7"]
    for name, gpu in given.items():
        machine = json.loads(Path("runs", name, "manifest.json").read_text())["machine"]
        assert machine["gpu"] == f"pretend CUDA device {gpu}"
    refused = subprocess.run([*command[:-1], "0,2", "--name", "other"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "there is no GPU 2: this process sees 2, counted from 0" in refused.stderr
    assert not Path("runs", "other").exists()


@pytest.mark.parametrize("arguments, said", [
    (["--gpus", "0"], "there is no GPU 0: this process sees none"),
    (["--gpus", "0", "--slurm"], "--gpus and --slurm are both given"),
    (["--sbatch=--time=1"], "--sbatch is for --slurm"), (["--dry-run"], "--dry-run is for --slurm"),
    (["--slurm"], "there is no sbatch here"), (["--slurm", "--sbatch=time=1"], "'time=1' is no option of sbatch"),
    (["--slurm", "--sbatch=--array=0-9", "--dry-run"], "this is what the sweep itself tells Slurm"),
])
def test_a_mistake_is_said_before_anything_is_made(
    arguments: list[str], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv(VISIBLE, "")
    assert main(["sweep", written(PLANTED), *arguments]) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


# -- a stand-in for Slurm ----------------------------------------------------------------------------------------------

SBATCH = """#!/bin/bash
# Runs what it is given at once, as Slurm does later: the tasks of an array one after another
number=$(($(cat "$CLUSTER/last" 2> /dev/null || echo 0) + 1))
echo "$number" > "$CLUSTER/last"
echo "$*" >> "$CLUSTER/sent"
[ -e "$CLUSTER/refuse" ] && [[ $* = *--array* ]] && { echo "sbatch: error: no such partition" >&2; exit 1; }
script=${*: -1}
output=$(sed -n "s/^#SBATCH --output=//p" "$script")
for word; do case $word in --output=*) output=${word#--output=} ;; --array=*) array=${word#--array=} ;; esac; done
tasks=none
[ "$array" ] && tasks=$(seq "${array%-*}" "${array#*-}")
for task in $tasks; do
    log=${output//%A/$number}
    unset SLURM_ARRAY_TASK_ID
    [ "$task" = none ] || export SLURM_ARRAY_TASK_ID=$task
    SLURM_JOB_ID=$number bash "$script" >> "${log//%a/$task}" 2>&1 < /dev/null
done
echo "$number;cluster"
"""


@pytest.fixture()
def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch`, `squeue`, `scontrol` and `scancel` on the PATH; what they are told is in the folder."""
    place = folder / "cluster"
    place.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", '#!/bin/bash\ncat "$CLUSTER/queue" 2> /dev/null || true\n'),
                       ("scontrol", '#!/bin/bash\necho "$*" >> "$CLUSTER/asked"\n'),
                       ("scancel", '#!/bin/bash\necho "$*" >> "$CLUSTER/cancelled"\n')):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setenv("CLUSTER", str(place))
    monkeypatch.setenv("PATH", os.pathsep.join((str(place), os.environ["PATH"])))
    return place


def test_the_script_makes_the_runs(
    stand_in: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache first, then a task for each group; the same command again finds nothing to send."""
    file = written(merge(TEXT, {"seeds": [0, 1], "activations": {"cache_folder": "cache"}}))
    assert main(["sweep", file, "--slurm", "--sbatch=--partition=gpu --time=60"]) == 0, capsys.readouterr()
    cache, array = (stand_in / "sent").read_text().splitlines()
    script = folder / "runs" / "small" / "slurm" / "1" / "sweep.sh"
    assert cache == f"--parsable --job-name=small-cache --output={script.parent}/cache.log {script}"
    assert array == f"--parsable --array=0-1 --dependency=afterok:1 --kill-on-invalid-dep=yes {script}"
    assert "\n#SBATCH --partition=gpu --time=60\n\n" in script.read_text()
    filled = (script.parent / "cache.log").read_text()
    logs = [(script.parent / f"2_{task}.log").read_text() for task in (0, 1)]
    assert "activations of layer" in filled and not any("activations of layer" in log for log in logs), "a warm cache"
    local = execute(expand(yaml.safe_load(Path(file).read_text())), "local", quiet=True)
    assert len(local) == 2 and measured(folder / "runs") == measured(folder / "local"), logs
    assert main(["sweep", file, "--slurm"]) == 0 and "nothing is left to send" in capsys.readouterr().out
    assert len((stand_in / "sent").read_text().splitlines()) == 2


def test_what_slurm_says_of_tasks_is_shown(
    stand_in: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(merge(PLANTED, {"seeds": [0, 1, 2], "variants": ["topk"]}))
    (stand_in / "sbatch").write_text("#!/bin/bash\necho 12\n")
    assert main(["sweep", file, "--slurm"]) == 0
    logs = folder / "runs" / "small" / "slurm" / "1"
    (logs / "12_1.log").write_text("== today on node2, start 0: tsae run\nslurmstepd-node2: error: *** JOB 14 ON node2 "
                                   "CANCELLED AT 2026-01-01T00:00:09 DUE TO TIME LIMIT ***\n")
    (stand_in / "queue").write_text("12_0|PENDING|Priority|\n12_1|COMPLETED|None|node2\n7|RUNNING|None|node1\n")
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    found = {one["name"]: (one["state"], one["reason"]) for one in json.loads(capsys.readouterr().out)}
    assert found["small/topk"] == ("waiting", "Slurm's task 12_0 waits (Priority)")
    ended = "Slurm's task 12_1 was ended at its time limit; "
    assert found["small/topk-seed1"] == ("missing", f"{ended}{logs.relative_to(folder)}/12_1.log")
    assert found["small/topk-seed2"] == ("missing", "Slurm's task 12_2 is not in the queue, and has not begun")
    assert main(["sweep", file, "--slurm"]) == 0
    said = capsys.readouterr().out
    assert "small/topk: Slurm's task 12_0 waits (Priority)\n" in said
    assert f"{ended}{logs}/12_1.log; it is sent again" in said
    again = json.loads((logs.parent / "2" / "sent.json").read_text())
    assert again["tasks"] == [["small/topk-seed1"], ["small/topk-seed2"]], "what waits is not sent twice"
    assert [one.name for one in summaries("runs")] == [], "no run is there yet"


def test_a_refused_array_takes_its_cache_along(
    stand_in: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_in / "refuse").touch()
    (stand_in / "sbatch").write_text(SBATCH.replace("tasks=none", "tasks="))
    assert main(["sweep", written(TEXT), "--slurm"]) == 2
    assert "sbatch refused the job: sbatch: error: no such partition" in capsys.readouterr().err
    assert (stand_in / "cancelled").read_text() == "1\n" and not list(folder.rglob("sent.json"))


def test_a_run_that_is_warned_keeps_a_checkpoint_and_goes_back_into_the_queue(
    stand_in: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """USR1 to the shell, as Slurm sends it, in the middle of training."""
    file = written(merge(PLANTED, {"training": {"steps": 100_000, "checkpoint_every": 100_000}}))
    assert main(["sweep", file, "--slurm", "--dry-run"]) == 0 and not (stand_in / "sent").exists()
    script = folder / "runs" / "small" / "slurm" / "1" / "sweep.sh"
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "31"}
    with subprocess.Popen(["bash", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as task:
        wait_for(lambda: any(path.stat().st_size for path in folder.rglob("metrics.jsonl")))
        task.send_signal(signal.SIGUSR1)
        said, _ = task.communicate(timeout=100)
    assert (stand_in / "asked").read_text() == "requeue 31\n", said
    assert "stopped, as SIGUSR1 asked" in said and "back into the queue" in said and "Traceback" not in said, said
    states = {path.parent.parent.name: json.loads(path.read_text()) for path in folder.rglob("checkpoint/state.json")}
    steps = {state["step"] for state in states.values()}
    assert len(states) == 2 and len(steps) == 1 and 0 < steps.pop() < 100_000
    assert [run.state for run in summaries("runs")] == ["interrupted"] * 2
    assert [run.reason for run in summaries("runs")] == [""] * 2, "nothing has failed"


def wait_for(what: Callable[[], Any], seconds: float = 900) -> None:  # also on a busy machine
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- a real one --------------------------------------------------------------------------------------------------------

@pytest.fixture()
def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = Path("/tmp") / f"slurm-{os.getpid()}"
    try:
        with own_slurm.own_slurm(place) as environment:
            for name in ("PATH", "SLURM_CONF"):
                monkeypatch.setenv(name, environment[name])
            yield
    finally:
        shutil.rmtree(place, ignore_errors=True)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def state_of(task: str) -> str:
    queued = queue()
    assert queued is not None
    return queued.get(task, ("",))[0]


def trainer(run: str) -> int:
    """The process that trains a run now; 0 where none does, or it has nothing to show yet."""
    final = Path("runs", "small", run)
    log, process = partial_folder(final) / "metrics.jsonl", holder(final)
    return process.process if process is not None and log.is_file() and log.stat().st_size else 0


def hold(runs: Sequence[str], held: dict[str, int]) -> dict[str, int]:
    """Stop those that are being trained, and note their processes."""
    for run in {*runs} - {*held}:
        if process := trainer(run):
            os.kill(process, signal.SIGSTOP)
            held[run] = process
    return held


def is_asked(process: int) -> bool:
    """Whether SIGUSR1 waits for a process that is stopped."""
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1 for mask in masks)


@pytest.mark.skipif(bool(own_slurm.missing()), reason=own_slurm.missing())
def test_a_real_slurm_makes_what_a_sweep_makes(
    cluster: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four groups after their cache: one is told of its time limit, queued and resumed; one cancelled and sent again.

    Both are held still until their moment comes: Slurm looks at limits twice a minute.
    """
    changes = {"activations": {"cache_folder": "cache"}, "training": {"steps": 600, "checkpoint_every": 1000}}
    file = written(merge(TEXT, merge(changes, {"seeds": [0, 1, 2, 3]})))
    command = ["sweep", file, "--slurm", "--sbatch=--time=60"]
    assert main(command) == 0
    sent = json.loads(Path("runs/small/slurm/1/sent.json").read_text())
    assert sent["tasks"] == [["small/topk"], *([f"small/topk-seed{seed}"] for seed in (1, 2, 3))]
    limited, cancelled = (f"{sent['job']}_{number}" for number in (0, 1))
    assert state_of(limited) == "PENDING" and state_of(sent["cache"]) in ("PENDING", "RUNNING"), "the cache is first"

    held: dict[str, int] = {}
    wait_for(lambda: len(hold(("topk", "topk-seed1"), held)) == 2)
    elapsed = slurm("squeue", "--noheader", "--format=%M", f"--jobs={limited}").strip()
    minutes = sum(int(part) * 60**place for place, part in enumerate(reversed(elapsed.split(":")))) // 60
    slurm("scontrol", "update", f"JobId={limited}", f"TimeLimit={minutes + 3}")

    slurm("scancel", cancelled)
    wait_for(lambda: not state_of(cancelled) and summarise("runs/small/topk-seed1").state == "interrupted")
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["small/topk-seed1"]["state"] == "interrupted"
    assert found["small/topk-seed1"]["reason"].startswith(f"Slurm's task {cancelled} was cancelled; ")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"task {cancelled} was cancelled; " in said and f"small/topk: Slurm's task {limited} runs on" in said
    assert json.loads(Path("runs/small/slurm/2/sent.json").read_text())["tasks"] == [["small/topk-seed1"]]

    wait_for(lambda: is_asked(held["topk"]))
    os.kill(held["topk"], signal.SIGCONT)
    wait_for(lambda: state_of(limited) == "PENDING")
    kept = json.loads(Path("runs/small/topk.partial/checkpoint/state.json").read_text())["step"]
    assert 0 < kept < 600 and summarise("runs/small/topk").state == "interrupted"
    slurm("scontrol", "update", f"JobId={limited}", "TimeLimit=60", "StartTime=now")

    wait_for(lambda: len(measured(folder / "runs")) == 4)
    execute(expand(yaml.safe_load(Path(file).read_text())), "local", quiet=True)
    assert measured(folder / "runs") == measured(folder / "local")
    log = Path(f"runs/small/slurm/1/{limited}.log").read_text()
    assert "start 0: tsae run" in log and "stopped, as SIGUSR1 asked" in log and "start 1: tsae run" in log, log
    wait_for(lambda: not queue())
    assert main(command) == 0 and "nothing is left to send" in capsys.readouterr().out
