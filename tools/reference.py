"""Make the stored reference anew, from one clean commit: every run, the claims, the figures and the README's numbers.

    python tools/reference.py                  all of it: hours
    python tools/reference.py --parts tiny     the runs of some experiments now, the others another time
    python tools/reference.py --check          compare what is stored with README, figures, claims and today's files

Whatever stops it, the same command goes on. The work is in a hidden folder, which git does not see; only what is
complete takes the place of what is stored in runs/reference, and then all of it. Of the metrics every tenth step is
kept, and the first. All runs of an experiment are in the tables of one folder, `tables`, bit by bit; those whose SAEs
the notebooks to explore open have a folder of their own beside it. What reads run directories reads these too.
"""

import argparse
import datetime
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from pictures import keep_figures, shrink
from readme import DIRECTIVE, render
from trials import ROOT, changed, git, status_of

from tsae_nb.config import RunConfig, UserError, differences, result_settings
from tsae_nb.evaluation.evaluations import FILES
from tsae_nb.executors import sweep
from tsae_nb.experiments import expand, load_experiment, nested
from tsae_nb.foundation import content_hash, find_chrome
from tsae_nb.packed import TABLE_FOLDER, file_content, pack_runs, packed_runs
from tsae_nb.run_folders import OF_PEOPLE, RUN, read_mapping, stored_config, stored_runs
from tsae_nb.runs import PACKAGES, own_files
from tsae_nb.storage import (
    MANIFEST,
    Stored,
    claim,
    is_stored,
    locked,
    put_in_place,
    read_json,
    record,
    remove_stored,
    tidy,
    whole_file,
    write_json,
)
from tsae_nb.views.claims import CLAIMS, claim_convergence, claim_dictionary_size, stored_claims
from tsae_nb.views.figures import draw, figure_tables, results_table

PARTS = ("tiny", "ablations")  # files in runs/
SEEDS = (0, 1, 2)
STORED = Path("runs") / "reference"
WORK = Path("runs") / ".reference"  # hidden: nobody takes what is in it for runs of one's own
KIND = "a reference under way"
KEPT = ("config.yaml", "manifest.json", *FILES)
EVERY = 10
EXPLORED = ("topk", "temporal")  # and of each folder the run with the highest unlearning score
SUMMARY = "reference.json"
SHOWING = ("nbs/index.ipynb", "nbs/paper.ipynb")  # they have numbers of the stored runs as outputs
AGAIN = "make it again: make reference"


# -- what of a run is kept ---------------------------------------------------------------------------------------------

def explored(runs: Sequence[Path]) -> set[str]:
    """The names of runs whose SAEs the notebooks to explore open."""
    scores = {run.name: read_json(run / "unlearning.json")["score"] for run in runs
              if (run / "unlearning.json").is_file()}
    return {*EXPLORED, max(scores, key=lambda name: (scores[name], name))} if scores else {*EXPLORED}


def keep(run: Path, target: Path, with_sae: bool) -> None:
    """Copy the small files of one complete run; without an SAE it is to be packed, and its own table has no hash."""
    target.mkdir(parents=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copyfile(run / name, target / name)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    thinned = [line for number, line in enumerate(lines, start=1) if number == 1 or number % EVERY == 0]
    (target / "metrics.jsonl").write_text("".join(thinned))
    if with_sae:
        shutil.copytree(run / "sae", target / "sae")
    record(target, RUN, [name for name in own_files(target) if with_sae or not name.endswith(".parquet")], anew=True)


def keep_all(runs: Sequence[Path], target: Path, opened: set[str]) -> None:
    """The runs of an experiment in tables, and those whose names are in `opened` in folders with their SAEs too."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".") as folder:
        for run in runs:
            keep(run, Path(folder) / run.name, with_sae=False)
        pack_runs([*Path(folder).iterdir()], (*KEPT, "metrics.jsonl", MANIFEST), target)
    record(target / TABLE_FOLDER, "tables of runs")
    for run in runs:
        if run.name in opened:
            keep(run, target / run.name, with_sae=True)


def results_hash(run: Path) -> str:
    """A hash of every file that is kept of a run; of a packed one, of those that have hashes of their own."""
    if run.is_dir():
        return content_hash(*(part for name in sorted(own_files(run)) for part in (name, run / name)))
    return content_hash(*(part for name in sorted(Stored(run, RUN).files) for part in (name, file_content(run / name))))


# -- one set: the runs that belong together ----------------------------------------------------------------------------

def wanted(part: str, assignments: Sequence[str]) -> list[RunConfig]:
    """The runs of an experiment file, as it is today."""
    return expand(load_experiment(ROOT / "runs" / f"{part}.yaml", changes(assignments)))


def changes(assignments: Sequence[str]) -> dict[str, Any]:
    """What is laid over an experiment file: three seeds, and what was said beside."""
    return {"seeds": list(SEEDS), **nested(assignments)}


def runs_below(root: Path) -> dict[str, Path]:
    """The complete runs of all parts, by name."""
    found = {path.parent for part in PARTS for path in (root / part).glob("*/manifest.json")}
    found |= {run for part in PARTS for run in packed_runs(root / part)}
    return {f"{run.parent.name}/{run.name}": run for run in sorted(found)}


def mixed(runs: Mapping[str, Path], commit: str) -> list[str]:
    """What shows that runs do not belong together: a sentence for each other commit, and for versions that differ."""
    manifests = {name: read_mapping(run / "manifest.json") for name, run in runs.items()}
    found, others = [], dict[str, list[str]]()
    for name, manifest in manifests.items():
        if manifest.get("git_commit") != commit:
            others.setdefault(str(manifest.get("git_commit")), []).append(name)
    for other, names in others.items():
        found.append(f"{some(names)} of commit {other[:12]}{other[40:]}, not {commit[:12]}")
    versions = [manifest.get("versions", {}) for manifest in manifests.values()]
    for name in sorted({name for one in versions for name in one}):
        met = sorted({str(one.get(name)) for one in versions})
        if len(met) > 1:
            found.append(f"runs were made with different versions of {name}: {', '.join(met)}")
    return found


def some(names: Iterable[str], limit: int = 3) -> str:
    """`a is`, or `a, b, c and 3 more are`."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more} {'is' if len(names) == 1 else 'are'}"


# -- making it ---------------------------------------------------------------------------------------------------------

class Making:
    """One making of the reference: `out` gets `runs/reference` and `figures`; the work folder is in it too."""

    def __init__(self, out: Path, assignments: Sequence[str], processes: int) -> None:
        self.out, self.assignments, self.processes = out, list(assignments), processes
        self.commit = git("rev-parse", "HEAD")
        self.work = out / WORK
        self.runs = self.work / "runs"
        self.set = self.work / "set"  # all that is put in place, once it is complete

    @property
    def of_project(self) -> bool:
        """Whether it becomes the project's own, with the README."""
        return self.out.resolve() == ROOT

    def own(self) -> list[Path]:
        """What is written when everything is complete, and so may differ from the commit when the work goes on."""
        if not self.set.is_dir():
            return []
        placed = [self.out / path.relative_to(self.set) for path in self.pieces()]
        return [*placed, ROOT / "README.md", *(ROOT / page for page in SHOWING)]

    def pieces(self) -> list[Path]:
        """What is put in place one by one, the summary last: without it nothing counts."""
        stored = self.set / STORED
        files = sorted(path for path in (self.set / "figures").iterdir())
        return [*(stored / part for part in PARTS), stored / "claims.ipynb", *files, stored / SUMMARY]

    def check_start(self) -> None:
        """Raise `UserError` where nothing good could come of it. Makes nothing."""
        if dirty := changed(*self.own(), untracked=True):
            raise UserError("files differ from the commit, and a reference belongs to one: commit them, or put them "
                            f"away (git stash -u). These do: {', '.join(line[3:] for line in dirty[:5])}"
                            + (f" and {len(dirty) - 5} more" if len(dirty) > 5 else ""))
        if not find_chrome() and any((self.out / "figures").glob("figure*.png")):
            raise UserError("the pictures of the figures have to be drawn anew: install Chrome or Chromium, or set "
                            "CHROME to its path")
        if told := sorted(path for name in OF_PEOPLE for path in (self.out / STORED).glob(f"*/*/index/{name}*.json")):
            raise UserError(f"{told[0]} tells of features of an SAE that is about to be replaced: move it away")
        note = self.work / "made_for.json"
        if is_stored(self.work, KIND) and note.is_file():
            before = read_json(note)
            if other := differences(before, self.note()):
                raise UserError(f"{self.work} holds work for another set ({', '.join(other)}): go back to that, or "
                                "throw it away and begin anew (--anew)")
        self.check_mixed()

    def check_mixed(self) -> None:
        """Raise `UserError` where the runs made so far do not belong together, or no longer to the project's commit."""
        now = git("rev-parse", "HEAD")
        if now != self.commit:
            raise UserError(f"the project is at another commit ({now[:12]}) than when this began ({self.commit[:12]}): "
                            f"go back (git checkout {self.commit[:12]}), and the same command goes on")
        if found := mixed(runs_below(self.runs), self.commit):
            raise UserError(f"the runs in {self.runs} do not belong together: {'; '.join(found)}. Throw them away and "
                            "begin anew (--anew)")

    def note(self) -> dict[str, Any]:
        """What everything in the work folder is made for."""
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        return {"commit": self.commit, "set": self.assignments, "versions": versions}

    def make(self, parts: Sequence[str]) -> bool:
        """Make what is missing; False where parts are left for another time."""
        self.work.mkdir(parents=True, exist_ok=True)
        claim(self.work, KIND)
        write_json(self.work / "made_for.json", self.note())
        if not self.set.is_dir():
            for part in parts:
                file = Path("runs") / f"{part}.yaml"
                experiment = load_experiment(ROOT / file, changes(self.assignments))
                print(f"{part}: {len(expand(experiment))} runs", flush=True)
                extra = [word for assignment in self.assignments for word in ("--set", assignment)]
                sweep(experiment, file, self.processes, self.runs, extra)
                self.check_mixed()
            there = runs_below(self.runs)
            missing = [config.name for part in PARTS for config in wanted(part, self.assignments)
                       if config.name not in there]
            if missing:
                print(f"{len(missing)} runs are left for another time, {some(missing).rpartition(' ')[0]}: the same "
                      "command without --parts makes them, and nothing is put in place before", flush=True)
                return False
            self.assemble(there)
        self.put()
        return True

    def assemble(self, runs: Mapping[str, Path]) -> None:
        """Claims, figures and what is kept of the runs, in one folder that has its name when it is complete."""
        new = self.work / "set.partial"
        shutil.rmtree(new, ignore_errors=True)
        stored = new / STORED
        for part in PARTS:
            of_part = [run for name, run in runs.items() if name.startswith(f"{part}/")]
            keep_all(of_part, stored / part, explored(of_part) if part == "tiny" else set())
        print("the figures", flush=True)
        draw(stored / "tiny", new / "figures")
        keep_figures(new / "figures")
        print("the claims", flush=True)
        command("-m", "papermill", "nbs/experiments/claims.ipynb", stored / "claims.ipynb", "-k", "python3",
                "--cwd", ".", "-p", "root", self.runs, "--no-progress-bar")
        shrink(stored / "claims.ipynb")
        write_json(stored / SUMMARY, self.summary(new, runs))
        new.rename(self.set)

    def summary(self, new: Path, runs: Mapping[str, Path]) -> dict[str, Any]:
        """What the set was made of, with a hash of everything in it."""
        manifests = [read_mapping(run / "manifest.json") for run in runs.values()]
        kept = runs_below(new / STORED)
        machines = {content_hash(one["machine"]): one["machine"] for one in manifests}
        tables = [path for part in PARTS for path in sorted((new / STORED / part / TABLE_FOLDER).glob("*.parquet"))]
        files = [new / STORED / "claims.ipynb", *sorted((new / "figures").iterdir()), *tables]
        return {
            **self.note(), "command": " ".join(["python", "tools/reference.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(), "machines": list(machines.values()),
            "seconds": round(sum(sum(one["seconds"].values()) for one in manifests)),  # of all runs, one by one
            "runs": {name: results_hash(run) for name, run in kept.items()},
            "files": {path.relative_to(new).as_posix(): content_hash(path) for path in files},
        }

    def put(self) -> None:
        """Everything gets its place; stopped in the middle, the same command does it again."""
        for piece in self.pieces():
            place = self.out / piece.relative_to(self.set)
            place.parent.mkdir(parents=True, exist_ok=True)
            if piece.is_dir():
                placing = self.work / "placing"
                shutil.rmtree(placing, ignore_errors=True)
                shutil.copytree(piece, placing)
                put_in_place(placing, place)
            else:
                with whole_file(place) as temporary:
                    shutil.copyfile(piece, temporary)
        tidy(self.work)
        if self.of_project:
            print("the README, and the notebook of the paper", flush=True)
            command("tools/execute.py", *SHOWING)
            for page in SHOWING:
                command("-c", f"from nbdev.clean import nbdev_clean; nbdev_clean('{page}')")
            command("tools/readme.py")


def command(*arguments: Any) -> None:
    """Run Python with arguments in the project's folder; a failure is a `UserError` with the end of what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True,
                          text=True)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, arguments))} failed: {done.stderr[-2000:]}")


# -- comparing it ------------------------------------------------------------------------------------------------------

def check(root: Path, assignments: Sequence[str] = ()) -> list[str]:
    """What does not fit together in what is stored, a sentence each; empty where all agrees.

    Without a `reference.json`, as of a set of earlier days, only README and figures are compared with the runs.
    """
    stored = root / STORED
    return [*figures_apart(root), *readme_apart(root), *(set_apart(root, assignments) if (stored / SUMMARY).is_file()
                                                        else [])]


def readme_apart(root: Path) -> list[str]:
    """Whether the README's table is that of the stored runs; of the project's, all numbers that its notebook shows."""
    if not (root / "README.md").is_file():
        return []
    text, found = (root / "README.md").read_text(encoding="utf-8"), []
    if results_table(stored_runs(root / STORED / "tiny")) not in text:
        found.append("README.md: its table is not that of the stored runs: execute nbs/index.ipynb and make sync")
    if root == ROOT and text != render():
        found.append("README.md is not what nbs/index.ipynb gives: make sync")
    return found + (shown_apart() if root == ROOT else [])


def shown_apart() -> list[str]:
    """Which texts that a notebook makes of stored numbers are no longer those it has as output."""
    found = []
    for page in SHOWING:
        names: dict[str, Any] = {}
        for cell in nbformat.read(ROOT / page, as_version=4).cells:
            if cell.cell_type == "code" and "hide_input" not in DIRECTIVE.findall(cell.source):
                exec(cell.source, names)
            elif cell.cell_type == "code":
                source = DIRECTIVE.sub("", cell.source).strip()
                if eval(source, names).data != cell.outputs[0].data["text/markdown"]:
                    found.append(f"{page} shows other numbers than  {' '.join(source.split())}  gives: execute it")
    return found


def figures_apart(root: Path) -> list[str]:
    """Whether the tables beside the figures are those of the stored runs."""
    found = []
    for name, content in figure_tables(stored_runs(root / STORED / "tiny")).items():
        path = root / "figures" / name
        if not path.is_file() or path.read_bytes() != content:
            found.append(f"figures/{name}: its numbers are not those of the stored runs: "
                         f"tsae figures {STORED / 'tiny'} --out figures")
    return found


def set_apart(root: Path, assignments: Sequence[str] = ()) -> list[str]:
    """Whether runs, claims and figures are those of `reference.json`, and the settings those of today's files."""
    stored = root / STORED
    summary, runs = read_json(stored / SUMMARY), runs_below(stored)
    found = mixed(runs, summary["commit"])
    found += [f"{name} is not in {SUMMARY}, {AGAIN}" for name in runs if name not in summary["runs"]]
    for name, known in summary["runs"].items():
        if name not in runs:
            found.append(f"{name} is missing, {AGAIN}")
        elif results_hash(runs[name]) != known:
            found.append(f"{name} holds other files than those that were stored, {AGAIN}")
    found += [f"{name} is not the one that was stored, {AGAIN}" for name, known in summary["files"].items()
              if not (root / name).is_file() or content_hash(root / name) != known]
    return [*found, *settings_apart(runs, assignments), *claims_apart(stored)]


def settings_apart(runs: Mapping[str, Path], assignments: Sequence[str] = ()) -> list[str]:
    """How the settings of stored runs differ from what today's files say, each difference once with its runs."""
    configs = {config.name: config for part in PARTS for config in wanted(part, assignments)}
    missing, more = [name for name in configs if name not in runs], [name for name in runs if name not in configs]
    found = [f"{some(missing)} in today's files, and not stored"] if missing else []
    found += [f"{some(more)} stored, and not in today's files"] if more else []
    apart: dict[str, list[str]] = {}
    for name in (name for name in configs if name in runs):
        try:
            before = result_settings(stored_config(runs[name]))
            differing = differences(before, result_settings(configs[name]))
        except UserError as error:
            differing = [str(error)]
        for one in differing:
            apart.setdefault(one, []).append(name)
    return [*found, *(f"{one} (stored → today), in {some(names).rpartition(' ')[0]}" for one, names in apart.items())]


NOT_KEPT = (claim_convergence, claim_dictionary_size)  # they need every step, and SAEs that are too large to keep


def claims_apart(stored: Path) -> list[str]:
    """Whether the table in the stored notebook of claims says what the stored runs give, as far as these suffice."""
    said = {finding.claim: [finding.measured, finding.verdict] for finding in stored_claims(stored / "claims.ipynb")}
    runs = stored_runs(stored)
    given = {finding.claim: [finding.measured, finding.verdict] for finding in
             (judge(runs) for judge in CLAIMS if judge not in NOT_KEPT)}
    return [f"claims.ipynb, {name}: it says {said.get(name)}, the stored runs give {both}, {AGAIN}"
            for name, both in given.items() if said.get(name) != both]


# -- the command -------------------------------------------------------------------------------------------------------

def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART",
                        help=f"make only the runs of some of {', '.join(PARTS)} now (default: all)")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE",
                        help="another setting, to try this out: needs --out")
    parser.add_argument("--out", type=Path, help="where runs/reference and figures go (default: the project)")
    parser.add_argument("--anew", action="store_true", help="throw away the work that was stopped")
    parser.add_argument("--check", action="store_true", help="only compare what is stored")
    chosen = parser.parse_args(arguments)
    if chosen.processes < 1:
        parser.error(f"--processes is {chosen.processes}: it must be at least 1")
    if chosen.assignments and chosen.out is None:
        parser.error("other settings make another reference, which goes elsewhere: give --out FOLDER with --set")
    out = (chosen.out or ROOT).resolve()
    os.chdir(ROOT)  # where the runs' cache is
    out = Path() if out == ROOT else out  # then no name of a folder of this machine is stored

    def work() -> int:
        if not chosen.check:
            making = Making(out, chosen.assignments, chosen.processes)
            if not made(making, chosen.parts, chosen.anew):
                return 0
        found = check(out.resolve(), chosen.assignments)
        print("\n".join(found) or "what is stored agrees")
        return 1 if found else 0

    return status_of(work)


def made(making: Making, parts: Sequence[str], anew: bool) -> bool:
    """Whether the whole set is made and in place. Raises `UserError` where it cannot be."""
    making.work.parent.mkdir(parents=True, exist_ok=True)
    with locked(making.work, "making the reference", wait=False):
        if anew and making.work.is_dir():
            remove_stored(making.work, KIND)
        making.check_start()
        if not making.make(parts):
            return False
    print(f"the reference is in place: look at it, and commit it. The whole runs are in {making.runs}, until --anew",
          flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
