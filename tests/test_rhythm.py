"""The rhythm of notebooks is counted as it is said to be"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from rhythm import Rhythm, of_notebook, rhythm  # noqa: E402


def test_exported_cells_their_lines_and_what_follows() -> None:
    one, three = "#| export\nx = 1\n", "#| export\n\ndef f():\n    # why\n    return 1\n"
    assert rhythm([one, "assert x", three, one, "f()", one]) == Rhythm(4, 1, 3, 2 / 4, 2)
    assert rhythm(["assert 1", "print(2)"]) is None and rhythm([]) is None


def test_a_notebook_of_this_house() -> None:
    found = of_notebook(Path(__file__).resolve().parents[1] / "nbs" / "components" / "14_margin_ema.ipynb")
    assert found is not None and found.cells > 3 and 0 < found.followed <= 1
