"""Run notebooks top to bottom and keep their outputs, leaving out the cells a plain test run leaves out.

What goes to stderr (progress, warnings) differs from run to run: it is shown here and not kept. Pictures become small.

    python tools/execute.py nbs/01_world.ipynb [more notebooks]
"""

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from pictures import kept

DIRECTIVE = re.compile(r"^#\s*\|\s*(slow|cuda|eval:\s*false)\b", re.MULTILINE)
VOLATILE_METADATA = ("execution", "widgets")


def execute(path: Path, root: Path) -> None:
    """Execute one notebook from the project's root and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    skipped = [cell for cell in notebook.cells if cell.cell_type == "code" and DIRECTIVE.search(cell.source)]
    for cell in skipped:
        cell.cell_type = "raw"  # a raw cell is passed over, its stored outputs stay
    client = NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(root)}})
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                sys.stderr.write(output.text)
    for cell in skipped:
        cell.cell_type = "code"
    for cell in notebook.cells:
        for name in VOLATILE_METADATA:
            cell.metadata.pop(name, None)
        if "outputs" in cell:
            cell.outputs = [kept(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # notebooks are small, and several may run side by side
    project = Path(__file__).resolve().parents[1]
    for name in sys.argv[1:]:
        print(name, flush=True)
        execute(Path(name), project)
