"""Two ranks train the SAE that one process trains, killed and resumed by either; what is left out of the sums shows"""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from tsae_nb import training as training_module
from tsae_nb.components import (
    attribution_adversary,
    dead_features,
    feature_tracker,
    hierarchical_router,
    objective,
    sparse_code,
)
from tsae_nb.components.ranks import LostRank, Ranks, in_threads, shared
from tsae_nb.config import (
    VARIANTS,
    ConfigError,
    DeadFeaturesConfig,
    RunConfig,
    UserError,
    build,
    merge,
    override,
    result_settings,
)
from tsae_nb.foundation import named_generator
from tsae_nb.runs import execute
from tsae_nb.training import SAETraining, open_checkpoint, read_metrics, train

STEPS, KILLED = 50, 30
DIRECTIONS = nn.functional.normalize(torch.randn(32, 16, generator=named_generator(1, "directions")), dim=1)
State = dict[str, Tensor]
Batches = Callable[[int], "Planted"]


@dataclass
class Planted:
    activations: Tensor
    valid: Tensor
    documents: Tensor


def planted(step: int) -> Planted:
    """5 rows of 12 tokens, some padding, one row of two documents; now and then the first two rows are all padding."""
    generator = named_generator(0, "planted", step)
    codes = torch.rand(5, 12, 32, generator=generator) * (torch.rand(5, 12, 32, generator=generator) < 0.1)
    valid, documents = torch.ones(5, 12, dtype=torch.bool), torch.arange(5)[:, None].repeat(1, 12)
    valid[:, -1], valid[0, 4:], documents[1, 6:] = False, False, 77
    if step % 9 == 4:
        valid[:2] = False
    return Planted(codes @ DIRECTIONS, valid, documents)


def struck_down(step: int) -> Planted:
    if step >= KILLED:
        raise KeyboardInterrupt
    return planted(step)


def run_of(variant: str, ranks: Ranks | None = None, **training: Any) -> SAETraining:
    sae = merge(VARIANTS[variant], {"dictionary_size": 32})
    if sae.get("temporal_encoder") is not None:
        sae = merge(sae, {"temporal_encoder": {"heads": 4}})
    if sae.get("sparse_code", {}).get("active"):
        sae = merge(sae, {"sparse_code": {"active": 1}, "dead_features": {"after_tokens": 60, "weight": 0.5}})
    usual = {"steps": STEPS, "checkpoint_every": 20, "learning_rate": 3e-3, "gradient_clip": 1.0,
             "gradient_norms_every": 10}
    return SAETraining(build(RunConfig, {"sae": sae, "training": {**usual, **training}}), 16, 4.0, ranks=ranks)


def state_of(run: SAETraining) -> State:
    """Everything that the next step depends on."""
    state = {f"sae.{name}": value for name, value in run.sae.state_dict().items()}
    state |= {f"objective.{name}": value for name, value in run.objective.state_dict().items()}
    for index, values in run.optimizer.state_dict()["state"].items():
        state |= {f"adam.{index}.{name}": value for name, value in values.items()}
    return state


def alone(folder: Path, variant: str, batches: Batches = planted, **training: Any) -> State:
    run = run_of(variant, **training)
    train({folder: run}, batches, quiet=True)
    return state_of(run)


def together(folder: Path, variant: str, batches: Batches = planted, **training: Any) -> State:
    """The same by two ranks, which have the same bits."""
    def rank(ranks: Ranks) -> State:
        run = run_of(variant, ranks, **training)
        train({folder: run}, batches, quiet=True)
        return state_of(run)

    first, second = in_threads(2, rank, patience=20)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    return first


def apart(one: State, other: State) -> float:
    """The largest ‖a − b‖ / ‖a‖ of all tensors, which have the same names."""
    assert one.keys() == other.keys()
    return max(float((value.double() - other[name].double()).norm() / value.double().norm().clamp_min(1e-9))
               for name, value in one.items())


def logs_apart(places: tuple[Path, Path]) -> float:
    """The largest difference of two logged values, as a share of them, or of 0.01 if that is more."""
    logged, other = (read_metrics(place / "metrics.jsonl") for place in places)
    assert [line.keys() for line in logged] == [line.keys() for line in other]
    return max(abs(value - another[name]) / max(abs(value), 0.01)
               for line, another in zip(logged, other, strict=True) for name, value in line.items())


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


@pytest.mark.parametrize(
    "variant", ["baseline", "jumprelu", "batch_topk", "hierarchical", "temporal", "t_sae", "temporal_code", "tfa"])
def test_two_ranks_are_one_process(variant: str, places: tuple[Path, Path]) -> None:
    assert apart(alone(places[0], variant), together(places[1], variant)) < 1e-5
    assert logs_apart(places) < 1e-4 and len(read_metrics(places[1] / "metrics.jsonl")) == STEPS
    if "auxiliary" in run_of(variant).objective.terms:
        assert any(line["term/auxiliary"] > 0 for line in read_metrics(places[1] / "metrics.jsonl"))


@pytest.mark.parametrize("first, then", [(together, alone), (alone, together)], ids=["two then one", "one then two"])
def test_killed_and_resumed_by_another_number(
    first: Callable[..., State], then: Callable[..., State], places: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, (killed, _) = alone(places[1], "batch_topk"), places
    with pytest.raises(KeyboardInterrupt):
        first(killed, "batch_topk", struck_down)
    before = open_checkpoint(killed / "checkpoint")[0]
    assert before["step"] == 20
    assert apart(whole, then(killed, "batch_topk")) < 1e-5
    number, other = (2, 1) if first is together else (1, 2)
    assert f"was made elsewhere (ranks: {number} → {other}): training goes on" in capsys.readouterr().err
    machines = open_checkpoint(killed / "checkpoint")[0]["machines"]
    assert [machine.get("ranks", 1) for machine in machines] == [number, other]
    assert [line["step"] for line in read_metrics(killed / "metrics.jsonl")] == list(range(1, STEPS + 1))


LEFT_OUT: dict[str, tuple[str, Any, str, Any]] = {  # what: variant, module, name, what stands in its place
    "gradients": ("baseline", training_module, "_add_up", lambda parameters, ranks: None),
    "tokens of the loss": ("baseline", objective, "tokens_of_all", lambda own: own),
    "sum of the loss": ("baseline", objective, "total", lambda x: x),
    "sum of the penalty": ("baseline", sparse_code, "total", lambda x: x),
    "moments": ("baseline", objective, "mean_row", lambda x: x.mean(0)),
    "steps of JumpReLU": ("jumprelu", sparse_code, "total", lambda x: x),
    "BatchTopK's choice": ("batch_topk", sparse_code, "largest_of_all", lambda positions, dense, count: positions),
    "BatchTopK's threshold": ("batch_topk", sparse_code, "smallest_of_all", lambda x: x),

    "AuxK's mean": ("topk", dead_features, "mean_row", lambda x: x.mean(0)),
    "AuxK's share": ("topk", dead_features, "mean_of_all", lambda x: x.mean()),
    "margins once": ("hierarchical", objective, "alike", lambda x: x),
    "attribution": ("hierarchical", attribution_adversary, "total", lambda x: x),
    "routing": ("hierarchical", hierarchical_router, "total", lambda x: x),
    "the tracker's pairs": ("temporal", feature_tracker, "mean_or_zero", lambda x: x.sum() / max(len(x), 1)),
    "negatives": ("temporal", objective, "whole_rows", lambda valid, documents: (valid, documents)),
    "contrast": ("t_sae", objective, "codes_of_all", lambda codes: codes),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_shows(what: str, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    variant, module, name, instead = LEFT_OUT[what]
    few = {"steps": 4, "checkpoint_every": 2, "gradient_clip": None}
    whole = alone(places[0], variant, **few)
    monkeypatch.setattr(module, name, instead)
    try:
        found = together(places[1], variant, **few)
    except (UserError, RuntimeError, IndexError, AssertionError):  # the two have come apart, which ends it
        return
    assert apart(whole, found) > 3e-5 or logs_apart(places) > 1e-3


def test_who_is_dead_is_for_the_whole_batch_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, valid = torch.eye(4)[[0, 1, 1]], torch.ones(3, 1, dtype=torch.bool)  # the last two are the second rank's

    def silent(ranks: Ranks) -> list[int]:
        counter = dead_features.AuxiliaryReconstruction(4, 2, DeadFeaturesConfig())
        with shared(ranks, valid, valid.long()) as rows:
            return counter.silent_after(sparse_code.DenseCodes(codes[rows])).tolist()

    assert in_threads(2, silent) == [[0, 0, 3, 3]] * 2
    monkeypatch.setattr(dead_features, "any_of_all", lambda mask: mask)
    assert in_threads(2, silent) == [[0, 3, 3, 3], [3, 0, 3, 3]]
    monkeypatch.setattr(dead_features, "tokens_of_all", lambda own: own)
    assert in_threads(2, silent) == [[0, 1, 1, 1], [2, 0, 2, 2]]


def test_what_cannot_be_shared_is_said(places: tuple[Path, Path]) -> None:
    def one_row(step: int) -> Planted:
        batch = planted(step)
        return Planted(batch.activations[:1], batch.valid[:1], batch.documents[:1])

    with pytest.raises(UserError, match="a batch of 1 rows for 2 ranks: each needs a row .training.ranks, "):
        together(places[0], "baseline", one_row)
    with pytest.raises(ConfigError, match="training: .*ranks 9 with rows_per_batch 8: each needs a row"):
        build(RunConfig, {"training": {"ranks": 9, "rows_per_batch": 8}})
    usual = RunConfig()
    assert result_settings(override(usual, {"training": {"ranks": 2}})) == result_settings(usual), "a place"


def test_ranks_of_other_settings_or_weights_are_refused(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(ranks: Ranks) -> None:
        train({places[0]: run_of("baseline", ranks, learning_rate=1e-3 * (1 + ranks.number))}, planted, quiet=True)

    with pytest.raises(UserError, match="2 ranks do not have the same settings, inputs and versions"):
        in_threads(2, other)

    def drifting(ranks: Ranks) -> None:
        run = run_of("baseline", ranks)
        if ranks.number:
            run.sae.constrain = lambda: None  # type: ignore[method-assign]
        train({places[1]: run}, planted, quiet=True)

    with pytest.raises(UserError, match="2 ranks do not have the same weights"):
        in_threads(2, drifting)


def workers() -> list[psutil.Process]:
    """Ranks that are processes of ours."""
    return [process for process in psutil.Process().children() if "shared_training" in " ".join(process.cmdline())]


def test_a_rank_that_is_killed_and_the_same_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes: one of two is killed; the run says so, and one process goes on to the end."""
    config = build(RunConfig, {
        "name": "k", "planted": {"width": 8, "slow": 8, "fast": 8, "row_length": 8, "evaluation_rows": 8},
        "language_model": None, "data": None,
        "sae": {"dictionary_size": 16, "sparse_code": {"kind": "batch_topk", "active": 2}, "sparsity": None},
        "training": {"steps": 100_000, "rows_per_batch": 5, "checkpoint_every": 5, "ranks": 2}})
    checkpoint = tmp_path / "k.partial" / "checkpoint"

    def kill() -> None:
        while not (checkpoint / "state.json").is_file():
            time.sleep(0.05)
        workers()[1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(UserError, match=r"rank [01] of 2 was ended from outside \(SIGKILL\).*same command continues"):
        execute([config], tmp_path, quiet=True)
    killer.join()
    assert not workers()
    done = open_checkpoint(checkpoint)[0]["step"]
    assert done >= 5 and re.search("SIGKILL", (tmp_path / "k.partial" / "failure.json").read_text())
    capsys.readouterr()
    short = replace(config, training=replace(config.training, steps=done + 3, ranks=None))
    run, = execute([short], tmp_path, quiet=True)
    assert run.complete and "ranks: 2 → 1" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics(run.folder / "metrics.jsonl")] == list(range(1, done + 4))
    assert not os.path.lexists(tmp_path / "k.partial")


def test_a_rank_that_ends_is_missed() -> None:
    with pytest.raises(LostRank, match="the same command continues from the last checkpoint"):
        in_threads(2, lambda ranks: ranks.number or ranks.put_together(torch.ones(1)), patience=0.2)
