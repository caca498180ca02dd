"""Rules every notebook keeps: layers, title and question, size, no widget state, parameters for papermill"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import tsae_nb

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import readme  # noqa: E402

NOTEBOOKS = sorted(path for path in Path("nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
ANSWERING = [path for path in NOTEBOOKS if path != Path("nbs/index.ipynb")]  # the index is the map of the others
EXPORT = re.compile(r"^#\s*\|\s*default_exp\s+(\S+)", re.MULTILINE)
IN_TEXT = re.compile(r"\btsae_nb\.([a-z]\w*(?:\.[a-z]\w*)?)")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


# -- layers ------------------------------------------------------------------------------------------------------------

def layer(path: Path) -> str:
    """The number in front of a notebook's name; templates and explorers stand above all."""
    return path.name.split("_")[0] if path.name[0].isdigit() else "99"


LAYERS = {module: layer(path) for path in NOTEBOOKS for module in EXPORT.findall(code(path))}
ON_PURPOSE = {  # (who, whom): why this arrow upwards stands
    ("runs", "entry"): "a sweep starts each run as a person would, in a process of its own: it names the command, "
                       "and imports nothing of it",
}


def names_of_ours(node: ast.AST) -> Iterator[str]:
    """What a piece of code takes from the package, without `tsae_nb.` in front: `sae`, `sae.load_sae`, `load_sae`."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("tsae_nb."))
    elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tsae_nb":
        yield from (f"{node.module}.{alias.name}".partition(".")[2] for alias in node.names)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tsae_nb":
        yield node.attr


def modules_used(source: str) -> set[str]:
    """The modules of ours that code uses: at its top, inside functions, as `tsae_nb.name`, and in programs as text."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        for name in names_of_ours(node):
            if name.startswith("__"):
                continue
            modules = [module for module in LAYERS if f"{name}.".startswith(f"{module}.")]
            assert modules or name in tsae_nb._PLACES, f"tsae_nb.{name} is made by no notebook"
            used.add(modules[0] if modules else tsae_nb._PLACES[name])
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts = IN_TEXT.findall(node.value)
            used.update(name for text in texts for name in (text, text.partition(".")[0]) if name in LAYERS)
    return used


def arrows_upwards(source: str, number: str) -> list[str]:
    """The modules that code of a notebook with this number uses from above it; its own is not among them.

    What is imported late, inside a function, so that loading stays quick, has to lie below all the same.
    """
    own = EXPORT.findall(source)
    return sorted(module for module in modules_used(source) if module not in own and LAYERS[module] >= number)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_imports_only_from_lower_numbers(path: Path) -> None:
    source = code(path)
    stand = sorted(whom for who, whom in ON_PURPOSE if who in EXPORT.findall(source))
    assert arrows_upwards(source, layer(path)) == stand, f"{path} uses what stands above it, or does so no longer"


@pytest.mark.parametrize("line", [
    "from tsae_nb.cli import main",
    "import tsae_nb.cli",
    "from tsae_nb import cli",
    "def late():\n    from tsae_nb.cli import main",
    "def late():\n    with ending_at_once():\n        from tsae_nb import cli as command",
    "import tsae_nb\ntsae_nb.cli.main([])",
    "program = 'import sys\\nfrom tsae_nb.cli import main'",
])
def test_an_arrow_upwards_is_seen_wherever_it_stands(line: str) -> None:
    assert arrows_upwards(f"#| default_exp sae\nimport torch\n{line}", "20") == ["cli"]
    assert arrows_upwards(line, "52") == [] and arrows_upwards(f"#| default_exp cli\n{line}", "51") == []


def test_a_public_name_is_that_of_its_module() -> None:
    assert arrows_upwards("from tsae_nb import load_sae", "21") == []
    assert arrows_upwards("from tsae_nb import load_sae", "10") == ["sae"]
    assert arrows_upwards("def late():\n    from tsae_nb.views import explorer", "20") == ["views.explorer"]
    with pytest.raises(AssertionError, match="tsae_nb.nowhere.name is made by no notebook"):
        arrows_upwards("from tsae_nb.nowhere import name", "20")


# -- titles, questions and the map made of them ------------------------------------------------------------------------

@pytest.mark.parametrize("path", ANSWERING, ids=str)
def test_begins_with_its_title_and_its_question(path: Path) -> None:
    head = readme.head(path)
    assert re.fullmatch(r"[A-Z][\w ,]*", head.title), "a title is plain words"
    assert not re.match(r"(The|An?|What|How|Which) ", head.title), "a title has no article in front, and asks nothing"
    assert all(word.islower() or word == "SAEs" for word in head.title.split()[1:]), "only its first word has a capital"
    assert head.question[0].isupper() and len(f"{head.name}: {head.question}") <= 120, "a line of the map is short"
    said = read(path).cells[0].source.splitlines()[1]
    assert len(said) <= 120 and not said.endswith("."), "question and answer are one line, the module's docstring"


def test_no_two_notebooks_have_the_same_title_or_question() -> None:
    heads = [readme.head(path) for path in ANSWERING]
    assert len({head.question for head in heads}) == len({head.title for head in heads}) == len(heads)


def test_the_map_is_that_of_the_notebooks() -> None:
    maps = [cell.source for cell in read(Path("nbs/index.ipynb")).cells if cell.source.startswith(readme.MARK)]
    assert maps == [readme.house(Path("nbs"))], "make sync"
    page = Path("README.md").read_text(encoding="utf-8")
    for path in ANSWERING:
        head = readme.head(path)
        assert page.count(f"- [{head.name}]({path.as_posix()}): {head.question}\n") == 1, "make sync"


def reading_minutes(path: Path) -> float:
    """How long a notebook takes: 200 words a minute, 20 lines of code; what is hidden is not read."""
    cells = [cell for cell in read(path).cells if "hide" not in readme.DIRECTIVE.findall(cell.source)]
    words = [word for cell in cells if cell.cell_type == "markdown" for word in cell.source.split()]
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines() if line.strip()]
    return len(words) / 200 + len(lines) / 20


def test_the_order_of_reading_names_notebooks_as_they_are_and_about_their_minutes() -> None:
    index = "\n".join(cell.source for cell in read(Path("nbs/index.ipynb")).cells)
    order = re.findall(r"^(\d+)\. \[(.+?)\]\((\S+)\), (\d+) minutes", index, re.MULTILINE)
    assert [int(number) for number, *_ in order] == [*range(1, len(order) + 1)] and len(order) > 5
    for _, title, place, minutes in order:
        path = Path("nbs", place)
        assert readme.head(path).title == title, "a notebook is called as it calls itself"
        needed = reading_minutes(path)
        assert needed / 1.6 < int(minutes) < needed * 1.6, f"{path} takes about {needed:.0f} minutes, not {minutes}"


def written(path: Path, *sources: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source) for source in sources]), path)
    return path


def test_the_map_goes_as_the_data_and_follows_a_notebook(tmp_path: Path) -> None:
    folder = tmp_path / "nbs"
    for name in ("20_late", "05a_next", "parts/09_part", "05_first", "try/out", "whole"):
        written(folder / f"{name}.ipynb", f"# Some {name[-4:]}\n> Is {name}? It is said\n\nMore? Below.")
    index = written(folder / "index.ipynb", "# Index", f"{readme.MARK}\n\nolder", "## End")
    readme.put_map(index)
    first, made, last = (cell.source for cell in read(index).cells)
    assert (first, last) == ("# Index", "## End")
    assert made == f"""{readme.MARK}

**nbs/**

- [Some hole](whole.ipynb): Is whole?
- [05 Some irst](05_first.ipynb): Is 05_first?
- [05a Some next](05a_next.ipynb): Is 05a_next?

**nbs/parts/**

- [09 Some part](parts/09_part.ipynb): Is parts/09_part?

**nbs/**

- [20 Some late](20_late.ipynb): Is 20_late?

**nbs/try/**

- [Some /out](try/out.ipynb): Is try/out?"""
    before = index.read_bytes()
    readme.put_map(index)
    assert index.read_bytes() == before


@pytest.mark.parametrize("source", [
    "# Title", "# Title\n> A statement", "> What?", "# Title\n\n> What?", "## Title\n> What?",
    "# Title\n> What?\n> And more", "# Title\n> A statement\n\nAnd what?"])
def test_a_notebook_without_a_question_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="05_some.ipynb: its first cell must be Markdown, a line '# Title'"):
        readme.house(written(tmp_path / "nbs" / "05_some.ipynb", source).parent)


# -- what is stored ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_is_light(path: Path) -> None:
    notebook = read(path)
    assert path.stat().st_size < 1_000_000, "a notebook stays below 1 MB"
    assert "widgets" not in notebook.metadata, "no widget state is saved"
    assert notebook.metadata["kernelspec"]["name"] == "python3", "JupyterLab opens it without asking for a kernel"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_stored_outputs_are_whole_and_of_no_machine(path: Path) -> None:
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"{path}: a stored error under {cell.source[:80]!r}"
            text = "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
            found = re.search(r"(?<![\w.])/(tmp|home|root|Users|work)/\S+", text)
            assert found is None, f"{path}: the path of one machine, {found and found[0]}"


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.parent.name == "experiments"], ids=str)
def test_templates_have_parameters(path: Path) -> None:
    assert any("parameters" in cell.metadata.get("tags", []) for cell in read(path).cells)


def test_nothing_unpickles_or_trusts_remote_code() -> None:
    for path in NOTEBOOKS:
        for line in code(path).splitlines():
            assert "trust_remote_code=True" not in line.replace(" ", ""), path
            assert not re.search(r"\bpickle\.loads?\(|allow_pickle\s*=\s*True", line), path
            assert "torch.load(" not in line or "weights_only=True" in line, path
