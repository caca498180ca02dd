"""What `make test` says at its end: what was left out and why, and that it was stopped, where it was"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from flagged import flagged  # noqa: E402

TESTS = "import pytest\n@pytest.mark.skip(reason='there is no browser')\ndef test_page(): pass\ndef test_one(): pass\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one notebook, one test that is skipped, and tools that do nothing but the notebooks' runner."""
    for folder in ("tools", "nbs", "tsae_nb", "tests", "bin"):
        (tmp_path / folder).mkdir()
    for name in ("check.sh", "flagged.py", "rhythm.py"):
        (tmp_path / "tools" / name).write_text((ROOT / "tools" / name).read_text())
    (tmp_path / "tools" / "readme.py").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    notebook = '{"cells": [%s], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    cell = '{"cell_type": "code", "id": "%s", "metadata": {}, "outputs": [], "execution_count": null, "source": "%s"}'
    cells = ",".join(cell % (flag[:4], f"#| {flag}\\n1 + 1") for flag in ("slow", "cuda", "export"))
    (tmp_path / "nbs" / "00_some.ipynb").write_text(notebook % cells)
    for name in ("nbdev_clean", "nbdev_export", "ruff", "mypy"):
        tool(tmp_path, name, "true")
    return tmp_path


def tool(project: Path, name: str, does: str) -> None:
    (project / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
    (project / "bin" / name).chmod(0o755)


def checked(project: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(project / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(["bash", "tools/check.sh"], cwd=project, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PATH": path, "TSAE_TEST_SECONDS": str(seconds)})


def test_what_was_left_out_stands_at_the_end(project: Path) -> None:
    tool(project, "nbdev_test", "true")
    done = checked(project, 60)
    end = done.stdout.partition("what was left out")[2]
    assert done.returncode == 0 and "there is no browser" in end, done.stdout + done.stderr
    assert "1 notebook cells marked slow" in end and "1 notebook cells marked cuda" in end and "export" not in end


def test_a_failing_test_fails_the_check(project: Path) -> None:
    tool(project, "nbdev_test", "true")
    (project / "tests" / "test_some.py").write_text("def test_wrong(): assert False\n")
    assert checked(project, 60).returncode != 0


def test_what_the_types_say_is_waited_for(project: Path) -> None:
    tool(project, "nbdev_test", "true")
    tool(project, "mypy", "sleep 1; echo 'a wrong type'; exit 3")
    done = checked(project, 60)
    assert done.returncode == 3 and "a wrong type" in done.stdout and "pytest" not in done.stdout


def test_that_the_time_was_up_is_said(project: Path) -> None:
    tool(project, "nbdev_test", "exec sleep 100")
    done = checked(project, 1)
    assert done.returncode == 124 and "longer than the 1 s they are given" in done.stdout, done.stdout + done.stderr
    tool(project, "nbdev_test", "exit 1")
    done = checked(project, 60)
    assert done.returncode == 1 and "longer than" not in done.stdout


def test_what_runs_before_a_commit_has_the_versions_of_the_environment() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = re.findall(r"[\w-]+==[\d.]+", hooks)
    assert len(pinned) == 5 and set(pinned) <= set((ROOT / "constraints.txt").read_text(encoding="utf-8").split())


def test_the_flagged_cells_of_the_project_are_counted() -> None:
    found = flagged()
    assert found["slow"]["parity_sae_bench"] > 5 and found["cuda"]["21_training"] >= 1
