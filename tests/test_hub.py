"""Models and data sets of a hub: known without their weights, refused in a sentence within seconds, read through lost
connections. The hub is one on this machine (local_hub), the clients are the real ones, in processes of their own."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from local_hub import LocalHub

import tsae_nb
from tsae_nb.corpus import world_documents

EMBEDDED = Path(tsae_nb.__path__[0]) / "embedded"
WEIGHTS = (EMBEDDED / "model.safetensors").stat().st_size
LONGEST = 20.0  # seconds to a sentence
SCRIPT = """
import json, sys, time
import torch
torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
from tsae_nb import corpus, language_model
from tsae_nb.config import *
from tsae_nb.corpus import *
from tsae_nb.evaluation.clamping import *
from tsae_nb.evaluation.questions import *
from tsae_nb.evaluation.unlearning import *
from tsae_nb.foundation import content_hash, named_generator
from tsae_nb.language_model import *
for case in json.load(sys.stdin):
    started = time.monotonic()
    try:
        found = {"value": eval(case)} if "=" not in case.partition("(")[0] else exec(case) or {"value": None}
    except UserError as error:
        found = {"said": str(error)}
    print("FOUND", json.dumps(found | {"seconds": time.monotonic() - started}), flush=True)
"""


def told(hub: LocalHub, home: Path, *cases: str, **more: str) -> list[dict[str, Any]]:
    """What each expression gives, or says as a `UserError`, in one process that uses the hub."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=json.dumps(cases), env=hub.environment(home, **more),
                          cwd=home.parent, capture_output=True, text=True, timeout=240)
    lines = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert done.returncode == 0 and len(lines) == len(cases), done.stdout + done.stderr
    for line in lines:
        line["stderr"] = done.stderr
    return lines


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def parquet(columns: dict[str, list[Any]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def pile(documents: int, shards: int) -> dict[str, bytes]:
    """The Pile's layout: numbered .jsonl.zst files, and a field beside the text."""
    # no two are the same: text that repeats what is held out would be left out
    told = [text for _, text in world_documents(0, "train", documents * shards)]

    def shard(number: int) -> bytes:
        texts = told[number * documents : (number + 1) * documents]
        return zstandard.compress(jsonl([{"text": text, "meta": {"set": "x"}} for text in texts]))

    other = zstandard.compress(jsonl([{"text": "of another split", "meta": {"set": "x"}}]))
    return {f"train/{n:02d}.jsonl.zst": shard(n) for n in range(shards)} | dict.fromkeys(
        ("val.jsonl.zst", "test.jsonl.zst"), other)


CARD = b"---\nconfigs:\n- config_name: wikitext-2-raw-v1\n  data_files:\n  - split: test\n    path: wiki/test-*\n---\n"
LINE = "A line of text. " * 9
WIKI = {"README.md": CARD, "wiki/test-00000-of-00001.parquet": parquet({"text": ["", None, LINE] * 30})}
MODEL = {file.name: file.read_bytes() for file in EMBEDDED.iterdir() if file.is_file()}
QUESTIONS = parquet({"question": ["Which?"] * 3, "choices": [["a", "b", "c", "d"]] * 3, "answer": [0, 1, 2]})


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    without = {name: content for name, content in MODEL.items() if name != "model.safetensors"}
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    repositories = {
        "owner/small": MODEL, "openai-community/small": MODEL, "google/licensed": MODEL, "google/approved": MODEL,
        "owner/pickled": without | {"pytorch_model.bin": b"pickle"},
        "owner/lacking": without | {"model.safetensors.index.json": index, "model-1.safetensors": b"x" * 8},
        "datasets/Salesforce/wikitext": WIKI, "datasets/cais/gated": WIKI, "datasets/monology/pile": pile(400, 1),
        "datasets/cais/wmdp": {"test.parquet": QUESTIONS}, "datasets/own/empty": {"README.md": b"nothing"},
        "datasets/own/numbers": {"train.jsonl": jsonl([{"text": 3}])},
        "datasets/own/cut": {"train.parquet": b"PAR1 cut"},
        "datasets/own/wrong": {"test.jsonl": jsonl([{"question": "Which?", "answer": 2}])},
    }
    gated = {"google/licensed": "auto", "google/approved": "manual", "datasets/cais/gated": "manual"}
    with LocalHub(
        repositories, moved={"datasets/wikitext": "datasets/Salesforce/wikitext", "small": "openai-community/small"},
        gated=gated, granted={"hf_may": set(gated), "hf_mayNot": set()},
        failing={"out/of-order": 503, "datasets/out/of-order": 503},
    ) as running:
        yield running


def test_a_model_is_known_without_its_weights_and_then_loaded(hub: LocalHub, tmp_path: Path) -> None:
    hub.log.clear()
    look = "(lambda k: [k.width, k.number_of_layers, k.weight_bytes, k.download_bytes, k.predicts_next, "
    look += "len(k.tokenizer), tokenizer_hash(k.tokenizer)])(look_up(%s))"
    home = tmp_path / "home"
    unseen, embedded, again = told(hub, home, look % "'owner/small'", look % "'embedded'", look % "'owner/small'")
    assert unseen["value"][3] == WEIGHTS == unseen["value"][2] and unseen["seconds"] < LONGEST
    assert again["value"] == unseen["value"] and embedded["value"][3] == 0
    assert unseen["value"][:3] + unseen["value"][4:] == embedded["value"][:3] + embedded["value"][4:]
    assert any("HEAD" in line and "safetensors" in line for line in hub.log)
    assert not any(line.startswith("GET") and line.endswith(".safetensors") for line in hub.log)
    hashes = "LanguageModel.load(%s, device='cpu').content_hash()"
    one, other = told(hub, home, hashes % "'owner/small'", hashes % "'embedded'")
    assert one["value"] == other["value"]
    hub.log.clear()
    fetched, loaded = told(hub, home, look % "'owner/small'", hashes % "'owner/small'")
    assert fetched["value"] == embedded["value"] and loaded["value"] == one["value"] and not hub.log


MODELS = {
    "google/licensed": ["gated: open https://huggingface.co/google/licensed, accept", "then `hf auth login`"],
    "google/approved": ["gated: open https://huggingface.co/google/approved", "ask for approval"],
    "nobody/nothing": ["'nobody/nothing' (language_model.path) is not on the hub", "check owner/name"],
    "nothing": ["'nothing' (language_model.path) is no id of a model: write owner/name"],
    "owner/pickled": ["no weights model.safetensors, only pytorch_model.bin", "convert"],
    "owner/lacking": ["no weights model-2.safetensors"],
    "out/of-order": ["the hub cannot be reached for the model 'out/of-order'", "hf download out/of-order"],
}


def test_a_model_is_refused_in_a_sentence_by_its_cause(hub: LocalHub, tmp_path: Path) -> None:
    hub.log.clear()
    cases = [f"{call}({name!r})" for name in MODELS for call in ("look_up", "LanguageModel.load")]
    cases += ["look_up('owner/small', 'v9')", "look_up('google/licensed', None, 'unlearning.language_model')"]
    found = told(hub, tmp_path / "home", *cases)
    for name, parts in MODELS.items():
        for case, answer in zip(cases, found, strict=True):
            if f"({name!r})" in case and not (name in ("owner/pickled", "owner/lacking") and "load" in case):
                assert all(part in answer["said"] for part in parts), (case, answer)
                assert "language_model.path" in answer["said"] and "\n" not in answer["said"]
                assert len(answer["said"]) < 420 and answer["seconds"] < LONGEST, answer
    assert "has no revision 'v9'" in found[-2]["said"] and "unlearning.language_model" in found[-1]["said"]
    assert not any("GET" in line and ".safetensors" in line for line in hub.log if "owner/small" not in line and
                   "lacking" not in line)
    moved, = told(hub, tmp_path / "home", "look_up('small').width")
    assert moved["value"] == 64


def test_a_token_without_the_right_is_told_apart(hub: LocalHub, tmp_path: Path) -> None:
    cases = [f"look_up({name!r}).width" for name in ("google/licensed", "google/approved")]
    allowed = told(hub, tmp_path / "home", *cases, HF_TOKEN="hf_may")
    assert [one["value"] for one in allowed] == [64, 64]
    licence, awaiting = told(hub, tmp_path / "home", *cases, HF_TOKEN="hf_mayNot")  # its config.json is here by now
    assert "open https://huggingface.co/google/licensed" in licence["said"]
    assert "with the account you are logged in as" in licence["said"] and "hf auth login" not in licence["said"]
    assert "awaits the approval of its authors" in awaiting["said"], awaiting


DATA = {
    "path='monology/pile'": [],
    "path='Salesforce/wikitext', subset='wikitext-2-raw-v1', split='test'": [],
    "path='wikitext', subset='wikitext-2-raw-v1', split='test'": ["is called 'Salesforce/wikitext'", "set data.path"],
    "path='nowhere'": ["is no id of a data set: write owner/name"],
    "path='nobody/nothing'": ["is not on the hub"],
    "path='cais/gated', split='test'": [
        "open https://huggingface.co/datasets/cais/gated", "hf auth login", "--set data.source=files --set data.path="],
    "path='Salesforce/wikitext', subset='nope', split='test'": ["subset nope", "Available: ['wikitext-2-raw-v1']"],
    "path='Salesforce/wikitext', split='nope'": ["split 'nope'", "Available splits: ['test']"],
    "path='monology/pile', text_field='body'": ["no field 'body'; it has 'text', 'meta': set data.text_field"],
    "path='own/numbers'": ["holds a int, not text: set data.text_field"],
    "path='own/empty'": ["'own/empty' (data.path", "cannot be read"],
    "path='own/cut'": ["'own/cut' (data.path", "cannot be read", "arquet"],
    "path='out/of-order'": ["the hub cannot be reached for the data set 'out/of-order'"],
}


def test_a_corpus_is_refused_in_a_sentence_by_its_cause(hub: LocalHub, tmp_path: Path) -> None:
    found = told(hub, tmp_path / "home", *(f"check_corpus(DataConfig(source='hub', {case}))" for case in DATA))
    for (case, parts), answer in zip(DATA.items(), found, strict=True):
        if not parts:
            assert answer.get("value", 0) is None, answer
            continue
        assert all(part in answer["said"] for part in parts), (case, answer)
        assert "\n" not in answer["said"] and "hf download" not in answer["said"] and len(answer["said"]) < 500
        assert answer["seconds"] < LONGEST, answer


def test_nothing_that_answers_costs_no_more_than_patience(hub: LocalHub, tmp_path: Path) -> None:
    corpus = "check_corpus(DataConfig(source='hub', path='monology/pile'))"
    for state, cases in {"gone": ["look_up('owner/small')", corpus], "silent": [corpus]}.items():
        setattr(hub, state, True)
        try:
            found = told(hub, tmp_path / state, *cases)
        finally:
            setattr(hub, state, False)
        for answer in found:
            assert "the hub cannot be reached" in answer["said"] and answer["seconds"] < LONGEST / 2, answer


TASK = "check_task(replace(UnlearningConfig(), %s), look_up('embedded'), [0, 1], 64)"
GATED = "DensityCorpusConfig('hub', 'cais/gated', split='test')"
SETS = {
    "forget=QuestionSetConfig('bio', 'hub', 'cais/wmdp')": [],
    "retain_corpus=DensityCorpusConfig('hub', 'Salesforce/wikitext', 'wikitext-2-raw-v1', 'test')": [],
    "forget=QuestionSetConfig('wmdp', 'hub', 'cais/wmpd')": [
        "unlearning.forget.path", "--set unlearning.forget.source=file --set unlearning.forget.path=FILE"],
    "side=(QuestionSetConfig('wrong', 'hub', 'own/wrong'),)": [
        "unlearning.side[0]: own/wrong, row 0 has no column 'choices'"],
    "side=(QuestionSetConfig('us_history'), QuestionSetConfig('wmdp', 'hub', 'cais/gated'))": [
        "unlearning.side[1].path", "give unlearning.side[1] a local file", "source: file"],
    f"forget_corpus={GATED}": [
        "unlearning.forget_corpus.path", "open https://huggingface.co/datasets/cais/gated, accept its terms or ask",
        "--set unlearning.forget_corpus.source=file --set unlearning.forget_corpus.path=FILE"],
    f"retain_corpus=replace({GATED}, path='wikitext')": ["set unlearning.retain_corpus.path to that"],
    "retain_corpus=DensityCorpusConfig('hub', 'Salesforce/wikitext', 'wikitext-2-raw-v1', 'test', 'body')": [
        "no field 'body'; it has 'text': set unlearning.retain_corpus.text_field"],
}


WIKITEXT = "DensityCorpusConfig('hub', 'Salesforce/wikitext', 'wikitext-2-raw-v1', 'test')"


def test_questions_and_corpora_are_refused_with_their_setting(hub: LocalHub, tmp_path: Path) -> None:
    texts = f"load_texts({WIKITEXT}, [], named_generator(0))"
    *found, read = told(hub, tmp_path / "home", *(TASK % case for case in SETS), texts)
    assert read["value"] == [LINE] * 30  # null and empty ones are left out
    for (case, parts), answer in zip(SETS.items(), found, strict=True):
        if not parts:
            assert answer.get("value", 0) is None, answer
        else:
            assert all(part in answer["said"] for part in parts), (case, answer)
            assert "\n" not in answer["said"] and len(answer["said"]) < 500 and answer["seconds"] < LONGEST, answer


def test_what_was_read_before_is_read_without_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    cases = ("len(load_questions(QuestionSetConfig('wmdp', 'hub', 'cais/wmdp')))",
             f"len(load_texts({WIKITEXT}, [], named_generator(0)))")
    assert [answer["value"] for answer in told(hub, tmp_path / "home", *cases)] == [3, 30]
    cases += (TASK % f"retain_corpus={WIKITEXT}",)
    offline = told(hub, tmp_path / "home", *cases, HF_HUB_OFFLINE="1")
    assert [answer.get("value", answer) for answer in offline] == [3, 30, None]
    *refused, _ = told(hub, tmp_path / "elsewhere", *cases, "1", HF_HUB_OFFLINE="1")
    for answer, setting in zip(refused, ("forget", "forget_corpus", "retain_corpus"), strict=True):
        assert "HF_HUB_OFFLINE keeps from asking" in answer["said"] and answer["seconds"] < LONGEST
        assert f"unlearning.{setting}.source=file" in answer["said"]


SHARDS, DOCUMENTS = 4, 600
ROWS = (
    "(lambda rows: [rows[0].content_hash, rows[1].content_hash, len(rows[0]), len(rows[0].names), rows[0].names[-1], "
    "len(list(Path('CACHE/tokens').glob('*.documents')))])(token_rows(DataConfig(source='hub', path='long/pile', "
    "rows=1500, evaluation_rows=100, row_length=32, shuffle_documents=500, rows_per_document=1), "
    "look_up('embedded').tokenizer, 'CACHE', quiet=True))"
)
WATCHED = (  # from which document on the hub is read
    "firsts = []; original = hub_documents; "
    "corpus.hub_documents = lambda *asked: firsts.append(asked[4]) or original(*asked)"
)
QUICKLY = "time.sleep = lambda seconds: None"  # the clients' waits, and ours


@pytest.fixture
def long_pile() -> Iterator[LocalHub]:
    with LocalHub({"datasets/long/pile": pile(DOCUMENTS, SHARDS)}) as running:
        yield running


def test_rows_are_the_same_through_lost_connections(long_pile: LocalHub, tmp_path: Path) -> None:
    third = "datasets/long/pile/train/02.jsonl.zst"
    long_pile.dropping[third] = 3
    _, dropped, whole = told(
        long_pile, tmp_path / "home", QUICKLY, ROWS.replace("CACHE", "dropped"), ROWS.replace("CACHE", "whole"))
    assert dropped["value"] == whole["value"] and long_pile.dropping[third] == 0
    assert whole["value"][2] == 1500 and whole["value"][3] > 2 * DOCUMENTS and whole["value"][-1] == 0
    long_pile.dropping[third] = 10**9
    _, lost = told(long_pile, tmp_path / "home", QUICKLY, ROWS.replace("CACHE", "lost"))
    kept = int(lost["said"].split(" documents are kept")[0].split()[-1])
    assert 2 * DOCUMENTS - 64 <= kept <= 2 * DOCUMENTS and "the same command continues" in lost["said"]
    assert lost["stderr"].count("once more in") == 3 and "\n" not in lost["said"]
    assert list((tmp_path / "lost" / "tokens").glob("*.documents/*.safetensors"))
    long_pile.dropping.clear()
    _, continued, firsts = told(long_pile, tmp_path / "home", WATCHED, ROWS.replace("CACHE", "lost"), "firsts")
    assert continued["value"] == whole["value"] and firsts["value"] == [kept]


def test_density_texts_are_the_same_through_lost_connections(long_pile: LocalHub, tmp_path: Path) -> None:
    told_here = world_documents(0, "train", DOCUMENTS * SHARDS)
    (tmp_path / "pile.jsonl").write_bytes(jsonl([{"text": text} for _, text in told_here]))
    texts = "content_hash(load_texts(DensityCorpusConfig(%s, documents=700), {}, named_generator(0)))"
    third = "datasets/long/pile/train/02.jsonl.zst"
    long_pile.dropping[third] = 9
    _, here, dropped = told(
        long_pile, tmp_path / "home", QUICKLY, texts % "'file', 'pile.jsonl'", texts % "'hub', 'long/pile'")
    assert dropped["value"] == here["value"]
    assert long_pile.dropping[third] == 0 and "once more in" in dropped["stderr"]


def test_a_killed_stream_continues_after_its_last_file(long_pile: LocalHub, tmp_path: Path) -> None:
    long_pile.dropping["datasets/long/pile/train/02.jsonl.zst"] = 10**9  # it waits there for seconds
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, text=True, cwd=tmp_path,
                             env=long_pile.environment(tmp_path / "home"), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    child.stdin.write(json.dumps([ROWS.replace("CACHE", "killed")]))
    child.stdin.close()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(tmp_path.glob("killed/tokens/*.documents/*.safetensors"))) < 2:
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    long_pile.dropping.clear()
    _, continued, whole, firsts = told(
        long_pile, tmp_path / "home", WATCHED, *(ROWS.replace("CACHE", name) for name in ("killed", "whole")), "firsts")
    assert continued["value"] == whole["value"] and firsts["value"] == [1024, 0]


def test_a_data_set_that_changes_meanwhile_is_read_at_the_commit_it_began_with(tmp_path: Path) -> None:
    """The hub of this test gives every commit the same files: what counts is which one is asked for."""
    with LocalHub({"datasets/long/pile": pile(DOCUMENTS, SHARDS)}) as hub:
        told(hub, tmp_path / "home", ROWS.replace("CACHE", "rows"))
        asked = [line for line in hub.log if "/resolve/" in line and "jsonl.zst" in line and line.startswith("GET")]
    assert asked and all("/resolve/" + "b" * 40 + "/" in line for line in asked)


def test_local_work_imports_nothing_of_the_hub_for_data() -> None:
    script = ("import sys, tsae_nb.cli\nfrom tsae_nb.corpus import check_corpus, DataConfig\n"
              "check_corpus(DataConfig())\nsys.exit('datasets' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0
