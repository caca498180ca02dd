"""Render README.md from nbs/index.ipynb: hidden cells and directives dropped, links made relative to the root.

The map of the house in nbs/index.ipynb is made from the first cell of every notebook before.
"""

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r"^#\s*\|\s*([\w-]+).*\n?", re.MULTILINE)
NOTEBOOK_LINK = re.compile(r"\]\((?!https?:|#|\.\./)([^)]+\.ipynb[^)]*)\)")
HEAD = re.compile(r"# (?P<title>\S[^\n]*)\n> (?P<question>[^?\n]+\?)(?: (?P<answer>\S[^\n]*))?(?:\n\n|\Z)")
NUMBER = re.compile(r"\d+[a-z]?(?=_)")
MARK = "<!-- made by tools/readme.py from the first cell of every notebook: edit those -->"


# -- the map -----------------------------------------------------------------------------------------------------------

class Head(NamedTuple):
    """What the first cell of a notebook says."""

    path: Path
    number: str  # "" for templates and notebooks to explore
    title: str
    question: str

    @property
    def name(self) -> str:
        """What its link is called."""
        return f"{self.number} {self.title}".strip()


def head(path: Path) -> Head:
    """Number, title and question of a notebook. Raises `ValueError` where its first cell does not give them."""
    cells = nbformat.read(path, as_version=4).cells
    said = HEAD.match(cells[0].source) if cells and cells[0].cell_type == "markdown" else None
    if said is None:
        raise ValueError(f"{path}: its first cell must be Markdown, a line '# Title' and a line '> The one question it "
                         "answers?', which a few words on the answer may follow")
    number = NUMBER.match(path.name)
    return Head(path, number[0] if number else "", said["title"], said["question"])


def notebooks(folder: Path) -> list[Path]:
    """All notebooks below a folder but the index: those beside it, by number, as the data flow, and all others."""
    paths = [path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]

    def order(path: Path) -> tuple[str, str]:
        first = "" if path.parent == folder else "~"
        return (path.name, "") if NUMBER.match(path.name) else (first, path.as_posix())

    return sorted((path for path in paths if path != folder / "index.ipynb"), key=order)


def house(folder: Path) -> str:
    """The map as Markdown: a line for each notebook, under the folder where it lies."""
    rooms = []
    for room, heads in groupby(map(head, notebooks(folder)), key=lambda one: one.path.parent):
        lines = [f"- [{one.name}]({one.path.relative_to(folder).as_posix()}): {one.question}" for one in heads]
        rooms.append("\n".join([f"**{room.relative_to(folder.parent).as_posix()}/**", "", *lines]))
    return "\n\n".join([MARK, *rooms])


def put_map(index: Path) -> None:
    """Bring the cell of the index that holds the map in step with the notebooks beside it."""
    notebook = nbformat.read(index, as_version=4)
    cell, = (cell for cell in notebook.cells if cell.source.startswith(MARK))
    if cell.source != (source := house(index.parent)):
        cell.source = source
        nbformat.write(notebook, index)


# -- the page ----------------------------------------------------------------------------------------------------------

def shown(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A cell without its directives; of a `#| hide_input` cell only the Markdown it shows."""
    if cell.cell_type == "code" and "hide_input" in DIRECTIVE.findall(cell.source):
        return nbformat.v4.new_markdown_cell("\n\n".join(output.data["text/markdown"] for output in cell.outputs))
    if cell.cell_type == "code":
        cell.source = DIRECTIVE.sub("", cell.source)
    return cell


def render() -> str:
    """The README's text."""
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.cells = [cell for cell in notebook.cells if "hide" not in DIRECTIVE.findall(cell.source)]
    notebook.cells = [shown(cell) for cell in notebook.cells]
    body, _ = MarkdownExporter().from_notebook_node(notebook)
    body = NOTEBOOK_LINK.sub(r"](nbs/\1)", body).replace("](../", "](").replace(f"{MARK}\n\n", "")
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


if __name__ == "__main__":
    try:
        put_map(ROOT / "nbs" / "index.ipynb")
    except ValueError as error:
        sys.exit(str(error))
    (ROOT / "README.md").write_text(render(), encoding="utf-8")
