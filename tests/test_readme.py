"""Every command line of the README as it stands there, shortened by settings; each that makes something, twice"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tsae_nb.cli import main
from tsae_nb.corpus import world_documents
from tsae_nb.world import World

pytestmark = pytest.mark.usefixtures("without_chrome")
ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = ("training.steps=3", "training.rows_per_batch=8", "data.rows=64", "data.evaluation_rows=16",
            "sae.dictionary_size=64", "activations.calibration_rows=16")
SHORT = [part for setting in SETTINGS for part in ("--set", setting)]
ASKED = ["--set", "unlearning.forget_corpus.rows=64", "--set", "unlearning.retain_corpus.rows=64"]
YAML = "-y '{variants: {topk: {}}, training: {steps: 3, rows_per_batch: 8}, data: {rows: 64, evaluation_rows: 16}}'"

RUN = {  # the beginning of a line: what is added to shorten it, or instead of a person's answer
    "tsae run runs/own.yaml": ["--set", "sae.sparse_code.active=8", *SHORT],
    "tsae list runs/own": [],
    "tsae figures runs/own": [],
    "tsae run tiny --variants topk,temporal": [*SHORT, *ASKED],
    "tsae sweep tiny --seeds 0,1,2": ["--variants", "topk", "--seeds", "0,1", *SHORT, *ASKED],
    "tsae run tiny --variants topk --resolve": [],
    "tsae list": [],
    "tsae compare": [],
    "tsae evaluate": ["--set", "data.evaluation_rows=32"],
    "tsae figures": [],
    "tsae export": [],
    "tsae inspect": [],
    "tsae import": [],
    "tsae store": SHORT,
    "tsae run tiny --variants topk --name again": [
        part for setting in SETTINGS if not setting.startswith("data.") for part in ("--set", setting)],
    "tsae verify runs": [],
    "tsae remove": ["--yes"],
    "tsae cache --empty": ["--yes"],
    "papermill nbs/experiments/run_variants.ipynb out.ipynb": ["-p", "name", "by-hand", *shlex.split(YAML)],
    "papermill nbs/experiments/figures.ipynb": [],
}
ONCE = ("tsae remove", "tsae cache")  # the second time there is nothing left
ELSEWHERE = {  # a whole line: why it is not run here
    "make reproduce": "test_ways runs its lines twice",
    "make test": "it is what runs this",
    "make gemma": "test_preset runs its file on a pretend GPU",
    "make gemma-ablations": "test_commands reads its file; it is the preset's setting",
    "papermill nbs/experiments/run_variants.ipynb gemma.ipynb -f runs/gemma-2-2b.yaml": "as make gemma",
    "pip wheel --no-deps --wheel-dir dist .": "test_wheel builds it, without network",
    "pip install torch --index-url https://download.pytorch.org/whl/cpu": "needs network",
    'pip install "tsae_nb[lab] @ file://$PWD/dist/tsae_nb-0.1.0-py3-none-any.whl"': "test_wheel installs it so",
    "tsae run": "the notebook of the command line runs it",
    "tsae sweep tiny --seeds 0,1,2 --gpus 0,1": "test_slurm sweeps over pretend GPUs",
    'tsae sweep tiny --seeds 0,1,2 --slurm --sbatch="--time=4:00:00 --gres=gpu:1"': "test_slurm does it",
    "tsae run tiny": "as tsae run tiny --variants topk,temporal, for minutes",
    "tsae lab": "test_wheel opens it",
}


def lines() -> list[str]:
    """The command lines of the README's shell blocks, without comments."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found.append(re.sub(r"\s+", " ", re.sub(r"\s+#.*$", "", line)).strip())
    return found


def added(line: str) -> list[str] | None:
    """What shortens a line: of the longest beginning that is known; None for one that is tested elsewhere."""
    if line in ELSEWHERE:
        return None
    known = [beginning for beginning in RUN if line == beginning or line.startswith(f"{beginning} ")]
    assert known, f"the README has a line that no test knows: {line}"
    return RUN[max(known, key=len)]


def test_the_lines_are_known_and_those_known_are_there() -> None:
    there = lines()
    for line in there:
        added(line)
    assert set(ELSEWHERE) <= set(there)
    assert all(any(line.startswith(beginning) for line in there) for beginning in RUN)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a checkout has it, with a model and a text as somebody may have them."""
    (tmp_path / "runs").mkdir()
    for file in (ROOT / "runs").glob("*.yaml"):
        shutil.copy(file, tmp_path / "runs")
    (tmp_path / "nbs").symlink_to(ROOT / "nbs")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(ROOT / "tsae_nb" / "embedded")
    stories = (json.dumps({"text": text}) + "\n" for _, text in world_documents(0, "train", 200))
    (tmp_path / "path" / "to" / "stories.jsonl").write_text("".join(stories))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def do(line: str, more: list[str]) -> None:
    """Run a line: `tsae` in this process, as torch is imported here already."""
    program, *arguments = shlex.split(line)
    if program == "tsae":
        assert main([*arguments, *more]) == 0, line
        return
    command = [str(Path(sys.executable).with_name(program)), *arguments, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}: {done.stderr[-3000:]}"


def test_the_lines_do_what_they_say_and_again(place: Path) -> None:
    """In the order of the work: what is made is there before it is looked at, and removed last."""
    chosen = {line: more for line in dict.fromkeys(lines()) if (more := added(line)) is not None}
    order = ("store", "run", "sweep", "evaluate", "compare", "list", "figures", "export", "inspect", "import", "verify",
             "remove", "cache")
    words = {line: "import" if "--sae" in line else line.split()[1] for line in chosen}
    rank = {line: order.index(words[line]) if line.startswith("tsae") else 5.5 for line in chosen}
    for line in sorted(chosen, key=lambda line: rank[line]):
        if "gemma" in line:  # the preset's figures, of the runs that are here
            do(line.replace("runs/gemma-2-2b", "runs/tiny"), chosen[line])
            continue
        do(line, chosen[line])
        if not line.startswith(ONCE):
            do(line, chosen[line])
        if line.startswith("tsae verify"):  # everything stands, before it is removed
            made = ("own/topk/sae", "tiny/figures/figure2.html", "tiny/topk.evaluated/evaluation.json",
                    "tiny/topk.saelens/cfg.json", "tiny/topk.html", "imported/sae.json",
                    "tiny/topk.imported/evaluation.json", "tiny/topk-seed1", "by-hand/topk")
            same = [json.loads(Path("runs", of, "topk", "sae", "sae.json").read_text()) for of in ("tiny", "again")]
            assert same[0]["content_hash"] == same[1]["content_hash"]
            assert [path for path in made if not (place / "runs" / path).exists()] == []
            python()
    assert not (place / "runs" / "tiny" / "topk").exists() and (place / "runs" / "tiny" / "topk-seed1").exists()


def test_a_subject_of_ones_own_is_asked_as_the_page_says(place: Path) -> None:
    block, = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (place / "mine.yaml").write_text(block, encoding="utf-8")
    with open(place / "places.csv", "w", newline="", encoding="utf-8") as file:
        for one in World().questions("geography")[:40]:
            csv.writer(file).writerow([one.question, *one.choices, "ABCD"[one.answer]])
    do("tsae run mine.yaml", [*SHORT, "--set", "unlearning.retain_corpus.rows=64"])
    found = json.loads((place / "runs" / "mine" / "topk" / "unlearning.json").read_text())
    assert found["questions"]["places"]["asked"] == 40 and found["questions"]["places"]["qualifying"] > 20


def python() -> None:
    """The README's Python."""
    block, = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    found: dict[str, object] = {}
    exec(block, found)
    assert tuple(found["codes"].shape[::2]) == (1, 64)  # type: ignore[attr-defined]
