"""Change one thing in an exported cell and see whether anything notices: the notebook's own cells, then the tests.

    python tools/mutants.py                                          10 mutants of every module: hours
    python tools/mutants.py --modules objective training --count 40  of some modules
    python tools/mutants.py --modules margin_ema --list              only say which
    python tools/mutants.py --modules margin_ema --alone             by the notebook only: minutes

Operators: another sign, constant or comparison, two arguments swapped, a statement dropped. Which mutants are tried
follows from the seed; a larger count adds to them. Each is stored when it is tried, and a module goes on where it was
stopped, as long as the commit is the same. What survives is a line of code whose meaning no assertion holds, or, now
and then, a change without an effect: those that were read stand in equivalent_mutants.yaml with a proof. A mutant that
takes longer than --limit times its notebook is killed.
"""

import argparse
import ast
import contextlib
import datetime
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from execute import DIRECTIVE
from trials import ROOT, apart, commit

from tsae_nb.config import read_yaml
from tsae_nb.processes import Terminated, terminable

RESULT = ROOT / "runs" / "reference" / "mutants.json"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.yaml")
OBJECTIVE = "tests/test_objective.py"
ODD, COMPLETE = "tests/test_odd_inputs.py", "tests/test_complete_runs.py"
TESTS: dict[str, tuple[str, ...]] = {  # start of a module's name: what checks it beside its notebook, quickest first
    "components.ranks": ("tests/test_ranks.py",),
    "components.": (OBJECTIVE,),
    "sae": (OBJECTIVE,),
    "training": (OBJECTIVE, "tests/test_resume.py"),
    "config": (OBJECTIVE, "tests/test_ways.py"),
    "experiments": ("tests/test_ways.py",),
    "foundation": (OBJECTIVE, ODD, "tests/test_storage.py"),
    "controls": ("tests/test_controls_browser.py",),
    "packed": ("tests/test_reference.py",),
    "storage": ("tests/test_storage.py",),
    "run_folders": ("tests/test_processes.py",),
    "processes": ("tests/test_processes.py",),
    "preflight": ("tests/test_starts.py",),
    "shared_training": ("tests/test_ranks.py",),
    "runs": ("tests/test_ways.py", "tests/test_commands.py"),
    "executors": ("tests/test_ways.py", "tests/test_slurm.py"),
    "slurm": ("tests/test_slurm.py",),
    "complete_runs": (COMPLETE,),
    "comparison": (ODD,),
    "cli": ("tests/test_commands.py", "tests/test_evaluations.py"),
    "entry": ("tests/test_commands.py",),
    "world": (ODD, "nbs/03_tiny_lm.ipynb", "nbs/evaluation/32_asking.ipynb", "nbs/evaluation/33_clamping.ipynb"),
    "tiny_lm": ("tests/test_wheel.py",),
    "language_model": (ODD, "nbs/05_activations.ipynb", "tests/test_starts.py", "tests/test_hub.py"),
    "corpus": (ODD, COMPLETE, "tests/test_hub.py"),
    "activations": (COMPLETE, "tests/test_commands.py"),
    "stored_activations": ("tests/test_stored.py",),
    "planted": ("nbs/evaluation/35_recovery.ipynb", "tests/test_planted.py"),
    "sources": ("tests/test_planted.py", "tests/test_stored.py"),
    "evaluation.metrics": (COMPLETE, "tests/test_commands.py"),
    "evaluation.sparse_statistics": ("nbs/views/41a_feature_index.ipynb", "tests/test_planted.py"),
    "evaluation.recovery": ("tests/test_planted.py",),
    "evaluation.oracles": ("tests/test_planted.py",),
    "evaluation.timing": ("nbs/experiments/scaling.ipynb",),
    "evaluation.questions": (ODD, "tests/test_hub.py"),
    "evaluation.asking": ("nbs/evaluation/34_unlearning.ipynb", COMPLETE),
    "evaluation.clamping": ("nbs/evaluation/34_unlearning.ipynb", COMPLETE, "tests/test_hub.py"),
    "evaluation.unlearning": (ODD, COMPLETE, "tests/test_hub.py"),
    "evaluation.evaluations": (COMPLETE, "tests/test_planted.py", "tests/test_evaluations.py"),
    "interop": (ODD, "tests/test_interop.py", "tests/test_processes.py"),
    "views.index_build": ("nbs/views/41a_feature_index.ipynb", "tests/test_storage.py", ODD),
    "views.feature_index": (ODD, "tests/test_storage.py", "tests/test_explorer_page.py",
                            "tests/test_explorer_browser.py", "tests/test_processes.py"),
    "views.time_explorer": ("tests/test_planted.py", "tests/test_explorer_browser.py"),
    "views.": (ODD, "tests/test_explorer_page.py", "tests/test_explorer_browser.py", "tests/test_processes.py"),
}
EXPORTED = re.compile(r"^#\|\s*export\s*$", re.MULTILINE)
MODULE = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.MULTILINE)
LEFT_OUT = ("__pycache__", ".git", ".venv", "cache", ".*_cache", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Mutant:
    """One change of one exported cell."""

    cell: str  # id
    line: int  # in the cell, from 1
    operator: str
    start: int  # bytes of the cell's source
    end: int
    old: str
    new: str

    @property
    def key(self) -> str:
        return f"{self.cell}:{self.start}:{self.end}:{self.new}"

    def __str__(self) -> str:
        return f"{self.operator}, cell {self.cell} line {self.line}: {self.old!r} → {self.new!r}"

    def of(self, source: str) -> str:
        text = source.encode()
        return (text[: self.start] + self.new.encode() + text[self.end :]).decode()


OTHER_SIGN = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
              ast.And: ("and", "or"), ast.Or: ("or", "and")}
OTHER_COMPARISON = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
                    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
                    ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in")}


SYMMETRIC = ("max", "min", "maximum", "minimum", "promote_types", "cosine_similarity", "addcmul_")  # in two arguments


class Finder(ast.NodeVisitor):
    """All mutants of one cell; annotations, assertions, imports and texts are left alone."""

    def __init__(self, cell: str, source: str) -> None:
        self.cell, self.text, self.found = cell, source.encode(), list[Mutant]()
        self.starts = [0]
        for line in self.text.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.visit(ast.parse(source))

    def span(self, node: ast.AST) -> tuple[int, int]:
        def place(which: str) -> int:
            return self.starts[getattr(node, which + "lineno") - 1] + int(getattr(node, which + "col_offset"))
        return place(""), place("end_")

    def add(self, operator: str, start: int, end: int, new: str) -> None:
        line, old = self.text[:start].count(b"\n") + 1, self.text[start:end].decode()
        if old != new:
            self.found.append(Mutant(self.cell, line, operator, start, end, old, new))

    def between(self, operator: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Change an operator's token, somewhere between its operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        token = re.search(rb"(?<![\w=<>!])" + re.escape(old.encode()) + rb"(?![\w=<>])", self.text[start:end])
        if token:
            self.add(operator, start + token.start(), start + token.end(), new)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OTHER_SIGN:
            self.between("sign", node.left, node.right, *OTHER_SIGN[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("comparison", left, right, *OTHER_SIGN[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        operand = self.span(node.operand)[0]
        if isinstance(node.op, ast.USub | ast.Not):
            self.add("sign" if isinstance(node.op, ast.USub) else "comparison", self.span(node)[0], operand, "")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between("comparison", left, right, *OTHER_COMPARISON[type(operator)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add("constant", *self.span(node), str(not value))
        elif isinstance(value, int):
            self.add("constant", *self.span(node), str(value + 1))
        elif isinstance(value, float):
            self.add("constant", *self.span(node), repr(2 * value or 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        starred = any(isinstance(one, ast.Starred) for one in node.args[:2])
        if len(node.args) >= 2 and name not in SYMMETRIC and not starred:
            (start, middle), (after, end) = self.span(node.args[0]), self.span(node.args[1])
            first, second = self.text[start:middle], self.text[after:end]
            if first != second:
                self.add("swapped arguments", start, end, (second + self.text[middle:after] + first).decode())
        self.generic_visit(node)

    def drop(self, node: ast.stmt) -> None:
        self.add("dropped statement", *self.span(node), "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Yield):
            self.drop(node)
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.drop(node)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(one, ast.Name) for target in node.targets for one in ast.walk(target)
                   if isinstance(getattr(one, "ctx", None), ast.Store)):
            self.drop(node)  # without a plain name it would only be missing further down
        self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.drop(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Assert  # type: ignore[assignment]


@dataclass
class Notebook:
    """A notebook that exports a module."""

    path: Path
    module: str
    cells: list[Any]  # code cells that a test runs

    @classmethod
    def all(cls) -> dict[str, "Notebook"]:
        found = {}
        for path in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb")):
            cells = [cell for cell in nbformat.read(path, as_version=4).cells
                     if cell.cell_type == "code" and not DIRECTIVE.search(cell.source)
                     and "nbdev_export(" not in cell.source]
            names = [match[1] for cell in cells if (match := MODULE.search(cell.source))]
            if names:
                found[names[0]] = cls(path, names[0], cells)
        return found

    def mutants(self) -> list[Mutant]:
        exported = [cell for cell in self.cells if EXPORTED.search(cell.source)]
        return [one for cell in exported for one in Finder(cell.id, cell.source).found]

    def chosen(self, count: int, seed: int) -> list[Mutant]:
        """The first `count` of a seeded order."""
        every = self.mutants()
        random.Random(f"{seed} {self.module}").shuffle(every)
        return every[:count]

    def proof(self, mutant: Mutant) -> str | None:
        """Why a mutant has no effect, where somebody has shown it for this very line."""
        cell = next(cell for cell in self.cells if cell.id == mutant.cell)
        line = cell.source.splitlines()[mutant.line - 1].strip()
        return next((one["proof"] for one in read_yaml(EQUIVALENT).get(self.module, [])
                     if (one["line"], one["old"], one["new"]) == (line, mutant.old, mutant.new)), None)

    @property
    def tests(self) -> tuple[str, ...]:
        return next((files for start, files in TESTS.items()
                     if self.module == start or (start.endswith(".") and self.module.startswith(start))), ())


def end_group(process: int) -> None:
    """Kill what a process of its own session has left, itself included."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def ended(process: int, seconds: float) -> str:
    """`good` or `bad`, or `late` for a process that had to be killed; what it started ends with it."""
    until, done, status = time.monotonic() + seconds, 0, 0
    try:
        while not done and time.monotonic() < until:
            done, status = os.waitpid(process, os.WNOHANG)
            time.sleep(0 if done else 0.02)
    finally:
        end_group(process)
        if not done:
            os.waitpid(process, 0)
    return "late" if not done else "good" if status == 0 else "bad"


@contextlib.contextmanager
def undone(place: Path) -> Iterator[None]:
    """Whatever is written, changed or removed below a folder meanwhile is as it was afterwards, by the same inodes."""
    aside, over = place.with_name(f"{place.name}.aside"), place.with_name(f"{place.name}.over")
    place.rename(aside)
    try:
        subprocess.run(["cp", "-a", aside, place], check=True)  # pipes too
        yield
    finally:
        place.rename(over)
        aside.rename(place)
        shutil.rmtree(over, ignore_errors=True)


class Kernel:
    """The notebook as `nbdev_test` runs it, cell by cell."""

    def __init__(self, notebook: Notebook) -> None:
        from execnb.shell import CaptureShell

        os.chdir(notebook.path.parent)
        self.shell = CaptureShell(notebook.path)

    def run(self, *sources: str) -> None:
        """Raises what the first failing cell raises."""
        for source in sources:
            error = self.shell.run_cell(source).exception
            if error is not None:
                raise error


def on_notebook(
    notebook: Notebook, mutants: Sequence[Mutant], folder: Path, limit: float
) -> Iterator[tuple[Mutant | None, str, float]]:
    """(None, how the notebook itself ended, its seconds), then the same of each mutant that its cells were tried on.

    The cells before a mutant run once, in one process; from there a fork runs the rest with the change in it. What the
    fork leaves in temporary folders is undone: no other mutant meets the cache of this one.
    """
    reading, writing = os.pipe()

    temporary = folder / "tmp"

    def work() -> None:
        out = os.fdopen(writing, "w", buffering=1)
        kernel = Kernel(notebook)
        began = time.monotonic()
        with undone(temporary):
            whole = apart(lambda: kernel.run(*(cell.source for cell in notebook.cells)), folder / "log")
            outcome = ended(whole, 3600)
        seconds = time.monotonic() - began
        out.write(json.dumps([None, outcome, seconds]) + "\n")
        last = max((place for place, cell in enumerate(notebook.cells) if any(one.cell == cell.id for one in mutants)),
                   default=0)
        for place, cell in enumerate(notebook.cells):
            for number, one in enumerate(mutants):
                if one.cell == cell.id and outcome == "good":
                    sources = [one.of(cell.source), *(later.source for later in notebook.cells[place + 1 :])]
                    start = time.monotonic()
                    with undone(temporary):
                        said = ended(apart(partial(kernel.run, *sources), folder / "log"), 10 + limit * seconds)
                    out.write(json.dumps([number, said, time.monotonic() - start]) + "\n")
            if outcome != "good" or place == last:
                return
            kernel.run(cell.source)

    process = apart(work, folder / "log")
    os.close(writing)
    try:
        with os.fdopen(reading) as lines:
            for line in lines:
                number, outcome, seconds = json.loads(line)
                yield None if number is None else mutants[number], outcome, seconds
    except BaseException:
        os.kill(process, signal.SIGTERM)  # it ends the mutant under way
        raise
    finally:
        os.waitpid(process, 0)


class Copy:
    """A copy of the project, in which a mutant is exported and tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def export(self, notebook: Notebook, mutant: Mutant | None) -> None:
        """The notebook, with the mutant, and the module made of it."""
        from nbdev.export import nb_export

        path = self.folder / notebook.path.relative_to(ROOT)
        content = nbformat.read(notebook.path, as_version=4)
        for cell in content.cells:
            if mutant is not None and cell.id == mutant.cell:
                cell.source = mutant.of(cell.source)
        nbformat.write(content, path)
        os.chdir(self.folder)
        nb_export(str(path), lib_path=str(self.folder / "tsae_nb"))

    def notices(self, tests: Sequence[str], seconds: float) -> tuple[str | None, float]:
        """(the first of the test files and notebooks that fails, or None; seconds)."""
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        began = time.monotonic()
        for test in tests:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
            if test.endswith(".ipynb"):
                command = [str(Path(sys.executable).with_name("nbdev_test")), "--path", test]
            with open(self.folder / "log", "w") as log:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                bad = process.wait(seconds) != 0
            except subprocess.TimeoutExpired:
                bad = True
            finally:
                end_group(process.pid)
                process.wait()
            if bad:
                return test, time.monotonic() - began
        return None, time.monotonic() - began


def store(result: Path, known: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    temporary = result.with_name(result.name + ".partial")
    temporary.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(result)


def tried(notebook: Notebook, chosen: argparse.Namespace, now: str, folder: Path, copy: Copy) -> bool:
    """Try what is left of a module's mutants and store each; False where module or tests fail without a mutant."""
    known = json.loads(chosen.result.read_text(encoding="utf-8")) if chosen.result.is_file() else {"modules": {}}
    tests = () if chosen.alone else notebook.tests
    fresh = {"commit": now, "seed": chosen.seed, "tests": list(tests), "mutants": {}}
    module = known["modules"].get(notebook.module, fresh)
    if any(module[name] != fresh[name] for name in ("commit", "seed", "tests")) or now.endswith("+"):
        module = fresh  # files that differ from a commit are not known by it
    known["modules"][notebook.module] = module
    mutants = notebook.chosen(chosen.count, chosen.seed)
    left = [one for one in mutants if one.key not in module["mutants"]]
    passed: dict[Mutant, float] = {}  # of those that the notebook let pass, the seconds it took

    def keep(mutant: Mutant, by: str | None, seconds: float) -> None:
        proof = None if by else notebook.proof(mutant)
        module["mutants"][mutant.key] = {
            "operator": mutant.operator, "line": mutant.line, "old": mutant.old, "new": mutant.new,
            "killed_by": by, "seconds": round(seconds, 1), **({"equivalent": proof} if proof else {})}
        found = module["mutants"].values()
        killed, equivalent = (sum(bool(one.get(name)) for one in found) for name in ("killed_by", "equivalent"))
        module.update({"possible": len(notebook.mutants()), "tried": len(found), "killed": killed,
                       "equivalent": equivalent, "rate": round(killed / max(len(found) - equivalent, 1), 3),
                       "date": datetime.date.today().isoformat()})
        store(chosen.result, known)
        fate = f"killed by {by}" if by else f"equivalent ({proof})" if proof else "SURVIVED"
        print(f"{fate}: {mutant}", flush=True)

    for mutant, outcome, seconds in on_notebook(notebook, left, folder, chosen.limit) if left else ():
        if mutant is None:
            print(f"{notebook.module}: {len(left)} mutants to try, the notebook takes {seconds:.0f} s", flush=True)
            if outcome != "good":
                said = (folder / "log").read_text(errors="replace")[-2000:]
                print(f"{notebook.module}: the notebook fails without a mutant:\n{said}", file=sys.stderr)
                return False
        elif outcome == "good":
            passed[mutant] = seconds
        else:
            keep(mutant, "notebook" if outcome == "bad" else "time", seconds)
    took = 0.0
    if passed and tests:  # how long they take, and that they pass without a mutant
        copy.export(notebook, None)
        failing, took = copy.notices(tests, 3600)
        if failing is not None:
            print(f"{notebook.module}: {failing} fails without a mutant", file=sys.stderr)
            return False
    for mutant, seconds in passed.items():
        by, more = None, 0.0
        if tests:
            exported = ended(apart(partial(copy.export, notebook, mutant), folder / "log"), 300)
            assert exported == "good", (folder / "log").read_text(errors="replace")[-2000:]
            by, more = copy.notices(tests, 10 + chosen.limit * took)
        keep(mutant, by, seconds + more)
    if passed and tests:  # the next module's tests must not meet this one's last mutant
        copy.export(notebook, None)
    if "rate" in module:
        print(f"{notebook.module}: {module['killed']} of {module['tried']} killed, {module['equivalent']} equivalent "
              f"({module['rate']:.0%} of the others)", flush=True)
    missing = [one for one in mutants if one.key not in module["mutants"]]
    if missing:
        print(f"{notebook.module}: a cell failed without a mutant, {len(missing)} are not tried", file=sys.stderr)
    return not missing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", metavar="NAME", help="such as objective or metrics (default: all)")
    parser.add_argument("--count", type=int, default=10, help="mutants of each module (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of which mutants are tried (default: 0)")
    parser.add_argument("--limit", type=float, default=5.0, help="how many times longer a mutant may take (default: 5)")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the table goes")
    parser.add_argument("--alone", action="store_true", help="the notebooks only, not the tests beside them (quicker)")
    parser.add_argument("--list", action="store_true", help="say which mutants would be tried, and try none")
    chosen = parser.parse_args(arguments)
    notebooks = Notebook.all()
    short = {name.rpartition(".")[2]: name for name in notebooks}
    wanted = [short.get(name, name) for name in chosen.modules or notebooks]
    unknown = [name for name in wanted if name not in notebooks]
    if unknown or chosen.count < 1 or chosen.limit <= 0:
        parser.error(f"no module {unknown[0]!r}; there are {', '.join(notebooks)}" if unknown
                     else "--count must be at least 1 and --limit more than 0")
    if chosen.list:
        for name in wanted:
            for one in notebooks[name].chosen(chosen.count, chosen.seed):
                print(f"{name} {one}")
        return 0
    chosen.result = chosen.result.resolve()
    now, good = commit(chosen.result), True
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, terminable():
        for name in ("tmp", "config", "ipython"):
            (Path(scratch) / name).mkdir()
        os.environ |= {
            "TMPDIR": f"{scratch}/tmp", "JUPYTER_CONFIG_DIR": f"{scratch}/config", "JUPYTER_DATA_DIR": scratch,
            "IPYTHONDIR": f"{scratch}/ipython", "TSAE_PICTURES": "0", "OMP_NUM_THREADS": "1", "IN_TEST": "1",
            "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",
        }
        tempfile.tempdir = None
        copy = Copy(Path(scratch) / "project")
        try:
            for name in wanted:
                good &= tried(notebooks[name], chosen, now, Path(scratch), copy)
        except (KeyboardInterrupt, Terminated):
            print(f"stopped; what was tried is kept in {chosen.result}", file=sys.stderr)
            return 130
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
