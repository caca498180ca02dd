"""The stored lines of methods at equal sparsity: made where one is missing, with what its evaluations say"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import line_sets  # noqa: E402
import matched_set  # noqa: E402

from tsae_nb.views.matched import language_lines  # noqa: E402

SMALL = """
name: small
variants: {batch_topk: {}, consistency: {base: batch_topk, sae: {consistency: {}}}}
data: {rows: 64, evaluation_rows: 16, row_length: 32}
sae: {dictionary_size: 64, sparse_code: {active: 4}}
training: {steps: 2, rows_per_batch: 4}
activations: {calibration_rows: 4, cache: false}
"""


def test_what_is_stored_is_of_todays_files_and_all_there() -> None:
    assert matched_set.LINES.outdated("") == []
    assert not [part for part in matched_set.PARTS if matched_set.LINES.missing(part)]


def test_all_methods_have_the_same_number_of_active_features_in_every_part() -> None:
    runs = {part: matched_set.LINES.wanted(part) for part in matched_set.PARTS}
    for active in (8, 16, 32):
        part = runs[f"L0 {active}"]
        assert len(part) == 13 * 5 and {run.config.sae.sparse_code.active for run in part} == {active}
        assert {run.config.sae.sparse_code.kind for run in part} == {"batch_topk"}
        assert all(run.config.unlearning is not None for run in part)
    keys = [run.key for part in runs.values() for run in part]
    assert len(set(keys)) == len(keys) == 3 * 65 + 48


def test_a_line_says_what_the_run_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small.yaml").write_text(SMALL)
    parts = {"L0 6": line_sets.Part("small", (3,), {"name": "small-6"}, ("sae.sparse_code.active=6",))}
    lines = replace(matched_set.LINES, parts=parts, root=tmp_path)
    assert lines.train(["L0 6"], 1)
    table = pd.read_csv(tmp_path / lines.table)
    assert list(table.method) == ["batch_topk", "consistency"] and set(table.active) == {6} and set(table.seed) == {3}
    for row in table.itertuples():
        run = line_sets.open_run(tmp_path / lines.work / row.run)
        assert row.explained_variance == pytest.approx(run.evaluation["explained_variance"], rel=1e-5)
        control = run.evaluation["temporal"]["shuffled"]["autocorrelation"][0]
        assert row.lag_one_shuffled == pytest.approx(control, rel=1e-5)
        assert row.times_chance > 0
    monkeypatch.setattr(line_sets.Children, "run", lambda *_: pytest.fail("nothing is missing"))
    assert lines.train(["L0 6"], 1) and not lines.missing("L0 6")


def test_what_the_readme_says_of_them_exceeds_what_seeds_differ() -> None:
    table = language_lines(pd.read_csv(ROOT / matched_set.LINES.table)).query("active == 16")
    assert table.groupby("method").seed.nunique().eq(5).all() and table.method.nunique() == 13
    left = table.pivot(index="seed", columns="method", values="variance_left")
    for better, worse in (("lista", "batch_topk"), ("router", "batch_topk"), ("batch_topk", "temporal_encoder"),
                          ("temporal_encoder", "no_residual"), ("batch_topk", "adversary")):
        assert (left[better] < left[worse]).all(), (better, worse)
    time = left.temporal_code / left.lista - 1
    assert time.min() < 0 < time.max()  # no seeds agree that it helps
    small = left[["consistency", "margin"]].div(left.batch_topk, axis=0).assign(tracker=left.tracker / left.consistency)
    assert ((small.median() - 1).abs() < 0.02).all()
    held_out = table.pivot(index="seed", columns="method", values="unlearning_held_out")
    above = held_out.sub(held_out.batch_topk, axis=0).gt(0).all()
    assert [*above[above].index] == ["router"]


@pytest.mark.parametrize("active", [8, 32])
def test_with_half_and_twice_as_many_active_features_it_is_the_same_answer(active: int) -> None:
    table = language_lines(pd.read_csv(ROOT / matched_set.LINES.table)).query("active == @active")
    left = table.pivot(index="seed", columns="method", values="variance_left")
    assert len(left) == 5 and left.shape[1] == 13
    assert (left.lista < left.batch_topk).all() and (left.router < left.batch_topk).all()
    time = left.temporal_code / left.lista - 1
    assert time.min() < 0 < time.max()
