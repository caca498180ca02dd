"""Planted truth as a user meets it: the preset, again, longer, looked at"""

from pathlib import Path

import pandas as pd
import planted_grid
import pytest
import torch
import yaml

from tsae_nb.cli import main
from tsae_nb.config import ActivationsConfig, PlantedConfig, UserError, read_yaml
from tsae_nb.evaluation.oracles import KnownDictionary, oracles
from tsae_nb.evaluation.recovery import recovery
from tsae_nb.planted import PlantedActivations
from tsae_nb.sae import load_sae
from tsae_nb.storage import read_json, write_json
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.recovery_figure import draw_recovery
from tsae_nb.views.time_explorer import PLAIN_SAE, PlantedGrid, found_by

pytestmark = pytest.mark.usefixtures("without_chrome")
SETTINGS = ("training.decay_fraction=0", "training.rows_per_batch=8", "planted.evaluation_rows=16",
            "activations.calibration_rows=16")
SHORT = [part for setting in SETTINGS for part in ("--set", setting)]


def run(*more: str) -> None:
    assert main(["run", "planted", *SHORT, *more]) == 0


def test_the_preset_is_trained_measured_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=6")
    found = read_json("runs/planted/batch_topk/evaluation.json")
    assert found["recovery"].keys() == {"explained_variance_of_signal", "slow", "fast"}
    assert 0.2 < found["recovery"]["slow"]["mcc"] < 1 and found["loss"]["recovered"] is None
    assert read_json("runs/planted/temporal_encoder/evaluation.json")["recovery"]["fast"]["f1"] < 1
    written = Path("runs/planted/temporal_code/manifest.json").stat().st_mtime_ns
    run("--set", "training.steps=6")
    assert Path("runs/planted/temporal_code/manifest.json").stat().st_mtime_ns == written
    run("--set", "training.steps=12", "--variants", "temporal_code")
    run("--set", "training.steps=12", "--variants", "temporal_code", "--name", "whole")
    longer, whole = (load_sae(f"runs/{name}/temporal_code/sae") for name in ("planted", "whole"))
    assert longer.content_hash() == whole.content_hash()
    assert main(["figures", "runs/planted"]) == main(["evaluate", "runs/whole/temporal_code"]) == 0
    again, once = (read_json(f"runs/whole/temporal_code{beside}/evaluation.json") for beside in (".evaluated", ""))
    assert again == once and "recovery" in again, "measured again, all of it is"
    capsys.readouterr()
    assert main(["list", "runs/planted"]) == 0 and capsys.readouterr().out.count("F1 slow 0.") == 9
    assert FeatureIndex.of_run("runs/whole/temporal_code").valid_tokens == 16 * 64


def test_another_world_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=2", "--variants", "topk")
    assert main(["run", "planted", *SHORT, "--set", "training.steps=2", "--variants", "topk", "--set",
                 "planted.noise=0.4"]) == 2
    assert "planted.noise: 0.25 → 0.4" in capsys.readouterr().err
    assert main(["run", "planted", "--layers", "1"]) == main(["store", "planted", "arrays"]) == 2
    assert main(["run", "planted", *SHORT, "--set", "planted.shuffled=time"]) == 2
    assert "planted.shuffled: got 'time'; Input should be 'inside' or 'all'" in capsys.readouterr().err


WORLDS = """
name: worlds
variants: [topk, batch_topk]
planted: {width: 16, slow: 12, fast: 12, evaluation_rows: 16, seed: null}
worlds: {short: {run_length: 4}, noisy: {noise: 0.4}}
sae: {dictionary_size: 32, sparse_code: {active: 2}}
training: {steps: 2, rows_per_batch: 4}
activations: {calibration_rows: 4}
"""


def test_what_is_set_of_a_chosen_world_or_variant_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As each process of a sweep is told: which it makes, and all that was set."""
    monkeypatch.chdir(tmp_path)
    Path("worlds.yaml").write_text(WORLDS)
    changes = ["worlds.noisy.noise=0.3", "worlds.long.run_length=64", "variants.topk.training.steps=5"]
    line = ["run", "worlds.yaml", "--resolve", *(part for change in changes for part in ("--set", change))]
    assert main([*line, "--worlds", "noisy,long", "--variants", "topk"]) == 0
    runs = {run["name"]: run for run in yaml.safe_load_all(capfd.readouterr().out)}
    assert {name: (run["planted"]["noise"], run["planted"]["run_length"], run["training"]["steps"])
            for name, run in runs.items()} == {"worlds/topk-noisy": (0.3, 32, 5), "worlds/topk-long": (0.25, 64, 5)}


def test_worlds_are_swept_one_process_each_and_chosen_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("worlds.yaml").write_text(WORLDS)
    assert main(["run", "worlds.yaml", "--worlds", "noisy", "--variants", "topk"]) == 0
    assert main(["sweep", "worlds.yaml", "--variants", "topk", "--worlds", "short,noisy", "--processes", "2"]) == 0
    assert "1 runs to make" in capfd.readouterr().out
    assert draw_recovery("runs/worlds") == []
    assert main(["run", "worlds.yaml", "--seeds", "3", "--worlds", "short"]) == main(["figures", "runs/worlds"]) == 0
    table = pd.read_csv("runs/worlds/figures/figure3.csv")
    assert {*table.run_length} == {4, 32} and {*table.method} == {"topk", "batch_topk"} and len(table) == 8
    configs = {path.parent.name: read_yaml(path) for path in Path("runs/worlds").glob("*/config.yaml")}
    assert {name: (config["planted"]["run_length"], config["planted"]["noise"], config["planted"]["seed"])
            for name, config in configs.items()} == {
        "topk-short": (4, 0.25, 0), "topk-short-seed3": (4, 0.25, 3), "batch_topk-short-seed3": (4, 0.25, 3),
        "topk-noisy": (32, 0.4, 0)}
    assert main(["run", "worlds.yaml", "--worlds", "long"]) == 2
    assert "there is no world 'long' in the file; it has short, noisy" in capfd.readouterr().err


def test_without_time_nothing_flickers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=2", "--variants", "topk", "--name", "shuffled", "--set", "planted.shuffled=all")
    slow = read_json("runs/shuffled/topk/evaluation.json")["recovery"]["slow"]
    assert slow["flicker"] < 3  # the truth itself changes as often; in runs of 32 tokens it would be above 15


def source_of(**settings: object) -> PlantedActivations:
    return PlantedActivations(PlantedConfig(evaluation_rows=24, **settings), ActivationsConfig(calibration_rows=4))


def test_the_oracles_stand_in_order_and_read_what_they_may() -> None:
    source = source_of(noise=0.4)
    readers = oracles(source)
    scores = {name: recovery(oracle, source).slow for name, oracle in readers.items()}
    f1 = [scores[name].f1 for name in ("tied", "linear", "token", "past", "both")]
    assert f1 == sorted(f1) and f1[3] > f1[2] + 0.2
    _, seen = source.drawn(4, "leak")
    later = torch.cat([seen[:, :40], seen[:, 40:].flip(1)], 1)
    for name, oracle in readers.items():
        same = torch.equal(oracle.encode(seen)[:, :40], oracle.encode(later)[:, :40])
        assert same == (name != "both"), name


@pytest.mark.parametrize("settings", [{"slow": 0}, {"fast": 0}, {"noise": 0.0}, {"spread": 0.0}, {"zipf": 1.0}, {
    "children": 8, "correlation": 0.5}, {"shuffled": "all"}], ids=str)
def test_there_are_oracles_of_every_world(settings: dict[str, object]) -> None:
    source = source_of(**settings)
    for name, oracle in oracles(source, rounds=1).items():
        found = recovery(oracle, source)
        assert isinstance(oracle, KnownDictionary)
        for features in (features for features in (found.slow, found.fast) if features is not None):
            assert 0.3 < features.f1 <= 1 and features.mcc == pytest.approx(1), (name, found)


def test_the_stored_grid_is_that_of_todays_file_and_finds_what_it_says() -> None:
    assert planted_grid.apart() == []
    grid = PlantedGrid.open(planted_grid.STORED)
    assert len(grid.made["commit"]) == 40 and grid.made["date"] > "2026" and len(grid.tensors) > 36
    for world, variant in (("length32-noise0.4", "taps-8"), ("length4-noise0.1", PLAIN_SAE)):
        again, stored = found_by(grid.sae(world, variant)[0], grid.source(world)), grid.known[world].found[variant]
        assert [again.slow, again.fast] == pytest.approx([stored.slow, stored.fast], abs=planted_grid.TOLERATED)


def test_a_grid_is_of_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_grid, "WORK", planted_grid.ROOT / "runs" / ".some-grid")
    for commits, said in ((["a", "a"], None), (["a", "b"], "several commits"), (["a+", "a+"], "differed"),
                          ([None, None], "differed")):
        for number, commit in enumerate(commits):
            write_json(tmp_path / str(number) / "manifest.json", {"git_commit": commit})
        runs = [tmp_path / str(number) for number in range(len(commits))]
        if said is None:
            assert planted_grid.commit_of(runs) == "a"
        else:
            with pytest.raises(UserError, match=said):
                planted_grid.commit_of(runs)


@pytest.mark.parametrize("setting, said", [
    ("planted.noise=1e60", "less than or equal to 1000000"), ("planted.density=0.9", "less than or equal to 0.5"),
    (f"planted.width={10**20}", "less than or equal to 1000000000"), ("sae.temporal_code.taps=10000000", "to 1024"),
    (f"sae.dictionary_size={10**22}", "less than or equal to 1000000000"), ("planted.slow=1000000000", "too little"),
    ("planted.evaluation_rows=1000000000", "too little"), ("training.rows_per_batch=1000000000", "too little"),
])
def test_what_cannot_be_drawn_or_held_is_refused_before_any_work(
    setting: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "planted", "--variants", "temporal_code", *SHORT, "--set", setting]) == 2
    error = capsys.readouterr().err
    assert said in error and setting.split("=")[0] in error and "Traceback" not in error, error
    assert not [*tmp_path.rglob("metrics.jsonl")]


def test_a_world_in_which_nothing_is_on_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=2", "--set", "planted.density=1e-9", "--variants", "batch_topk,tfa")
    found = read_json("runs/planted/batch_topk/evaluation.json")["recovery"]
    assert found["explained_variance_of_signal"] is found["slow"]["f1"] is None and 0 < found["fast"]["mcc"] < 1
    capsys.readouterr()
    assert main(["list", "runs/planted"]) == main(["compare", "runs/planted/batch_topk", "runs/planted/tfa"]) == 0
    assert main(["figures", "runs/planted"]) in (0, 2) and "Traceback" not in capsys.readouterr().err


def test_a_run_that_lost_its_settings_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=2", "--variants", "batch_topk")
    Path("runs/planted/batch_topk/config.yaml").unlink()
    for command in (["list", "runs/planted"], ["run", "planted", *SHORT, "--set", "training.steps=2", "--variants",
                                               "batch_topk"], ["compare", "runs/planted/batch_topk"]):
        capsys.readouterr()
        assert main(command) == (0 if command[0] == "list" else 2)
        said = "".join(capsys.readouterr())
        assert "Errno" not in said and "batch_topk/config.yaml is missing" in said and "Put back the file" in said, said
