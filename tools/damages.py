"""One bit, or a cut, in any kind of file that is kept: what readers and unfinished work make of it.

Whatever is damaged has to be named, or made again, or be without influence.
"""

import contextlib
import io
import os
import random
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsae_nb import runs, training
from tsae_nb.config import UserError
from tsae_nb.evaluation import unlearning
from tsae_nb.foundation import content_hash
from tsae_nb.interop import FORMATS, export_sae, import_sae
from tsae_nb.run_folders import open_run, stored_runs, summaries
from tsae_nb.sae import load_sae
from tsae_nb.storage import verify
from tsae_nb.training import open_checkpoint
from tsae_nb.views import index_build
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.training_monitor import TrainingMonitor
from tsae_nb.views.unlearning_explorer import UnlearningExplorer

RUN = Path("runs") / "k" / "topk"
EXPORTS = [name for name, form in FORMATS.items() if form.write is not None]


def _index(folder: Path) -> Any:
    index = FeatureIndex.of_run(folder)
    arrays = [content_hash(np.asarray(index.arrays.get(name))) for name in sorted(index.manifest["arrays"])]
    return arrays, dict(index.labels), index.arrays.vocabulary[:], index.features.to_csv(), index.manifest


def _monitor(folder: Path) -> Any:
    monitor = TrainingMonitor(folder)
    monitor.look()
    rows = [run.row(monitor.places[name]) for name, run in monitor.runs.items()]
    print(*(row["alerts"] for row in rows), file=sys.stderr)
    return rows


def _list(folder: Path) -> Any:
    found = summaries(folder)
    print(*(run.reason for run in found), file=sys.stderr)
    return [(run.name, run.state, run.results) for run in found]


def _figures(folder: Path) -> Any:
    return [(dict(run.settings), run.metrics, run.evaluation, run.unlearning,
             pd.read_parquet(run.folder / "unlearning.parquet").to_csv()) for run in stored_runs(folder)]


def _checkpoint(folder: Path) -> Any:
    state, stored = open_checkpoint(folder)
    return state, sorted(stored.tensors("state.safetensors")[0])


def _verify(folder: Path) -> None:
    for path, problem in verify(folder):
        print(path, problem, file=sys.stderr)


READINGS: dict[str, Callable[[], Any]] = {
    "list": lambda: _list(Path("runs")), "figures": lambda: _figures(Path("runs")),
    "monitor": lambda: _monitor(Path("runs")), "unlearning": lambda: UnlearningExplorer(RUN)._about,
    "SAE": lambda: load_sae(RUN / "sae").content_hash(), "checkpoint": lambda: _checkpoint(RUN / "checkpoint"),
    "config": lambda: open_run(RUN).config, "index": lambda: _index(RUN), "verify": lambda: _verify(Path(".")),
    **{form: lambda form=form: import_sae(Path("exports") / form).content_hash() for form in EXPORTS},
}


def readings(place: Path) -> dict[str, list[str]]:
    """What each reader finds below a place, and what is said meanwhile: reader → [found, said, how it ended]."""
    os.chdir(place)
    found = {}
    for name, read in READINGS.items():
        said, value, ended = io.StringIO(), "", "read"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            try:
                value = repr(read())
            except UserError as error:
                ended = "refused"
                print(error, file=said)
            except BaseException:
                ended = "traceback"
                traceback.print_exc(file=said)
        found[name] = [value, said.getvalue(), ended]
    return found


def stopping(owner: Any, name: str, after: int = 1) -> None:
    """From now on the process ends when `owner.name` has been called so often; without its `finally`s."""
    plain, calls = getattr(owner, name), [0]

    def last(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        found = plain(*arguments, **options)
        if calls[0] == after:
            os._exit(0)
        return found

    setattr(owner, name, last)


def stop_writing_progress() -> None:
    """The unlearning evaluation writes its progress at once, and ends there."""
    plain = unlearning.Checkpoint.write

    def write(self: Any, clamps: Any) -> None:
        self.seconds = 0.0
        plain(self, clamps)
        os._exit(0)

    unlearning.Checkpoint.write = write  # type: ignore[method-assign]


# Where work is stopped: name → what stops the runs, or the build of the index
STOPS: dict[str, Callable[[], None]] = {
    "training": lambda: stopping(training, "write_checkpoint", 12),
    "unlearning": stop_writing_progress,
    "measured": lambda: stopping(runs, "manifest"),
    "indexing": lambda: stopping(index_build.GrowingFiles, "record"),
}


READ = {  # what is read again at a stage, and not at another just so
    "complete": "runs|exports", "unlearning": "runs|cache/unlearning", "measured": "runs",
    "indexing": r".*/\.index\.building",
}


def export_all(place: Path) -> None:
    os.chdir(place)
    for form in EXPORTS:
        export_sae(load_sae(RUN / "sae"), Path("exports") / form, form)
    index = FeatureIndex.of_run(RUN)
    index.labels.set(1, "one")
    index.labels.set(2, "two")


def kinds_of(stage: str, place: Path) -> dict[str, list[Path]]:
    """The stored files of a stage by kind: what has one name, whatever its number or hash, is one kind."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        beside = not re.match(READ.get(stage, ""), name)
        if path.is_file() and path.stat().st_size and name != "log" and not path.name.endswith(".lock") and not beside:
            kind = re.sub(r"batch_topk|topk", "RUN", re.sub(r"[0-9a-f]{32,}|\d{5}-[0-9a-f]{8}", "N", name))
            kinds.setdefault(f"{stage}: {kind}", []).append(path.relative_to(place))
    return kinds


def damage(file: Path, chance: random.Random) -> str:
    """Change one bit of a file, or cut it; says how."""
    whole, how = file.read_bytes(), chance.choice(["bit", "bit", "cut"])
    spot, bit = chance.randrange(len(whole)), chance.randrange(8)
    file.write_bytes(whole[:spot] + (bytes([whole[spot] ^ 1 << bit]) + whole[spot + 1:] if how == "bit" else b""))
    return f"{how} {bit} of byte {spot}" if how == "bit" else f"cut at {spot} of {len(whole)}"


def judged(file: Path, before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> dict[str, str]:
    """What is wrong with what readers made of a damaged file: reader → traceback or silent; and who did well, how."""
    verdicts = {}
    for reader, (value, said, ended) in now.items():
        named = file.name in said
        if ended == "traceback":
            verdicts[reader] = f"traceback: {said[-300:]}"
        elif value != before[reader][0] or ended != before[reader][2]:
            verdicts[reader] = "named" if named else f"silent: {said[-200:]!r}"
        else:
            verdicts[reader] = "named" if named and file.name not in before[reader][1] else "without influence"
    if verdicts["verify"] != "named":
        verdicts["verify"] = "silent: not found by verify"
    return verdicts
