"""A generator of odd inputs: what people type, copy, cut and damage. Each is a pure function of its number.

`Odd.of(seed, place)` makes one; `run()` gives what came of it, and raises `Fault` for what must not happen: a
traceback, a hang, an accepted input that means something else than it says, a damaged file that changes a result and is
not named.
"""

import contextlib
import gzip
import io
import json
import random
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import torch
import yaml
from safetensors.torch import load_file, save_file

from tsae_nb.cli import main
from tsae_nb.comparison import compare
from tsae_nb.config import DataConfig, QuestionSetConfig, RunConfig, SAEConfig, build, parse_yaml, settings_of, to_yaml
from tsae_nb.corpus import build_rows, file_documents
from tsae_nb.evaluation.questions import ChoiceQuestion, load_questions
from tsae_nb.experiments import expand
from tsae_nb.foundation import UserError
from tsae_nb.interop import FORMATS, export_sae, import_sae
from tsae_nb.language_model import LanguageModel, look_up, model_folder
from tsae_nb.runs import execute
from tsae_nb.sae import SparseAutoencoder, load_sae
from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.figures import TABLES, drawable_runs
from tsae_nb.views.training_monitor import TrainingMonitor
from tsae_nb.views.unlearning_explorer import UnlearningExplorer

LIMIT = 60  # seconds for one input, also on a slow machine
REFUSED = "refused"


class Fault(AssertionError):
    """What must not come of any input."""


class TooLong(BaseException):
    """It hangs. No `Exception`, so that nobody takes it for an error of a library."""


@contextlib.contextmanager
def limited(seconds: int = LIMIT) -> Iterator[None]:
    """Raise `TooLong` in the main thread after some seconds."""
    def ring(*_: Any) -> None:
        raise TooLong(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Odd:
    """One odd input: how it is shown, and what is done with it, which gives "refused" or what was accepted."""

    kind: str
    shown: str
    act: Callable[[], str]

    @classmethod
    def of(cls, seed: int, place: "Place") -> "Odd":
        """The input of a number; kinds take turns."""
        kind = list(KINDS)[seed % len(KINDS)]
        return KINDS[kind](random.Random(f"{kind}/{seed}"), place)

    def run(self) -> str:
        """What came of it, or `Fault`."""
        try:
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.act()
        except UserError as error:
            if not str(error).strip() or "Traceback" in str(error):
                raise Fault(f"it is refused without a reason: {error!r}") from error
            return REFUSED
        except TooLong as error:
            raise Fault(str(error)) from error
        except Fault:
            raise
        except Exception as error:
            raise Fault(f"{type(error).__name__}: {error}") from error


# What a YAML text says by the rules of version 1.2, told apart from the reader under test.


class Ambiguous(Exception):
    """A text that must not be accepted: two programs may read it in two ways, or it loses what it says."""


def said_by(text: str) -> Any:
    """The value of a YAML 1.2 text (core schema, and the merge key)."""
    return _value(yaml.compose(text, Loader=yaml.SafeLoader), text)


def _value(node: Any, text: str) -> Any:
    if node is None:
        return None
    if re.match(r"\s*!", text[node.start_mark.index :]):
        raise Ambiguous("a tag")
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, text) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            name = _value(key, text)
            if name == "<<" and key.style is None:
                merged |= _value(value, text)
            elif not isinstance(name, str) or name in found:
                raise Ambiguous(f"the key {name!r}")
            else:
                found[name] = _value(value, text)
        return merged | found
    return node.value if node.style is not None else _plain(node.value)


def _plain(word: str) -> Any:
    if word in ("", "~", "null", "Null", "NULL"):
        return None
    if word in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return word[0] in "tT"
    if re.fullmatch("[-+]?0[0-9]+", word):
        raise Ambiguous(word)
    for pattern, read in (("[-+]?[0-9]+", int), ("0o[0-7]+", lambda x: int(x[2:], 8)),
                          ("0x[0-9a-fA-F]+", lambda x: int(x, 16)),
                          (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
                          (r"[-+]?\.(inf|Inf|INF)", lambda x: float(x.replace(".", ""))),
                          (r"\.(nan|NaN|NAN)", lambda _: float("nan"))):
        if re.fullmatch(pattern, word):
            return read(word)  # type: ignore[operator]
    return word


def same(said: Any, used: Any) -> bool:
    """Whether a setting is what was said: numbers by their value, and true is no 1."""
    if isinstance(said, bool) or isinstance(used, bool) or isinstance(said, str) != isinstance(used, str):
        number = isinstance(said, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", said)  # '3e-4' in quotes
        return said is used or bool(number and float(said) == used)
    if isinstance(said, list) and isinstance(used, list):
        return len(said) == len(used) and all(map(same, said, used))
    if isinstance(used, float) and isinstance(said, int) and abs(said) < 1e300:
        return float(said) == used
    return bool(said == used)


def unlike(said: Any, used: Any, key: str = "") -> str | None:
    """The first setting in which two nested settings differ; what is not said may be anything."""
    if isinstance(said, Mapping) and isinstance(used, Mapping):
        return next((found for name, value in said.items()
                     if (found := unlike(value, used.get(name), f"{key}.{name}")) is not None), None)
    return None if same(said, used) else f"{key[1:]} says {said!r}, {used!r} is used"


def tsae(*arguments: str) -> tuple[int, str, str]:
    """The command line in this process: exit status, standard output and error. `Fault` for an error without a word."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = main(list(arguments))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    said = errors.getvalue()
    if status not in (0, 2) or "Traceback" in said or (status == 2 and not re.search("^(tsae: |usage: )", said, re.M)):
        raise Fault(f"exit status {status}, standard error: {said[-500:]}")
    return status, out.getvalue(), said


# Experiment files and command lines.

SCALARS = (
    "5", "0", "-1", "010", "08", "0x10", "0o10", "0b11", "1_000", "1:30", "1e3", "3e-4", "'3e-4'", "5.0", ".5", "5.",
    "+5",
    "-0", "1e400", "1e-400", ".inf", "-.INF", ".nan", "yes", "no", "On", "off", "y", "true", "TRUE", "tRue", "null",
    "~", "",
    "'null'", "''", '" "', "2024-01-01", "2024-13-45", "2001-12-14t21:59:43.10-05:00", "=", "<<", "[5]", "[]", "{}",
    "{a: 5}",
    "!!int 5", "!!float 1", "!!python/name:os.system", "!x 5", '"\\x41"', '"\\ud800"', "'it''s'", "topk", "baseline",
    "9" * 30, "9" * 5000, "auto", "cpu", "cuda:0", "é", "日本", "a b", "a: b", "*no", "&a 5", "|\n    5", "1.5", "0.5",
    "16",
    "64", "128", "[0.9, 0.99]", "[0, 1]", "[true]", "[1, [2]]", "../x", "a/b", "/etc", "tiny", "cache", "x.partial",
    "C:\\x",
    "%", "@", "`x`", "100000000000000000000000", "1e10", "- 1")
FITTING = {  # what is to be accepted somewhere, in many spellings
    "name": ("tiny", "no", "2024-01-01", "'5'", '"\\x41"', "1_0", "1:30", "a/b", "nUll"),
    "seeds": ("[0, 1]", "[0x10]", "[+5]", "[3, 0o10]"), "layers": ("[0, 2]", "[0o1]"),
    "training.steps": ("5", "0x10", "+5", "0o17"), "training.learning_rate": ("3e-4", "'3e-4'", "1e-5", ".5", "1",
                                                                              "5.e-3"),
    "training.betas": ("[0.9, .99]", "[0, 0.5]"), "training.deterministic": ("true", "FALSE", "False"),
    "data.rows": ("64", "0x100"), "data.text_field": ("no", "1:30", "'010'", "on", "body", "~x", "é", "'a b'"),
    "data.seed": ("5", "0o10", "100000000"), "data.packing": ("True", "false"), "sae.margin.decay": ("1e-1", ".5", "1"),
    "sae.consistency": ("{}", "{weight: 1e-1}", "~"), "language_model.layer": ("0", "2"),
    "language_model.path": ("no", "y", "1:30", "tiny"), "activations.cache": ("true", "FALSE"),
    "activations.cache_gibibytes": ("1e10", ".5", "3"), "activations.cache_folder": ("a b", "on", "=", "日本"),
    "unlearning.gate": ("0.5", "1e-1", "1"), "unlearning.multipliers": ("[5]", "[.5, 1e3, 0x10]"),
    "unlearning.prompt": ("plain", "'world'"), "unlearning.language_model": ("yes", "~", "'null'")}
SETTINGS = ("name", "seeds", "layers", "training.steps", "training.learning_rate", "training.rows_per_batch",
            "training.betas", "training.deterministic", "data.rows", "data.text_field", "data.seed", "data.packing",
            "sae.dictionary_size", "sae.margin.decay", "sae.router.shares", "sae.consistency", "language_model.layer",
            "language_model.path", "language_model.device", "activations.cache", "activations.cache_gibibytes",
            "activations.cache_folder", "evaluation.seed", "evaluation.histogram_bins", "unlearning.gate",
            "unlearning.multipliers", "unlearning.prompt", "unlearning.language_model", "root", "seed", "trainng.steps",
            "training.step", "sae.variant")


def _file_text(chance: random.Random) -> str:
    """An experiment file with some odd values."""
    lines: dict[str, list[str]] = {}
    for path in chance.sample(sorted(FITTING), chance.randint(1, 5)):
        odd = chance.random() < 0.12
        section, _, key = (chance.choice(SETTINGS) if odd else path).rpartition(".")
        head, _, below = section.partition(".")
        line = f"{key}: {chance.choice(SCALARS if odd else FITTING[path])}"
        lines.setdefault(head, []).append(f"{below}: {{{line}}}" if below else line)
    text = "variants: [topk]\n" if chance.random() < 0.95 else f"variants: {chance.choice(SCALARS)}\n"
    for head, inside in lines.items():
        text += f"{head}:\n" if head else ""
        text += "".join(f"  {line}\n" if head else f"{line}\n" for line in inside)
    return text


def _spoiled(text: str, chance: random.Random) -> bytes:
    """A text as bytes, sometimes damaged in a way that happens to files."""
    raw = text.encode("utf-8", "replace")
    spot = chance.randrange(len(raw) + 1)
    ways: tuple[Callable[[], bytes], ...] = (
        *[lambda: raw] * 24, lambda: raw[:spot], lambda: raw[:spot] + bytes([chance.randrange(256)]) + raw[spot + 1 :],
        lambda: raw[:spot] + b"\0" + raw[spot:], lambda: raw[:spot] + b"\t" + raw[spot:],
        lambda: raw[:spot] + b"\n" + raw[spot:], lambda: text.encode("utf-16", "replace"),
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: raw.replace(b"\n", b"\r"), lambda: raw.replace(b"\n", b"\r\n"), lambda: raw + raw, lambda: b"",
        lambda: b"# nothing\n", lambda: raw + b"---\n" + raw, lambda: b"- " + raw,
        lambda: raw + b"data: " + b"[" * 3000,
        lambda: raw + b"x: &x [*x]\n", lambda: raw + b"? [a]\n: 1\n", lambda: raw + b"5: 6\n",
        lambda: raw + b"null: 6\n",
        lambda: raw + b"true: {}\n", lambda: raw + b"data: {rows: 64, rows: 128}\n", lambda: bytes(
            chance.randrange(256) for _ in range(300)), lambda: raw + b"#" * 1_100_000,
        lambda: b"common: &c {steps: 7}\ntraining: {<<: *c, rows_per_batch: 8}\n" + raw,
        lambda: raw + b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
            b"%s: &%s [%s]\n" % (y, y, b",".join([b"*" + x] * 10))
            for x, y in zip(*[[bytes([c]) for c in part] for part in (b"abcdefgh", b"bcdefghi")], strict=True)),
    )
    return chance.choice(ways)()


def odd_file(chance: random.Random, place: "Place") -> Odd:
    """An experiment file: refused, or every run of it is what a strict reading of YAML 1.2 says."""
    raw = _spoiled(_file_text(chance), chance)

    def act() -> str:
        file = place.fresh("odd.yaml", raw)
        status, printed, _ = tsae("run", str(file), "--resolve")
        if status:
            return REFUSED
        try:
            meant = said_by(raw.decode("utf-8-sig"))
        except (Ambiguous, yaml.YAMLError) as error:
            raise Fault(f"accepted, though it says nothing clear: {error}") from error
        for used in yaml.safe_load_all(printed):
            said = {key: value for key, value in meant.items() if key not in ("variants", "name", "seeds", "layers")}
            if (found := unlike({key: value for key, value in said.items() if value is not None}, used)) is not None:
                raise Fault(found)
            if meant.get("name") is not None and not used["name"].startswith(f"{meant['name']}/"):
                raise Fault(f"name says {meant['name']!r}, {used['name']!r} is used")
        return "accepted"

    return Odd("file", raw.decode("utf-8", "backslashreplace")[:2000], act)


def odd_command(chance: random.Random, place: "Place") -> Odd:
    """A command line that runs nothing: `--set` with odd values, odd options, folders that are none."""
    folders = ("", ".", "no/such/folder", "x" * 5000, "~nobody/x", "/dev/null", str(place.folder / "file.txt"),
               str(place.folder / "empty"), "/proc/self/mem", "*", "é")
    words = ("--set", "--name", "--seeds", "--layers", "--variants", "--root", "--resolve", "--out", "--yes",
             "--processes",
             "-h", "--sett", "topk", "0,1", ",", "a,b", "-1", "1e3", "--set=training.steps=5", *folders)
    if chance.random() < 0.6:
        key, value = chance.choice(SETTINGS), chance.choice(SCALARS)
        if chance.random() < 0.5:
            key = chance.choice(sorted(FITTING))
            value = chance.choice(FITTING[key])
        key = key if chance.random() < 0.7 else chance.choice(("unlearning.side.0.limit", "unlearning.side.9.limit",
                                                               "unlearning.side",
                             "unlearning.multipliers.1", "sae..x", ".", "", "variants.topk.training.steps", "data"))
        arguments = ["run", str(place.file), "--resolve", "--set", f"{key}={value}"]
    else:
        command = chance.choice(("list", "figures", "cache", "verify", "remove", "compare", "export", "run", "sweep",
                                 "", "lst",
                                 "--version"))
        arguments = [command, *(chance.choice(words) for _ in range(chance.randint(0, 3)))]
        if command in ("run", "sweep"):  # nothing is to be trained here
            arguments[1:1] = [chance.choice((*(folder for folder in folders if folder != "*"), "no.yaml"))]
        if "*" in arguments:
            arguments.remove("*")

    def act() -> str:
        status, printed, _ = tsae(*arguments)
        if status or arguments[-2:-1] != ["--set"] or "--resolve" not in arguments:
            return REFUSED if status else "accepted"
        key, _, value = arguments[-1].partition("=")
        try:
            said: Any = said_by(value)
        except (Ambiguous, yaml.YAMLError) as error:
            raise Fault(f"accepted, though it says nothing clear: {error}") from error
        top = key.split(".")[0]
        if top in ("name", "seeds", "layers", "variants"):
            return "accepted"
        for used in yaml.safe_load_all(printed):
            found: Any = used
            for part in key.split("."):
                found = found[int(part)] if isinstance(found, list) else found[part]
            if said is not None and unlike(said, found) is not None:
                raise Fault(f"{key}: {unlike(said, found)}")
        return "accepted"

    return Odd("command", " ".join(map(repr, arguments))[:2000], act)


def _values(chance: random.Random) -> Any:
    circular: list[Any] = []
    circular.append(circular)
    return chance.choice((
        0, 1, -1, 2**63, 10**400, 0.0, -0.0, 1e308, float("nan"), float("inf"), True, False, None, "", "5", "3e-4",
        "a\0b", "\ud800", "é\u2028\x85", "x" * 10**6, b"x", [], [1], [None], {}, {"a": 1}, {1: 2}, {None: 1}, (1, 2),
        {1}, object(), circular, [[]], "nan", np.float64(3.0), np.int64(5), "010", "yes", "1:30", Path("x"), 5, 64, 0.5,
        "topk", [0.9, 0.99], {"0": 3.0}, {"0": {}}, {"9": 1}, "auto"))


def odd_config(chance: random.Random, place: "Place") -> Odd:
    """A config from Python values: refused, or it holds that value, and its YAML reads back as the same config."""
    path, value = chance.choice(SETTINGS), _values(chance)
    settings: Any = value
    for part in reversed(path.split(".")):
        settings = {part: settings}

    def act() -> str:
        config = build(RunConfig, settings)
        if (back := build(RunConfig, parse_yaml(to_yaml(config)))) != config:
            raise Fault(f"its YAML reads back as another config: {back}")
        simple = value is not None and not isinstance(value, (Mapping, tuple))
        if simple and (found := unlike(settings, settings_of(config))) is not None:
            raise Fault(found)
        return "accepted"

    return Odd("config", f"{path} = {value!r}"[:300], act)


# Texts and questions.

DOCUMENTS = ["The Fennow is covered in bark. " * 4, "Ünïcode 日本 😀 text of another kind, long enough to count. " * 3,
             "A \x00 NUL, a \u2028 separator and a \x85 next line are text like any other text, and it goes on. " * 3]


def odd_text(chance: random.Random, place: "Place") -> Odd:
    """A text file: refused, or its documents are what was written."""
    texts = [chance.choice(DOCUMENTS) for _ in range(chance.randint(1, 6))]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=chance.random() < 0.5) + "\n" for text in texts)
    suffix = chance.choice((".jsonl", ".jsonl.gz", ".jsonl.zst", ".JSONL", ".json", ".csv", ".parquet", ".txt"))
    whole = {".txt": "\n\n".join(texts), ".json": json.dumps([{"text": text} for text in texts]),
             ".csv": pd.DataFrame({"text": texts}).to_csv(index=False)}
    plain = whole.get(suffix, lines).encode()
    if suffix == ".jsonl.gz":
        plain = gzip.compress(plain)
    elif suffix == ".jsonl.zst":
        plain = pyarrow.Codec("zstd").compress(plain, asbytes=True)
    elif suffix == ".parquet":
        handle = io.BytesIO()
        pd.DataFrame({"text": texts}).to_parquet(handle)
        plain = handle.getvalue()
    packed = suffix in (".jsonl.gz", ".jsonl.zst", ".parquet")
    spot = chance.randrange(1, len(plain))
    flipped = bytearray(plain)
    flipped[spot] ^= 1 << chance.randrange(8)
    ways: dict[str, tuple[bytes, list[str] | None]] = {  # the bytes, and the documents if it is to be accepted; [] any
        "as it is": (plain, texts), "cut": (plain[:spot], None if packed else []), "a bit": (bytes(flipped), []),
        "empty": (b"", None), "blank lines": (b"\n \n\n", None), "NUL": (b"\0" * 500, [] if suffix == ".txt" else None),
        "UTF-16": ("".join(texts).encode("utf-16"), None), "Latin-1": (b"caf\xe9 " * 50, None),
        "random": (random.Random(spot).randbytes(400), None), "a huge line": (b"x" * 3_000_000, []
                                                                              if suffix == ".txt" else None),
        "no column": (b'{"body": "x"}\n', [] if suffix == ".txt" else None),
        "a number": (b'{"text": 5}\n', [] if suffix == ".txt" else None), "a list": (b"[1]\n", []
                                                                                     if suffix == ".txt" else None),
        "deep": (b"[" * 50_000, [] if suffix == ".txt" else None),
        "many digits": (b'{"text": ' + b"9" * 5000 + b"}", [] if suffix == ".txt" else None),
    }
    if suffix == ".jsonl":
        ways |= {"BOM": (b"\xef\xbb\xbf" + plain, texts), "CRLF": (plain.replace(b"\n", b"\r\n"), texts),
                 "CR only": (plain.replace(b"\n", b"\r"), texts), "blank lines between": (plain.replace(b"\n",
                                                                                                        b"\n\n"),
                                                                                                        texts),
                 "half a character": (b'{"text": "\\ud800 and more words than before, so that it counts as one"}\n',
                                      [])}
    name = chance.choice(list(ways)) if chance.random() < 0.7 else "as it is"
    content, expected = ways[name]

    def act() -> str:
        file = place.fresh(f"odd{suffix}", content)
        config = DataConfig(source="files", path=str(file), rows=8, evaluation_rows=1, row_length=16,
                            shortest_document=4)
        found = [text for _, text in file_documents(str(file), "text")]
        if expected is None and any(text.strip() for text in found):
            raise Fault(f"accepted as {str(found)[:200]}")
        if expected and suffix != ".txt" and found != expected:
            raise Fault(f"other documents: {str(found)[:300]}")
        build_rows(config, place.language_model.tokenizer, quiet=True)
        return "accepted"

    return Odd("text", f"{suffix}, {name}: {content[:200]!r}", act)


def odd_questions(chance: random.Random, place: "Place") -> Odd:
    """A question file: refused, or the questions are what was written."""
    asked = []
    for number in range(chance.randint(1, 5)):
        words = chance.sample(("marsh", "dune", "reef, deep", 'a "cave"', "é", "5", "x\ny", "glacier"), 4)
        asked.append(ChoiceQuestion(f"Question {number}, which?", tuple(words), chance.randrange(4)))
    answers: Callable[[ChoiceQuestion], Any] = chance.choice((
        lambda one: one.answer, lambda one: "ABCD"[one.answer], lambda one: "abcd"[one.answer],
        lambda one: float(one.answer),
        lambda one: f"({'ABCD'[one.answer]})", lambda one: one.choices[one.answer], lambda one: str(one.answer)))
    columns = chance.random() < 0.5
    records: list[Any] = [
        {"question": one.question, **(dict(zip("ABCD", one.choices, strict=True)) if columns else
                                      {"choices": list(one.choices)}), "answer": answers(one)} for one in asked]
    wrong: dict[str, Any] | None = chance.choice((*[None] * 20, {"answer": 4}, {"answer": None}, {"answer": "E"},
                                                  {"answer": True}, {"answer": 1.5},
                           {"question": None}, {"question": ["a"]}, {"choices": None}, {"choices": ["a", "b", "c"]},
                           {"choices": list("abcde")}, {"choices": 5}, {"choices": "a,b,c,d"}, {"choices": [1, 2, 3,
                                                                                                            4]},
                           {"A": ""}, {"E": "fifth"}, {"answer": "\ud800"}, {"answer": []}, {"answer": {"x": 1}}))
    if wrong is not None:
        row = chance.randrange(len(records))
        records[row] = records[row] | (wrong if columns or "A" not in wrong and "E" not in wrong else {"answer": 4})
    suffix = chance.choice((".json", ".jsonl", ".csv", ".csv without a header" if columns else ".csv"))
    if suffix.startswith(".csv") and wrong and any(
            isinstance(one, (list, dict)) or one == "\ud800" for one in wrong.values()):
        suffix = ".json"  # CSV holds texts, in UTF-8
    handle = io.StringIO()
    if suffix.startswith(".csv"):
        table = pd.DataFrame([{key: json.dumps(value) if isinstance(value, list) else value for key,
                               value in record.items()}
                              for record in records])
        order = [name for name in ("question", "choices", *"ABCDE", "answer") if name in table]
        with contextlib.suppress(UnicodeError):
            table[order].to_csv(handle, index=False, header="header" not in suffix)
    elif suffix == ".json":
        json.dump(records, handle)
    else:
        handle.write("\n".join(map(json.dumps, records)))
    raw = handle.getvalue().encode("utf-8", "replace")
    damage = chance.choice(("none",) * 15 + ("cut", "UTF-16", "BOM", "empty", "binary", "deep", "a long field"))
    spot = chance.randrange(len(raw) + 1)
    raw = {"none": raw, "cut": raw[:spot], "UTF-16": raw.decode().encode("utf-16"), "BOM": b"\xef\xbb\xbf" + raw,
           "empty": b"",
           "binary": bytes(chance.randrange(256) for _ in range(200)), "deep": b"[" * 50_000,
           "a long field": b'"' + b"x" * 200_000 + b'"\n' + raw}[damage]
    whole = damage in ("none", "BOM") and wrong is None

    def act() -> str:
        file = place.fresh(f"odd{suffix.split()[0]}", raw)
        try:
            found = load_questions(QuestionSetConfig("own", source="file", path=str(file)))
        except UserError:
            if whole and not _two_ways(asked, answers) and (columns or "header" not in suffix):
                raise Fault("refused, though nothing is wrong with it") from None
            raise
        other = found != asked[: len(found)] or (damage in ("none", "BOM") and len(found) != len(asked))
        if other and not (columns and wrong and set(wrong) & {"choices"}):  # columns win over nothing else
            raise Fault(f"other questions: {str(found)[:300]}")
        return "accepted"

    return Odd("questions", f"{suffix}, {damage}, {wrong}: {raw[:600]!r}", act)


def _two_ways(asked: list[ChoiceQuestion], answers: Callable[[ChoiceQuestion], Any]) -> bool:
    """Whether some answer is the text of another choice as well."""
    return any(str(answers(one)) in one.choices and one.choices.index(str(answers(one))) != one.answer for one in asked)


# Models and SAEs of others.

JSON_VALUES = (None, [], {}, "x", 3, -1, True, 1.5, 10**9, "\ud800", [1, 2], "relu")


def _odd_json(raw: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A JSON file, damaged: how, and its bytes."""
    content = json.loads(raw)
    content = content if isinstance(content, dict) else {"content": content}
    key = chance.choice(list(content))
    spot = chance.randrange(len(raw))
    value = chance.choice(JSON_VALUES)
    ways: dict[str, bytes] = {
        "cut": raw[:spot], "empty": b"", "no JSON": b"\xff\xfe{", "deep": b"[" * 50_000, "a list": b"[]",
        "null": b"null",
        "a number": b"3", f"{key} left out": json.dumps(
            {name: one for name, one in content.items() if name != key}).encode(),
        f"{key} = {value!r}": json.dumps(content | {key: value}).encode()}
    name = chance.choice([*ways, *[f"{key} = {value!r}"] * 6])
    return name, ways[name]


def _odd_weights(path: Path, chance: random.Random) -> str:
    """Damage a safetensors file; how."""
    tensors = load_file(path)
    name = chance.choice(sorted(tensors))
    way = chance.choice(("cut", "empty", "NaN", "infinity", "left out", "another shape", "no tensor",
                         "a header that lies"))
    raw = path.read_bytes()
    if way in ("cut", "empty"):
        path.write_bytes(raw[: chance.randrange(len(raw)) if way == "cut" else 0])
    elif way == "a header that lies":
        path.write_bytes((2**40).to_bytes(8, "little") + raw[8:])
    elif way == "no tensor":
        save_file({}, path, metadata={"format": "pt"})
    else:
        found = tensors[name].clone()
        if way in ("NaN", "infinity"):
            found.view(-1)[chance.randrange(found.numel())] = float("nan" if way == "NaN" else "inf")
        changed = {"left out": {}, "another shape": {name: torch.cat([found, found])}}.get(way, {name: found})
        save_file({other: one for other, one in tensors.items() if other != name} | changed, path,
                  metadata={"format": "pt"})
    return f"{name}: {way}"


def odd_model(chance: random.Random, place: "Place") -> Odd:
    """A model folder, damaged: refused, or it reads texts. Damaged weights are refused."""
    file = chance.choice(("config.json", "config.json", "model.safetensors", "model.safetensors", "tokenizer.json",
                          "tokenizer_config.json", "model.safetensors.index.json", "generation_config.json"))
    seed = chance.random()

    def made() -> str:
        again = random.Random(seed)
        folder = place.fresh_folder("model", model_folder("embedded"))
        path = folder / file
        if file == "model.safetensors":
            return _odd_weights(path, again)
        original = path.read_bytes() if path.is_file() else json.dumps(
            {"metadata": {}, "weight_map": {"model.norm.weight": "model.safetensors"}}).encode()
        how, content = _odd_json(original, again)
        path.write_bytes(content)
        return how

    how = made()

    def act() -> str:
        made()
        folder = place.folder / "model"
        known = look_up(folder)
        language_model = LanguageModel.load(str(folder))
        tokens = torch.tensor([language_model.tokenizer("The Fennow is covered in bark.")["input_ids"]])
        for name in ("width", "longest_row", "number_of_layers"):
            before, after = getattr(known, name), getattr(language_model, name)
            if before != after or not isinstance(after, int):
                raise Fault(f"{name} is said to be {before!r}, and is {after!r}")
        language_model.run_to_layer(tokens, torch.ones_like(tokens, dtype=torch.bool), 0)
        if file == "model.safetensors":
            raise Fault("damaged weights are accepted")
        return "accepted"

    return Odd("model", f"{file}: {how}", act)


def odd_foreign(chance: random.Random, place: "Place") -> Odd:
    """An SAE in another library's format, damaged: refused, or the same function."""
    name = chance.choice([name for name, known in FORMATS.items() if known.write is not None])
    folder = place.fresh_folder("foreign", place.foreign(name))
    path = chance.choice(sorted(folder.iterdir()))
    if path.suffix == ".json":
        how, content = _odd_json(path.read_bytes(), chance)
        path.write_bytes(content)
    elif path.suffix == ".safetensors":
        how = _odd_weights(path, chance)
    else:
        raw, how = path.read_bytes(), chance.choice(("cut", "empty", "a pickle", "a list", "a byte"))
        spot = chance.randrange(len(raw))
        if how == "a list":
            torch.save([torch.zeros(3)], path)
        else:
            path.write_bytes({"cut": raw[:spot], "empty": b"", "a pickle": b"cos\nsystem\n(S'exit 1'\ntR.",
                              "a byte": raw[:spot] + bytes([raw[spot] ^ 255]) + raw[spot + 1 :]}[how])
    kept = place.fresh_folder("kept", folder)

    def act() -> str:
        sae = import_sae(place.fresh_folder("foreign", kept), name)
        hidden = torch.randn(1, 5, sae.width, generator=torch.Generator().manual_seed(0))
        if not torch.isfinite(sae.encode(hidden)).all():
            raise Fault("its codes are no numbers")
        if path.suffix != ".json" and not torch.equal(sae.encode(hidden),
                                                      import_sae(place.foreign(name)).encode(hidden)):
            raise Fault("damaged weights are accepted")
        return "accepted"

    return Odd("foreign", f"{name}, {path.name}: {how}", act)


# What we have stored ourselves.


def _listed(place: "Place") -> Any:
    return tsae("list", str(place.folder / "stored"))[1]


def _figures(place: "Place") -> Any:
    runs = drawable_runs(place.folder / "stored")
    return [table(runs).to_json() for _, table in TABLES]


def _explored(place: "Place") -> Any:
    explorer = FeatureExplorer(FeatureIndex.open(place.folder / "stored" / "odd" / "topk" / "index"))
    asked: list[dict[str, Any]] = [{"kind": kind, "feature": feature} for kind in ("card", "coactive")
                                   for feature in range(0, 32, 5)]
    asked += [{"kind": "trace", "piece": 1}, {"kind": "search", "text": "the"}]
    return [repr(explorer.answer(one)) for one in asked], explorer.text()


def _watched(place: "Place") -> Any:
    said = TrainingMonitor(place.folder / "stored").text()
    if "nobody foresaw" in said:
        raise Fault(said)
    return None  # a live view shows what is there


def _unlearned(place: "Place") -> Any:
    explorer = UnlearningExplorer(place.folder / "stored" / "odd" / "topk")
    return explorer.text(), json.dumps(explorer._about)


def _weights(place: "Place") -> Any:
    return load_sae(place.folder / "stored" / "odd" / "topk" / "sae").content_hash()


def _compared(place: "Place") -> Any:
    return compare([place.folder / "stored" / "odd" / "topk"]).text()


READERS: dict[str, Callable[["Place"], Any]] = {
    "list": _listed, "compare": _compared, "figures": _figures, "explorer": _explored, "monitor": _watched,
    "unlearning": _unlearned, "load_sae": _weights}
READ_BY = {"config.yaml": ("list", "compare", "figures", "monitor"),
           "manifest.json": ("list", "compare", "figures", "monitor"),
           "metrics.jsonl": ("figures", "monitor"), "evaluation.json": ("list", "compare", "figures"),
           "unlearning.json": ("list", "compare", "figures", "unlearning"),
           "unlearning.parquet": ("figures", "unlearning"),
           "stored.json": ("list", "compare", "figures", "unlearning"), "sae": ("load_sae",), "index": ("explorer",)}


def odd_stored(chance: random.Random, place: "Place") -> Odd:
    """A file of a finished run or index, damaged: named by whoever reads it, or without influence."""
    first = chance.choice(list(READ_BY))
    run = place.stored / "odd" / "topk"
    path = chance.choice([file for file in sorted((run / first).rglob("*")) if file.is_file()] or [run / first])
    raw, name = path.read_bytes(), str(path.relative_to(place.stored))
    spot = chance.randrange(len(raw))
    ways: dict[str, bytes | None] = {
        "cut": raw[:spot], "empty": b"", "missing": None,
        "a bit": raw[:spot] + bytes([raw[spot] ^ 1 << chance.randrange(8)])
        + raw[spot + 1 :], "one byte more": raw + b"\0", "random": random.Random(spot).randbytes(200)}
    if path.suffix in (".json", ".jsonl", ".yaml"):
        texts = ("null", "[]", "{}", "3", '"x"', '{"a": null}', "[" * 20_000, "9" * 5000)
        ways |= {text: text.encode() + b"\n" for text in texts}
    if path.suffix == ".json":
        ways |= dict([_odd_json(raw, chance) for _ in range(8)])
    how = chance.choice(list(ways))
    bare = chance.random() < 0.3  # as of an earlier version, or somebody else's: without hashes

    def act() -> str:
        stored = place.fresh_folder("stored", place.stored)
        if bare and first not in ("index", "sae"):
            (stored / "odd" / "topk" / "stored.json").unlink()
        (stored / name).unlink(missing_ok=True)
        if (content := ways[how]) is not None:
            (stored / name).write_bytes(content)
        outcome = "without influence"
        for reader in READ_BY[first]:
            errors = io.StringIO()
            try:
                with contextlib.redirect_stderr(errors):
                    found = READERS[reader](place)
            except UserError as error:
                if not str(error).strip():
                    raise Fault("refused without a reason") from error
                outcome = REFUSED
                continue
            named = "damaged" in str(found) or "left out" in errors.getvalue()
            if found != place.good[reader] and not named and not bare:
                raise Fault(f"{reader} reads something else and says nothing: {str(found)[:300]}")
            outcome = REFUSED if named else outcome
        return outcome

    return Odd("stored", f"{name}, {how[:80]}{', without hashes' if bare else ''}", act)


KINDS: dict[str, Callable[[random.Random, "Place"], Odd]] = {
    "file": odd_file, "command": odd_command, "config": odd_config, "text": odd_text, "questions": odd_questions,
    "model": odd_model, "foreign": odd_foreign, "stored": odd_stored}
EXPERIMENT = {
    "name": "odd", "variants": ["topk", "baseline"], "data": {"rows": 32, "evaluation_rows": 8},
    "activations": {"calibration_rows": 8}, "sae": {"dictionary_size": 32},
    "training": {"steps": 12, "rows_per_batch": 8},
    "unlearning": {"row_length": 64, "multiplier_unit": "residual_norm", "multipliers": [1.0], "bootstrap": 10,
                   "forget_corpus": {"documents": 32}, "retain_corpus": {"documents": 32}}}


class Place:
    """Where odd inputs are laid down: a folder, a whole run with its index and labels, and a language model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stored = folder, folder / "whole"
        (folder / "empty").mkdir()
        (folder / "file.txt").write_text("a text\n")
        self.file = folder / "plain.yaml"
        self.file.write_text("name: plain\nvariants: [topk]\nunlearning: {}\nsae: {margin: {}, router: {}}\n")
        self.language_model = LanguageModel.load("embedded")
        cache = {"cache_folder": str(folder / "cache")}
        experiment: dict[str, Any] = {**EXPERIMENT, "activations": {**EXPERIMENT["activations"], **cache},
                                      # type: ignore[dict-item]
                                      "unlearning": {**EXPERIMENT["unlearning"], **cache}}  # type: ignore[dict-item]
        with contextlib.redirect_stderr(io.StringIO()):
            run = execute(expand(experiment), self.stored)[0]
            FeatureIndex.of_run(run.folder).labels.set(3, "a label")
        self.fresh_folder("stored", self.stored)
        self.good = {name: read(self) for name, read in READERS.items()}

    def fresh(self, name: str, content: bytes) -> Path:
        """A file with this content."""
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def fresh_folder(self, name: str, source: Path) -> Path:
        """A folder as another is now."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.copytree(source, self.folder / name)
        return self.folder / name

    def foreign(self, name: str) -> Path:
        """A small SAE in another library's format."""
        folder = self.folder / f"foreign-{name}"
        if not folder.exists():
            config = build(SAEConfig, {"dictionary_size": 8, "sparse_code": {"kind": "topk", "active": 3}})
            torch.manual_seed(0)
            export_sae(SparseAutoencoder(4, config).eval(), folder, name)
            (folder / "stored.json").unlink(missing_ok=True)  # others keep no hashes
        return folder
