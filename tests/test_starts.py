"""Starts that fail: one sentence within seconds, nothing left behind, and the corrected command works"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from local_hub import LocalHub
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast, RwkvConfig, RwkvForCausalLM

from tsae_nb.cli import main
from tsae_nb.corpus import world_documents

ROOT = Path(__file__).parents[1]
TSAE = str(Path(sys.executable).with_name("tsae"))
FILE = """
name: start
variants: [topk]
language_model: {path: us/model, layer: 1}
data: {source: hub, path: us/texts, rows: 32, evaluation_rows: 8}
activations: {calibration_rows: 8}
sae: {dictionary_size: 64}
training: {steps: 3, rows_per_batch: 8}
unlearning: {row_length: 64, multiplier_unit: residual_norm, multipliers: [1.0], retain_corpus: {documents: 32},
  forget_corpus: {documents: 32}}
"""
HUGE = "1000000000000"
MISTAKES = {  # what is set: what must be said
    "a model that is not there": (["language_model.path=us/modle"], ["us/modle"]),
    "a model whose licence is not accepted": (
        ["language_model.path=us/gated"], ["us/gated", "accept its terms", "hf auth login"]),
    "a second model whose licence is not accepted": (
        ["unlearning.language_model=us/gated"], ["us/gated", "accept its terms"]),
    "a data set that is not there": (["data.path=us/nothing"], ["us/nothing"]),
    "a corpus that is granted by hand": (
        ["unlearning.forget_corpus={source: hub, path: us/waiting}"],
        ["us/waiting", "unlearning.forget_corpus.source=file", "unlearning.forget_corpus.path="]),
    "a column that is not there": (["data.text_field=body"], ["'body'", "'text'", "data.text_field"]),
    "a question set without its columns": (
        ["unlearning.forget={name: bio, source: hub, path: us/texts, split: train}"],
        ["unlearning.forget", "question"]),
    "a disk that is too small": (
        [f"data.rows={HUGE}", "activations.cache_gibibytes=1e9"], ["the disk is too small", "GiB of activations"]),
    "a memory that is too small": (["sae.dictionary_size=1000000000"], ["too small"]),
    "a number that some programs read as octal": (["training.steps=010"], ["training.steps=010", "begins with 0"]),
    "an item that a list does not have": (["unlearning.side.9.limit=3"], ["unlearning.side.9", "4 items"]),
    "a subject of one's own without text on it": (
        ["unlearning.forget={name: mine, source: file, path: mine.csv}"],
        ["unlearning.forget_corpus", "'mine'", "source=questions"]),
    "a question with three options": (
        ["unlearning.forget={name: bio, source: file, path: three.jsonl}"], ["three.jsonl, row 0", "3 choices"]),
    "a layer beyond the model": (["language_model.layer=9"], ["layer 9", "4 layers"]),
    "an encoder that is asked questions": (["language_model.path=us/encoder"], ["encoder-only"]),
    "a model that cannot be cut": (
        ["language_model.path=us/recurrent"], ["us/recurrent (rwkv)", "cannot be cut after layer 1", "choose another"]),
    "a corpus whose documents are all short": (
        ["unlearning.forget_corpus={source: file, path: short.txt}"],
        ["none of 2 documents has more than 50 characters", "unlearning.forget_corpus.shortest_document"]),
}


def write_encoder(folder: Path) -> Path:
    """A small random encoder of the BERT family with its tokenizer."""
    folder.mkdir()
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{x}" for x in "abcdefghijklmnopqrstuvwxyz")]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_recurrent(folder: Path) -> Path:
    """A small random RWKV, whose blocks hand on a state of their own, with the embedded model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "tsae_nb" / "embedded")
    torch.manual_seed(0)
    config = RwkvConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, context_length=128)
    RwkvForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A working folder with the parameter file, and the environment of a process that knows a local hub."""
    folder = tmp_path_factory.mktemp("starts")
    (folder / "start.yaml").write_text(FILE)
    (folder / "short.txt").write_text("A paragraph.\n\nAnother one.\n")
    (folder / "mine.csv").write_text("Where does the Velm live?,marsh,dune,reef,cave,C\n")
    (folder / "three.jsonl").write_text('{"question": "Where?", "choices": ["a", "b", "c"], "answer": "A"}\n')
    embedded = ROOT / "tsae_nb" / "embedded"
    texts = "\n".join(json.dumps({"text": text}) for _, text in world_documents(0, "train", 200))
    data = {"train.jsonl": texts.encode()}
    repositories = {"us/model": embedded, "us/gated": embedded, "us/encoder": write_encoder(folder / "encoder"),
                    "us/recurrent": write_recurrent(folder / "recurrent"), "datasets/us/texts": data,
                    "datasets/us/waiting": data}
    with LocalHub(repositories, gated={"us/gated": "auto", "datasets/us/waiting": "manual"}) as hub:
        yield folder, hub.environment(folder / "home", OMP_NUM_THREADS="1")


def command(settings: tuple[str, ...] | list[str]) -> list[str]:
    return ["run", "start.yaml", *(part for setting in settings for part in ("--set", setting))]


def start(place: tuple[Path, dict[str, str]], *settings: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """As a user types it."""
    folder, environment = place
    began = time.monotonic()
    ended = subprocess.run(
        [TSAE, *command(settings)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return ended, time.monotonic() - began


def start_here(
    place: tuple[Path, dict[str, str]], settings: list[str], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> tuple[subprocess.CompletedProcess[str], float]:
    """The same in this process, which has imported torch; the notebook, where hub and model are met, is in another."""
    folder, environment = place
    for name in {*os.environ} - {*environment}:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    capfd.readouterr()
    began = time.monotonic()
    status = main(command(settings))
    seconds, said = time.monotonic() - began, capfd.readouterr()
    return subprocess.CompletedProcess(settings, status, said.out, said.err), seconds


TYPED = ("a model whose licence is not accepted", "a layer beyond the model")  # in a process of their own


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_sentence_and_nothing_left_behind(
    mistake: str, place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings, words = MISTAKES[mistake]
    typed = mistake in TYPED
    ended, seconds = start(place, *settings) if typed else start_here(place, settings, monkeypatch, capfd)
    said = [line for line in ended.stderr.splitlines() if line.startswith("tsae: ")]
    assert ended.returncode == 2 and len(said) == 1 and "Traceback" not in ended.stderr + ended.stdout, ended.stderr
    print(f"{seconds:.0f} s: {said[0]}")
    assert all(word in said[0] for word in words), said[0]
    assert ended.stderr.rstrip().endswith(said[0]), "it is the last thing said"
    assert not (place[0] / "runs").exists(), sorted((place[0] / "runs").rglob("*"))


def test_then_the_corrected_command_works(place: tuple[Path, dict[str, str]]) -> None:
    ended, _ = start(place)
    assert ended.returncode == 0, ended.stderr
    assert (place[0] / "runs" / "start" / "topk" / "unlearning.json").is_file()


def test_a_start_on_another_runs_folder_names_every_difference(place: tuple[Path, dict[str, str]]) -> None:
    """After the run above: what differs is said completely, and no work is to be thrown away for it."""
    before = {path: path.stat().st_mtime_ns for path in (place[0] / "runs").rglob("*") if path.is_file()}
    ended, _ = start(place, "sae.dictionary_size=32", "data.seed=7", "training.learning_rate=1e-2")
    assert ended.returncode == 2
    for difference in ("sae.dictionary_size: 64 → 32", "data.seed: 0 → 7", "training.learning_rate: 0.0003 → 0.01"):
        assert difference in ended.stderr
    assert "--name" in ended.stderr and not any(word in ended.stderr for word in ("rm ", "remove", "delete"))
    assert {path: path.stat().st_mtime_ns for path in (place[0] / "runs").rglob("*") if path.is_file()} == before


def test_a_file_that_papermill_would_read_otherwise(place: tuple[Path, dict[str, str]]) -> None:
    """papermill keeps the last of two equal keys, and takes 1:30 for ninety: the notebook says so before it works."""
    folder, environment = place
    template = ROOT / "nbs" / "experiments" / "run_variants.ipynb"
    for text, said in (("seeds: [1]\nseeds: [2]\n", "the key 'seeds' is given twice"),
                       ("training: {steps: 1:30}\n", "training.steps: 90")):
        (folder / "twice.yaml").write_text("name: twice\nvariants: [topk]\n" + text)
        line = [sys.executable, "-m", "papermill", str(template), "out.ipynb", "-f", "twice.yaml", "-p", "root",
                "others", "--no-progress-bar"]
        ended = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert ended.returncode and said in ended.stderr, ended.stderr[-2000:]
        assert not (folder / "others").exists()
