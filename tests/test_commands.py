"""The command line as a person meets it: a killed run continues to the same bits, and mistakes are said plainly"""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch

from tsae_nb.cli import main
from tsae_nb.config import UserError, read_yaml
from tsae_nb.experiments import expand, load_experiment
from tsae_nb.runs import _execute_notebook
from tsae_nb.storage import read_tensors

ROOT = Path(__file__).parents[1]
TSAE = str(Path(sys.executable).with_name("tsae"))
SMALL = """
name: small
variants: {topk: {}, baseline: {}}
data: {rows: 96, evaluation_rows: 16}
activations: {calibration_rows: 16, cache_folder: CACHE}
sae: {dictionary_size: 64}
training: {steps: 300, rows_per_batch: 8, checkpoint_every: 20}
"""


def tsae(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [TSAE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, **options)  # type: ignore[call-overload]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL.replace("CACHE", str(tmp_path / "cache")))
    return file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "sae" / "sae.safetensors")[0]


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def killed_at(step: int, command: list[str], metrics: Path) -> None:
    """Start a command and kill it with SIGKILL, its children too, once its log has reached a step."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **silent)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if metrics.is_file() and metrics.read_text().count("\n") >= step:
            break
        time.sleep(0.01)
    assert child.poll() is None, "the run ended before it could be killed"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_a_killed_run_continues_to_the_same_bits(experiment: Path, tmp_path: Path) -> None:
    whole = tsae("run", experiment, "--root", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    command = [TSAE, "run", str(experiment), "--root", str(tmp_path / "killed")]
    partial = tmp_path / "killed" / "small" / "topk.partial"
    killed_at(75, command, partial / "metrics.jsonl")
    assert not (tmp_path / "killed" / "small" / "topk").exists(), "a half-written run must not look complete"
    again = tsae("run", experiment, "--root", tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    for variant in ("topk", "baseline"):
        one, other = (tmp_path / part / "small" / variant for part in ("whole", "killed"))
        assert (one / "sae" / "sae.safetensors").read_bytes() == (other / "sae" / "sae.safetensors").read_bytes()
        assert steps(other) == list(range(1, 301)) and (one / "metrics.jsonl").read_bytes() == (
            other / "metrics.jsonl").read_bytes()
        assert (other / "run.ipynb").is_file()


def test_a_complete_run_is_kept_and_listed(experiment: Path, tmp_path: Path) -> None:
    short = ["--variants", "topk", "--set", "training.steps=10", "--root", tmp_path / "runs"]
    assert tsae("run", experiment, *short).returncode == 0
    before = (tmp_path / "runs" / "small" / "topk" / "manifest.json").stat().st_mtime_ns
    assert tsae("run", experiment, *short).returncode == 0
    assert (tmp_path / "runs" / "small" / "topk" / "manifest.json").stat().st_mtime_ns == before
    listed = tsae("list", tmp_path / "runs")
    assert "small/topk" in listed.stdout and "complete" in listed.stdout


MISTAKES = {
    "no such setting; did you mean 'steps'": ["--set", "training.step=5"],
    "there is no variant": ["--variants", "topkk"],
    "layer 40 ": ["--set", "language_model.layer=40"],
    "nowhere.jsonl": ["--set", "data.source=files", "--set", "data.path=nowhere.jsonl"],
    "empty.txt": ["--set", "data.source=files", "--set", "data.path=EMPTY"],
    "hf download": ["--set", "language_model.path=nobody/no-such-model"],
    "/proc/nowhere": ["--root", "/proc/nowhere"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_one_clear_message(
    experiment: Path, tmp_path: Path, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("")
    wrong = [part.replace("EMPTY", str(tmp_path / "empty.txt")) for part in MISTAKES[message]]
    status = main(["run", str(experiment), "--variants", "topk", "--root", str(tmp_path / "runs"), *wrong])
    said = capsys.readouterr().err
    ours = said[said.index("tsae: ") :]  # the last of it; the configuration's mistakes have a line each
    assert status == 2 and said.count("tsae: ") == 1 and message in ours, said
    assert not list((tmp_path / "runs").rglob("manifest.json"))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a system that limits the size of files")
def test_a_full_disk_is_said_and_nothing_half_written_is_whole(experiment: Path, tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = tsae("run", experiment, "--variants", "topk", "--root", tmp_path / "runs", preexec_fn=limited)
    assert done.returncode == 2 and "cannot write" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list((tmp_path / "runs").rglob("manifest.json"))


@pytest.mark.parametrize(("raised", "kept"), [
    ("storage import Busy", False), ("config import UserError", False), ("processes import Terminated", True)])
def test_only_a_notebook_that_failed_as_nobody_thought_of_is_kept(tmp_path: Path, raised: str, kept: bool) -> None:
    source = f"from tsae_nb.{raised} as Raised\nraise Raised('it is so')"
    template, executed, place = (tmp_path / name for name in ("template.ipynb", "executed.ipynb", "topk"))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), template)
    with pytest.raises(UserError) as caught:
        _execute_notebook(template, executed, {}, place)
    assert (str(caught.value) != "it is so") == kept == (tmp_path / "failed-topk.ipynb").is_file(), caught.value


@pytest.mark.parametrize("command", ["--version", "list runs/reference"])
def test_an_output_that_takes_nothing_is_no_fault_of_ours(command: str) -> None:
    def to(place: str) -> tuple[int, str]:
        line = ["sh", "-c", f"'{TSAE}' {command} >{place}"]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=240)
        return done.returncode, done.stderr.strip()

    assert to("&-") == (0, "")
    if Path("/dev/full").exists():
        assert to("/dev/full") == (2, f"tsae: cannot write to standard output: {os.strerror(errno.ENOSPC)}")


@pytest.mark.parametrize("file", sorted((ROOT / "runs").glob("*.yaml")), ids=lambda file: file.name)
def test_committed_parameter_files_are_whole(file: Path) -> None:
    names = [config.name for config in expand(load_experiment(file))]
    assert names and len(set(names)) == len(names)


def test_the_ablations_of_gemma_are_in_the_setting_of_the_preset() -> None:
    preset, ablations = (read_yaml(ROOT / "runs" / f"{name}.yaml") for name in ("gemma-2-2b", "gemma-ablations"))
    own = {"name", "layers", "variants"}
    assert {key: value for key, value in ablations.items() if key not in own} == {
        key: value for key, value in preset.items() if key not in own}
    named = {name.split("-")[0] for name in ablations["variants"]} | {*ablations["variants"]}
    assert {"temporal-no-convolution", "margin", "no-margin", "percentile", "temporal-no-hierarchy"} <= named
