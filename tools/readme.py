"""Render README.md from nbs/index.ipynb: hidden cells and directives dropped, links made relative to the root."""

import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r"^#\s*\|\s*([\w-]+).*\n?", re.MULTILINE)
NOTEBOOK_LINK = re.compile(r"\]\((?!https?:|#|\.\./)([^)]+\.ipynb[^)]*)\)")


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
    body = NOTEBOOK_LINK.sub(r"](nbs/\1)", body).replace("](../", "](")
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(render(), encoding="utf-8")
