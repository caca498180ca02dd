"""Make anew what nbs/explore/does_time_help.ipynb opens: SAEs of a grid of planted worlds, and what is known of them.

    python tools/planted_grid.py            36 runs of runs/planted-grid.yaml, then runs/reference/planted-grid: minutes

Whatever stops it, the same command goes on with the runs that are missing. They are made in a hidden folder and belong
to one commit, which is stored with the date. The weights are kept at half precision, where that changes no F1 by
more than TOLERATED.
"""

import argparse
import datetime
import os
import sys
from pathlib import Path

from trials import ROOT, changed

from tsae_nb.config import PlantedConfig, RunConfig, SAEConfig, UserError
from tsae_nb.experiments import expand, load_experiment
from tsae_nb.run_folders import read_mapping
from tsae_nb.runs import execute
from tsae_nb.sae import load_sae
from tsae_nb.storage import read_json
from tsae_nb.views.time_explorer import EXPERIMENT, Found, PlantedGrid, explored, found_by, world_source

FILE = ROOT / "runs" / f"{EXPERIMENT}.yaml"
STORED = ROOT / "runs" / "reference" / EXPERIMENT
WORK = ROOT / "runs" / f".{EXPERIMENT}"  # hidden: nobody takes what is in it for runs of one's own
TOLERATED = 0.002


def by_world() -> dict[str, list[RunConfig]]:
    """The runs of the experiment, by the name of their world."""
    experiment = load_experiment(FILE)
    return {name: expand({**experiment, "worlds": {name: planted}}) for name, planted in experiment["worlds"].items()}


def commit_of(runs: list[Path]) -> str:
    """The commit that all runs are of. Raises `UserError` where there is more than one, or files differed from it."""
    commits = {str(read_mapping(run / "manifest.json")["git_commit"]) for run in runs}
    if len(commits) != 1 or (commit := commits.pop()).endswith("+") or commit == "None":
        raise UserError(f"the runs in {WORK.relative_to(ROOT)} are of several commits, or of files that differed from "
                        "theirs: remove that folder and begin anew")
    return commit


def shift(grid: PlantedGrid, world: str, of_runs: dict[str, Found]) -> float:
    """By how much half precision changes an F1 at most."""
    source, found = grid.source(world), 0.0
    for variant, before in of_runs.items():
        after = found_by(grid.sae(world, variant)[0], source)
        found = max(found, abs(after.slow - before.slow), abs(after.fast - before.fast))
    return found


def packed(work: Path) -> PlantedGrid:
    """The grid of complete runs; each SAE is measured again, and has to find what its run has found."""
    worlds = by_world()
    folders = [work / config.name for configs in worlds.values() for config in configs]
    made = {"commit": commit_of(folders), "date": datetime.date.today().isoformat(),
            "command": "python tools/planted_grid.py"}
    grid, most = PlantedGrid({}, {}, {}, {}, {}), 0.0
    for name, configs in worlds.items():
        saes = {config.sae.variant: load_sae(work / config.name / "sae") for config in configs}
        planted = configs[0].planted
        assert planted is not None
        known = explored(world_source(planted), saes)
        for config in configs:
            scores = read_json(work / config.name / "evaluation.json")["recovery"]
            again = known.found[config.sae.variant]
            if abs(scores["slow"]["f1"] - again.slow) > 1e-9 or abs(scores["fast"]["f1"] - again.fast) > 1e-9:
                raise UserError(f"{config.name} was measured with other numbers than it gives now")
        grid.add(name, planted, known, saes)
        most = max(most, shift(grid, name, {config.sae.variant: known.found[config.sae.variant] for config in configs}))
        print(f"{name}: half precision changes an F1 by {most:.5f} at most, up to here", flush=True)
    if most > TOLERATED:
        raise UserError(f"half precision changes an F1 by {most:.4f}, more than {TOLERATED}: nothing is stored")
    grid.made = {**made, "largest change of an F1 by half precision": round(most, 6)}
    return grid


def apart(folder: Path = STORED) -> list[str]:
    """How what is stored differs from today's parameter file, a sentence each."""
    grid, worlds = PlantedGrid.open(folder), by_world()
    variants: dict[str, SAEConfig] = {config.sae.variant: config.sae for config in next(iter(worlds.values()))}
    planted: dict[str, PlantedConfig | None] = {name: configs[0].planted for name, configs in worlds.items()}
    pairs = {"worlds": (grid.worlds, planted), "variants": (grid.variants, variants)}
    return [f"the {what} of runs/reference/{EXPERIMENT} are not those of {FILE.name}: make it again"
            for what, (stored, today) in pairs.items() if stored != today]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    os.chdir(ROOT)
    try:
        configs = [config for configs in by_world().values() for config in configs]
        if not all((WORK / config.name / "manifest.json").is_file() for config in configs) and changed(STORED, WORK):
            raise UserError("files differ from the commit, and the runs are to belong to one: commit them first")
        execute(configs, WORK)
        packed(WORK).save(STORED)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(PlantedGrid.open(STORED).made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
