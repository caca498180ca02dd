"""Does time help? The runs in planted worlds behind the table of methods and Figure 3, stored line by line.

    python tools/planted_set.py                    whatever is missing: some 6 hours on one core
    python tools/planted_set.py --parts methods    of some parts
    python tools/planted_set.py --list             what is there, what is missing
    python tools/planted_set.py --check            whether what is stored is of today's files, and the figure of it

Runs of one world and seed learn from one stream, in one process. Each process that ends adds its lines to
runs/reference/planted.csv, with commit and date; whatever stops it, the same command makes what is missing. A line is
known by the settings that decide its run: where these change, it is made anew.
"""

import argparse
import datetime
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from trials import ROOT, changed, git

from tsae_nb.config import RunConfig, UserError, result_settings, settings_of
from tsae_nb.experiments import expand_worlds, load_experiment, nested
from tsae_nb.foundation import content_hash
from tsae_nb.processes import Children, Terminated, terminable
from tsae_nb.run_folders import open_run, read_mapping
from tsae_nb.executors import TSAE
from tsae_nb.storage import whole_file
from tsae_nb.views.figures import save_figure
from tsae_nb.views.recovery_figure import figure3, oracle_table, recovery_csv, recovery_table

STORED = Path("runs") / "reference" / "planted.csv"
WORK = Path("runs") / ".planted"
FIGURE = Path("figures") / "figure3"
DIGITS = "%.6g"


@dataclass(frozen=True)
class Part:
    """Some runs of a parameter file in `runs/`, as one line of a command would choose them."""

    file: str
    seeds: tuple[int, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)  # axes
    assignments: tuple[str, ...] = ()
    oracles: bool = True

    def experiment(self) -> dict[str, Any]:
        """All its runs."""
        return load_experiment(ROOT / "runs" / f"{self.file}.yaml",
                               {"seeds": [*self.seeds], **self.changes, **nested(self.assignments)})

    def words(self) -> list[str]:
        """What of it a command line says, beside variants, seeds and worlds."""
        name = ["--name", self.changes["name"]] if "name" in self.changes else []
        return [*name, *(word for one in self.assignments for word in ("--set", one))]


LITTLE, MUCH = ([f"length{length}-noise{noise}" for length in (4, 12, 32) for noise in noises]
                for noises in ((0.1, 0.25), (0.4,)))
SEEDS = (1, 2, 3, 4, 5)
PARTS = {
    "rates": Part("planted-rates", (0,), oracles=False),  # on a seed that no other part has
    "methods": Part("planted", SEEDS),
    "shuffled": Part(
        "planted", SEEDS, {"name": "planted-shuffled", "variants": ["batch_topk", "lista", "temporal_code"]},
        ("planted.shuffled=all",), oracles=False),
    "grid": Part("time", SEEDS[:3], {"worlds": LITTLE}),
    "grid in noise": Part("time", SEEDS[:3], {"worlds": MUCH}, ("training.steps=3000",)),
    "hard": Part("planted-hard", SEEDS),
}
OF_FIGURE = ("grid", "grid in noise")


@dataclass(frozen=True)
class Run:
    """One run of a part, and the name of its world in the file."""

    part: str
    config: RunConfig
    world: str = ""

    @property
    def key(self) -> str:
        """A hash of the settings that decide the result."""
        return content_hash(result_settings(self.config))

    @property
    def stream(self) -> tuple[str, int, str]:
        """Runs that agree in it learn from one stream."""
        return self.part, self.config.seed, self.world


def wanted(part: str) -> list[Run]:
    """The runs of a part, as today's files have them."""
    return [Run(part, config, world) for world, config in expand_worlds(PARTS[part].experiment())]


def oracle_key(config: RunConfig) -> str:
    """By what the lines of those who know a world are known."""
    return content_hash("oracles", settings_of(config)["planted"], config.activations.calibration_rows)


# -- what is stored ----------------------------------------------------------------------------------------------------

def stored(root: Path = ROOT) -> pd.DataFrame:
    """All lines; without any an empty table."""
    path = root / STORED
    return pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.is_file() else pd.DataFrame(
        columns=["part", "run", "key", "method"])


def lines_of(part: str, root: Path = ROOT) -> pd.DataFrame:
    """The lines of one part."""
    table = stored(root)
    return table[table.part == part]


def add(lines: pd.DataFrame, root: Path = ROOT) -> None:
    """Put lines beside those that are stored; what is no longer wanted goes."""
    runs, before = [run for part in PARTS for run in wanted(part)], stored(root)
    keys = {(run.part, run.key) for run in runs}
    keys |= {(run.part, oracle_key(run.config)) for run in runs if PARTS[run.part].oracles}
    table = pd.concat([before, lines], ignore_index=True) if len(before) else lines
    table = table[[pair in keys for pair in zip(table.part, table.key, strict=True)]]
    order = {part: number for number, part in enumerate(PARTS)}
    table = table.sort_values(["part", "run_length", "noise", "method", "seed", "features"], kind="stable",
                              key=lambda column: column.map(order) if column.name == "part" else column)
    (root / STORED).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(root / STORED) as temporary:
        table.to_csv(temporary, index=False, float_format=DIGITS)


def missing(part: str, root: Path = ROOT) -> list[Run]:
    """Runs of a part of which there is no line."""
    known = set(lines_of(part, root).key)
    return [run for run in wanted(part) if run.key not in known]


def blind(part: str, root: Path = ROOT) -> list[RunConfig]:
    """For each world of a part whose oracles have no line a run in it."""
    if not PARTS[part].oracles:
        return []
    known = set(lines_of(part, root).key)
    return list({oracle_key(run.config): run.config for run in wanted(part)
                 if oracle_key(run.config) not in known}.values())


# -- making it ---------------------------------------------------------------------------------------------------------

def make(parts: Iterable[str], processes: int, root: Path = ROOT) -> bool:
    """Make what is missing of some parts; False where a run failed."""
    work, streams = root / WORK, dict[tuple[str, int, str], list[Run]]()
    for run in (run for part in parts for run in missing(part, root)):
        streams.setdefault(run.stream, []).append(run)
    children, failed = Children({**os.environ, "OMP_NUM_THREADS": "1"}), list[str]()

    def trained(runs: Sequence[Run]) -> list[Run]:
        one, part = runs[0], PARTS[runs[0].part]
        worlds = ["--worlds", one.world] if one.world else []
        variants = ",".join(run.config.sae.variant for run in runs)
        command = [*TSAE, "run", f"runs/{part.file}.yaml", *part.words(), "--seeds", str(one.config.seed), *worlds,
                   "--variants", variants, "--root", str(work)]
        if children.run(command, lambda line: None):
            failed.append(" ".join(command[len(TSAE):]))
            return []
        return list(runs)

    with ThreadPoolExecutor(processes) as pool:
        try:
            waiting = [pool.submit(trained, runs) for runs in streams.values()]
            for number, future in enumerate(as_completed(waiting), start=1):
                add(measured(future.result(), work), root)
                print(f"{number} of {len(waiting)} streams trained", flush=True)
        except BaseException:
            children.end()
            pool.shutdown(cancel_futures=True)
            raise
    for part in parts:
        for config in blind(part, root):
            add(signed(oracle_table(config), part, oracle_key(config), git("rev-parse", "HEAD")), root)
            print(f"{part}: what can be known of {config.name.partition('/')[2]}'s world", flush=True)
    for command in failed:
        print(f"failed: tsae {command}", file=sys.stderr)
    return not failed


def measured(runs: Sequence[Run], work: Path) -> pd.DataFrame:
    """The lines of complete runs."""
    tables = []
    for run in runs:
        found = open_run(work / run.config.name)
        manifest = read_mapping(found.folder / "manifest.json")
        tables.append(signed(recovery_table([found]), run.part, run.key, str(manifest["git_commit"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def signed(table: pd.DataFrame, part: str, key: str, commit: str) -> pd.DataFrame:
    """Lines with where they come from."""
    return table.assign(part=part, key=key, commit=commit[:12], date=datetime.date.today().isoformat())


def drawn(root: Path = ROOT) -> bool:
    """Draw Figure 3 of what is there of it; False where that is too little."""
    table = of_figure(root)
    if "batch_topk" not in set(table.get("method", ())):
        return False
    save_figure(figure3(table), root / FIGURE)
    (root / FIGURE).with_suffix(".csv").write_bytes(recovery_csv(table))
    return True


def of_figure(root: Path = ROOT) -> pd.DataFrame:
    """The lines that Figure 3 shows."""
    return pd.concat([lines_of(part, root) for part in OF_FIGURE], ignore_index=True)


# -- looking at it -----------------------------------------------------------------------------------------------------

def check(root: Path = ROOT) -> list[str]:
    """What of the stored lines is not of today's files, and whether the figure's numbers are those stored."""
    again, problems = "make it again: python tools/planted_set.py", []
    for part in PARTS:
        keys = {key for run in wanted(part) for key in (run.key, oracle_key(run.config))}
        own = lines_of(part, root)
        if old := sorted(set(own[~own.key.isin(keys)].run.dropna())):
            problems.append(f"{part}: {', '.join(old[:3])} is stored with other settings than today's, {again}")
    path = (root / FIGURE).with_suffix(".csv")
    if path.is_file() and path.read_bytes() != recovery_csv(of_figure(root)):
        problems.append(f"{FIGURE}.csv holds other numbers than those stored, {again}")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART",
                        help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--processes", type=int, default=2, help="streams at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="say what there is and what is missing")
    parser.add_argument("--check", action="store_true", help="compare what is stored with today's files")
    chosen = parser.parse_args(arguments)
    os.chdir(ROOT)
    if chosen.list:
        for part in chosen.parts:
            print(f"{part}: {len(missing(part))} of {len(wanted(part))} runs are missing, "
                  f"and what can be known of {len(blind(part))} worlds")
        return 0
    try:
        with terminable():
            good = True
            if not chosen.check:
                if dirty := changed(ROOT / STORED, *(ROOT / "figures").glob("figure3.*")):
                    raise UserError(f"files differ from the commit that would be noted down: {', '.join(dirty[:3])}")
                good = make(chosen.parts, chosen.processes)
                drawn()
            problems = check()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated):
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems or not good else 0


if __name__ == "__main__":
    sys.exit(main())
