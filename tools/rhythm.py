"""How each notebook alternates between what it defines and examples of it, beside notebooks that teach well.

    python tools/rhythm.py            of every notebook that exports
    python tools/rhythm.py nbs/20_sae.ipynb …

A figure to look at, no gate: splitting cells pleases the number and nobody else. Lines are those of exported cells,
without blanks and directives; a cell is followed by an example where the next cell of code is one that is not exported.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = ("#| export", "#|export")


class Rhythm(NamedTuple):
    """Of one notebook."""

    cells: int  # exported
    lines: float  # of an exported cell, the median
    most: int  # of an exported cell, the largest
    followed: float  # share of exported cells that an example follows
    run: int  # the most exported cells without one between


ANCHORS = {  # counted the same way, of their repositories in 2026
    "claudette 00_core": Rhythm(32, 8, 29, 0.69, 4), "fastcore 01_basics": Rhythm(161, 5, 40, 0.76, 4),
    "fastcore 02_foundation": Rhythm(68, 4, 47, 0.84, 4), "miniai 09_learner": Rhythm(18, 6, 46, 0.56, 3),
}


def rhythm(cells: Sequence[str]) -> Rhythm | None:
    """The rhythm of a notebook's cells of code; None where none is exported."""
    exported = [cell.lstrip().startswith(EXPORTS) for cell in cells]
    lines = [sum(bool(line.strip()) and not line.startswith("#|") for line in cell.splitlines())
             for cell, own in zip(cells, exported, strict=True) if own]
    if not lines:
        return None
    followed = sum(own and not after for own, after in zip(exported, [*exported[1:], True], strict=True))
    longest = run = 0
    for own in exported:
        run = run + 1 if own else 0
        longest = max(longest, run)
    return Rhythm(len(lines), statistics.median(lines), max(lines), followed / len(lines), longest)


def of_notebook(path: Path) -> Rhythm | None:
    """The rhythm of a notebook's file, cells left out that only say where they are exported to, or are hidden."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    silent = ("#| default_exp", "#| hide")
    return rhythm([cell for cell in cells if not cell.startswith(silent) or cell.startswith(EXPORTS)])


def shown(name: str, of: Rhythm) -> str:
    """One line."""
    return f"{name:38} {of.cells:5} {of.lines:6.0f} {of.most:4} {of.followed:9.0%} {of.run:5}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted((ROOT / "nbs").rglob("*.ipynb")))
    found = {path.stem: of_notebook(path) for path in parser.parse_args(arguments).notebooks
             if ".ipynb_checkpoints" not in path.parts}
    print(f"{'exported cells':38} {'cells':>5} {'median':>6} {'most':>4} {'followed':>9} {'run':>5}")
    own = {name: of for name, of in found.items() if of is not None}
    for name, of in [*own.items(), *ANCHORS.items()]:
        print(shown(name, of))
    if own:
        cells = sum(of.cells for of in own.values())
        followed = sum(of.followed * of.cells for of in own.values()) / cells
        middle = statistics.median(of.lines for of in own.values())
        print(f"of all {cells} exported cells {followed:.0%} are followed by an example; "
              f"median of medians {middle:g} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
