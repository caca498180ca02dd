"""At equal sparsity on the embedded language model: the runs of runs/matched.yaml at L0 8, 16 and 32, line by line.

    python tools/matched_set.py                    whatever is missing: some 4 hours on one core
    python tools/matched_set.py --parts "L0 16"    of some parts
    python tools/matched_set.py --list             what is there, what is missing
    python tools/matched_set.py --check            whether what is stored is of today's files

Runs of one seed and L0 learn from one stream, in one process. Each process that ends adds its lines to
runs/reference/matched.csv, with commit and date; whatever stops it, the same command makes what is missing.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd
from line_sets import LineSet, Part, answers

from tsae_nb.activations import ActivationSource, open_stream
from tsae_nb.config import RunConfig
from tsae_nb.language_model import LanguageModel
from tsae_nb.run_folders import StoredRun
from tsae_nb.sae import load_sae
from tsae_nb.views.matched import language_line, times_chance

SEEDS = (1, 2, 3, 4, 5)
PARTS = {
    "rates": Part("matched-rates", (0,)),  # on a seed that no other part has
    **{f"L0 {active}": Part("matched", SEEDS, {"name": f"matched-{active}"}, (f"sae.sparse_code.active={active}",))
       for active in (8, 16, 32)},
}


@cache
def _source(config: RunConfig) -> ActivationSource:
    """The activations of runs on one model and text; its arguments are all they depend on."""
    model = config.text[0]
    return open_stream(LanguageModel.load(model.path, device=model.device), config, quiet=True)


def of_run(run: StoredRun) -> pd.DataFrame:
    """The line of one run."""
    config = run.config
    source = _source(RunConfig(language_model=config.language_model, data=config.data, activations=config.activations))
    lasts = times_chance(load_sae(run.folder / "sae"), source.evaluation_batches(config.evaluation.batch_rows))
    return pd.DataFrame([language_line(run, lasts)])


LINES = LineSet(PARTS, Path("runs") / "reference" / "matched.csv", Path("runs") / ".matched", ("method", "seed"),
                of_run)


def main(arguments: Sequence[str] | None = None) -> int:
    return answers(__doc__, LINES, "tools/matched_set.py")(arguments)


if __name__ == "__main__":
    sys.exit(main())
