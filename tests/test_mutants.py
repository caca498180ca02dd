"""The tool that changes one thing at a time in exported code: what it changes, and that no mutant helps the next"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from mutants import TESTS, Finder, Notebook, on_notebook, undone  # noqa: E402

from tsae_nb.storage import read_json  # noqa: E402

SOURCE = """#| export
def halved(values: list[float], folder: Path, name: str = "x-y") -> float:
    \"\"\"Half - or less.\"\"\"
    assert len(values) > 1, f"{1 + 1}"
    (folder / name).mkdir()
    return round(min(values[0], 2 * values[1]) / 2, 9) if values[0] >= 0 else -1.5
"""
NEW = {"(folder / name).mkdir()": ["pass"], "/": ["*", "*"], "2": ["3", "3"], "0": ["1", "1", "1"], "1": ["2"],
       "*": ["/"], ">=": [">"], "-": [""], "1.5": ["3.0"], "9": ["10"],
       "min(values[0], 2 * values[1]) / 2, 9": ["9, min(values[0], 2 * values[1]) / 2"]}  # min is symmetric


def test_what_is_changed_and_what_is_left_alone() -> None:
    """Texts, annotations, assertions and formatted texts are left alone; each mutant is a program that differs."""
    found = Finder("cell", SOURCE).found
    changes: dict[str, list[str]] = {}
    for one in found:
        changes.setdefault(one.old, []).append(one.new)
        compile(one.of(SOURCE), "mutant", "exec")
        assert one.of(SOURCE) != SOURCE and SOURCE.encode()[one.start : one.end].decode() == one.old
    assert changes == NEW
    assert len({one.key for one in found}) == len(found)


def test_files_are_as_they_were(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    (place / "kept").mkdir(parents=True)
    (place / "kept" / "file").write_text("before")
    os.mkfifo(place / "pipe")
    inode = (place / "kept" / "file").stat().st_ino
    with pytest.raises(ValueError), undone(place):
        (place / "kept" / "file").write_text("after")
        (place / "new").touch()
        (place / "pipe").unlink()
        raise ValueError
    assert (place / "kept" / "file").read_text() == "before" and (place / "kept" / "file").stat().st_ino == inode
    assert sorted(path.name for path in place.iterdir()) == ["kept", "pipe"]
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_a_notebook_kills_what_its_assertions_see(tmp_path: Path) -> None:
    """A cell makes a folder in a place that was made before: it must not be there for the next mutant."""
    cells = ["#| default_exp halves", "from pathlib import Path\nimport os\nhome = Path(os.environ['HALVES'])", SOURCE,
             "assert halved([4.0, 6.0], home) == 2.0 and list(home.iterdir()) == [home / 'x-y']"]
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path = tmp_path / "00_halves.ipynb"
    nbformat.write(content, path)
    notebook = Notebook(path, "halves", content.cells)
    home = tmp_path / "tmp" / "home"
    home.mkdir(parents=True)
    before = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALVES", str(home))
        tried = [(one, outcome) for one, outcome, _ in on_notebook(notebook, notebook.mutants(), tmp_path, 5.0)]
    assert os.getcwd() == before and not list(home.iterdir())
    assert tried[0] == (None, "good") and len(tried) == 1 + sum(map(len, NEW.values()))
    survived = sorted((one.old, one.new) for one, outcome in tried if one is not None and outcome == "good")
    assert survived == [
        ("-", ""), ("0", "1"), ("0", "1"), ("1.5", "3.0"), ("2", "3"), ("9", "10"), (">=", ">")
    ], (tmp_path / "log").read_text()


GROUPS = ("components.", "sae", "training", "activations", "evaluation.metrics", "evaluation.")


@pytest.mark.parametrize(("name", "least", "of_each", "number"), [
    ("mutants", 0.90, 0.85, 300), ("mutants-unseen", 0.85, 0.0, 100)])
def test_the_stored_tables_say_how_many_are_noticed(name: str, least: float, of_each: float, number: int) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for module, found in read_json(ROOT / "runs" / "reference" / f"{name}.json")["modules"].items():
        assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and found["date"], module
        group = next(start for start in GROUPS if module == start or (start.endswith(".") and module.startswith(start)))
        groups.setdefault(group, []).extend(found["mutants"].values())
    assert {*groups} == {*GROUPS}
    every = [one for mutants in groups.values() for one in mutants]
    assert len(every) >= number and sum("equivalent" in one for one in every) <= 0.05 * len(every)
    for mutants, rate in ((every, least), *((mutants, of_each) for mutants in groups.values())):
        killed, equivalent = (sum(bool(one.get(key)) for one in mutants) for key in ("killed_by", "equivalent"))
        assert killed >= rate * (len(mutants) - equivalent)


def test_what_checks_a_module_is_there() -> None:
    modules = Notebook.all()
    for start, files in TESTS.items():
        assert start in modules or any(start.endswith(".") and name.startswith(start) for name in modules), start
        assert all((ROOT / file).is_file() for file in files), files
    assert not [name for name, notebook in modules.items() if not notebook.tests and name != "carried"]
