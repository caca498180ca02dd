"""README, figures and claims agree with the stored reference, which is made whole or not at all"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import reference  # noqa: E402
import trials  # noqa: E402

from tsae_nb import runs as library  # noqa: E402
from tsae_nb import storage  # noqa: E402
from tsae_nb.cli import main  # noqa: E402
from tsae_nb.config import UserError, read_yaml  # noqa: E402
from tsae_nb.experiments import expand  # noqa: E402
from tsae_nb.packed import file_content, pack_runs, read_frame  # noqa: E402
from tsae_nb.run_folders import check_files, summaries  # noqa: E402
from tsae_nb.storage import read_json, write_json  # noqa: E402
from tsae_nb.views import figures  # noqa: E402

SHORT = """
name: {name}
variants: {{{variants}}}
data: {{rows: 64, evaluation_rows: 16}}
activations: {{calibration_rows: 16}}
sae: {{dictionary_size: 64}}
training: {{steps: 12, rows_per_batch: 4}}
unlearning: {{forget_corpus: {{rows: 32}}, retain_corpus: {{rows: 32}}, retain_thresholds: [0.01], feature_counts: [2],
  multipliers: [20.0], bootstrap: 10}}
"""


def test_readme_figures_and_claims_say_what_the_stored_runs_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert reference.check(ROOT) == []


def stored_copy(folder: Path) -> Path:
    """The stored runs, README and tables, as somebody may change them."""
    (folder / "runs" / "reference").mkdir(parents=True)
    (folder / "runs" / "reference" / "tiny").symlink_to(ROOT / "runs" / "reference" / "tiny")
    (folder / "figures").mkdir()
    for file in ("README.md", "figures/figure1.csv", "figures/figure2.csv", "figures/figure4.csv"):
        shutil.copy(ROOT / file, folder / file)
    return folder


def test_packed_runs_are_what_their_hashes_say_and_so_are_the_tables(tmp_path: Path) -> None:
    runs = reference.runs_below(ROOT / reference.STORED)
    packed = {name: run for name, run in runs.items() if not run.is_dir()}
    assert len(runs) > 80 and len(runs) - len(packed) == 2
    for name in ("tiny/baseline", "ablations/dictionary-2048-seed1"):
        check_files(packed[name], ("config.yaml", "manifest.json", "metrics.jsonl", *reference.FILES))
    place, part = tmp_path / reference.STORED, Path("tiny") / "tables"
    shutil.copytree(ROOT / reference.STORED / "tiny", place / "tiny")
    assert storage.read_json(place / "tiny" / "baseline" / "evaluation.json")["l0"] > 100
    table = place / part / "evaluation.json.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    with pytest.raises(UserError, match="tables/evaluation.json.parquet is damaged"):
        storage.read_json(place / "tiny" / "baseline" / "evaluation.json")
    assert [path for path, _ in storage.verify(place)] == [table]
    assert {run.state for run in summaries(place / "tiny") if not run.folder.is_dir()} == {"damaged"}


def test_a_packed_frame_whose_columns_are_told_wrongly_is_damaged(tmp_path: Path) -> None:
    shutil.copytree(ROOT / reference.STORED / "tiny" / "tables", tmp_path / "tables")
    table = tmp_path / "tables" / "unlearning.parquet"
    assert table.read_bytes().count(b"pandas_type") > 1
    table.write_bytes(table.read_bytes().replace(b"pandas_type", b"pandas_typo"))
    with pytest.raises(ValueError, match="unlearning.parquet is damaged, in topk-seed1"):
        read_frame(tmp_path / "topk-seed1" / "unlearning.parquet")


def test_what_packed_runs_do_not_have_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / reference.STORED / "tiny", tmp_path / "tiny")
    run, tables = tmp_path / "tiny" / "topk-seed1", tmp_path / "tiny" / "tables"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for command, said in ((("remove", run, "--yes"), "it is in the tables beside it, which are left as they are"),
                          (("export", run), "without its SAE"), (("evaluate", run), "without its SAE")):
        assert main([*map(str, command)]) == 2
        assert said in capsys.readouterr().err
    assert main(["verify", str(tables)]) == 0 and "topk-seed1" in {run.name for run in summaries(tables)}
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_runs_packed_again_give_the_same_bytes(tmp_path: Path) -> None:
    source, again = ROOT / reference.STORED / "tiny", tmp_path / "again"
    names = (*reference.KEPT, "metrics.jsonl", storage.MANIFEST)
    folders = [tmp_path / run for run in ("baseline", "adversarial-seed2")]
    for folder in folders:
        folder.mkdir()
        for name in names:
            if name.endswith(".parquet"):
                read_frame(source / folder.name / name).to_parquet(folder / name, index=False)
            else:
                (folder / name).write_bytes(file_content(source / folder.name / name))
    for order, place in ((folders, tmp_path / "one"), (folders[::-1], again)):
        pack_runs(order, names, place)
    for table in (again / "tables").iterdir():
        assert table.read_bytes() == (tmp_path / "one" / "tables" / table.name).read_bytes()
    for folder in folders:
        for name in names:
            if not name.endswith(".parquet"):
                assert file_content(again / folder.name / name) == (folder / name).read_bytes()


MOST = 20_000_000  # bytes of files and history: a copy of it is quick, and a page of it opens


def test_a_shallow_clone_stays_small(tmp_path: Path) -> None:
    """What is committed counts: files that do not compress count twice, in the tree and in the history's pack."""
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("no repository: nothing says which files are the project's")
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", "clone"], cwd=tmp_path, check=True)
    sizes = {path: path.stat().st_size for path in (tmp_path / "clone").rglob("*") if path.is_file()}
    largest = sorted(sizes, key=lambda path: -sizes[path])[:4]
    assert sum(sizes.values()) <= MOST, f"{sum(sizes.values())} bytes; the largest: {', '.join(map(str, largest))}"


def test_a_number_typed_into_readme_or_figures_is_found(tmp_path: Path) -> None:
    place = stored_copy(tmp_path)
    assert reference.check(place) == []
    table = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "| topk |" in line)
    for file, number in (("README.md", table), ("figures/figure1.csv", "1a,topk"), ("figures/figure2.csv", "topk,1,0"),
                         ("figures/figure4.csv", "topk,1,0")):
        before = (place / file).read_text(encoding="utf-8")
        (place / file).write_text(before.replace(number, number.replace("topk", "topk 2"), 1), encoding="utf-8")
        assert [said.split(":")[0] for said in reference.check(place)] == [file]
        (place / file).write_text(before, encoding="utf-8")


def test_a_sentence_of_older_measurements_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert reference.shown_apart() == []
    numbers = storage.read_json

    def changed(path: Path) -> Any:
        found = numbers(path)
        return found | {"features": 7} if Path(path).name == "explorer_latency.json" else found

    monkeypatch.setattr(storage, "read_json", changed)
    found, = reference.shown_apart()
    assert "explorer_latency.json" in found


# -- making one, of two small experiments, in a repository of its own --------------------------------------------------

def in_this_process(
    experiment: Mapping[str, Any], file: Path, processes: int, root: Path, extra: Sequence[str] = ()
) -> None:
    """As `sweep`, without a process and a notebook for each run."""
    assert read_yaml(file)["name"] == experiment["name"] and extra == []
    library.execute(expand(experiment), root, quiet=True)


COMMAND = reference.command


def claims_only(*arguments: Any) -> None:
    """The papermill of the claims is run; what renders the README, which this project has not, is not."""
    if arguments[0] == "-m":
        COMMAND(*arguments)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project at a commit, with the reference of earlier days: a run that nobody makes any more."""
    folder = (tmp_path / "project").resolve()
    (folder / "nbs" / "experiments").mkdir(parents=True)
    shutil.copy(ROOT / "nbs" / "experiments" / "claims.ipynb", folder / "nbs" / "experiments")
    shutil.copy(ROOT / ".gitignore", folder)
    old = folder / "runs" / "reference" / "tiny" / "old"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{}")
    (folder / "runs" / "reference" / "soak.json").write_text("{}")
    (folder / "runs" / "tiny.yaml").write_text(SHORT.format(name="tiny", variants="topk: {}"))
    (folder / "runs" / "ablations.yaml").write_text(SHORT.format(name="ablations", variants="small: {base: topk}"))
    own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for words in (["init", "-q"], ["add", "-A"], [*own, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def work_in(repository: Path, patch: pytest.MonkeyPatch) -> None:
    """The tool works in that project, and without Chrome."""
    for module in (reference, trials):
        patch.setattr(module, "ROOT", repository)
    patch.setattr(reference, "sweep", in_this_process)
    patch.setattr(library, "_git_commit", lambda: trials.git("rev-parse", "HEAD"))
    for module in (reference, figures):
        patch.setattr(module, "find_chrome", lambda: None)
    patch.setattr(reference, "SEEDS", (0, 1))
    patch.setattr(reference, "command", claims_only)
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.chdir(repository)


@pytest.fixture
def project(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work_in(repository, monkeypatch)
    return repository


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which it does not begin."""
    capsys.readouterr()
    assert reference.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def stored(project: Path) -> dict[str, bytes]:
    """All that is stored, by name of file."""
    folders = (project / "runs" / "reference", project / "figures")
    return {str(path.relative_to(project)): path.read_bytes() for folder in folders for path in folder.rglob("*")
            if path.is_file()}


def killed(project: Path, where: str) -> None:
    """The tool, in a process of its own, is killed there; no fork of this one, whose threads it would not have."""
    code = f"from test_reference import *; die_at({where!r}, Path({str(project)!r}))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def die_at(where: str, repository: Path) -> None:
    """Make the reference, until the function of that name is called; `sweep`: with the ablations."""
    patch = pytest.MonkeyPatch()
    work_in(repository, patch)
    before = getattr(reference, where)

    def called(given: Any, *rest: Any) -> None:
        if where == "sweep" and given["name"] != "ablations":
            return before(given, *rest)
        os.kill(os.getpid(), signal.SIGKILL)

    patch.setattr(reference, where, called)
    reference.main([])


def test_killed_anywhere_it_goes_on_and_nothing_is_in_place_before_all_is(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, work = stored(project), project / reference.WORK
    killed(project, "sweep")  # when the first experiment is made
    first = (work / "runs" / "tiny" / "topk" / "manifest.json").read_bytes()
    assert stored(project) == before and not trials.changed(untracked=True)
    killed(project, "command")  # when all runs are made
    assert stored(project) == before and not trials.changed(untracked=True)
    with monkeypatch.context() as patch:  # when half is in place
        places = iter([reference.put_in_place, interrupted])
        patch.setattr(reference, "put_in_place", lambda new, place: next(places)(new, place))
        assert reference.main([]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (project / reference.STORED / "reference.json").exists() and trials.changed(untracked=True)
    assert reference.main([]) == 0, capsys.readouterr().out
    names = [f"{part}/{variant}{seed}" for part, variant in (("ablations", "small"), ("tiny", "topk"))
             for seed in ("", "-seed1")]
    summary = read_json(project / reference.STORED / "reference.json")
    assert sorted(summary["runs"]) == names and summary["commit"] == trials.git("rev-parse", "HEAD")
    assert set(summary) >= {"date", "machines", "versions", "command", "seconds", "files"}
    assert {*(f"figures/figure{n}.csv" for n in (1, 2, 4)), "runs/reference/claims.ipynb"} <= set(summary["files"])
    now = stored(project)
    assert now["runs/reference/tiny/topk/manifest.json"] == first  # what was made is not made again
    folders = {name for name, run in reference.runs_below(project / reference.STORED).items() if run.is_dir()}
    assert folders <= {"tiny/topk", "tiny/topk-seed1"}  # the second where it has the highest score
    assert not any("/old/" in name or name.endswith("partial") for name in now) and "runs/reference/soak.json" in now
    assert str(tmp_path) not in "".join(content.decode(errors="replace") for content in now.values())
    compared(project)


def interrupted(*arguments: Any) -> None:
    raise KeyboardInterrupt


def compared(project: Path) -> None:
    """Whatever is changed afterwards in what is stored, or in the files of experiments, is named."""
    assert reference.check(project) == []
    folder = project / reference.STORED
    claims = next(line for line in (folder / "claims.ipynb").read_text(encoding="utf-8").splitlines()
                  if "topk: 0" in line and "<td>" in line)
    changes = {  # file: text in it, another; what is said
        folder / "tiny/topk/evaluation.json": ('"l0": ', '"l0": 1', "tiny/topk holds other files"),
        folder / "tiny/topk/manifest.json": ('"git_commit": "', '"git_commit": "0', "tiny/topk is of commit 0"),
        folder / "claims.ipynb": (claims, claims.replace("topk: 0", "topk: 7"), "it says ['topk: 7"),
        project / "runs/tiny.yaml": ("steps: 12", "steps: 13",
                                     "training.steps: 12 → 13 (stored → today), in tiny/topk, tiny/topk-seed1"),
        project / "runs/ablations.yaml": ("small:", "large:", "ablations/large, ablations/large-seed1 are in today's"),
        project / "figures/figure1.csv": ("1a,", "1b,", "figures/figure1.csv: its numbers"),
        folder / "reference.json": ('"tiny/topk":', '"tiny/top":', "tiny/top is missing"),
    }
    for path, (old, new, said) in changes.items():
        before = path.read_text(encoding="utf-8")
        assert old in before, path
        path.write_text(before.replace(old, new, 1), encoding="utf-8")
        found = reference.check(project)
        assert any(said in one for one in found), (path, found)
        path.write_text(before, encoding="utf-8")
    assert reference.check(project) == []


def test_a_tree_that_is_not_a_commit_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "runs" / "mine").mkdir()
    (project / "runs" / "mine" / "ignored.txt").write_text("")
    (project / "notes.txt").write_text("")
    assert "These do: notes.txt" in refused(capsys)
    (project / "notes.txt").unlink()
    (project / "runs" / "tiny.yaml").write_text("variants: {topk: {}}")
    assert "commit them" in (said := refused(capsys)) and "runs/tiny.yaml" in said
    assert not (project / reference.WORK).exists()


def test_runs_that_do_not_belong_together_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "sweep", lambda *arguments: None)
    assert reference.main(["--parts", "tiny"]) == 0
    assert "4 runs are left for another time, tiny/topk" in capsys.readouterr().out
    commit, run = trials.git("rev-parse", "HEAD"), project / reference.WORK / "runs" / "tiny" / "topk"
    run.mkdir(parents=True)
    write_json(run / "manifest.json", {"git_commit": commit + "+", "versions": {"torch": "1"}})
    assert f"tiny/topk is of commit {commit[:12]}+, not {commit[:12]}" in refused(capsys)
    write_json(run / "manifest.json", {"git_commit": commit, "versions": {"torch": "1"}})
    write_json(run.with_name("topk-seed1") / "manifest.json", {"git_commit": commit, "versions": {"torch": "2"}})
    assert "different versions of torch: 1, 2" in refused(capsys)
    assert reference.main(["--parts", "tiny", "--anew"]) == 0 and not run.exists()
    write_json(project / reference.WORK / "made_for.json", {"commit": "0", "set": [], "versions": {}})
    assert "holds work for another set (commit: '0' →" in refused(capsys) and "--anew" in refused(capsys)


def test_what_would_be_lost_or_stay_old_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index = project / "runs" / "reference" / "tiny" / "old" / "index"
    index.mkdir()
    for name in ("labels.json", "place.json", "explanations-1a2b3c4d.json"):
        (index / name).write_text("{}")
        assert f"{name} tells of features of an SAE that is about to be replaced" in refused(capsys)
        (index / name).unlink()
    monkeypatch.setattr(reference, "changed", lambda *apart, untracked: [])
    (project / "figures").mkdir()
    (project / "figures" / "figure1.png").write_text("")
    assert "install Chrome" in refused(capsys)
    with pytest.raises(SystemExit) as caught:
        reference.main(["--set", "training.steps=3"])
    assert caught.value.code == 2 and "give --out FOLDER" in capsys.readouterr().err
