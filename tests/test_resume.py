"""Training that goes on after lost logs and damaged checkpoints, in another place, for more steps: equal, or said"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsae_nb import training as training_module
from tsae_nb.config import (
    PLACEMENT,
    VARIANTS,
    RunConfig,
    UnlearningConfig,
    UserError,
    build,
    merge,
    override,
    result_settings,
    settings_of,
)
from tsae_nb.foundation import CorruptFileError, named_generator
from tsae_nb.storage import copies_set_aside, record, verify
from tsae_nb.training import (
    CHECKPOINT_FILES,
    MetricsLog,
    SAETraining,
    can_continue,
    drop_optimizer,
    load_checkpoint,
    open_checkpoint,
    read_metrics,
    train,
    write_checkpoint,
)

STEPS, KILLED, CHECKPOINT_AT = 12, 8, 5
BAD_ADVICE = ("remove", "delete", "start the run anew", "start anew")


@dataclass
class Planted:
    activations: Tensor
    valid: Tensor
    documents: Tensor


DIRECTIONS = nn.functional.normalize(torch.randn(32, 16, generator=named_generator(1, "directions")), dim=1)


def planted(step: int) -> Planted:
    """6 rows of 12 tokens, a function of the step; the last token of each row is padding."""
    generator = named_generator(0, "planted", step)
    codes = torch.rand(6, 12, 32, generator=generator) * (torch.rand(6, 12, 32, generator=generator) < 0.1)
    valid = torch.ones(6, 12, dtype=torch.bool)
    valid[:, -1] = False
    return Planted(codes @ DIRECTIONS, valid, torch.arange(6)[:, None].expand(6, 12))


def run_of(variant: str = "baseline", provenance: dict[str, str] | None = None, **settings: Any) -> SAETraining:
    sae = merge(VARIANTS[variant], {"dictionary_size": 32})
    if sae.get("temporal_encoder") is not None:
        sae = merge(sae, {"temporal_encoder": {"heads": 4}})
    if sae.get("sparse_code", {}).get("active"):
        sae = merge(sae, {"sparse_code": {"active": 4}, "dead_features": {"after_tokens": 300}})
    usual = {"sae": sae, "training": {"steps": STEPS, "checkpoint_every": CHECKPOINT_AT, "learning_rate": 3e-3}}
    return SAETraining(build(RunConfig, merge(usual, settings)), 16, scale=4.0, provenance=provenance)


def trained(folder: Path, variant: str = "baseline", **training: Any) -> SAETraining:
    run = run_of(variant, training=training)
    train({folder: run}, planted, quiet=True)
    return run


def struck_down(step: int) -> Planted:
    if step >= KILLED:
        raise KeyboardInterrupt
    return planted(step)


def state_of(run: SAETraining) -> dict[str, Tensor]:
    """Everything that the next step depends on."""
    state = {f"sae.{name}": value for name, value in run.sae.state_dict().items()}
    state |= {f"objective.{name}": value for name, value in run.objective.state_dict().items()}
    for index, values in run.optimizer.state_dict()["state"].items():
        state |= {f"adam.{index}.{name}": value for name, value in values.items()}
    return state | {"step": torch.tensor(run.step)}


def assert_same(one: SAETraining, other: SAETraining) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SAETraining, Path]:
    """A run that nothing happened to, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return trained(folder), folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one that was killed at step 8: the checkpoint is at 5, the log has 8 lines."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(KeyboardInterrupt):
        train({folder: run_of()}, struck_down, quiet=True, flush_every=1)
    assert open_checkpoint(folder / "checkpoint")[0]["step"] == CHECKPOINT_AT
    assert len(read_metrics(folder / "metrics.jsonl")) == KILLED
    return folder


@pytest.fixture()
def copy(killed: Path, tmp_path: Path) -> Callable[[], Path]:
    """A fresh copy of the killed run's folder at each call."""
    def one() -> Path:
        return Path(shutil.copytree(killed, tmp_path / str(len(list(tmp_path.iterdir())))))
    return one


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error since the last call, none of which tells anybody to throw work away."""
    lines = capsys.readouterr().err.splitlines()
    assert not [line for line in lines for advice in BAD_ADVICE if advice in line.replace("training starts anew", "")]
    return lines


# --- the log

def test_a_log_cut_at_any_line_costs_its_lines_and_nothing_else(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = (whole[1] / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(KILLED + 1):
        folder = copy()
        log = folder / "metrics.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:count]))
        assert_same(trained(folder), whole[0])
        lines, lost = said(capsys), max(CHECKPOINT_AT - count, 0)
        assert log.read_bytes() == b"".join(expected[: min(count, CHECKPOINT_AT)] + expected[CHECKPOINT_AT:])
        assert len(lines) == (lost > 0)
        assert not lost or f"metrics.jsonl: {lost} of the 5 steps before the checkpoint are lost" in lines[0]


def test_a_log_torn_at_any_byte(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(0)
    for _ in range(20):
        folder = copy()
        log = folder / "metrics.jsonl"
        content = log.read_bytes()
        kept = content[: draw.randrange(len(content))]
        log.write_bytes(kept)
        assert_same(trained(folder), whole[0])
        known = min(kept.count(b"\n"), CHECKPOINT_AT)
        assert [line["step"] for line in read_metrics(log)] == [*range(1, known + 1), *range(6, STEPS + 1)]
        assert len(said(capsys)) == (known < CHECKPOINT_AT)


def test_a_log_that_is_gone(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy()
    (folder / "metrics.jsonl").unlink()
    assert_same(trained(folder), whole[0])
    assert "5 of the 5 steps" in "".join(said(capsys))
    assert_same(trained(folder), whole[0])  # what is lost is said once, not at each start
    assert said(capsys) == []


DAMAGES = (
    b"[]", b"null", b"3", b"\xff\xfe{", b"\0" * 60, b'{"step": 3}', b'{"loss": 1.0}', b'{"step": 3, "loss": NaN}',
    b'{"step": 3, "loss": null}', b'{"step": "3", "loss": 1.0}', b'{"step": true, "loss": 1.0}', b"{" * 5000,
    b'{"step": 3, "loss": "low"}', b'{"step": 3, "loss": 1' + b"0" * 400 + b"}", b'{"step": 2, "loss": 1.0}', b"",
    b'{"step": 3, "loss": 1.0, "l0": [1]}', b'{"step": -3, "loss": 1.0}', b"1" * 5000,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage[:24].decode("latin-1"))
def test_a_damaged_line_is_named_once_and_left_out(
    damage: bytes, whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy()
    log = folder / "metrics.jsonl"
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]))
    for _ in range(2):
        assert [line["step"] for line in read_metrics(log)] == [1, 2, 4, 5, 6, 7, 8]
    assert said(capsys) == [f"{log}: line 3 is damaged and left out"]
    assert_same(trained(folder), whole[0])
    assert said(capsys) == [f"{log}: 1 of the 5 steps before the checkpoint are lost, line 3 is damaged. Training goes "
                            "on from step 5; the curve keeps what there is"]
    assert [line["step"] for line in read_metrics(log)] == [1, 2, 4, *range(5, STEPS + 1)]


def test_a_changed_number_is_noticed(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy()
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    values = json.loads(lines[1])
    lines[1] = json.dumps({**values, "loss": values["loss"] * 2}) + "\n"
    log.write_text("".join(lines))
    assert_same(trained(folder), whole[0])
    assert "a number in it has changed" in "".join(said(capsys))


def test_the_log_is_on_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    sync, write = os.fsync, training_module.write_checkpoint

    def remembered(handle: int) -> None:
        sync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def checked(state: training_module.TrainingState, folder: Path) -> None:
        log = (folder.parent / "metrics.jsonl").stat()
        assert synced.get(log.st_ino, 0) > 0
        assert len(read_metrics(folder.parent / "metrics.jsonl")) >= state.facts["step"]
        write(state, folder)

    monkeypatch.setattr(os, "fsync", remembered)
    monkeypatch.setattr(training_module, "write_checkpoint", checked)
    trained(tmp_path)
    assert synced


def test_a_log_is_read_while_it_vanishes_or_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_metrics(tmp_path / "metrics.jsonl")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_metrics(tmp_path)


# --- damaged checkpoints

def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_one_flipped_bit_is_found_named_and_nothing_is_thrown_away(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(0)
    for place in range(30):
        folder = copy()
        checkpoint = folder / "checkpoint"
        file = checkpoint / ("stored.json", *CHECKPOINT_FILES, "state.safetensors")[place % 4]
        damaged = bytearray(file.read_bytes())
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        before = contents(checkpoint)
        for read in (open_checkpoint, lambda place: load_checkpoint(run_of(), place)):
            with pytest.raises(CorruptFileError, match="the checkpoint cannot be used") as error:
                read(checkpoint)
            assert str(checkpoint) in str(error.value)
        assert_same(trained(folder), whole[0])
        assert contents(folder / "damaged-checkpoint-1") == before
        lines = said(capsys)
        assert len(lines) == 1 and str(checkpoint) in lines[0]
        assert "It is kept as damaged-checkpoint-1; training starts anew" in lines[0]


@pytest.mark.parametrize("old, new", [
    ('"step": 5', '"step": 4'), ('"step": 5', '"step": -1'), ('"step": 5', '"step": null'),
    ('"steps": 12', '"steps": 13'), ('"learning_rate": 0.003', '"learning_rate": 0.004'),
])
def test_a_changed_digit_of_the_state(
    old: str, new: str, whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy()
    state = folder / "checkpoint" / "state.json"
    assert old in state.read_text()
    state.write_text(state.read_text().replace(old, new))
    assert_same(trained(folder), whole[0])
    assert "state.json is" in "".join(said(capsys))


@pytest.mark.parametrize("gone", ["stored.json", *CHECKPOINT_FILES, ""])
def test_a_checkpoint_that_lacks_something(
    gone: str, whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy()
    if gone:
        (folder / "checkpoint" / gone).unlink()
    else:
        shutil.rmtree(folder / "checkpoint")
    assert_same(trained(folder), whole[0])
    lines = said(capsys)
    assert len(lines) == 1 and lines[0].endswith("training starts anew")
    assert gone or "has no checkpoint, though 8 steps are logged" in lines[0]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_whole_copy_beside_it_is_taken(
    damaged: bool, whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A writer on another machine died between two renames; or died there and the new one was damaged."""
    folder = copy()
    beside = folder / ".checkpoint.7-7-0123abcd@elsewhere+1.partial"
    (folder / "checkpoint").rename(beside)
    older, torn = (folder / f".checkpoint.7-7-0123abc{letter}@elsewhere+1.replaced" for letter in "ef")
    run = run_of()
    run.step = 2
    write_checkpoint(training_module.state_of(run), older)
    torn.mkdir()
    (torn / "state.json").write_text("{")
    if damaged:
        shutil.copytree(torn, folder / "checkpoint")
    assert_same(trained(folder), whole[0])
    lines = said(capsys)
    assert len(lines) == 1 and "training goes on from step 5, of a copy beside it" in lines[0]
    assert (folder / "damaged-checkpoint-1").is_dir() == damaged
    assert read_metrics(folder / "metrics.jsonl") == read_metrics(whole[1] / "metrics.jsonl")


def test_two_damages_keep_two_folders(copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy()
    for _ in range(2):
        (folder / "checkpoint" / "state.json").write_text("{}")
        trained(folder)
    assert {path.name for path in folder.glob("damaged*")} == {"damaged-checkpoint-1", "damaged-checkpoint-2"}
    assert len(said(capsys)) == 2
    assert copies_set_aside(folder) == sorted(folder.glob("damaged*")), "kept"
    assert not list(verify(folder)), "and known to be damaged"


def test_another_version_is_refused_and_stays_in_its_place(copy: Callable[[], Path]) -> None:
    folder = copy()
    before = contents(folder / "checkpoint")
    run = run_of()
    run.sae.register_buffer("new_in_this_version", torch.zeros(1))
    with pytest.raises(UserError, match="does not fit this version of tsae_nb") as error:
        train({folder: run}, planted, quiet=True)
    assert not isinstance(error.value, CorruptFileError)
    assert contents(folder / "checkpoint") == before


# --- more steps

@pytest.mark.parametrize("variant", ["baseline", "topk", "batch_topk", "temporal", "temporal_code", "tfa"])
def test_a_longer_run_is_the_run_of_that_length(variant: str, tmp_path: Path) -> None:
    trained(tmp_path / "grown", variant, warmup_steps=3)
    grown = trained(tmp_path / "grown", variant, warmup_steps=3, steps=20)
    at_once = trained(tmp_path / "at_once", variant, warmup_steps=3, steps=20, checkpoint_every=7)
    assert grown.step == 20
    assert_same(grown, at_once)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("grown", "at_once")]
    assert logs[0] == logs[1]


def test_with_a_decay_it_is_refused_and_kept(tmp_path: Path) -> None:
    trained(tmp_path, decay_fraction=0.25)
    before = contents(tmp_path / "checkpoint"), (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="training.steps 12 → 20: with training.decay_fraction 0.25"):
        trained(tmp_path, decay_fraction=0.25, steps=20)
    assert (contents(tmp_path / "checkpoint"), (tmp_path / "metrics.jsonl").read_bytes()) == before


def test_fewer_steps_only_before_they_are_done(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], tmp_path: Path
) -> None:
    folder = copy()  # at step 5
    assert_same(trained(folder, steps=7), trained(tmp_path / "seven", steps=7))
    with pytest.raises(UserError, match="training.steps 12 → 4: 5 steps are done already"):
        trained(copy(), steps=4)


def test_a_dropped_optimizer_takes_only_the_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    drop_optimizer(tmp_path)
    drop_optimizer(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "notes.txt"]
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "thesis.txt").write_text("mine")
    drop_optimizer(tmp_path)
    assert (tmp_path / "checkpoint" / "thesis.txt").is_file()


def config(changes: dict[str, Any] | None = None) -> RunConfig:
    return override(RunConfig(unlearning=UnlearningConfig()), changes or {})


DECAY, DROPPED = {"training": {"decay_fraction": 0.2}}, {"training": {"keep_optimizer": False}}
ANSWERS: list[tuple[dict[str, Any], dict[str, Any], bool, str | None]] = [  # stored, wanted, complete: reason
    ({}, {}, True, None),
    ({}, {"training": {"steps": 2000}}, True, None),
    ({}, {"training": {"steps": 2000}, "seed": 1}, True, "other settings .seed: 0 → 1"),
    ({}, {"training": {"steps": 500}}, True, "1000 steps are done already"),
    ({}, {"training": {"steps": 500}}, False, None),
    (DECAY, merge(DECAY, {"training": {"steps": 2000}}), True, "learning rate"),
    (DECAY, merge(DECAY, {"training": {"steps": 2000}}), False, "learning rate"),
    (DECAY, DECAY, True, None),
    (DROPPED, {}, True, None),
    (DROPPED, {"training": {"steps": 2000}}, True, "optimizer was dropped"),
    (DROPPED, {"training": {"steps": 2000}}, False, None),
    ({}, merge(DROPPED, {"training": {"steps": 2000}}), True, None),
    ({}, {"language_model": {"path": "elsewhere"}}, True, "language_model.path"),
    ({}, {"language_model": {"path": "elsewhere"}}, False, None),  # the checkpoint compares hashes
    ({}, {"evaluation": {"largest_lag": 4}}, True, "evaluation.largest_lag"),
    ({}, {"unlearning": {"gate": 0.9}}, False, "unlearning.gate"),
    ({}, {"language_model": {"batch_rows": 16}}, False, "language_model.batch_rows"),
]


@pytest.mark.parametrize("stored, wanted, complete, reason", ANSWERS)
def test_what_can_go_on(stored: dict[str, Any], wanted: dict[str, Any], complete: bool, reason: str | None) -> None:
    found = can_continue(config(stored), config(wanted), complete)
    assert found is None if reason is None else re.search(reason, found or "")


# --- other places

PLACES: dict[str, Any] = {
    "name": "other/place", "language_model": {"device": "cpu"},
    "activations": {"cache": False, "cache_gibibytes": 1.0, "cache_folder": "other"},
    "training": {"threads": 2, "checkpoint_every": 3, "keep_optimizer": False},
    "unlearning": {"cache_folder": "other", "cache_gibibytes": 1.0},
}


def leaves(settings: dict[str, Any], above: str = "") -> set[str]:
    return {leaf for name, value in settings.items()
            for leaf in (leaves(value, f"{above}{name}.") if isinstance(value, dict) else [above + name])}


def test_every_place_and_nothing_else_is_left_out() -> None:
    here = RunConfig(unlearning=UnlearningConfig())
    assert leaves(settings_of(here)) - leaves(result_settings(here)) == leaves(PLACES)
    assert result_settings(config(PLACES)) == result_settings(here)
    assert can_continue(here, config(PLACES)) is None
    assert PLACEMENT not in json.dumps(settings_of(here))


def test_a_run_goes_on_in_another_place(
    whole: tuple[SAETraining, Path], copy: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(**{name: value for name, value in PLACES.items() if name != "unlearning"})
    train({copy(): run}, planted, quiet=True)
    assert_same(run, whole[0])
    assert said(capsys) == []  # on the same machine, with the same number of threads in fact


def test_where_bits_may_differ_it_says_so_and_remembers(
    copy: Callable[[], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = copy(), training_module.machine_facts("cpu")
    there = {**here, "device": "Tricorder 9", "torch": "9.9.9"}
    monkeypatch.setattr(training_module, "machine_facts", lambda device, ranks: dict(there))
    run = trained(folder)
    lines = said(capsys)
    assert len(lines) == 1 and "device: 'cpu' → 'Tricorder 9'; torch: " in lines[0] and "not bit for bit" in lines[0]
    machines = [{"from_step": 0, **here}, {"from_step": CHECKPOINT_AT, **there}]
    assert run.machines == machines == open_checkpoint(folder / "checkpoint")[0]["machines"]
    monkeypatch.setattr(training_module, "machine_facts", lambda device, ranks: dict(here))
    assert trained(folder).machines == machines and said(capsys) == []  # it is done: nothing is computed here
    assert trained(folder, steps=20).machines == [*machines, {"from_step": STEPS, **here}]


MODEL = {"language_model": "a1", "training_rows": "b2"}


def test_inputs_are_known_by_their_hashes_wherever_they_lie(tmp_path: Path) -> None:
    def placed(path: str, provenance: dict[str, str] | None) -> SAETraining:
        return run_of(provenance=provenance, language_model={"path": path})

    write_checkpoint(training_module.state_of(placed("here", MODEL)), tmp_path / "checkpoint")
    load_checkpoint(placed("there", MODEL), tmp_path / "checkpoint")
    with pytest.raises(UserError, match="other inputs, though the settings agree: the hash differs of training_rows"):
        load_checkpoint(placed("here", {**MODEL, "training_rows": "b3"}), tmp_path / "checkpoint")
    with pytest.raises(UserError, match="language_model.path: 'here' → 'there'"):  # nothing tells that they are equal
        load_checkpoint(placed("there", None), tmp_path / "checkpoint")


def test_other_settings_are_refused_and_kept(copy: Callable[[], Path]) -> None:
    for changes in ({"seed": 1}, {"training": {"learning_rate": 1e-3}}, {"language_model": {"batch_rows": 16}},
                    {"data": {"rows": 64}}, {"activations": {"calibration_rows": 8}}, {"sae": {"dictionary_size": 64}},
                    {"training": {"optimizer": "foreach"}}, {"training": {"deterministic": True}}):
        folder = copy()
        before = contents(folder / "checkpoint"), (folder / "metrics.jsonl").read_bytes()
        with pytest.raises(UserError, match="made with other settings") as error:
            train({folder: run_of(**changes)}, planted, quiet=True)
        section, values = next(iter(changes.items()))
        assert (f"{section}.{next(iter(values))}" if isinstance(values, dict) else section) in str(error.value)
        assert (contents(folder / "checkpoint"), (folder / "metrics.jsonl").read_bytes()) == before


def test_a_forged_checkpoint_is_no_longer_ours_to_believe(copy: Callable[[], Path]) -> None:
    """A file more or less in the list of hashes is as bad as a wrong hash."""
    folder = copy()
    (folder / "checkpoint" / "more.json").write_text("{}")
    record(folder / "checkpoint", "checkpoint")
    with pytest.raises(CorruptFileError, match="the checkpoint cannot be used"):
        open_checkpoint(folder / "checkpoint")


def test_a_log_opened_without_a_checkpoint_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2')
    MetricsLog(log)
    assert log.read_bytes() == b"" and said(capsys) == []
