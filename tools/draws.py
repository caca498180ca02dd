"""Repeat what notebooks draw afresh: how often does an assertion fail by chance alone?

    python tools/draws.py                                            every notebook that draws afresh: an hour on a core
    python tools/draws.py nbs/evaluation/30_metrics.ipynb --times 1000 --seconds 60

Notebooks compare with references on input of a new seed in each run. One draw in a hundred that an assertion does not
hold for is seen by nobody who writes it, and stops somebody else's test run. Each section (from one heading to the
next) is run again without its definitions, then each of its cells, up to `--times` draws or `--seconds`; the seed of
each is its number. Results are stored after each notebook, and one that has not changed since is not run again.
"""

import argparse
import json
import os
import random
import re
import sys
import time
from collections import Counter
from contextlib import chdir
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import numpy
import torch
from execnb.shell import CaptureShell
from execute import DIRECTIVE
from mutants import EXPORTED
from trials import ROOT, commit

from tsae_nb.foundation import content_hash

RESULT = ROOT / "runs" / "reference" / "draws.json"
AFRESH = re.compile(r"torch\.seed\(\)|(?<![.\w])random\.(?!Random)\w+\(|default_rng\(\)|secrets\.|urandom")
DRAWS = re.compile(r"\brand|generator|default_rng|normal_\(|uniform_\(|bernoulli|multinomial|seed|fresh|draw")


def sections(path: Path) -> list[list[Any]]:
    """The code cells that a plain test run runs, from one heading to the next."""
    found: list[list[Any]] = [[]]
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.lstrip().startswith("#"):
            found.append([])
        elif cell.cell_type == "code" and not DIRECTIVE.search(cell.source) and "nbdev_export(" not in cell.source:
            found[-1].append(cell)
    return [section for section in found if section]


def seeded(number: int) -> None:
    """All generators of this process, and what `torch.seed()` chooses."""
    random.seed(number)
    numpy.random.seed(number)
    torch.manual_seed(number)
    torch.seed = lambda: (torch.manual_seed(number), number)[1]


def tried(
    shell: CaptureShell, cells: list[Any], times: int, seconds: float, only_once: set[str]
) -> dict[str, Any]:
    """How many draws of cells in a row, which of them failed how often, and the first seed that did.

    Cells that fail each time, or each time but the first, as they spend what they were given, join `only_once` and are
    left out.
    """
    counts, first, end, number = Counter[str](), dict[str, str](), time.monotonic() + seconds, 0
    while number < times and time.monotonic() < end:
        number += 1
        seeded(number)
        for cell in cells:
            if cell.id in only_once:
                continue
            shell.run(cell.source)
            if shell.exc:
                counts[cell.id] += 1
                first.setdefault(cell.id, f"seed {number}: {shell.exc!r}"[:300])
                if number - 1 <= counts[cell.id] >= 3:
                    only_once.add(cell.id)
                    number = 0
                break  # what follows builds on it
    only_once |= {cell for cell, count in counts.items() if count >= number - 1}
    for cell, count in counts.items():
        said = "cannot be repeated" if cell in only_once else f"{count} of {number} draws failed"
        print(f"  cell {cell}: {said}, {first[cell]}", flush=True)
    failed = {cell: count for cell, count in counts.items() if cell not in only_once}
    return {"cells": [cell.id for cell in cells], "draws": number, "failed": failed,
            "first": {cell: first[cell] for cell in failed}}


def repeated(path: Path, times: int, seconds: float) -> list[dict[str, Any]]:
    """Each section that draws, then each of its cells that draws by itself, which is quicker and meets more draws."""
    shell, lines, afresh, only_once = CaptureShell(path), [], False, set[str]()
    with chdir(path.parent):
        for section in sections(path):
            seeded(0)
            for cell in section:
                shell.run(cell.source)
                if shell.exc:
                    raise SystemExit(f"{path.name}, cell {cell.id}: {shell.exc!r}")
            afresh = afresh or any(AFRESH.search(cell.source) for cell in section)
            again = [cell for cell in section if not EXPORTED.search(cell.source)]
            drawing = [cell for cell in again if DRAWS.search(cell.source)]
            if not afresh or not drawing:
                continue
            for cells in [again, *([cell] for cell in drawing if [cell] != again)]:
                if any("assert" in cell.source and cell.id not in only_once for cell in cells):
                    lines.append(tried(shell, cells, times, seconds, only_once))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--times", type=int, default=600, help="draws of some cells at most (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=6, help="for some cells at most (default %(default)s)")
    given = parser.parse_args()
    every = [path for path in sorted((ROOT / "nbs").rglob("*.ipynb")) if AFRESH.search(path.read_text())]
    failed = 0
    for path in [path.resolve() for path in given.notebooks] or every:
        held = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        name, start, content = str(path.relative_to(ROOT)), time.monotonic(), content_hash(path)
        if given.notebooks or held.get(name, {}).get("notebook") != content:
            print(name, flush=True)
            lines = repeated(path, given.times, given.seconds)
            held[name] = {"notebook": content, "commit": commit(RESULT), "date": str(date.today()),
                          "draws": sum(line["draws"] for line in lines),
                          "failed": [line for line in lines if line["failed"]]}
            held = {name: held[name] for name in sorted(held) if (ROOT / name).is_file()}
            RESULT.write_text(json.dumps(held, indent=1) + "\n")
            print(f"  {time.monotonic() - start:.0f} s", flush=True)
        failed += len(held[name]["failed"])
        print(f"{name}: {held[name]['draws']} draws, in {len(held[name]['failed'])} places some failed", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["IN_TEST"] = "1"
    main()
