"""Sets of runs of which only lines are stored: known by their settings, made where one is missing, in any session"""

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from trials import ROOT, changed, git, status_of

from tsae_nb.config import RunConfig, UserError, result_settings
from tsae_nb.executors import TSAE
from tsae_nb.experiments import expand_worlds, load_experiment, nested
from tsae_nb.foundation import content_hash
from tsae_nb.processes import Children
from tsae_nb.run_folders import StoredRun, open_run, read_mapping
from tsae_nb.storage import locked, whole_file

DIGITS = "%.6g"


@dataclass(frozen=True)
class Part:
    """Some runs of a parameter file in `runs/`, as one line of a command would choose them."""

    file: str
    seeds: tuple[int, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)  # axes
    assignments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # of its processes, beside ours

    def experiment(self, root: Path) -> dict[str, Any]:
        """All its runs."""
        return load_experiment(root / "runs" / f"{self.file}.yaml",
                               {"seeds": [*self.seeds], **self.changes, **nested(self.assignments)})

    def words(self) -> list[str]:
        """What of it a command line says, beside variants, seeds and worlds."""
        name = ["--name", self.changes["name"]] if "name" in self.changes else []
        return [*name, *(word for one in self.assignments for word in ("--set", one))]


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


@dataclass(frozen=True)
class LineSet:
    """Parts, the table in which their lines are stored, and how a complete run becomes lines."""

    parts: Mapping[str, Part]
    table: Path  # below the root
    work: Path  # where runs are made, below the root
    order: tuple[str, ...]  # columns by which lines are in order, within a part
    lines: Callable[[StoredRun], pd.DataFrame]
    root: Path = ROOT
    besides: Callable[[Run], Iterable[str]] = lambda run: ()  # keys of other lines that belong to a run
    each: int = 1  # lines of a run

    def wanted(self, part: str) -> list[Run]:
        """The runs of a part, as today's files have them."""
        experiment = self.parts[part].experiment(self.root)
        return [Run(part, config, world) for world, config in expand_worlds(experiment)]

    def stored(self) -> pd.DataFrame:
        """All lines; without any an empty table. Raises `UserError` for a file that is no such table."""
        path, needed = self.root / self.table, ("part", "run", "key", "method")
        if not path.is_file():
            return pd.DataFrame(columns=[*needed])
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
            wrong = ", ".join(f"no column {name}" for name in needed if name not in table)
        except (ValueError, OSError) as error:
            wrong = str(error).strip()
        if wrong:
            raise UserError(f"{path} is not the table that was written ({wrong}): mend the line, or take the file from "
                            f"the commit, git restore {self.table}; what is missing there is made again")
        return table

    def lines_of(self, *parts: str) -> pd.DataFrame:
        """The lines of some parts."""
        table = self.stored()
        return table[table.part.isin(parts)]

    def keys(self, part: str) -> set[str]:
        """By what the lines of a part are known."""
        return {key for run in self.wanted(part) for key in (run.key, *self.besides(run))}

    def add(self, lines: pd.DataFrame) -> None:
        """Put lines beside those that are stored; what is no longer wanted goes."""
        before, again = self.stored(), set(zip(lines.part, lines.key, strict=True))
        before = before[[pair not in again for pair in zip(before.part, before.key, strict=True)]]
        keys = {(part, key) for part in self.parts for key in self.keys(part)}
        table = pd.concat([before, lines], ignore_index=True) if len(before) else lines
        table = table[[pair in keys for pair in zip(table.part, table.key, strict=True)]]
        places = {part: number for number, part in enumerate(self.parts)}
        table = table.sort_values(["part", *self.order], kind="stable",
                                  key=lambda column: column.map(places) if column.name == "part" else column)
        (self.root / self.table).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.root / self.table) as temporary:
            table.to_csv(temporary, index=False, float_format=DIGITS)

    def missing(self, part: str) -> list[Run]:
        """Runs of a part of which there are not all lines."""
        counts = self.lines_of(part).key.value_counts()
        known = set(counts.index[counts >= self.each])
        return [run for run in self.wanted(part) if run.key not in known]

    def train(self, parts: Iterable[str], processes: int) -> bool:
        """Make the runs that are missing of some parts, and store their lines; False where a run failed."""
        streams = dict[tuple[str, int, str], list[Run]]()
        for run in (run for part in parts for run in self.missing(part)):
            streams.setdefault(run.stream, []).append(run)
        children, failed = Children({**os.environ, "OMP_NUM_THREADS": "1"}), list[str]()

        def trained(runs: Sequence[Run]) -> list[Run]:
            one, part = runs[0], self.parts[runs[0].part]
            worlds = ["--worlds", one.world] if one.world else []
            variants = ",".join(run.config.sae.variant for run in runs)
            command = [*TSAE, "run", f"runs/{part.file}.yaml", *part.words(), "--seeds", str(one.config.seed), *worlds,
                       "--variants", variants, "--root", str(self.root / self.work)]
            if children.run(command, lambda line: None, part.environment):
                failed.append(" ".join(command[len(TSAE):]))
                return []
            return list(runs)

        with ThreadPoolExecutor(processes) as pool:
            try:
                waiting = [pool.submit(trained, runs) for runs in streams.values()]
                for number, future in enumerate(as_completed(waiting), start=1):
                    if runs := future.result():
                        self.add(pd.concat([self._measured(run) for run in runs], ignore_index=True))
                    print(f"{number} of {len(waiting)} streams trained", flush=True)
            except BaseException:
                children.end()
                pool.shutdown(cancel_futures=True)
                raise
        for command in failed:
            print(f"failed: tsae {command}", file=sys.stderr)
        return not failed

    def _measured(self, run: Run) -> pd.DataFrame:
        """The lines of a complete run."""
        found = open_run(self.root / self.work / run.config.name)
        commit = str(read_mapping(found.folder / "manifest.json")["git_commit"])
        return signed(self.lines(found), run.part, run.key, commit)

    def outdated(self, again: str) -> list[str]:
        """What of the stored lines is not of today's files, in sentences that end in what to do."""
        problems = []
        for part in self.parts:
            own, keys = self.lines_of(part), self.keys(part)
            if old := sorted(set(own[~own.key.isin(keys)].run.dropna())):
                problems.append(f"{part}: {', '.join(old[:3])} is stored with other settings than today's, {again}")
        return problems


def signed(table: pd.DataFrame, part: str, key: str, commit: str = "") -> pd.DataFrame:
    """Lines with where they come from; without a commit that of the tree."""
    commit = commit or git("rev-parse", "HEAD")
    return table.assign(part=part, key=key, commit=commit[:12], date=datetime.date.today().isoformat())


@dataclass(frozen=True)
class Command:
    """What a tool that keeps such a set answers to."""

    description: str
    lines: LineSet
    make: Callable[[Sequence[str], int], bool]
    check: Callable[[], list[str]]
    missing: Callable[[str], str]  # of a part, in words

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """The exit status: 0 all is there, 1 something is missing or old, 2 nothing was done, 130 stopped."""
        parts, root = self.lines.parts, self.lines.root
        parser = argparse.ArgumentParser(description=self.description,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts], metavar="PART",
                            help=f"some of {', '.join(parts)} (default: all)")
        parser.add_argument("--processes", type=int, default=2, help="streams at a time (default: 2)")
        parser.add_argument("--list", action="store_true", help="say what there is and what is missing")
        parser.add_argument("--check", action="store_true", help="compare what is stored with today's files")
        chosen = parser.parse_args(arguments)
        os.chdir(root)

        def work() -> int:
            if chosen.list:
                print("\n".join(f"{part}: {self.missing(part)}" for part in chosen.parts))
                return 0
            good = True
            if not chosen.check:
                results = (*(root / self.lines.table).parent.glob("*.csv"), root / "figures")  # another set's, too
                if dirty := changed(*results):
                    raise UserError(f"files differ from the commit that would be noted down: {', '.join(dirty[:3])}")
                with locked(root / self.lines.work, f"making {self.lines.table.stem}", wait=False):
                    good = self.make(chosen.parts, chosen.processes)
            problems = self.check() + [f"{part}: {self.missing(part)}" for part in chosen.parts
                                       if self.lines.missing(part)]
            print("\n".join(problems), file=sys.stderr)
            return 1 if problems or not good else 0

        return status_of(work)


def answers(description: str, lines: LineSet, tool: str) -> Command:
    """The command of a tool that keeps a set of lines and nothing beside it."""
    return Command(description, lines, lines.train, lambda: lines.outdated(f"make it again: python {tool}"),
                   lambda part: f"{len(lines.missing(part))} of {len(lines.wanted(part))} runs are missing")
