"""Keep the small part of run directories as the committed reference: settings, manifest, metrics, results.

    python tools/reference.py runs/tiny runs/ablations

Of the metrics every tenth step is kept, and the first; of the SAEs those that the notebooks to explore open.
Whatever reads run directories reads these too.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("config.yaml", "manifest.json", "evaluation.json", "unlearning.json", "unlearning.parquet")
EVERY = 10
EXPLORED = ("tiny/topk", "tiny/temporal", "tiny/batch_topk-seed2")  # the last has the highest unlearning score


def keep(run: Path, target: Path) -> None:
    """Copy the small files of one complete run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copyfile(run / name, target / name)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    thinned = [line for number, line in enumerate(lines, start=1) if number == 1 or number % EVERY == 0]
    (target / "metrics.jsonl").write_text("".join(thinned))
    if f"{run.parent.name}/{run.name}" in EXPLORED:
        shutil.copytree(run / "sae", target / "sae")


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        shutil.rmtree(ROOT / "runs" / "reference" / folder.name, ignore_errors=True)
        runs = sorted(path.parent for path in folder.glob("*/manifest.json"))
        for run in runs:
            keep(run, ROOT / "runs" / "reference" / folder.name / run.name)
        print(f"{folder}: {len(runs)} runs kept")
