"""Does time help? The runs in planted worlds behind the table of methods and Figure 3, stored line by line.

    python tools/planted_set.py                    whatever is missing: some 8 hours on one core
    python tools/planted_set.py --parts methods    of some parts
    python tools/planted_set.py --list             what is there, what is missing
    python tools/planted_set.py --check            whether what is stored is of today's files, and the figure of it

Runs of one world and seed learn from one stream, in one process. Each process that ends adds its lines to
runs/reference/planted.csv, with commit and date; whatever stops it, the same command makes what is missing. A line is
known by the settings that decide its run: where these change, it is made anew.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from line_sets import Command, LineSet, Part, Run, signed
from pictures import shrink

from tsae_nb.config import RunConfig, settings_of
from tsae_nb.foundation import content_hash
from tsae_nb.run_folders import StoredRun
from tsae_nb.views.figures import save_figure
from tsae_nb.views.recovery_figure import figure3, oracle_table, recovery_csv, recovery_table

FIGURE = Path("figures") / "figure3"
LITTLE, MUCH = ([f"length{length}-noise{noise}" for length in (4, 12, 32) for noise in noises]
                for noises in ((0.1, 0.25), (0.4,)))
SEEDS = (1, 2, 3, 4, 5)
PARTS = {
    "rates": Part("planted-rates", (0,)),  # on a seed that no other part has
    "methods": Part("planted", SEEDS),
    "shuffled": Part(
        "planted", SEEDS, {"name": "planted-shuffled", "variants": ["batch_topk", "lista", "temporal_code"]},
        ("planted.shuffled=all",)),
    "grid": Part("time", SEEDS[:3], {"worlds": LITTLE}),
    "grid in noise": Part("time", SEEDS[:3], {"worlds": MUCH}, ("training.steps=3000",)),
    "hard": Part("planted-hard", SEEDS),
    **{f"L0 {active}": Part("matched-planted", SEEDS, {"name": f"matched-planted-{active}"},
                            (f"sae.sparse_code.active={active}",)) for active in (8, 16, 32)},
}
OF_FIGURE = ("grid", "grid in noise")
WITH_ORACLES = ("methods", *OF_FIGURE, "hard")


def oracle_key(config: RunConfig) -> str:
    """By what the lines of those who know a world are known."""
    return content_hash("oracles", settings_of(config)["planted"], config.activations.calibration_rows)


def of_world(run: Run) -> list[str]:
    """The key of a run's oracles, where its part has such."""
    return [oracle_key(run.config)] if run.part in WITH_ORACLES else []


def of_run(run: StoredRun) -> pd.DataFrame:
    """The lines of one run."""
    return recovery_table([run])


LINES = LineSet(PARTS, Path("runs") / "reference" / "planted.csv", Path("runs") / ".planted",
                ("run_length", "noise", "method", "seed", "features"), of_run, besides=of_world,
                each=2)  # of slow features and of fast ones


@dataclass(frozen=True)
class PlantedSet:
    """The lines of runs and oracles, and the figure of them."""

    lines: LineSet = LINES

    def blind(self, part: str) -> list[RunConfig]:
        """For each world of a part whose oracles have no line a run in it."""
        known = set(self.lines.lines_of(part).key)
        of_worlds = {key: run.config for run in self.lines.wanted(part) for key in self.lines.besides(run)}
        return [config for key, config in of_worlds.items() if key not in known]

    def make(self, parts: Iterable[str], processes: int) -> bool:
        """Make what is missing of some parts, and draw the figure; False where a run failed."""
        parts = [*parts]
        good = self.lines.train(parts, processes)
        for part in parts:
            for config in self.blind(part):
                self.lines.add(signed(oracle_table(config), part, oracle_key(config)))
                print(f"{part}: what can be known of {config.name.partition('/')[2]}'s world", flush=True)
        self.draw()
        return good

    def draw(self) -> bool:
        """Draw Figure 3 of what is there of it; False where that is too little."""
        table = self.of_figure()
        if "batch_topk" not in set(table.get("method", ())):
            return False
        path = self.lines.root / FIGURE
        for file in save_figure(figure3(table), path):
            if file.suffix == ".png":
                shrink(file)
        path.with_suffix(".csv").write_bytes(recovery_csv(table))
        return True

    def of_figure(self) -> pd.DataFrame:
        """The lines that Figure 3 shows."""
        return self.lines.lines_of(*OF_FIGURE)

    def check(self) -> list[str]:
        """What of the stored lines is not of today's files, and whether the figure's numbers are those stored."""
        again = "make it again: python tools/planted_set.py"
        path, problems = (self.lines.root / FIGURE).with_suffix(".csv"), self.lines.outdated(again)
        shown = self.of_figure()
        if path.is_file() and (shown.empty or path.read_bytes() != recovery_csv(shown)):
            problems.append(f"{FIGURE}.csv holds other numbers than those stored, {again}")
        return problems

    def missing(self, part: str) -> str:
        """What is missing of a part, in words."""
        runs = f"{len(self.lines.missing(part))} of {len(self.lines.wanted(part))} runs are missing"
        return runs + (f", and what can be known of {len(self.blind(part))} worlds" if part in WITH_ORACLES else "")


def main(arguments: Sequence[str] | None = None) -> int:
    planted = PlantedSet()
    return Command(__doc__, LINES, planted.make, planted.check, planted.missing)(arguments)


if __name__ == "__main__":
    sys.exit(main())
