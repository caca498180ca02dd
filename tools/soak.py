"""Long trials: kills at random moments, damages to every kind of file, power cuts, twins, runs that come and go.

    python tools/soak.py            all of it, within an hour on two cores
    python tools/soak.py --share 10 a tenth of it

Each trial follows from its number alone. Results are stored after each, and a soak that is started again goes on where
it was, as long as the commit is the same.
"""

import argparse
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import damages
from trials import apart, commit

from tsae_nb.config import merge
from tsae_nb.experiments import expand
from tsae_nb.run_folders import summaries
from tsae_nb.runs import execute
from tsae_nb.storage import locked, verify, whole_file
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.training_monitor import TrainingMonitor

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "runs" / "reference" / "soak.json"
OWN_TIMES = ("manifest.json", "stored.json")  # of a run: they hold when and how fast it was made
EXPERIMENT = {
    "name": "k", "variants": ["topk", "batch_topk"], "data": {"rows": 96, "evaluation_rows": 16},
    "activations": {"calibration_rows": 16}, "sae": {"dictionary_size": 64},
    "training": {"steps": 60, "rows_per_batch": 8, "checkpoint_every": 4},
    "unlearning": {"forget_corpus": {"rows": 32}, "retain_corpus": {"rows": 32}, "retain_thresholds": [0.01],
                   "feature_counts": [2], "multipliers": [20.0], "bootstrap": 10},
}
MOMENTS = {  # files that tell a moment of a run; the kill comes a little later
    "rows": "cache/tokens/*", "activations": "cache/activations/*", "log": "runs/k/*.partial/metrics.jsonl",
    "checkpoint": "runs/k/*.partial/.checkpoint*", "SAE": "runs/k/*.partial/sae",
    "evaluated": "runs/k/*.partial/evaluation.json", "unlearned": "runs/k/*.partial/unlearning.json",
    "manifest": "runs/k/*.partial/manifest.json", "first of two": "runs/k/*/manifest.json",
}


def status_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def make_runs(place: Path) -> None:
    os.chdir(place)  # so that every name in every file is the same
    cache = {"cache_folder": "cache"}
    execute(expand(merge(EXPERIMENT, {"activations": cache, "unlearning": cache})), "runs", quiet=True)


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*"))
            if path.is_file() and path.name not in OWN_TIMES and not path.parent.name.startswith("damaged-")}


def differing(reference: Path, place: Path) -> list[str]:
    """The files that differ."""
    one, other = contents(reference), contents(place)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def leftovers(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*")
                  if path.name.endswith((".partial", ".replaced", ".lock")))


def killed(work: Callable[[], object], place: Path, chance: random.Random, seconds: float, moments: bool) -> str:
    """Start work and kill it at a moment; says which."""
    name = chance.choice(["random", *MOMENTS]) if moments else "random"
    delay = chance.uniform(0, seconds) if name == "random" else chance.choice([0, 0.003, 0.03, 0.3]) * chance.random()
    process, began = apart(work, place / "log"), time.monotonic()
    seen = name == "random"
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if not seen and (any(place.glob(MOMENTS[name])) or time.monotonic() - began > 4 * seconds):
            seen, began = True, time.monotonic()
        if seen and time.monotonic() - began >= delay:
            os.killpg(process, signal.SIGKILL) if os.getpgid(process) == process else os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return name
        time.sleep(0.0005)
    return f"{name}: ended before"


def new_disk(image: Path) -> Path:
    """An empty ext4 file system in a file."""
    with open(image, "wb") as handle:
        handle.truncate(2**26)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, text=True, check=True)
    return image


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """Inside, the file system in `image` is at `place`. `OSError`, `CalledProcessError` where that is not allowed."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def why_no_mount(folder: Path) -> str:
    """Why file systems cannot be mounted here; empty where they can."""
    try:
        with mounted(new_disk(folder / "tried"), folder / "tried here"):
            return ""
    except OSError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return error.stderr.strip().replace(str(folder), "") or str(error)


class Soak:
    """The trials and what they need, in a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reference = folder, folder / "reference"
        self.reference.mkdir()
        began = time.monotonic()
        assert status_of(apart(lambda: make_runs(self.reference), folder / "log")) == 0, (folder / "log").read_text()
        self.run_seconds = time.monotonic() - began
        began = time.monotonic()
        assert status_of(apart(lambda: self.index(self.reference), folder / "log")) == 0, (folder / "log").read_text()
        self.index_seconds = time.monotonic() - began
        shutil.move(self.reference / "runs" / "k" / "topk" / "index", folder / "index")
        self.stages, self.kinds = folder / "stages", dict[str, list[Path]]()

    def prepare_damages(self) -> None:
        """Complete runs with an index and exports, and work that was stopped at several moments; what readers find."""
        for stage in ("complete", *damages.STOPS):
            place = self.stages / stage
            shutil.copytree(self.reference, place) if stage in ("complete", "indexing") else place.mkdir(parents=True)
            assert status_of(apart(partial(self.stopped, stage, place), self.folder / "log")) == 0, stage
            self.kinds |= damages.kinds_of(stage, place)
        self.before = self.read(self.stages / "complete")

    def stopped(self, stage: str, place: Path) -> None:
        if stage == "complete":
            damages.export_all(place)
            return
        damages.STOPS[stage]()
        (self.index if stage == "indexing" else make_runs)(place)
        raise AssertionError(f"{stage} was not stopped")

    def read(self, place: Path) -> dict[str, list[str]]:
        """What readers find, in a process of their own."""
        file = place.with_name(f"{place.name}.json")
        status = status_of(apart(lambda: file.write_text(json.dumps(damages.readings(place))), self.folder / "log"))
        if status:
            return {"verify": ["", f"the process of the readers ended with {status}", "traceback"]}
        found: dict[str, list[str]] = json.loads(file.read_text())
        file.unlink()
        return found

    def damages(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """One damage to one stored file: named, made again or without influence."""
        if not self.kinds:
            self.prepare_damages()
        kind = sorted(self.kinds)[int(place.name.rpartition("-")[2]) % len(self.kinds)]  # all in turn
        stage, file = kind.partition(":")[0], chance.choice(self.kinds[kind])
        shutil.copytree(self.stages / stage, place, dirs_exist_ok=True)
        how = {"kind": kind, "damage": damages.damage(place / file, chance)}
        if stage == "complete":
            verdicts = damages.judged(file, self.before, self.read(place))
            bad = [f"{reader} {said}" for reader, said in verdicts.items() if ":" in said]
            return {**how, "status": 0, "bad": bad, "left": [],
                    "how": "named" if "named" in verdicts.values() else "without influence"}
        (place / "log").unlink(missing_ok=True)
        status = status_of(apart(lambda: (self.index if stage == "indexing" else make_runs)(place), place / "log"))
        named = file.name in (place / "log").read_text(errors="replace")
        one, other = ((self.folder / "index", place / damages.RUN / "index") if stage == "indexing" else
                      (self.reference / "runs", place / "runs"))
        allowed = {file.name, *(["state.json"] if file.name == "metrics.jsonl" else [])} if named else set[str]()
        bad = [name for name in differing(one, other) if Path(name).name not in allowed]  # a checkpoint knows its log
        if status == 2 and named:
            status, bad = 0, []
        return {**how, "status": status, "bad": bad, "left": [], "how": "named" if named else "made again or unused"}

    def power(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """A run on ext4 of its own, whose disk is copied at a random moment, as a power cut leaves it, and goes on."""
        disk, mount = place / "disk", place / "mount"
        with mounted(new_disk(disk), mount):
            process = apart(lambda: make_runs(mount), place / "log")
            time.sleep(chance.uniform(0.1, 1) * self.run_seconds)
            shutil.copyfile(disk, place / "copy")
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
        (place / "log").unlink(missing_ok=True)
        with mounted(place / "copy", mount):
            there = sorted(str(path.relative_to(mount)) for path in mount.glob("runs/k/*"))
            status = status_of(apart(lambda: make_runs(mount), place / "log"))
            bad = differing(self.reference / "runs", mount / "runs")
            left = [name for name in leftovers(mount) if "lost+found" not in name]
        return {"there": there, "status": status, "bad": bad, "left": left}

    @staticmethod
    def index(place: Path) -> None:
        os.chdir(place)
        FeatureIndex.of_run(Path("runs") / "k" / "topk", rebuild=True)

    def run_kills(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """A run killed once to three times and then ended equals an undisturbed one, and nothing is left over."""
        how = [killed(lambda: make_runs(place), place, chance, self.run_seconds, True)
               for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        status = status_of(apart(lambda: make_runs(place), place / "log"))
        bad = differing(self.reference / "runs", place / "runs")
        return {"kills": how, "status": status, "bad": bad, "left": leftovers(place)}

    def index_kills(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """The same for the build of a feature index."""
        shutil.copytree(self.reference, place, dirs_exist_ok=True)
        how = [killed(lambda: self.index(place), place, chance, self.index_seconds, False)
               for _ in range(chance.choice([1, 1, 2]))]
        status = status_of(apart(lambda: self.index(place), place / "log"))
        made = place / "runs" / "k" / "topk" / "index"
        return {"kills": how, "status": status, "bad": differing(self.folder / "index", made), "left": leftovers(place)}

    def twins(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """Of two identical runs at once one works; the other is told to wait, or finds the work done."""
        first = apart(lambda: make_runs(place), place / "log")
        time.sleep(chance.uniform(0, self.run_seconds / 2))
        second = apart(lambda: make_runs(place), place / "log")
        ended = sorted([status_of(first), status_of(second)])
        status = 0 if ended in ([0, 0], [0, 2]) else 1
        bad = differing(self.reference / "runs", place / "runs")
        return {"ended": ended, "status": status, "bad": bad, "left": leftovers(place)}

    def comings(self, place: Path, chance: random.Random) -> Mapping[str, Any]:
        """List and monitor beside 20 runs that appear and vanish: never an error, and who stays is always seen."""
        source, stop, bad, looks = self.reference / "runs" / "k" / "topk", threading.Event(), list[str](), [0]
        shutil.copytree(source, place / "k" / "stays")

        def look() -> None:
            monitor = TrainingMonitor(place)
            while not stop.is_set():
                looks[0] += 1
                try:
                    here = "k/stays" in [run.name for run in summaries(place) if run.state == "complete"]
                    if not (here and "k/stays" in monitor.text()):
                        bad.append("a run that stays was not seen")
                except BaseException as error:
                    bad.append(repr(error))

        reader = threading.Thread(target=look)
        reader.start()
        for _ in range(20):
            one = place / "k" / f"passing{chance.randrange(5)}{chance.choice(['', '.partial'])}"
            shutil.copytree(source, one, dirs_exist_ok=True)
            time.sleep(chance.uniform(0, 0.02))
            shutil.rmtree(one)
        stop.set()
        reader.join()
        return {"status": 0, "bad": bad[:3], "left": [], "looks": looks[0]}


TRIALS = {"run_kills": 100, "index_kills": 30, "damages": 300, "power": 20, "twins": 10, "comings": 10}


class Results:
    """What is known of the trials of this commit, in a file that several soaks may add to."""

    def __init__(self, path: Path) -> None:
        self.path, self.commit = path, commit(path)
        with locked(path, "reading results"):
            known = self._read()
            if known.get("commit") != self.commit or self.commit.endswith("+"):  # other files are not known by it
                self._write({"commit": self.commit, "trials": {}})

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

    def _write(self, known: Mapping[str, Any]) -> None:
        with whole_file(self.path) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n")

    def of(self, part: str) -> dict[str, Any]:
        return self._read()["trials"].get(part, {"wanted": TRIALS[part], "done": [], "failed": {}})

    def keep(self, part: str, done: Mapping[str, Any]) -> None:
        with locked(self.path, "keeping a result"):
            known = self._read()
            self._write({**known, "date": datetime.date.today().isoformat(),
                         "trials": {**known["trials"], part: done}})

    def count(self, parts: Sequence[str]) -> tuple[int, int]:
        """Trials done, and failed."""
        found = [self.of(part) for part in parts]
        return sum(len(part["done"]) for part in found), sum(len(part["failed"]) for part in found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=int, default=1, help="one in so many trials (default: all)")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument("--parts", nargs="+", choices=TRIALS, default=[*TRIALS], metavar="PART",
                        help=f"some of {', '.join(TRIALS)}, so that two soaks share the work (default: all)")
    chosen = parser.parse_args(arguments)
    results = Results(chosen.result)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder))
        for part in chosen.parts:
            done = results.of(part)
            done.pop("skipped", None)
            if part == "power" and (reason := why_no_mount(Path(folder))):
                results.keep(part, {**done, "skipped": reason})
                print(f"{part}: skipped, {reason}", flush=True)
                continue
            for number in range(0, TRIALS[part], chosen.share):
                if number in done["done"]:
                    continue
                place = Path(folder) / f"{part}-{number}"
                place.mkdir()
                found = getattr(soak, part)(place, random.Random(f"{part} {number}"))
                good = found["status"] == 0 and not found["bad"] and not found["left"]
                if not good:
                    said = (place / "log").read_text(errors="replace")[-300:] if (place / "log").is_file() else ""
                    done["failed"][str(number)] = {**found, "said": said.replace(folder, "")}
                done["done"].append(number)
                if "how" in found:
                    done.setdefault("how", {})[found["how"]] = done.get("how", {}).get(found["how"], 0) + 1
                results.keep(part, done)
                print(f"{part} {number}: {'good' if good else found}", flush=True)
                shutil.rmtree(place)
        damaged = [str(path) for path, _ in verify(soak.reference)]
    count, failed = results.count(chosen.parts)
    print(f"{count} trials, {failed} failed; {chosen.result}")
    return 1 if failed or damaged else 0


if __name__ == "__main__":
    sys.exit(main())
