"""Stored activations: written by `tsae store` and by users, trained, measured, indexed and continued like any other"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tsae_nb.cli import main
from tsae_nb.experiments import expand
from tsae_nb.runs import execute
from tsae_nb.sae import load_sae
from tsae_nb.storage import read_json
from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex

pytestmark = pytest.mark.usefixtures("without_chrome")
COMMON = {"variants": ["topk", "temporal"], "sae": {"dictionary_size": 64}, "activations": {"calibration_rows": 8},
          "training": {"steps": 6, "rows_per_batch": 8, "checkpoint_every": 3}}
TEXT = {"name": "text", **COMMON, "data": {"rows": 40, "evaluation_rows": 8, "row_length": 32}}
STORED = {"name": "kept", **COMMON, "stored": {"path": "activations"}}
Said = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for name, settings in (("text", TEXT), ("kept", STORED)):
            Path(f"{name}.yaml").write_text(yaml.safe_dump(settings))
        assert main(["store", "text.yaml", "activations"]) == 0
        execute(expand(TEXT), quiet=True)
        execute(expand(STORED), quiet=True)
    return folder


@pytest.fixture
def said(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Exit status and all output of a command, in a folder of one's own with everything in it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("variant", COMMON["variants"])
def test_the_same_sae_to_the_bit_from_a_stream_and_from_its_stored_copy(variant: str, made: Path) -> None:
    text, kept = (load_sae(made / "runs" / name / variant / "sae").state_dict() for name in ("text", "kept"))
    assert text.keys() == kept.keys() and all(torch.equal(text[name], kept[name]) for name in text)
    logs = [[json.loads(line) for line in (made / "runs" / name / variant / "metrics.jsonl").read_text().splitlines()]
            for name in ("text", "kept")]
    assert [{**line, "seconds": 0} for line in logs[0]] == [{**line, "seconds": 0} for line in logs[1]]
    found, without = (read_json(made / "runs" / name / variant / "evaluation.json") for name in ("text", "kept"))
    assert without.pop("loss")["reason"] and found.pop("loss")["recovered"] is not None
    assert found == without


def test_every_command_takes_such_a_run(said: Said) -> None:
    """And the first one again does nothing."""
    before = Path("runs/kept/topk/manifest.json").stat().st_mtime_ns
    status, output = said("run", "kept.yaml", "--variants", "topk")
    assert status == 0 and "runs/kept/topk" in output
    assert Path("runs/kept/topk/manifest.json").stat().st_mtime_ns == before
    for arguments in (("list",), ("compare", "runs/kept/topk", "runs/text/topk"), ("verify",), ("inspect", "runs/kept"),
                      ("figures", "runs/kept"), ("export", "runs/kept/topk", "--format", "saelens"),
                      ("export", "runs/kept/topk", "--format", "html"),
                      ("evaluate", "runs/kept/topk", "--set", "evaluation.largest_lag=4")):
        status, output = said(*arguments)
        assert status == 0, (arguments, output)
    status, output = said("compare", "runs/kept/topk", "runs/text/topk")
    assert "stored" in output
    status, output = said("evaluate", "runs/kept/topk", "--set", "stored.evaluation_rows=4")
    assert status == 2 and "that is what the run was trained with" in output


def test_features_of_stored_activations_are_explored(said: Said) -> None:
    """With the texts of its tokens the index is that of the language model's own run, its logits apart."""
    kept, text = (FeatureIndex.of_run(f"runs/{name}/topk") for name in ("kept", "text"))
    assert kept.arrays.vocabulary == text.arrays.vocabulary and kept.valid_tokens == text.valid_tokens
    for name in ("csr_ptr", "csr_id", "csr_act", "tokens"):
        mine, theirs = kept.arrays.get(name), text.arrays.get(name)
        assert mine is not None and theirs is not None and np.array_equal(mine[:], theirs[:]), name
    FeatureExplorer(kept).export_html("page.html")
    assert Path("page.html").stat().st_size > 10_000


def test_arrays_of_ones_own_are_trained_on_and_explored(said: Said) -> None:
    """Nothing but numbers: neither documents nor tokens."""
    Path("mine/training").mkdir(parents=True)
    np.save("mine/training/0.npy", np.random.default_rng(0).normal(size=(60, 16, 12)).astype(np.float16))
    Path("own.yaml").write_text(yaml.safe_dump(
        {"name": "own", "variants": ["batch_topk"], "sae": {"dictionary_size": 32},
         "stored": {"path": "mine", "evaluation_rows": 10}, "training": {"steps": 3, "rows_per_batch": 8}}))
    assert said("run", "own.yaml")[0] == 0
    manifest = read_json("runs/own/batch_topk/manifest.json")
    assert manifest["hashes"].keys() == {"activations", "sae"}
    index = FeatureIndex.of_run("runs/own/batch_topk")
    assert index.arrays.vocabulary == ["·"] and index.valid_tokens == 10 * 16


def test_a_run_goes_on_from_a_moved_folder_and_from_no_other(said: Said) -> None:
    """By its content, wherever it lies."""
    Path("activations").rename("elsewhere")
    longer = ("--set", "training.steps=9", "--variants", "topk")
    status, output = said("run", "kept.yaml", *longer)
    assert status == 2 and "there is no folder" in output
    assert said("run", "kept.yaml", *longer, "--set", "stored.path=elsewhere")[0] == 0
    steps = [json.loads(line)["step"] for line in Path("runs/kept/topk/metrics.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 10)] or steps == [*range(9)]
    assert said("run", "text.yaml", *longer)[0] == 0
    kept, text = (load_sae(f"runs/{name}/topk/sae").content_hash() for name in ("kept", "text"))
    assert kept == text
    status, output = said("store", "text.yaml", "other", "--set", "data.seed=1")
    assert status == 0
    status, output = said("run", "kept.yaml", "--variants", "topk", "--set", "stored.path=other", "--set",
                          "training.steps=12")
    assert status == 2 and "activations" in output, output


def test_what_cannot_be_stored_or_set_is_one_sentence(said: Said) -> None:
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("folder/mine").touch()
    for arguments, sentence in (
        (("store", "text.yaml", "file"), "is there already"), (("store", "text.yaml", "folder"), "is there already"),
        (("store", "text.yaml", "out", "--layers", "0,1"), "choose those of one seed and layer"),
        (("store", "kept.yaml", "out"), "has no language model"),
        (("run", "kept.yaml", "--layers", "1"), "language_model beside stored"),
        (("run", "kept.yaml", "--set", "unlearning.gate=0.9"), "unlearning beside stored"),
        (("run", "kept.yaml", "--set", "stored.rows=4", "--name", "few"), "a batch of 8 rows needs as many"),
    ):
        status, output = said(*arguments)
        assert status == 2 and sentence in output and output.count("\n") <= 3, (arguments, output)
    assert Path("file").read_text() == "mine" and [*Path("folder").iterdir()] == [Path("folder/mine")]
    assert not Path("out").exists() and not Path("runs/few").exists()
    assert said("store", "text.yaml", "activations")[0] == 0, "ours is made again"


@pytest.mark.parametrize("where", ["header", "numbers"])
def test_damage_of_a_folder_of_ours_is_found_before_it_is_learned_from(where: str, said: Said) -> None:
    file = Path("activations/training/00000.safetensors")
    content = bytearray(file.read_bytes())
    place = 20 if where == "header" else len(content) // 2
    content[place] ^= 0xFF
    file.write_bytes(content)
    status, output = said("run", "kept.yaml", "--name", "damaged")
    assert status == 2 and "00000.safetensors" in output and "Traceback" not in output
