"""Complete runs between the commands that use them: named oddly or twice, damaged, exported over, measured again"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tsae_nb import complete_runs, runs
from tsae_nb.cli import main
from tsae_nb.complete_runs import evaluate_again, held_out_rows
from tsae_nb.config import DataConfig
from tsae_nb.corpus import token_rows, world_documents
from tsae_nb.evaluation import metrics
from tsae_nb.experiments import expand
from tsae_nb.language_model import LanguageModel
from tsae_nb.run_folders import RUN, check_files, summarise
from tsae_nb.runs import empty_cache, execute, launch
from tsae_nb.storage import Busy, locked, record, verify

pytestmark = pytest.mark.usefixtures("without_chrome")
EXPERIMENT = {
    "name": "demo", "variants": ["topk", "baseline"], "sae": {"dictionary_size": 64},
    "data": {"rows": 32, "evaluation_rows": 8, "row_length": 32}, "activations": {"calibration_rows": 8},
    "training": {"steps": 3, "rows_per_batch": 8},
}
TEXTS = [text.replace("\n", " ")[:120] for _, text in world_documents(0, "train", 80)]
Said = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for run in execute(expand(EXPERIMENT), quiet=True):
            (run.folder / "run.ipynb").write_text("{}")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with two complete runs in it."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(place: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Exit status and all output of a command."""
    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, "".join(capsys.readouterr())

    return run


def test_the_folder_one_is_in_is_a_run_too(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("runs/demo/topk")
    assert said("list", ".")[0] == said("compare", ".", "../baseline")[0] == 0
    assert said("export", ".", "--format", "saelens")[0] == 0
    monkeypatch.chdir(place)
    assert said("evaluate", "runs/demo/topk/sae/..")[0] == 0
    assert {path.name for path in (place / "runs" / "demo").iterdir()} == {
        "topk", "baseline", "topk.saelens", "topk.evaluated"}
    monkeypatch.chdir("runs/demo/topk/sae")
    assert said("remove", ".", "--yes")[0] == 2, "a folder in a run is none"
    monkeypatch.chdir(place)
    assert said("remove", "runs/demo/topk", "runs/demo/topk/", f"{place}/runs/demo/topk", "--yes")[0] == 0


def test_a_run_that_is_named_twice_is_drawn_once(place: Path, said: Said) -> None:
    assert said("figures", "runs/demo", "runs", "--out", "out") == said("figures", "runs", "--out", "out")


def test_an_experiment_that_cannot_be_drawn_hides_no_other(place: Path, said: Said) -> None:
    shutil.copytree("runs/demo", "runs/another")
    for variant in ("topk", "baseline"):
        Path("runs", "another", variant, "metrics.jsonl").write_text("{}\n")
    status, output = said("figures")
    assert status == 2 and "the figures of runs/another are not drawn" in output
    assert Path("runs/demo/figures/figure1.html").is_file()


@pytest.mark.parametrize("lost", ["config.yaml", "manifest.json", "stored.json"])
def test_a_run_that_lost_a_file_is_damaged_for_every_command_and_can_be_removed(
    lost: str, place: Path, said: Said
) -> None:
    Path("runs/demo/topk", lost).unlink()
    for line in ("compare RUN", "evaluate RUN", "export RUN --format saelens", "verify"):
        status, output = said(*line.replace("RUN", "runs/demo/topk").split())
        assert status == 2 and lost in output and "did you mean" not in output, output
    if lost != "stored.json":  # the mark
        assert said("remove", "runs/demo/topk", "--yes")[0] == 0 and not Path("runs/demo/topk").exists()


def test_settings_that_were_changed_by_hand_are_used_by_nobody(
    place: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named before a language model is loaded."""
    monkeypatch.setattr(complete_runs, "check_before_work", None)
    monkeypatch.setattr(complete_runs, "export_sae", None)
    config = Path("runs/demo/topk/config.yaml")
    config.write_text(config.read_text().replace("row_length: 32", "row_length: 64"))
    for line in ("compare RUN", "evaluate RUN", "export RUN --format saelens"):
        status, output = said(*line.replace("RUN", "runs/demo/topk").split())
        assert status == 2 and "config.yaml is damaged" in output, output


def test_a_run_killed_before_its_last_renaming_is_under_way(place: Path, said: Said) -> None:
    Path("runs/demo/topk").rename("runs/demo/topk.partial")
    assert said("list")[1].count("demo/topk") == 1
    for name in ("topk", "topk.partial"):
        status, output = said("evaluate", f"runs/demo/{name}")
        assert status == 2 and "is not complete" in output, output
    assert said("figures", "--out", "out")[0] == 0
    assert "baseline" in (drawn := Path("out/figure1.csv").read_text()) and "topk" not in drawn


def test_a_page_takes_no_other_files_place(place: Path, said: Said) -> None:
    for name in ("mine.html", "notes/topk.html"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
        status, output = said("export", "runs/demo/topk", "--format", "html", "--out", name)
        assert status == 2 and "no page of ours" in output and Path(name).read_text() == "mine"
    assert said("export", "runs/demo/topk", "--format", "html", "--out", "notes")[0] == 2
    for _ in range(2):
        assert said("export", "runs/demo/topk", "--format", "html")[0] == 0


def test_damaged_results_are_measured_again_and_caches_are_in_use_meanwhile(
    place: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("evaluate", "runs/demo/topk")[0] == 0
    results = Path("runs/demo/topk.evaluated/evaluation.json")
    written = results.read_bytes()
    results.write_bytes(written.replace(b"0", b"1"))
    evaluate, looked = metrics.evaluate, []

    def looking(*arguments: object) -> object:
        with pytest.raises(Busy, match="measuring runs/demo/topk again"):
            empty_cache("runs/cache")
        with pytest.raises(Busy, match="topk.evaluated is in use"), locked(results.parent, "another", wait=False):
            pass
        looked.append(True)
        return evaluate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(metrics, "evaluate", looking)
    assert said("evaluate", "runs/demo/topk")[0] == 0 and looked
    assert results.read_bytes() == written and not list(verify("runs"))


def test_another_language_model_in_the_place_of_the_runs_own_is_named(place: Path, said: Said) -> None:
    written = Path("runs/demo/topk/manifest.json")
    manifest = json.loads(written.read_text())
    written.write_text(json.dumps({**manifest, "hashes": {**manifest["hashes"], "language_model": "another"}}))
    record(written.parent, RUN, ["manifest.json"])
    status, output = said("evaluate", "runs/demo/topk")
    assert status == 2 and "language model of embedded" in output and not Path("runs/demo/topk.evaluated").exists()


def test_json_is_json_where_there_are_fewer_rows_than_wished_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.txt").write_text("\n\n".join(TEXTS))
    run, = execute(expand({**EXPERIMENT, "name": "own", "variants": ["topk"], "data": {
        **EXPERIMENT["data"], "source": "files", "path": "text.txt"}}), quiet=True)  # type: ignore[dict-item]
    capsys.readouterr()
    assert main(["evaluate", str(run.folder), "--set", "data.evaluation_rows=1000", "--json"]) == 0
    output = capsys.readouterr()
    assert 8 < json.loads(output.out)["metrics"]["rows"][1] < 1000 and "wished for" in output.err


def test_documents_are_known_by_what_they_say_not_by_the_name_of_their_file(tmp_path: Path) -> None:
    for folder, texts in (("one", TEXTS[:40]), ("other", TEXTS[40:])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "all").mkdir()
    shutil.copy(tmp_path / "one" / "text.jsonl", tmp_path / "all" / "copy.jsonl")
    shutil.copy(tmp_path / "other" / "text.jsonl", tmp_path / "all" / "text.jsonl")
    tokenizer = LanguageModel.load("embedded").tokenizer

    def data(folder: str, rows: int, evaluation_rows: int) -> DataConfig:
        return DataConfig(source="files", path=str(tmp_path / folder), row_length=32, shortest_document=8, rows=rows,
                          evaluation_rows=evaluation_rows)

    def documents(wanted: DataConfig) -> list[str]:
        rows = held_out_rows(data("one", 20, 4), wanted, tokenizer, tmp_path / "cache")
        return sorted({rows.names[number] for number in rows.documents.ravel() if number >= 0})

    training, _ = token_rows(data("one", 20, 4), tokenizer, tmp_path / "cache", quiet=True)
    trained = {training.names[number] for number in training.documents.ravel() if number >= 0}
    assert len(documents(data("other", 1, 20))) > 5, "another text whose file has the same name is not trained on"
    found = documents(data("all", 1, 60))
    assert {f"text.jsonl:{number}" for number in range(1, 10)} <= set(found)
    assert not {name.replace("text", "copy") for name in trained} & set(found), "a copy was trained on"


def test_a_run_of_an_earlier_version_gets_no_half_list_of_hashes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in ("topk", "baseline"):
        folder = Path("runs/demo", variant)
        written = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**written, "hashes_of_files": None}))
        for name in ("stored.json", "run.ipynb"):
            (folder / name).unlink()
    monkeypatch.setattr(runs, "_execute_notebook", lambda template, executed, *rest: executed.write_text("{}"))
    for run in launch(EXPERIMENT):
        summary = summarise(run.folder)
        assert summary is not None and summary.state == "complete" and (run.folder / "run.ipynb").is_file()
        check_files(run.folder, ("config.yaml", "evaluation.json"))
        evaluate_again(run.folder, out=run.folder.with_name("again"), quiet=True) if "topk" in run.config.name else None
