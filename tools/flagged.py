"""Say which notebook cells a plain test run leaves out, and how to run them: those marked `#| slow`, `#| cuda`, …"""

import re
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FLAG = re.compile(r"^#\s*\|\s*(slow|cuda|eval:\s*false)\b", re.MULTILINE)
WHY = {
    "slow": "take minutes: nbdev_test --flags slow",
    "cuda": "need a CUDA device: nbdev_test --flags cuda",
    "eval: false": "are shown, not run, as they change what is kept",
}


def flagged() -> dict[str, Counter[str]]:
    """Flag → notebooks with the number of their cells that bear it."""
    found: dict[str, Counter[str]] = {flag: Counter() for flag in WHY}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            for cell in nbformat.read(path, as_version=4).cells:
                for flag in FLAG.findall(cell.source) if cell.cell_type == "code" else ():
                    found[re.sub(r":\s*", ": ", flag)][path.stem] += 1
    return found


if __name__ == "__main__":
    for flag, notebooks in flagged().items():
        if notebooks:
            where = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in notebooks.items())
            print(f"{notebooks.total()} notebook cells marked {flag} {WHY[flag]} ({where})")
