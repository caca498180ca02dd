"""The preset itself, runs/gemma-2-2b.yaml, to the end: from a hub (on this machine), on a GPU (or a pretended one)

At the true width, through two commands as a person types them, killed half-way and started again. Settings make it
short; nothing else is changed: the sources, the models' names, the variants, the layers, the dtypes are the preset's.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pretend_cuda
import psutil
import pytest
import torch
from local_hub import LocalHub
from pretend_cuda import guard
from safetensors.torch import load_file
from wide_model import EMBEDDED, PLACES, STAND_INS, wide_config, wide_weights, write_hub, write_model

from tsae_nb.config import RunConfig, UnlearningConfig, build, read_yaml, settings_of
from tsae_nb.evaluation.asking import Options, qualifying
from tsae_nb.evaluation.questions import load_questions, prompt_text, prompt_tokens, subject_named
from tsae_nb.experiments import expand, load_experiment, nested
from tsae_nb.language_model import LanguageModel
from tsae_nb.world import TITLES, World

ROOT = Path(__file__).parents[1]
PRESET = "runs/gemma-2-2b.yaml"
TSAE = str(Path(sys.executable).with_name("tsae"))
PILE = "datasets/monology/pile-uncopyrighted/train/00.jsonl.zst"
LAYERS = (5, 12, 19)
KILLED_AT = ("hierarchical-layer12", "temporal-layer12")  # the first has a checkpoint, the next is still at its step
STEPS = 2
SLOWEST = 1800  # seconds of a command on a busy processor without AVX-512; a third of it elsewhere
TOKEN = "hf_of_this_test"
GATED = {"google/gemma-2-2b": "auto", "google/gemma-2-2b-it": "auto", "datasets/cais/wmdp-bio-forget-corpus": "manual"}


def short(folder: Path) -> list[str]:
    """The settings that shorten the preset: fewer rows, steps, features and settings of the unlearning evaluation.

    Rows are short because the tracker of `temporal` goes through its 300 MB of weights for every place of a row.
    """
    settings: dict[str, Any] = {
        "data.rows": 32, "data.evaluation_rows": 16, "data.row_length": 16, "language_model.batch_rows": 16,
        "activations.calibration_rows": 16, "activations.cache_folder": folder / "cache",
        "activations.cache_gibibytes": 1.0, "sae.dictionary_size": 512, "training.steps": STEPS,
        "training.rows_per_batch": 4, "training.checkpoint_every": 1, "training.gradient_norms_every": 2,
        "evaluation.batch_rows": 16, "evaluation.loss_rows": 8, "unlearning.cache_folder": folder / "cache",
        "unlearning.row_length": 128, "unlearning.forget_corpus.rows": 4, "unlearning.retain_corpus.rows": 4,
        "unlearning.multipliers": [200.0], "unlearning.feature_counts": [10], "unlearning.retain_thresholds": [0.1],
        "unlearning.bootstrap": 50,
    }
    return [f"{name}={value}" for name, value in settings.items()]


@dataclass(repr=False)
class Rehearsal:
    """What the commands left: run directories, figures, what they said, what they asked the hub for."""

    folder: Path
    settings: list[str]
    said: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    log_at_kill: int = 0
    drops_left: int = -1
    at_kill: dict[str, bytes] = field(default_factory=dict)  # manifests of complete runs, metrics of one under way

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / "gemma-2-2b"

    def read(self, run: str, name: str) -> Any:
        return json.loads((self.runs / run / name).read_text())

    @property
    def configs(self) -> dict[str, RunConfig]:
        """Name of a run's folder → what the preset and the settings say it is."""
        experiment = load_experiment(ROOT / PRESET, nested(self.settings))
        return {config.name.removeprefix("gemma-2-2b/"): config for config in expand(experiment)}

    def run_command(self, part: str, command: list[str], environment: dict[str, str], wait: bool = True) -> int:
        """One command to its end, or until the moment at which it is killed with all its processes."""
        started, saying = time.monotonic(), self.folder / f"{len(self.said)}.txt"
        with open(saying, "w", encoding="utf-8") as output:
            child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
            try:
                if wait:
                    child.wait(timeout=SLOWEST)
                else:
                    self._kill_half_way(child)
            finally:
                _kill(child)
        self.said.append(saying.read_text(encoding="utf-8"))
        self.seconds[part] = time.monotonic() - started
        return child.returncode

    def _kill_half_way(self, child: subprocess.Popen[bytes]) -> None:
        reached, not_yet = (self.runs / f"{name}.partial" / "checkpoint" for name in KILLED_AT)
        deadline = time.monotonic() + SLOWEST
        while not reached.is_dir() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        _kill(child)
        assert reached.is_dir() and not not_yet.exists(), "the run ended before it could be killed, or never came there"


def _kill(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a command and to all it started: a kernel is in a session of its own."""
    if child.poll() is None:
        for process in [child, *psutil.Process(child.pid).children(recursive=True)]:  # it says nothing of a dead kernel
            process.kill()
        child.wait()


@pytest.fixture(scope="module")
def rehearsal(request: pytest.FixtureRequest) -> Iterator[Rehearsal]:
    """The preset, run once for all tests below: killed, started again, drawn."""
    real = torch.cuda.is_available()
    if not real and guard.compiler() is None:
        pytest.skip("the pretend CUDA device needs a C++ compiler")
    with tempfile.TemporaryDirectory(prefix="tsae-preset-") as name:  # gigabytes: pytest would keep them
        folder = Path(name)
        done = Rehearsal(folder, short(folder))
        started = time.monotonic()
        repositories = write_hub(folder / "hub", forget_questions=5, side_questions=2)
        done.seconds["models and data"] = time.monotonic() - started
        run = [TSAE, "run", PRESET, "--root", str(folder / "runs")]
        run += [part for setting in done.settings for part in ("--set", setting)]
        with LocalHub(repositories, gated=GATED, granted={TOKEN: set(GATED)}, dropping={PILE: 1}) as hub:
            environment = hub.environment(folder / "home", HF_TOKEN=TOKEN)
            if not real:
                environment = pretend_cuda.environment(base=environment, counting=False)
            done.run_command("run until killed", run, environment, wait=False)
            done.log_at_kill = len(hub.log)
            kept = (*done.runs.glob("*/manifest.json"), done.runs / f"{KILLED_AT[0]}.partial" / "metrics.jsonl")
            done.at_kill = {path.parent.name: path.read_bytes() for path in kept}
            status = done.run_command("run again", run, environment)
            assert status == 0, done.said[-1]
            draw = [TSAE, "figures", str(done.runs), "--out", str(folder / "figures")]
            status = done.run_command("figures", draw, environment)
            assert status == 0, done.said[-1]
            done.log, done.drops_left = list(hub.log), hub.dropping[PILE]
        report = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in done.seconds.items())
        capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\nthe preset: {report}")
        yield done


def test_all_24_runs_are_complete_and_what_the_preset_says(rehearsal: Rehearsal) -> None:
    assert len(rehearsal.configs) == 8 * len(LAYERS)
    assert sorted(path.parent.name for path in rehearsal.runs.glob("*/manifest.json")) == sorted(rehearsal.configs)
    assert not list(rehearsal.runs.glob("*.partial"))
    for name, config in rehearsal.configs.items():
        stored = read_yaml(rehearsal.runs / name / "config.yaml")
        assert stored == settings_of(config) and build(RunConfig, stored) == config
        assert "gpu" in rehearsal.read(name, "manifest.json")["machine"]
        lines = [json.loads(line) for line in (rehearsal.runs / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        terms = {term.removeprefix("term/") for term, value in lines[1].items() if term.startswith("term/") and value}
        assert "reconstruction" in terms and {f"gradient/{term}" for term in terms} <= set(lines[1]) - set(lines[0])
        assert (rehearsal.runs / name / "run.ipynb").is_file()


def test_no_traceback_and_a_broken_connection_survived(rehearsal: Rehearsal) -> None:
    around = [said[max(0, at - 1000) : at + 3000] for said in rehearsal.said if (at := said.find("Traceback")) >= 0]
    assert not around, "\n".join(around)
    assert rehearsal.drops_left == 0, "the Pile's connection was to break once"
    assert Counter(rehearsal.log)[f"GET {_address(PILE)}"] >= 2


def _address(name: str) -> str:
    owner, _, file = name.rpartition("/train/")
    return f"/{owner}/resolve/{'b' * 40}/train/{file}"


def test_what_was_fetched_is_fetched_once(rehearsal: Rehearsal) -> None:
    """The corpora are looked at when a command starts; weights and questions are not fetched again."""
    ending = re.compile(r"GET .*(\d\.safetensors|/cais/.*/test-[-\w]+\.parquet)$")
    fetched = Counter(line for line in rehearsal.log if ending.match(line))
    assert set(fetched.values()) == {1} and len(fetched) == 2 * 2 + 1 + 4, fetched
    assert not any(line in fetched for line in rehearsal.log[rehearsal.log_at_kill :])
    first, second, _ = rehearsal.said
    for made_once in ("training rows", "activations of layer"):
        assert made_once in first and made_once not in second


def test_what_there_was_when_it_was_killed_is_kept(rehearsal: Rehearsal) -> None:
    complete = {name for name in rehearsal.configs if name.endswith(f"-layer{LAYERS[0]}")}
    under_way = f"{KILLED_AT[0]}.partial"
    assert set(rehearsal.at_kill) == {*complete, under_way}
    for name in complete:
        assert (rehearsal.runs / name / "manifest.json").read_bytes() == rehearsal.at_kill[name]
    metrics = (rehearsal.runs / KILLED_AT[0] / "metrics.jsonl").read_bytes()
    assert metrics.startswith(rehearsal.at_kill[under_way]) and rehearsal.at_kill[under_way].count(b"\n") == 1


def test_every_run_is_evaluated_and_layers_differ(rehearsal: Rehearsal) -> None:
    measured: dict[str, list[tuple[float, ...]]] = {}
    for name in rehearsal.configs:
        evaluation, unlearning = (rehearsal.read(name, file) for file in ("evaluation.json", "unlearning.json"))
        numbers = (evaluation["explained_variance"], evaluation["loss"]["recovered"], unlearning["residual_norm"])
        measured.setdefault(name.rpartition("-")[0], []).append(numbers)
        for role, sets in (("forget", 1), ("side", 4)):
            found = [one for one in unlearning["questions"].values() if one["role"] == role]
            assert len(found) == sets and all(0 < one["qualifying"] <= one["asked"] for one in found)
        assert unlearning["reason"] != "no_qualifying_question" and unlearning["config"]["prompt"] == "chat"
    for rows in measured.values():
        assert all(len(set(values)) == len(LAYERS) for values in zip(*rows, strict=True)), measured


@pytest.mark.parametrize("layer", LAYERS)
def test_knowledge_was_really_clamped(rehearsal: Rehearsal, layer: int) -> None:
    for variant in ("topk", "batch_topk"):
        table = pd.read_parquet(rehearsal.runs / f"{variant}-layer{layer}" / "unlearning.parquet")
        own = table[table.control == 0]
        assert (own.features == 10).all() and own.touched.sum() > 0 and own.flipped.sum() > 0, own


def test_all_figures_show_every_variant(rehearsal: Rehearsal) -> None:
    for figure in ("figure1", "figure2", "figure4"):
        files = {path.suffix for path in (rehearsal.folder / "figures").glob(f"{figure}.*")}
        assert {".json", ".csv", ".html"} <= files
        rows = pd.read_csv(rehearsal.folder / "figures" / f"{figure}.csv")
        assert set(rows.layer) == set(LAYERS), rows
        assert {name.rpartition("-")[0] for name in rehearsal.configs} == set(rows.curve), rows


# The models that the hub gives are what the tests above stand on.


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small products on many threads wait for each other, on a busy machine for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The instruct model in float32."""
    return LanguageModel.load(write_model(tmp_path_factory.mktemp("wide"), True, torch.float32), device="cpu")


def _some_text(tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    texts = [document.text for document in World().documents(3, "validation")]
    encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=64)
    return encoded["input_ids"], encoded["attention_mask"].bool()


def test_the_wide_model_computes_what_the_embedded_one_does(wide: LanguageModel) -> None:
    narrow = LanguageModel.load("embedded", device="cpu")
    tokens, attended = _some_text(narrow.tokenizer)
    expected, found = narrow.logits(tokens, attended), wide.logits(tokens, attended)
    assert (expected - found)[attended].abs().max() < 1e-4 < expected[attended].abs().max()
    assert wide.width == 2304 and wide.number_of_layers == 26
    streams = wide.run_to_layers(tokens, attended, LAYERS)
    assert all((stream[attended] != 0).all() for stream in streams.values())
    low, middle, high = (streams[layer][attended] for layer in LAYERS)
    assert not torch.equal(low, middle) and not torch.equal(middle, high)
    # each of the embedded model's layers is seen through the copies of its dimensions
    below = narrow.run_to_layers(tokens, attended, (0, 1, 2))
    for block, layer in enumerate(LAYERS):
        torch.testing.assert_close(
            streams[layer].norm(dim=-1), below[block].norm(dim=-1) * 6, atol=1e-3, rtol=1e-4)


def test_something_is_computed_above_every_layer_of_the_preset() -> None:
    narrow = load_file(EMBEDDED / "model.safetensors")
    weights = wide_weights(narrow)
    writing = {layer for layer in range(26) if weights[f"model.layers.{layer}.mlp.down_proj.weight"].any()}
    assert writing == set(PLACES) and max(PLACES) > max(LAYERS)
    embedded = json.loads((EMBEDDED / "config.json").read_text())  # rows too short for a window would not tell
    assert [wide_config(embedded)["layer_types"][place] for place in PLACES] == embedded["layer_types"]
    other = wide_weights(narrow, filler=1)
    different = {name for name in weights if not torch.equal(weights[name], other[name])}
    assert different and not any(int(name.split(".")[2]) in PLACES for name in different)


def test_the_preset_s_questions_are_understood(tmp_path: Path) -> None:
    """In bfloat16, under the chat prompt, in all 24 orders; the template makes the embedded model's own prompt."""
    repositories = write_hub(tmp_path, forget_questions=1, side_questions=1)
    model = LanguageModel.load(repositories["google/gemma-2-2b-it"], "bfloat16", device="cpu")
    config = expand(load_experiment(ROOT / PRESET))[0].unlearning
    assert isinstance(config, UnlearningConfig)
    asked = understood = 0
    for one in (config.forget, *config.side):
        [file] = repositories[f"datasets/{one.path}"].glob(f"{one.subset}/test-*.parquet")
        questions = load_questions(type(one)(one.name, source="file", path=str(file)))
        subject = subject_named(one)

        def tokens(rows: Any, order: Any, questions: Any = questions, subject: str = subject) -> list[list[int]]:
            texts = [prompt_text(model.tokenizer, "chat", subject, questions[row], order) for row in rows]
            own = [prompt_text(model.tokenizer, "world", TITLES[STAND_INS[subject]], questions[row], order)
                   for row in rows]
            assert texts == ["<bos>" + text for text in own]
            return prompt_tokens(model.tokenizer, texts)

        answers = [question.answer for question in questions]
        found = qualifying(model, tokens, answers, Options(model.tokenizer), 16384)
        asked, understood = asked + len(questions), understood + len(found)
    assert understood >= asked / 2, (understood, asked)
