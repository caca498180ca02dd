"""`tools/draws.py`: what fails on one draw in many is named, what spends its input is left out, the rest passes"""

import json
import subprocess
import sys
from pathlib import Path

import nbformat

TOOLS = Path(__file__).parents[1] / "tools"
CELLS = {
    "fixed": "import torch\nimport random\nassert torch.rand(1) < 1",
    "sound": "torch.seed()\nassert torch.rand(3).max() < 1",
    "rarely": "drawn = torch.rand(3)\nassert drawn.max() < 0.97",
    "spent": "left.remove(1)\nassert random.random() < 1",
    "after": "assert torch.rand(1) < 2",
    "slow": "#| slow\nassert torch.rand(1) < 0",
}


def test_an_assertion_that_hangs_on_the_draw_is_named(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    cells[1:1] = [nbformat.v4.new_markdown_cell("## Drawn"), nbformat.v4.new_code_cell("left = [1]", id="made")]
    cells.insert(-3, nbformat.v4.new_markdown_cell("## More"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "some.ipynb")
    asked = ("import json, draws; from pathlib import Path; "
             f"print(json.dumps(draws.repeated(Path('{tmp_path}/some.ipynb'), 100, 20)))")
    done = subprocess.run([sys.executable, "-c", asked], cwd=TOOLS, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *said, lines = done.stdout.splitlines()
    found = {tuple(line["cells"]): line for line in json.loads(lines)}
    assert list(found) == [("made", "sound", "rarely"), ("sound",), ("rarely",), ("spent", "after"), ("after",)]
    assert {cell for line in found.values() for cell in line["failed"]} == {"rarely"}
    assert 2 < found["rarely",]["failed"]["rarely"] < 20 and found["rarely",]["draws"] == 100
    assert found["rarely",]["first"]["rarely"].startswith("seed ")
    assert [line for line in said if "cannot be repeated" in line] == [
        "  cell spent: cannot be repeated, seed 1: ValueError('list.remove(x): x not in list')"]
