"""Keep the small part of run directories as the committed reference: settings, manifest, metrics, results.

    python tools/reference.py runs/tiny runs/ablations

Of the metrics every tenth step is kept, and the first; of the SAEs those that the notebooks to explore open.
Whatever reads run directories reads these too.
"""

import json
import shutil
import sys
from pathlib import Path

from tsae_nb.run_folders import RUN
from tsae_nb.runs import own_files
from tsae_nb.storage import record

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("config.yaml", "manifest.json", "evaluation.json", "unlearning.json", "unlearning.parquet")
EVERY = 10
EXPLORED = ("topk", "temporal")  # and of each folder the run with the highest unlearning score


def explored(runs: list[Path]) -> set[str]:
    """The names of runs whose SAEs the notebooks to explore open."""
    scores = {run.name: json.loads((run / "unlearning.json").read_text())["score"] for run in runs
              if (run / "unlearning.json").is_file()}
    return {*EXPLORED, max(scores, key=lambda name: (scores[name], name))} if scores else {*EXPLORED}


def keep(run: Path, target: Path, with_sae: bool) -> None:
    """Copy the small files of one complete run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copyfile(run / name, target / name)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    thinned = [line for number, line in enumerate(lines, start=1) if number == 1 or number % EVERY == 0]
    (target / "metrics.jsonl").write_text("".join(thinned))
    if with_sae:
        shutil.copytree(run / "sae", target / "sae")
    record(target, RUN, own_files(target), anew=True)


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        shutil.rmtree(ROOT / "runs" / "reference" / folder.name, ignore_errors=True)
        runs = sorted(path.parent for path in folder.glob("*/manifest.json"))
        opened = explored(runs) if folder.name == "tiny" else set()
        for run in runs:
            keep(run, ROOT / "runs" / "reference" / folder.name / run.name, run.name in opened)
        print(f"{folder}: {len(runs)} runs kept")
