"""Planted truth as a user meets it: the preset, again, longer, looked at"""

from pathlib import Path

import pytest

from tsae_nb.cli import main
from tsae_nb.sae import load_sae
from tsae_nb.storage import read_json
from tsae_nb.views.feature_index import FeatureIndex

SETTINGS = ("training.decay_fraction=0", "training.rows_per_batch=8", "planted.evaluation_rows=16",
            "activations.calibration_rows=16")
SHORT = [part for setting in SETTINGS for part in ("--set", setting)]


def run(*more: str) -> None:
    assert main(["run", "planted", *SHORT, *more]) == 0


def test_the_preset_is_trained_measured_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=6")
    found = read_json("runs/planted/batch_topk/evaluation.json")
    assert found["recovery"].keys() == {"explained_variance_of_signal", "slow", "fast"}
    assert 0.2 < found["recovery"]["slow"]["mcc"] < 1 and found["loss"]["recovered"] is None
    assert read_json("runs/planted/temporal_encoder/evaluation.json")["recovery"]["fast"]["f1"] < 1
    written = Path("runs/planted/topk/manifest.json").stat().st_mtime_ns
    run("--set", "training.steps=6")
    assert Path("runs/planted/topk/manifest.json").stat().st_mtime_ns == written
    run("--set", "training.steps=12", "--variants", "topk")
    run("--set", "training.steps=12", "--variants", "topk", "--name", "whole")
    assert load_sae("runs/planted/topk/sae").content_hash() == load_sae("runs/whole/topk/sae").content_hash()
    assert main(["figures", "runs/planted"]) == main(["evaluate", "runs/whole/topk"]) == 0
    again, once = (read_json(f"runs/whole/{name}/evaluation.json") for name in ("topk.evaluated", "topk"))
    assert again == once and "recovery" in again, "measured again, all of it is"
    assert FeatureIndex.of_run("runs/whole/topk").valid_tokens == 16 * 64


def test_another_world_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--set", "training.steps=2", "--variants", "topk")
    assert main(["run", "planted", *SHORT, "--set", "training.steps=2", "--variants", "topk", "--set",
                 "planted.noise=0.4"]) == 2
    assert "planted.noise: 0.25 → 0.4" in capsys.readouterr().err
    assert main(["run", "planted", "--layers", "1"]) == main(["store", "planted", "arrays"]) == 2
