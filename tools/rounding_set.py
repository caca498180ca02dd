"""What the last bits of sums decide: runs of runs/tiny.yaml by other instructions of the processor, line by line.

    python tools/rounding_set.py            whatever is missing: some 20 minutes on one core
    python tools/rounding_set.py --list     what is there, what is missing
    python tools/rounding_set.py --check    whether what is stored is of today's files

The same seed, rows and stored activations; products and sums of the training run by AVX-512, AVX2, or what every x86
has, so they are added in another order, as on another processor. Wants a processor that has AVX-512. Lines go to
runs/reference/rounding.csv, with commit and date.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from line_sets import LineSet, Part, answers

from tsae_nb.run_folders import StoredRun

INSTRUCTIONS = {  # of PyTorch's own loops, and of its matrix products
    "AVX-512": ("avx512", "AVX512"), "AVX2": ("avx2", "AVX2"), "SSE": ("default", "COMPATIBLE"),
}
PARTS = {
    name: Part("tiny", (0,), {"name": f"rounding-{name}", "variants": ["topk", "batch_topk", "jumprelu"]},
               environment={"ATEN_CPU_CAPABILITY": loops, "MKL_CBWR": products})
    for name, (loops, products) in INSTRUCTIONS.items()
}


def of_run(run: StoredRun) -> pd.DataFrame:
    """The line of one run."""
    found = run.unlearning
    assert found is not None
    return pd.DataFrame([{
        "run": run.name, "method": run.variant, "seed": run.config.seed, "sae": found["sae"],
        "explained_variance": run.evaluation["explained_variance"], "l0": run.evaluation["l0"],
        "unlearning": found["score"], "low": found["interval"]["low"], "high": found["interval"]["high"],
        "unlearning_held_out": found["held_out"]["score"]}])


LINES = LineSet(PARTS, Path("runs") / "reference" / "rounding.csv", Path("runs") / ".rounding", ("method", "seed"),
                of_run)


def main(arguments: Sequence[str] | None = None) -> int:
    return answers(__doc__, LINES, "tools/rounding_set.py")(arguments)


if __name__ == "__main__":
    sys.exit(main())
