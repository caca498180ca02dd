"""The wheel as somebody meets it who has no checkout: built without network, installed, used in an empty folder"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "settings.ini", "tsae_nb", "nbs", "runs", "figures")
SETTINGS = ("training.steps=3", "training.rows_per_batch=8", "data.rows=64", "data.evaluation_rows=16",
            "sae.dictionary_size=64", "unlearning.forget_corpus.rows=64", "unlearning.retain_corpus.rows=64")
SHORT = [part for setting in SETTINGS for part in ("--set", setting)]
BUILD = """import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"""


def build(what: str, source: Path, out: Path) -> Path:
    """An sdist or a wheel of a folder, made as pip makes it, with the environment's setuptools."""
    done = subprocess.run([sys.executable, "-c", BUILD, f"build_{what}", str(out)], cwd=source, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


class Place:
    """An empty folder, and a `tsae` that knows nothing of the checkout; the environment lends its other packages."""

    def __init__(self, folder: Path, installed: Path) -> None:
        self.folder, self.tsae = folder, str(installed / "bin" / "tsae")
        folder.mkdir()
        cleared = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = {**cleared, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        for name in ("CONFIG", "DATA", "RUNTIME"):
            self.environment[f"JUPYTER_{name}_DIR"] = str(folder.parent / f"jupyter-{name}")

    def python(self, program: str) -> str:
        return self.run(sys.executable, "-c", program)

    def __call__(self, *arguments: str) -> str:
        return self.run(self.tsae, *arguments)

    def run(self, *command: str) -> str:
        options = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True, "timeout": 240}
        done = subprocess.run(command, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("wheel")
    source, out, installed = (folder / name for name in ("source", "dist", "installed"))
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "cache", "index", "project")
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": ignored} if (ROOT / name).is_dir() else {}))
    with tarfile.open(build("sdist", source, out)) as archive:
        archive.extractall(folder, filter="data")
    unpacked = next(folder.glob("tsae_nb-*"))
    wheel = build("wheel", unpacked, out)
    assert wheel.stat().st_size < 4_000_000
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=120)
    return Place(folder / "empty", installed)


def test_it_is_the_installed_one_and_says_what_there_is(place: Place) -> None:
    found = place.python("import tsae_nb; print(tsae_nb.__file__)").strip()
    assert Path(found).is_relative_to(place.folder.parent / "installed")
    assert place("--version") == place.run(sys.executable, "-m", "tsae_nb", "--version")
    listed = place("run")
    for file in (ROOT / "runs").glob("*.yaml"):
        assert re.search(rf"^{file.stem} +\d+ runs? +\(comes along\)", listed, re.MULTILINE)
    assert not list(place.folder.iterdir()), "looking leaves nothing behind"


MADE = """import contextlib, io, json
from tsae_nb.cli import main

def tsae(line):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(line.split()) == 0, line
    return said.getvalue()

print(json.dumps({line: tsae(line) for line in LINES}))"""
LINES = (" ".join(["sweep tiny --variants topk,baseline", *SHORT]), "list --json", "figures",
         "compare runs/tiny/topk runs/tiny/baseline --json", "cache --json",
         "evaluate runs/tiny/topk --set data.evaluation_rows=32 --json", "export runs/tiny/topk --format saelens")


def test_everything_from_a_run_to_its_export(place: Place) -> None:
    place("run", "tiny", "--variants", "topk,baseline", *SHORT)
    _, listed, figures, compared, cached, again, exported = json.loads(
        place.python(f"LINES = {LINES!r}\n{MADE}").splitlines()[-1]).values()  # in one process: torch is imported once
    runs = {run["name"]: run["state"] for run in json.loads(listed)}
    assert runs == {"tiny/baseline": "complete", "tiny/topk": "complete"}
    assert {"runs/tiny/figures/figure1.html", "runs/tiny/figures/figure2.csv"} <= set(figures.split())
    assert json.loads(compared)["settings"]["sae.sparse_code.kind"] == ["topk", "relu"]
    assert json.loads(cached)[0]["bytes"] > 0
    again = json.loads(again)
    assert again["metrics"]["rows"] == [16, 32] and again["settings"] == {"data.evaluation_rows": [16, 32]}
    assert re.fullmatch(r"runs/tiny/topk\.saelens \([\d.]+ [kM]B\)", exported.strip())
    assert {path.name for path in place.folder.iterdir()} == {"runs"}


@pytest.fixture
def lab(place: Place) -> Iterator[subprocess.Popen[str]]:
    """`tsae lab` in a folder of its own, without a browser."""
    folder = place.folder.with_name("lab")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [place.tsae, "lab", "--folder", str(folder), "--no-browser", f"--port={port}"]
    server = subprocess.Popen(command, cwd=place.folder, env=place.environment, stderr=subprocess.PIPE, text=True,
                              start_new_session=True)
    yield server
    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()


def test_the_laboratory_opens_on_copies_that_a_person_may_change(place: Place, lab: subprocess.Popen[str]) -> None:
    assert lab.stderr is not None
    said = []
    for line in lab.stderr:  # ends when the server does
        said.append(line)
        if address := re.search(r"http://127\.0\.0\.1:\d+/\S*\?token=\w+", line):
            break
    else:
        raise AssertionError("".join(said))
    base, token = address[0].split("/lab")[0], address[0].rpartition("=")[2]
    while True:  # it says so a moment before it listens
        try:
            with urllib.request.urlopen(f"{base}/api/contents/nbs/explore?token={token}", timeout=60) as answer:
                names = {entry["name"] for entry in json.load(answer)["content"]}
            break
        except urllib.error.URLError as error:
            assert not isinstance(error, urllib.error.HTTPError) and lab.poll() is None, error
            time.sleep(0.1)
    assert names == {path.name for path in (ROOT / "nbs" / "explore").glob("*.ipynb")}
    mine = place.folder.with_name("lab") / "nbs" / "explore" / "own_model.ipynb"
    mine.write_text("mine")
    place("lab", "--folder", str(mine.parents[2]), "--version")
    assert mine.read_text() == "mine"


def test_a_notebook_to_explore_finds_what_came_along(place: Place) -> None:
    """The first cells of one that opens reference runs, where there are none of one's own."""
    place("lab", "--version", "--folder", str(place.folder.with_name("fresh")))
    notebook = place.folder.with_name("fresh") / "nbs" / "explore" / "explore_unlearning.ipynb"
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    there = f"import os; os.chdir({str(notebook.parent)!r})"
    assert place.python("\n".join([there, *code[:2], "print(best)"])).split()[-1] == "runs/reference/tiny/topk"


def test_the_claims_find_the_lines_that_came_along(place: Place) -> None:
    """Their imports, and what reads stored lines."""
    place("lab", "--version", "--folder", str(place.folder.with_name("fresh")))
    notebook = place.folder.with_name("fresh") / "nbs" / "experiments" / "claims.ipynb"
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    place.python("\n".join(cell for cell in code if "import pandas" in cell or "read_csv" in cell))
