"""Each variant of runs/gemma-2-2b.yaml, small, on the pretend device: run by tests/test_pretend_gpu.py in a process of
its own, or directly:

    TSAE_PRETEND_CUDA=1 PYTHONPATH=tests/pretend_cuda/site pytest -s tests/pretend_cuda/rehearsal.py
"""

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pretend_cuda
from pretend_cuda.counts import Counts
from pretend_cuda.rules import MixedDevices
from tsae_nb.activations import ActivationBatch
from tsae_nb.components.feature_tracker import gru_states
from tsae_nb.config import DataConfig, EvaluationConfig, RunConfig, UnlearningConfig, build, override
from tsae_nb.corpus import build_rows
from tsae_nb.evaluation.metrics import evaluate
from tsae_nb.evaluation.unlearning import UnlearningTask
from tsae_nb.experiments import expand, load_experiment
from tsae_nb.foundation import named_generator
from tsae_nb.language_model import LanguageModel
from tsae_nb.training import (
    MetricsLog,
    SAETraining,
    load_checkpoint,
    read_metrics,
    state_of,
    train,
    unordered_sums,
    write_checkpoint,
)
from tsae_nb.world import ORDERS

DEVICE = pretend_cuda.switch_on()
PRESET = Path(__file__).parents[2] / "runs" / "gemma-2-2b.yaml"
LAYER, ROWS, LENGTH, STEPS = 1, 8, 64, 4


def configs_of_the_preset() -> dict[str, RunConfig]:
    """Each variant that the preset trains, small, and JumpReLU, which it leaves out."""
    small = {"sae": {"dictionary_size": 2048}, "training": {"gradient_norms_every": 3, "rows_per_batch": ROWS}}
    experiment = load_experiment(PRESET, small)
    experiment["variants"]["jumprelu"] = {**small, "training": {**small["training"], "gradient_clip": 1.0}}
    configs = {config.sae.variant: config for config in expand({**experiment, "layers": [LAYER]})}
    soon = {"sae": {"dead_features": {"after_tokens": 700}}}  # some are dead after two batches
    return {name: override(config, soon) if config.sae.dead_features is not None else config
            for name, config in configs.items()}


CONFIGS = configs_of_the_preset()


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    """The embedded model in bfloat16, on the device."""
    return LanguageModel.load("embedded", dtype="bfloat16", device="auto")


@pytest.fixture(scope="module")
def batches(language_model: LanguageModel) -> list[ActivationBatch]:
    """Batches of 8 rows of 64 tokens, with several documents in a row."""
    data = DataConfig(rows=(STEPS + 1) * ROWS, evaluation_rows=1, row_length=LENGTH, packing=True)
    rows, _ = build_rows(data, language_model.tokenizer, quiet=True)
    found = []
    for start in range(0, len(rows), ROWS):
        part = {name: tensor.to("cuda") for name, tensor in rows.part(slice(start, start + ROWS)).items()}
        hidden = language_model.run_to_layer(part["tokens"], part["attended"], LAYER)
        found.append(ActivationBatch(hidden.float(), **part))
    return found


class Trained:
    """A variant after four steps: the second is counted, the third asks for gradient norms, the fourth has few active
    features, as later in training, so that sparse codes go their own way."""

    def __init__(self, config: RunConfig, batches: list[ActivationBatch], folder: Path):
        self.config, self.counts = config, {"dense": Counts(), "sparse": Counts()}
        self.kernels: set[tuple[str, str]] = set()  # operation and line of the project
        self.training = SAETraining(config, batches[0].activations.shape[-1], 0.3, device="cuda")
        log = MetricsLog(folder / "metrics.jsonl")
        for step, batch in enumerate(batches[:STEPS]):
            if step == 3:
                self.sparsify(batch)
            DEVICE.counts = self.counts.get({1: "dense", 3: "sparse"}.get(step, ""), Counts())
            log.record(step + 1, self.training.update(batch))
            self.kernels |= DEVICE.counts.kernels.keys()
        DEVICE.counts = Counts()
        log.flush()
        self.metrics = read_metrics(log.path)

    @torch.no_grad()
    def sparsify(self, batch: ActivationBatch) -> None:
        """Lower the encoder's bias, so that about a thousandth of the features are active."""
        sae = self.training.sae
        sae.encoder_bias.sub_(3.2 * (sae.scaled(batch.activations)[batch.valid] @ sae.encoder_weight.T).std())


@pytest.fixture(scope="module")
def trained(batches: list[ActivationBatch], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Each variant, trained once for all tests."""
    known: dict[str, Trained] = {}

    def of(variant: str) -> Trained:
        if variant not in known:
            known[variant] = Trained(CONFIGS[variant], batches, tmp_path_factory.mktemp(variant))
        return known[variant]

    return of


@pytest.fixture(params=CONFIGS)
def run(request: pytest.FixtureRequest, trained: Callable[[str], Trained]) -> Trained:
    """Every variant."""
    return trained(request.param)


def test_steps_log_every_term_and_its_gradient(run: Trained) -> None:
    terms = [name.removeprefix("term/") for name in run.metrics[0] if name.startswith("term/")]
    assert [line["step"] for line in run.metrics] == [1, 2, 3, 4]
    assert all(f"gradient/{name}" in run.metrics[2] for name in terms)
    assert all(value.device.type == "cuda" for value in run.training.sae.state_dict().values())
    if run.config.sae.dead_features is not None:
        assert run.metrics[3]["term/auxiliary"] > 0, "no feature was dead: the auxiliary loss was not reached"


# of a step with dense and with sparse codes: kernels, waits of the processor for the device, copies to it, as today
TODAY: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "baseline": ((136, 2, 1), (153, 6, 1)),
    "self_aligning": ((224, 2, 1), (241, 6, 1)),
    "adversarial": ((288, 6, 1), (305, 10, 1)),
    "disentangled": ((282, 5, 1), (299, 9, 1)),
    "hierarchical": ((506, 15, 2), (561, 18, 2)),
    "temporal": ((914, 29, 3), (969, 32, 3)),
    "topk": ((208, 7, 1), (208, 7, 1)),
    "batch_topk": ((210, 8, 1), (210, 8, 1)),
    "jumprelu": ((168, 3, 1), (166, 8, 1)),
}


def test_a_step_costs_no_more_than_today(trained: Callable[[str], Trained]) -> None:
    """Waits and copies of no variant may grow, its kernels by a tenth. Lower the numbers where the code does."""
    heads = [f"{codes} {what}" for codes in ("dense", "sparse") for what in ("kernels", "waits", "copies")]
    print(f"\n{'a step of':16s}" + "".join(f"{head:>16s}" for head in heads))
    grown = []
    for variant in CONFIGS:
        found = [(codes, counts, tuple(counts.totals().values())) for codes, counts in trained(variant).counts.items()]
        print(f"{variant:16s}" + "".join(f"{number:16d}" for _, _, costs in found for number in costs))
        for (codes, counts, costs), today in zip(found, TODAY.get(variant, ((0, 0, 0),) * 2), strict=True):
            if costs[0] > 1.1 * today[0] or costs[1] > today[1] or costs[2] > today[2]:
                lines = f"{counts.lines('syncs')}\n{counts.lines('copies')}"
                grown.append(f"{variant}, {codes}: {costs}, was {today}\n{lines}")
    assert not grown, "\n".join(grown)


def test_where_the_processor_waits(trained: Callable[[str], Trained]) -> None:
    """The lines are found: of the forward pass and of the backward pass, which runs in another thread."""
    counts = trained("temporal").counts["dense"]
    print(f"\na step of temporal waits at\n{counts.lines('syncs')}\nand copies at\n{counts.lines('copies')}")
    lines = {line for counter in (counts.syncs, counts.kernels) for _, line in counter}
    assert "elsewhere" not in lines, sorted(counts.kernels)
    assert any(line.startswith("components/feature_tracker.py:") for line in lines)
    assert any(line.startswith("training.py:") and line.endswith("(backward)") for line in lines)


def states(training: SAETraining) -> dict[str, Tensor]:
    """All that the next step depends on."""
    parts = {"sae": training.sae.state_dict(), "objective": training.objective.state_dict(),
             **training.optimizer.state_dict()["state"]}
    return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}


def assert_same(one: SAETraining, other: SAETraining) -> None:
    first, second = states(one), states(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert {name: value.device for name, value in first.items()} == {
        name: value.device for name, value in second.items()}


def test_a_checkpoint_gives_the_same_next_step(run: Trained, batches: list[ActivationBatch], tmp_path: Path) -> None:
    whole, resumed = run.training, SAETraining(run.config, batches[0].activations.shape[-1], 0.3, device="cuda")
    write_checkpoint(state_of(whole), tmp_path / "checkpoint")
    load_checkpoint(resumed, tmp_path / "checkpoint")
    assert_same(whole, resumed)
    logs = [{name: float(value) for name, value in one.update(batches[STEPS]).items()} for one in (whole, resumed)]
    assert logs[0] == logs[1]
    assert_same(whole, resumed)


def test_evaluation_gives_the_processors_numbers(
    run: Trained, batches: list[ActivationBatch], language_model: LanguageModel
) -> None:
    config = EvaluationConfig(loss_rows=4, ablation="mean", largest_lag=2)
    found = evaluate(run.training.sae, batches[:1], language_model, config, LAYER)
    there = copy.deepcopy(run.training.sae).to("cpu")
    here = ActivationBatch(**{name: value.cpu() for name, value in vars(batches[0]).items()})
    expected = evaluate(there, [here], LanguageModel.load("embedded", dtype="bfloat16", device="cpu"), config, LAYER)
    assert found.loss.recovered is not None and found.temporal.adjacent_cosine is not None
    for name in ("fvu", "cosine", "l0", "l1"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    for name in ("plain", "spliced", "ablated"):
        assert getattr(found.loss, name) == pytest.approx(getattr(expected.loss, name), rel=2e-2), name


def test_masks_of_the_processor_are_taken(run: Trained, batches: list[ActivationBatch]) -> None:
    """A tokenizer's mask may have stayed where it was made."""
    batch, encode = batches[0], run.training.sae.encode
    expected = encode(batch.activations, batch.valid, batch.documents)
    assert torch.equal(encode(batch.activations, batch.valid.cpu(), batch.documents.cpu()), expected)


@pytest.fixture(scope="module")
def task(language_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> UnlearningTask:
    """Few questions of the embedded world, in four of the 24 orders; no feature is too dense to be clamped."""
    corpus = {"documents": 60, "rows": 4}
    names = ("us_history", "computer_science")
    config = build(UnlearningConfig, {
        "forget": {"name": "bio", "limit": 8}, "side": [{"name": name, "limit": 8} for name in names],
        "forget_corpus": corpus, "retain_corpus": corpus, "row_length": LENGTH, "retain_thresholds": [2.0],
        "feature_counts": [10], "multipliers": [100.0], "bootstrap": 10,
        "cache_folder": str(tmp_path_factory.mktemp("unlearning"))})
    made = UnlearningTask.build(language_model, config, LAYER, orders=ORDERS[:4])
    assert (made.sets == 0).any() and (made.sets > 0).any(), "no question qualifies"
    return made


def test_unlearning_really_clamps(run: Trained, task: UnlearningTask) -> None:
    result = task.evaluate(run.training.sae)
    table = result.table
    assert set(table.features) == {10} and set(table.control) == {0, 1}
    assert table.touched.sum() > 0 and table.flipped.sum() > 0, "no clamp changed an answer"


ADDED_BY_ANY_THREAD = {"index_add", "index_add_", "scatter_add", "scatter_add_", "_embedding_bag_dense_backward"}
SAID = {"components/sparse_products.py": "(sparse codes)", "components/sparse_code.py": "(sparse codes)",
        "components/margin_ema.py": "(margins)", "components/temporal_consistency.py": "(consistency)"}


def test_what_adds_up_in_no_fixed_order_is_said(run: Trained) -> None:
    """What autograd itself adds up belongs to `index_select`: of gates, and of dead features, each of them once."""
    said = " ".join(unordered_sums(run.config.sae))
    files = {line.partition(":")[0] for name, line in run.kernels if name in ADDED_BY_ANY_THREAD}
    assert files <= {*SAID, "training.py"} and all(SAID[file] in said for file in files & SAID.keys())
    assert ("GRU" in said) == any(name == "_cudnn_rnn" for name, _ in run.kernels)
    assert ("attention" in said) == (run.config.sae.temporal_encoder is not None)
    assert ("gates" in said) == (run.config.sae.router is not None)


@pytest.mark.parametrize("deterministic", [False, True])
def test_training_asks_for_deterministic_kernels(
    deterministic: bool, batches: list[ActivationBatch], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"training": {"steps": 2, "deterministic": deterministic}}
    training = SAETraining(override(CONFIGS["temporal"], settings), batches[0].activations.shape[-1], device="cuda")
    seen = []

    def batch(step: int) -> ActivationBatch:
        seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()))
        return batches[step]

    train({tmp_path: training}, batch)
    assert seen == [(deterministic, not deterministic)] * 2
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    said = [line for line in capsys.readouterr().err.splitlines() if "no fixed order" in line]
    assert len(said) == (not deterministic)
    if said:
        named = ("(sparse codes)", "(margins)", "attention", "GRU", "training.deterministic=true")
        assert all(name in said[0] for name in named)


def test_the_gru_learns_in_float32() -> None:
    """cuDNN's own choice under autocast is float16; the tracker's states and gradients are the processor's."""
    gru = nn.GRU(16, 16, 2, batch_first=True)
    rows = torch.randn(4, 20, 16, generator=named_generator(0, "rows"))
    stretch, place = torch.arange(4).repeat_interleave(20), torch.arange(20).repeat(4)
    wanted = gru_states(gru, rows.flatten(0, 1), stretch, place)
    small = 1e-9 * torch.randn(wanted.shape, generator=named_generator(0, "gradient"))  # below float16's smallest
    expected = [value.clone() for value in torch.autograd.grad(wanted, list(gru.parameters()), small)]
    wanted = wanted.detach()
    gru.to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        plain = gru(rows.to("cuda"))[0].flatten(0, 1)
        ours = gru_states(gru, rows.flatten(0, 1).to("cuda"), stretch.to("cuda"), place.to("cuda"))
        assert (rows.to("cuda") @ torch.ones(16, 16, device="cuda")).dtype == torch.bfloat16, "autocast is not on"
    assert plain.dtype == torch.float16 and ours.dtype == torch.float32
    assert torch.allclose(ours.detach().cpu(), wanted, atol=1e-6)
    for states_, agree in ((plain, False), (ours, True)):
        found = torch.autograd.grad(states_, list(gru.parameters()), small.to("cuda", states_.dtype))
        pairs = zip(found, expected, strict=True)
        assert all(torch.allclose(a.cpu(), b, rtol=1e-3, atol=1e-12) for a, b in pairs) == agree


def tensors() -> tuple[Tensor, Tensor]:
    """Three numbers on the device, and on the processor."""
    return torch.arange(3.0, device="cuda"), torch.arange(3.0)


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a number in stack": lambda there, here: torch.stack([there[0], here[0]]),
    "a number in cat": lambda there, here: torch.cat([there, here[:1]]),
    "a sum": lambda there, here: there + here,
    "a number of the device in a sum of the processor": lambda there, here: here + there[0],
    "what is written": lambda there, here: here.add_(there),
    "a number that is written": lambda there, here: here[0].add_(there[0]),
    "a mask": lambda there, here: there.masked_fill(here > 1, 0.0),
    "gathering": lambda there, here: there.index_select(0, torch.tensor([1])),
    "indices of the device": lambda there, here: here[there.long()],
    "a row put in place": lambda there, here: there.__setitem__(torch.tensor([0, 1]), here[:2]),
    "a product": lambda there, here: there @ here,
}
TAKEN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a number in a sum": lambda there, here: there + here[1],
    "a number in where": lambda there, here: torch.where(there > 1, there, here[1]),
    "a number as filling": lambda there, here: there.masked_fill(there > 1, here[1]),
    "a number put in place": lambda there, here: there.__setitem__(torch.tensor([0, 1]), here[1]),
    "indices of the processor": lambda there, here: there[torch.tensor([0, 2])],
    "a list": lambda there, here: there[[0, 2]],
    "a copy": lambda there, here: here.copy_(there) + there.copy_(here).cpu(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_two_devices_are_refused(what: str) -> None:
    with pytest.raises(MixedDevices, match="Expected all tensors to be on the same device"):
        REFUSED[what](*tensors())


@pytest.mark.parametrize("what", TAKEN)
def test_two_devices_are_taken(what: str) -> None:
    TAKEN[what](*tensors())


def test_what_a_gpu_cannot_do_is_refused() -> None:
    there, _ = tensors()
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        there.numpy()
    for device, generator in (("cuda", torch.Generator()), ("cpu", torch.Generator("cuda"))):
        with pytest.raises(RuntimeError, match=f"Expected a '{device}' device type for generator"):
            torch.rand(2, device=device, generator=generator)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(2, device="cuda:1")


@pytest.fixture
def counts() -> Iterator[Counts]:
    """Counters of this test alone."""
    before, DEVICE.counts = DEVICE.counts, Counts()
    yield DEVICE.counts
    DEVICE.counts = before


COSTS: dict[str, tuple[Callable[[Tensor, Tensor], object], tuple[int, int, int]]] = {  # kernels, syncs, copies
    "a view": (lambda there, here: there[1:].unsqueeze(0).expand(4, 2), (0, 0, 0)),
    "a sum": (lambda there, here: there + 1, (1, 0, 0)),
    "a number": (lambda there, here: float(there[0]), (1, 1, 0)),
    "a mask as index": (lambda there, here: there[there.bool()], (2, 1, 0)),
    "one number at a mask": (lambda there, here: there.__setitem__(there.bool(), 0.0), (2, 0, 0)),
    "to the processor": (lambda there, here: there.cpu(), (0, 1, 0)),
    "to the device": (lambda there, here: here.to("cuda"), (0, 0, 1)),
    "a list": (lambda there, here: there.new_tensor([1.0, 2.0]), (0, 0, 1)),
    "a question": (lambda there, here: bool((there > 0).any()), (3, 1, 0)),
}


@pytest.mark.parametrize("what", COSTS)
def test_costs_are_counted(what: str, counts: Counts) -> None:
    work, expected = COSTS[what]
    there, here = tensors()
    counts.reset()
    work(there, here)
    assert tuple(counts.totals().values()) == expected, (counts.kernels, counts.syncs, counts.copies)
