"""The comparison of results: one digit is found and named, and nothing but equal values is called the same"""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import same_results  # noqa: E402

RUN = ROOT / "runs" / "reference" / "tiny" / "topk"


def test_values_that_differ_are_named() -> None:
    stored = same_results.flat({"l0": 16.0, "groups": [{"mean": 0.5}, {"mean": None}]}, "evaluation")
    assert same_results.apart(stored, dict(stored)) == []
    given = {**stored, "evaluation.groups.1.mean": 0.25, "evaluation.more": 1}
    assert same_results.apart(stored, given) == [
        "evaluation.groups.1.mean: None → 0.25", "evaluation.more: nothing → 1"]
    assert same_results.apart({"l0": 16.0}, {"l0": 16}) and same_results.apart({"l0": 16.0}, {})
    assert same_results.apart(dict.fromkeys("abcdefg", 0), {})[-1] == "and 2 more values"


@pytest.mark.parametrize("changed", ["", "sae", "evaluation.temporal.shuffled.half_life", "unlearning.score",
                                     "unlearning.table.forget_accuracy.3"])
def test_one_value_decides(changed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Any] = same_results.stored_values(RUN)
    assert not changed or changed in values
    given = copy.copy(values) | ({changed: 0.125} if changed else {})
    monkeypatch.setattr(same_results, "measured", lambda *_: {"runs": {str(RUN): given}, "tables": {}})
    assert same_results.main([str(RUN)]) == bool(changed)
    said = capsys.readouterr().out
    assert f"{changed}: {values.get(changed)} → 0.125" in said if changed else "values are the same" in said


def test_every_file_of_results_is_read(tmp_path: Path) -> None:
    (tmp_path / "probe.json").write_text('{"sharpness": [0.5]}')
    (tmp_path / "probe.txt").write_text("half")
    values = same_results.values_of(tmp_path, ["evaluation.json", "probe.txt", "probe.json"])
    assert values.keys() == {"probe.sharpness.0", "probe.txt"} and values["probe.sharpness.0"] == 0.5
    assert {name.partition(".")[0] for name in same_results.stored_values(RUN)} == {"sae", "evaluation", "unlearning"}
    (tmp_path / "probe.txt").write_text("hale")
    assert same_results.values_of(tmp_path, ["probe.txt"])["probe.txt"] != values["probe.txt"]


def test_a_folder_without_an_sae_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no complete run with an SAE"):
        same_results.main([str(tmp_path)])
