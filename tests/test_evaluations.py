"""One evaluation more than there are: a run that is not asked ends as before, and lists say whose number is whose"""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from tsae_nb import run_folders
from tsae_nb.cli import main
from tsae_nb.config import LATER, EvaluationConfig, RunConfig, build, result_settings
from tsae_nb.evaluation.evaluations import EVALUATIONS, UNLEARNING, Column
from tsae_nb.runs import execute
from tsae_nb.storage import read_json

PLANTED = {"name": "more/topk", "planted": {"width": 16, "slow": 8, "fast": 8, "evaluation_rows": 8},
           "sae": {"dictionary_size": 32}, "activations": {"calibration_rows": 8},
           "training": {"steps": 2, "rows_per_batch": 4}}
PROBE = dataclasses.replace(UNLEARNING, name="probe", section="probe", file="probe.json", beside=(), needs=(),
                            columns=(Column("sharpness", "probe", 2, 0),), check=None, prepare=None)


@dataclasses.dataclass(frozen=True)
class Probed(RunConfig):
    """A run that may be asked one thing more."""

    probe: EvaluationConfig | None = dataclasses.field(default=None, metadata=LATER)


def test_a_run_that_is_not_asked_ends_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [before] = execute([build(RunConfig, PLANTED)], tmp_path / "before", quiet=True)
    monkeypatch.setitem(EVALUATIONS, "probe", PROBE)
    config = build(Probed, PLANTED)
    assert result_settings(config) == result_settings(build(RunConfig, PLANTED))
    [run] = execute([config], tmp_path / "more", quiet=True)
    assert run.complete and not (run.folder / "probe.json").exists()
    one, other = (read_json(folder / "evaluation.json") for folder in (before.folder, run.folder))
    assert one == other


def test_where_several_are_optional_each_number_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        assert main(["list", str(tmp_path)]) == 0
        return capsys.readouterr().out.splitlines()

    metrics = {"explained_variance": 0.5, "l0": 8.0}
    results = {"plain": {}, "both": {"unlearning.json": {"score": 0.25}, "probe.json": {"sharpness": 0.75}},
               "one": {"unlearning.json": {"score": None, "reason": "nothing is known"}}}
    runs = [SimpleNamespace(name=name, folder=name, state="complete", reason="",
                            results={"evaluation.json": metrics, **of_run}) for name, of_run in results.items()]
    monkeypatch.setattr(run_folders, "summaries", lambda root: runs)
    common = "complete     0.500     8.0"
    assert told() == ["run    state           EV      L0  unlearning", f"plain  {common}", f"both   {common}  0.250",
                      f"one    {common}  nothing is known"]
    monkeypatch.setitem(EVALUATIONS, "probe", PROBE)
    assert told() == ["run    state           EV      L0  unlearning; probe", f"plain  {common}",
                      f"both   {common}  unlearning 0.250; probe 0.75", f"one    {common}  unlearning nothing is known"]
