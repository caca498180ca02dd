"""Do today's sources give the stored results? Nothing is trained: stored SAEs are measured again, all values compared.

    python tools/same_results.py                    the SAEs in runs/reference, and the tables of the figures
    python tools/same_results.py runs/mine/topk     one run with its SAE, or all below a folder
    python tools/same_results.py --commit HEAD~3    with what the sources of another commit (or a folder) give, where
                                                    this machine does not give the stored numbers to the last bit

Compared are the hash of each SAE and all files of results that today's evaluations write, numbers and tables. What
differs is named, and the exit status is 1.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "runs" / "reference"
FIGURES = REFERENCE / "tiny"  # the runs that the figures show
TABLES = ("figure1.csv", "figure2.csv", "figure4.csv")
Values = dict[str, Any]  # of one run, by dotted name


def flat(value: Any, name: str) -> Values:
    """Nested values by dotted name; places of a list are names too."""
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    return {key: content for place, part in items for key, content in flat(part, f"{name}.{place}").items()}


def result_files() -> tuple[str, ...]:
    """The names of the files that today's evaluations write into a run's folder."""
    sys.path.insert(0, str(ROOT))  # whatever else is installed
    from tsae_nb.evaluation.evaluations import FILES

    return FILES


def values_of(folder: Path, names: Iterable[str]) -> Values:
    """The results in a folder, of a run or of what was measured again: those of the files that are there."""
    import pandas as pd  # of the environment, whatever the sources

    values: Values = {}
    for path in (folder / name for name in names if (folder / name).is_file()):
        if path.suffix == ".json":
            values |= flat(json.loads(path.read_text()), path.stem)
        elif path.suffix == ".parquet":
            columns = pd.read_parquet(path).to_json(double_precision=15, orient="columns")
            values |= flat(json.loads(columns), f"{path.stem}.table")
        else:
            values[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return values


def stored_values(run: Path) -> Values:
    """What a run has stored."""
    return {"sae": json.loads((run / "manifest.json").read_text())["hashes"]["sae"], **values_of(run, result_files())}


# -- in a process of its own, with the sources to be tried: nothing but what every commit has is used ------------------

def measure(runs: Sequence[Path], figures: Sequence[Path], names: Sequence[str], out: Path) -> None:
    """Measure the SAEs of runs, draw the figures of folders; all values, of the files `names`, go to the file `out`."""
    import tsae_nb

    if not Path(tsae_nb.__file__).is_relative_to(os.environ["PYTHONPATH"]):
        sys.exit(f"python takes tsae_nb from {tsae_nb.__file__}, not from {os.environ['PYTHONPATH']}")
    found: dict[str, Any] = {"runs": {}, "tables": {}}
    for number, run in enumerate(runs):
        folder = tsae_nb.evaluate_again(run, out=f"measured-{number}", quiet=True)
        found["runs"][str(run)] = {"sae": tsae_nb.load_sae(run / "sae").content_hash(), **values_of(folder, names)}
        print(f"measured {run}", file=sys.stderr, flush=True)
    for folder in figures:
        tsae_nb.draw(folder, "figures")
        found["tables"] |= {name: Path("figures", name).read_text() for name in TABLES}
    out.write_text(json.dumps(found))


def measured(sources: Path, runs: Sequence[Path], figures: Sequence[Path]) -> dict[str, Any]:
    """What the sources in a folder give."""
    with tempfile.TemporaryDirectory() as place:  # caches are filled anew
        environment = {**os.environ, "PYTHONPATH": str(sources), "TSAE_PICTURES": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, *map(str, runs), "--measure", str(Path(place, "values.json"))]
        command += [word for folder in figures for word in ("--figures", str(folder))]
        command += [word for name in result_files() for word in ("--result", name)]
        if subprocess.run(command, cwd=place, env=environment, stdout=sys.stderr).returncode:
            sys.exit(f"measuring with the sources in {sources} failed (see above)")
        values: dict[str, Any] = json.loads(Path(place, "values.json").read_text())
    return values


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the sources of a commit; that folder itself where it is one."""
    if Path(commit).is_dir():
        yield Path(commit).resolve()
        return
    with tempfile.TemporaryDirectory() as place:
        archive = subprocess.run(["git", "archive", commit, "tsae_nb"], cwd=ROOT, capture_output=True)
        if archive.returncode:
            sys.exit(f"{commit} is neither a commit nor a folder: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)
        yield Path(place)


# -- comparing ---------------------------------------------------------------------------------------------------------

def apart(expected: Values, given: Values, limit: int = 5) -> list[str]:
    """`name: expected → given` of each value that is not the same to the last bit, at most `limit` of them."""
    names = [name for name in dict.fromkeys([*expected, *given]) if name not in expected or name not in given
             or type(expected[name]) is not type(given[name]) or expected[name] != given[name]]
    shown = [f"{name}: {expected.get(name, 'nothing')} → {given.get(name, 'nothing')}" for name in names[:limit]]
    return shown + ([f"and {len(names) - limit} more values"] if len(names) > limit else [])


def with_sae(folders: Sequence[Path]) -> list[Path]:
    """The complete runs at or below folders whose SAE is there."""
    found = {path.parent.parent.resolve() for folder in folders for path in folder.rglob("sae/sae.json")}
    return sorted(run for run in found if (run / "manifest.json").is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="default: those of runs/reference")
    parser.add_argument("--commit", help="compare with the sources of this commit, or in this folder")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--figures", type=Path, action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--result", action="append", default=[], help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.measure is not None:
        measure(chosen.runs, chosen.figures, chosen.result, chosen.measure)
        return 0
    runs, figures = with_sae(chosen.runs or [REFERENCE]), [] if chosen.runs else [FIGURES]
    if not runs:
        sys.exit(f"there is no complete run with an SAE below {', '.join(map(str, chosen.runs or [REFERENCE]))}")
    given = measured(ROOT, runs, figures)
    if chosen.commit is not None:
        with checked_out(chosen.commit) as sources:
            expected = measured(sources, runs, figures)
    else:
        tables = {name: (ROOT / "figures" / name).read_text() for name in TABLES if figures}
        expected = {"runs": {str(run): stored_values(run) for run in runs}, "tables": tables}
    differing = 0
    for run, values in expected["runs"].items():
        found = apart(values, given["runs"][run])
        differing += bool(found)
        print(f"{run}: {'differs' if found else f'{len(values)} values are the same'}", *found, sep="\n  ")
    for name, table in expected["tables"].items():
        same = table == given["tables"].get(name)
        differing += not same
        print(f"{name}: {'is the same' if same else 'differs'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
