"""What the project points to: pages of its own that are there, and works that `references.bib` describes"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = re.compile(r"[\w.:/~{}-]*\w\.md\b")
TEXTS = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".ini", ".cff", ".bib", ".js", ".css", ""}


def files() -> list[Path]:
    """Every text file of the project but what runs and tools have written."""
    places = [ROOT.glob("*"), (ROOT / "runs").glob("*"), *((ROOT / name).rglob("*") for name in (
        "nbs", "tsae_nb", "tests", "tools", ".github", ".ci"))]
    hidden = {"__pycache__", ".ipynb_checkpoints"}
    return sorted(path for place in places for path in place if path.is_file() and not hidden & set(path.parts)
                  and path.suffix in TEXTS | {".ipynb"})


def source(path: Path) -> str:
    """A file's text; of a notebook that of its cells, without outputs."""
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    return path.read_text(encoding="utf-8")


def texts() -> Iterator[tuple[Path, str]]:
    """(file, text) of all but this one, which names what is not there."""
    yield from ((path, source(path)) for path in files() if path != Path(__file__).resolve())


# -- pages -------------------------------------------------------------------------------------------------------------

def absent(text: str, pages: set[str]) -> list[str]:
    """The Markdown pages that a text names and the project has not; addresses on the web are none of ours."""
    return [page for page in PAGE.findall(text) if "://" not in page and Path(page).name not in pages]


def test_no_page_is_named_that_is_not_there() -> None:
    pages = {path.name for path in files() if path.suffix == ".md"}
    assert {"README.md", "CONTRIBUTING.md"} <= pages
    found = {str(path.relative_to(ROOT)): named for path, text in texts() if (named := absent(text, pages))}
    assert not found, f"these name pages that nobody can open: {found}"


@pytest.mark.parametrize("text", ["(paper.md 3)", "as `notes/paper.md` says", "[it](../paper.md#5)", "paper.md"])
def test_a_page_is_seen_however_it_is_named(text: str) -> None:
    found, = absent(f"README.md, https://example.org/other.md: {text}", {"README.md"})
    assert Path(found).name == "paper.md" and not absent(text, {"paper.md"})
