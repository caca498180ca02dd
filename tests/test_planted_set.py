"""The stored table of methods in planted worlds: made where a line is missing, and of today's settings"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import line_sets  # noqa: E402
import planted_set  # noqa: E402

SMALL = """
name: small
variants: [batch_topk, topk]
planted: {width: 16, slow: 12, fast: 12, evaluation_rows: 16, seed: null}
worlds: {short: {run_length: 4}, noisy: {noise: 0.4}}
sae: {dictionary_size: 32, sparse_code: {active: 2}}
training: {steps: STEPS, rows_per_batch: 4}
activations: {calibration_rows: 4}
"""


def test_what_is_stored_is_of_todays_files_and_all_there() -> None:
    planted = planted_set.PlantedSet()
    assert planted.check() == []
    assert not [part for part in planted_set.PARTS if planted.lines.missing(part) or part in planted_set.WITH_ORACLES
                and planted.blind(part)]


def test_only_what_is_missing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = {"grid": planted_set.Part("small", (3,), {"worlds": ["short", "noisy"]})}
    monkeypatch.setattr(planted_set, "OF_FIGURE", ("grid",))
    planted = planted_set.PlantedSet(replace(planted_set.LINES, parts=parts, root=tmp_path))
    (tmp_path / "runs").mkdir()
    file, stored = tmp_path / "runs" / "small.yaml", tmp_path / planted.lines.table
    file.write_text(SMALL.replace("STEPS", "2"))
    assert planted.make(["grid"], 2) and planted.check() == []
    table = pd.read_csv(stored)
    assert len(table) == 2 * 2 * 2 + 2 * 3 * 2 and {*table.seed} == {3} and table.commit.nunique() == 1
    text = stored.read_bytes()
    monkeypatch.setattr(line_sets.Children, "run", lambda *_: pytest.fail("nothing is missing"))
    monkeypatch.setattr(planted_set, "oracle_table", lambda *_: pytest.fail("nothing is missing"))
    assert planted.make(["grid"], 2) and stored.read_bytes() == text and planted.check() == []
    table[table.run != "small/topk-short-seed3"].to_csv(stored, index=False)
    assert [run.config.name for run in planted.lines.missing("grid")] == ["small/topk-short-seed3"]
    assert planted.missing("grid") == "1 of 4 runs are missing, and what can be known of 0 worlds"
    assert planted.check() == [
        "figures/figure3.csv holds other numbers than those stored, make it again: python tools/planted_set.py"]
    file.write_text(SMALL.replace("STEPS", "3"))
    assert "grid: small/batch_topk-noisy-seed3" in planted.check()[0]
    assert len(planted.lines.missing("grid")) == 4 and not planted.blind("grid")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> planted_set.PlantedSet:
    """A set of four runs with all their lines, made up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small.yaml").write_text(SMALL.replace("STEPS", "2"))
    parts = {"grid": planted_set.Part("small", (3,), {"worlds": ["short", "noisy"]})}
    lines = replace(planted_set.LINES, parts=parts, root=tmp_path, besides=lambda run: ())
    for run in lines.wanted("grid"):
        lines.add(made_up(run))
    return planted_set.PlantedSet(lines)


def made_up(run: line_sets.Run) -> pd.DataFrame:
    planted = run.config.planted
    assert planted is not None
    return pd.DataFrame([
        {"run": run.config.name, "method": run.config.sae.variant, "run_length": planted.run_length, "seed": 3,
         "noise": planted.noise, "features": kind, "f1": 0.5, "part": run.part, "key": run.key}
        for kind in ("fast", "slow")])


def test_lines_stand_there_once_and_a_run_that_lost_one_is_missing(small: planted_set.PlantedSet) -> None:
    lines, path = small.lines, small.lines.root / small.lines.table
    whole, (first, *_) = path.read_bytes(), lines.wanted("grid")
    assert len(lines.stored()) == 8 and not lines.missing("grid")
    lines.add(made_up(first))  # by another process that made it, too
    assert path.read_bytes() == whole
    table = lines.stored()
    table[(table.key != first.key) | (table.features != "slow")].to_csv(path, index=False)
    assert [run.key for run in lines.missing("grid")] == [first.key]
    lines.add(made_up(first))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content, said", [
    (b"", "No columns"), (b"<<<<<<< HEAD\npart,run,key,method\n", "no column part"),
    (b"part,run,kex,method\n", "no column key"), (b"part,run,key,method\n1,2,3,4,5\n1,2,3,4,5,6\n", "saw 6"),
    (b"\xff\xfe\x00", "decode"),
])
def test_a_table_that_cannot_be_read_is_named(
    content: bytes, said: str, small: planted_set.PlantedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    (small.lines.root / small.lines.table).write_bytes(content)
    ask = line_sets.Command("", small.lines, small.make, small.check, small.missing)
    for flag in ("--list", "--check"):
        assert ask([flag]) == 2
        error = capsys.readouterr().err
        assert "planted.csv is not the table that was written" in error and said in error and "git restore" in error


def test_what_is_missing_is_said_and_two_do_not_make_one_set(
    small: planted_set.PlantedSet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = line_sets.Command("", small.lines, small.make, small.check, small.missing)
    assert ask(["--check"]) == 0
    (small.lines.root / small.lines.table).unlink()
    assert ask(["--check"]) == 1 and "4 of 4 runs are missing" in capsys.readouterr().err
    monkeypatch.setattr(line_sets, "changed", lambda *_: [])
    with line_sets.locked(small.lines.root / small.lines.work, "making planted", wait=False):
        assert ask([]) == 2
    assert "is in use by" in capsys.readouterr().err


def test_what_the_readme_says_of_them_exceeds_what_seeds_differ() -> None:
    table = pd.read_csv(ROOT / planted_set.LINES.table)
    methods, shuffled = (table[(table.part == part) & (table.features == "slow")] for part in ("methods", "shuffled"))
    f1 = methods.pivot(index="seed", columns="method", values="f1")
    assert len(f1) == 5 and len(shuffled) == 15
    order = ["tfa", "matryoshka", "batch_topk", "temporal_encoder", "lista", "temporal_code", "oracle, past"]
    for lower, higher in zip(order, order[1:], strict=False):
        assert f1[lower].max() < f1[higher].min(), (lower, higher)
    without_time = shuffled.pivot(index="seed", columns="method", values="f1")
    assert (without_time.temporal_code - without_time.lista).abs().max() < 0.01


def test_in_no_world_does_what_claims_to_help_lose_to_plain() -> None:
    table = pd.read_csv(ROOT / planted_set.LINES.table, keep_default_na=False, na_values=[""])
    table = table[table.part.isin(planted_set.OF_FIGURE) & (table.features == "slow")]
    f1 = table.pivot(index=["run_length", "noise", "seed"], columns="method", values="f1").dropna()
    assert len(f1) == 3 * 3 * 3 and len(f1.columns) == 5 + 3
    for method in ("lista", "temporal_code"):  # run length 4, where there is nothing to remember, too
        assert (f1[method] > f1.batch_topk).all(), method
    by_world = f1.groupby(["run_length", "noise"]).median()
    assert (by_world.temporal_encoder > by_world.batch_topk).all() and (by_world.t_sae < by_world.batch_topk).all()
    memory = (by_world.temporal_code - by_world.lista).unstack("noise")
    assert (memory > -0.005).all(axis=None) and memory.loc[32].idxmax() == 0.25


def test_what_the_encoder_without_residual_gains_is_not_memory_of_what_lasts() -> None:
    table = pd.read_csv(ROOT / planted_set.LINES.table)
    f1 = {part: table[table.part == part].pivot(index="seed", columns=["features", "method"], values="f1")
          for part in ("L0 8", "L0 16")}
    gain = {(part, features): of[features].no_residual - of[features].batch_topk
            for part, of in f1.items() for features in ("slow", "fast")}
    assert gain["L0 16", "slow"].min() > 0.1 and gain["L0 16", "fast"].median() > gain["L0 16", "slow"].median()
    assert gain["L0 8", "slow"].median() < 0 and (gain["L0 8", "fast"] < 0).all()
    without = f1["L0 16"]["slow"].one_token - f1["L0 16"]["slow"].batch_topk
    assert (without > 0).all() and 0.2 < without.median() / gain["L0 16", "slow"].median() < 0.5


def test_with_five_times_what_is_planted_what_helps_still_helps() -> None:
    table = pd.read_csv(ROOT / planted_set.LINES.table)
    slow = table[(table.part == "L0 32") & (table.features == "slow")]
    found, precision = (slow.pivot(index="seed", columns="method", values="average_precision"),
                        slow.set_index("method").precision)
    assert len(found) == 5 and slow[slow.method == "batch_topk"].found.median() < 0.02
    assert precision.drop("tfa").max() < 0.2  # so that F1 is low whatever one does
    order = ["no_residual", "batch_topk", "lista", "temporal_code"]
    for lower, higher in zip(order, order[1:], strict=False):
        assert (found[lower] < found[higher]).all(), (lower, higher)
    assert found.temporal_encoder.median() < found.batch_topk.median()


def test_what_the_readme_says_of_time_in_noise() -> None:
    table = pd.read_csv(ROOT / planted_set.LINES.table, keep_default_na=False, na_values=[""])
    table = table[table.features == "slow"]
    grid = table[table.part.isin(planted_set.OF_FIGURE)]
    f1 = grid.pivot(index=["run_length", "noise", "seed"], columns="method", values="f1").dropna()
    look, memory = f1.lista - f1.batch_topk, f1.temporal_code - f1.lista
    assert (memory.loc[32, 0.4] > look.loc[32, 0.4]).all()
    assert (f1["oracle, past"] - f1["oracle, token"]).xs(0.1, level="noise").abs().max() < 0.001
    for part, better in (("methods", False), ("hard", True)):
        own = table[table.part == part].pivot(index="seed", columns="method", values="average_precision")
        assert ((own.tfa > own.lista) == better).all() and (own.tfa < own.temporal_code).all(), part
