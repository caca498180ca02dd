"""What the file says is what runs: the same settings by `tsae run`, `tsae sweep`, plain papermill and from Python"""

import contextlib
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill.iorw
import pytest
import yaml
from papermill.parameterize import parameterize_notebook

from tsae_nb.cli import _experiment, main, run_command
from tsae_nb.config import ConfigError, RunConfig, build, read_yaml
from tsae_nb.executors import work_of
from tsae_nb.experiments import expand, load_experiment, resolve
from tsae_nb.foundation import find_chrome
from tsae_nb.runs import execute

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "nbs" / "experiments" / "run_variants.ipynb"
BIN = Path(sys.executable).parent
COMMITTED = sorted((ROOT / "runs").glob("*.yaml"))
Way = Callable[[Path], list[RunConfig]]


def through_papermill(parameters: Mapping[str, Any]) -> list[RunConfig]:
    """What the template makes of papermill's parameters: its own cells, down to the one that reads them."""
    notebook = parameterize_notebook(papermill.iorw.load_notebook_node(str(TEMPLATE)), dict(parameters))
    variables: dict[str, Any] = {"In": [""]}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            variables["In"].append(cell.source)
            exec(cell.source, variables)
            if "parameters_of(" in cell.source:
                return expand(variables["experiment"])
    raise AssertionError("the template reads no parameters")


def from_python(file: Path) -> list[RunConfig]:
    return expand(load_experiment(file))


def plain_papermill(file: Path) -> list[RunConfig]:
    return through_papermill(papermill.iorw.read_yaml_file(str(file)))


def as_said(arguments: list[str]) -> list[RunConfig]:
    """What `tsae run` hands to the template."""
    chosen = run_command.make_context("run", arguments).params
    return through_papermill({**_experiment(chosen), "root": chosen["root"]})


def tsae_run(file: Path) -> list[RunConfig]:
    return as_said([str(file)])


def tsae_sweep(file: Path) -> list[RunConfig]:
    found = []
    for work in work_of(load_experiment(file), "/nowhere"):
        found += as_said([str(file), *work.arguments])
    return found


def sweep_of_groups(file: Path) -> list[RunConfig]:
    return [run for work in work_of(load_experiment(file), "/nowhere", groups=True)
            for run in as_said([str(file), *work.arguments])]


WAYS: dict[str, Way] = {
    way.__name__: way for way in (from_python, tsae_run, tsae_sweep, sweep_of_groups, plain_papermill)}


def outcome(way: Way, file: Path) -> dict[str, RunConfig] | str:
    """The runs by name, or what is said instead."""
    try:
        return {config.name: config for config in way(file)}
    except ConfigError as error:
        return str(error)


def agree(file: Path) -> dict[str, RunConfig] | str:
    """What all ways make of a file; fails where they differ."""
    found = {name: outcome(way, file) for name, way in WAYS.items()}
    first = found["from_python"]
    for name, other in found.items():
        assert other == first, f"{name} makes of\n{file.read_text()}\n{other}\n\nnot\n{first}"
    return first


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.name)
def test_committed_files_mean_the_same_by_every_way(file: Path) -> None:
    found = agree(file)
    assert isinstance(found, dict) and found
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main(["run", str(file), "--resolve"]) == 0
    printed = [build(RunConfig, settings) for settings in yaml.safe_load_all(stdout.getvalue())]
    assert {config.name: config for config in printed} == found


def subset(settings: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """Some sections of an experiment, some of them left empty, one variant or several."""
    kept = {key: value for key, value in settings.items() if chance.random() < 0.6}
    for key in kept:
        if key not in ("name", "variants", "seeds", "layers") and chance.random() < 0.15:
            kept[key] = chance.choice([None, {}])
    if kept.get("variants"):
        names = chance.sample(sorted(kept["variants"]), chance.randint(1, min(3, len(kept["variants"]))))
        kept["variants"] = {name: kept["variants"][name] for name in names}
    if "seeds" in kept and chance.random() < 0.5:
        kept["seeds"] = chance.sample(range(5), chance.randint(1, 2))
    return kept if any(value is not None for value in kept.values()) else {"name": settings["name"]}


@pytest.mark.parametrize("part", range(10))
def test_whichever_sections_a_file_leaves_out(part: int, tmp_path: Path) -> None:
    chance, resolved = random.Random(f"sections {part}"), 0
    for number in range(50):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(subset(read_yaml(chance.choice(COMMITTED)), chance)))
        resolved += isinstance(agree(file), dict)
    assert resolved > 25, "most subsets must be experiments, or nothing is compared"


@pytest.mark.parametrize("text, said", {
    "trainng: {steps: 5}": "trainng: there is no such setting; did you mean 'training'?",
    "seed: 3": "seed: write a list of them, seeds: [3]",
    "training: {steps: 0}": "training.steps: got 0",
    "training: {step: 5}": "training.step: there is no such setting; did you mean 'steps'?",
}.items())
def test_a_mistake_is_refused_by_every_way(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(f"variants: [topk]\n{text}\n")
    for name, way in WAYS.items():
        found = outcome(way, file)
        assert isinstance(found, str) and said in found, f"{name}: {found}"


def test_numbers_and_dates_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: 2024-01-01\nvariants: [topk]\ntraining: {learning_rate: 3e-4}\n")
    found = agree(file)
    assert isinstance(found, dict) and found["2024-01-01/topk"].training.learning_rate == 3e-4


BARE = """name: bare
variants: {topk: {}}
training: {steps: 3, rows_per_batch: 8}
data: {rows: 32, evaluation_rows: 8}
"""


def test_the_ways_as_commands_store_the_same_config_and_continue_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that leaves out most sections; and each way again over another's runs, which stay as they are.

    `tsae` runs in this process, as torch is imported here already; below it is typed.
    """
    (tmp_path / "bare.yaml").write_text(BARE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    papermill = [str(BIN / "papermill"), str(TEMPLATE), "out.ipynb", "-f", "bare.yaml", "-k", "python3"]
    ways = {"run": ["run", "bare.yaml"], "sweep": ["sweep", "bare.yaml"], "papermill": papermill}
    expected, = resolve(tmp_path / "bare.yaml")

    def done(command: list[str], root: str) -> None:
        if command is not papermill:
            with contextlib.chdir(tmp_path):
                assert main([*command, "--root", root]) == 0
            return
        ended = subprocess.run(
            [*command, "-p", "root", root], cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr

    for name, command in ways.items():
        done(command, name)
    with contextlib.chdir(tmp_path):
        execute([expected], "python", quiet=True)
    stored = {name: tmp_path / name / "bare" / "topk" for name in (*ways, "python")}
    for name, folder in stored.items():
        assert build(RunConfig, read_yaml(folder / "config.yaml")) == expected, name
    assert len({(folder / "sae" / "sae.safetensors").read_bytes() for folder in stored.values()}) == 1
    before = (stored["run"] / "manifest.json").stat().st_mtime_ns
    for command in ways.values():
        done(command, "run")
    with contextlib.chdir(tmp_path):
        execute([expected], "run", quiet=True)
    assert (stored["run"] / "manifest.json").stat().st_mtime_ns == before


def test_with_nothing_given_the_template_lists_the_experiments_and_makes_nothing(tmp_path: Path) -> None:
    command = [str(BIN / "papermill"), str(TEMPLATE), str(tmp_path / "out.ipynb"), "-k", "python3", "--cwd", str(ROOT)]
    before = sorted(path for path in (ROOT / "runs").iterdir())
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=120).returncode == 0
    text = (tmp_path / "out.ipynb").read_text()
    assert all(f"runs/{file.name}" in text for file in COMMITTED)
    assert sorted(path for path in (ROOT / "runs").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]


def test_the_lines_of_make_reproduce_twice(tmp_path: Path) -> None:
    """As `make` prints them, shortened by settings; elsewhere, so that everything they write is seen.

    Typed at first; again in this process, as torch is imported here already.
    """
    printed = subprocess.run(["make", "-n", "reproduce"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    lines = [line.split() for line in printed.splitlines() if line.startswith("tsae ")]
    assert [line[1] for line in lines] == ["sweep", "figures", "run", "list"]
    (tmp_path / "runs").mkdir()
    for name in ("tiny.yaml", "planted-small.yaml"):
        (tmp_path / "runs" / name).write_text((ROOT / "runs" / name).read_text())
    short = {"sweep": ["--variants", "topk,temporal", "--set", "training.steps=3", "--set", "data.rows=64", "--set",
                       "data.evaluation_rows=16", "--set", "unlearning.forget_corpus.rows=64"],
             "run": ["--set", "training.steps=3"]}

    environment = {name: value for name, value in os.environ.items() if name != "TSAE_PICTURES"}

    def typed(arguments: list[str]) -> None:
        ended = subprocess.run([str(BIN / "tsae"), *arguments], cwd=tmp_path, env=environment, capture_output=True,
                               text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr

    def here(arguments: list[str]) -> None:
        with contextlib.chdir(tmp_path):
            assert main(arguments) == 0

    def reproduce(do: Callable[[list[str]], None]) -> float:
        began = time.monotonic()
        for line in lines:
            do([*line[1:], *short.get(line[1], [])])
        return time.monotonic() - began

    first = reproduce(typed)
    kept = {path: path.read_bytes() for name in ("tiny", "planted-small")
            for path in sorted((tmp_path / "runs" / name).rglob("*")) if path.is_file()}
    picture = any('"image/png"' in path.read_text() for path in kept if path.name == "run.ipynb")
    assert picture == (find_chrome() is not None), "what conftest.py leaves out elsewhere"
    print(f"first {first:.0f} s, second {reproduce(here):.0f} s")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "nothing is written outside runs/"
    assert {f"figure{n}.{kind}" for n in (1, 2, 4) for kind in ("html", "json", "csv")} <= {path.name for path in kept}
    runs = {path for path in kept if "figures" not in path.parts}
    assert {path: path.read_bytes() for path in runs} == {path: kept[path] for path in runs}
