"""What the project points to: pages of its own that are there, and works that `references.bib` describes"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from bibliography import CITED, Work, bibliography  # noqa: E402

PAGE = re.compile(r"[\w.:/~{}-]*\w\.md\b")
TEXTS = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".ini", ".cff", ".bib", ".js", ".css", ""}


def files() -> list[Path]:
    """Every text file of the project but what runs and tools have written."""
    places = [ROOT.glob("*"), (ROOT / "runs").glob("*"), *((ROOT / name).rglob("*") for name in (
        "nbs", "tsae_nb", "tests", "tools", ".github", ".ci"))]
    hidden = {"__pycache__", ".ipynb_checkpoints", "node_modules"}
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
    pages |= {"references.md", *map(str.lower, pages)}  # of the site, with one for each notebook
    pages |= {path.with_suffix(".md").name for path in files() if path.suffix == ".ipynb"}
    found = {str(path.relative_to(ROOT)): named for path, text in texts() if (named := absent(text, pages))}
    assert not found, f"these name pages that nobody can open: {found}"


@pytest.mark.parametrize("text", ["(paper.md 3)", "as `notes/paper.md` says", "[it](../paper.md#5)", "paper.md"])
def test_a_page_is_seen_however_it_is_named(text: str) -> None:
    found, = absent(f"README.md, https://example.org/other.md: {text}", {"README.md"})
    assert Path(found).name == "paper.md" and not absent(text, {"paper.md"})


# -- works -------------------------------------------------------------------------------------------------------------

WORKS = bibliography()


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.key)
def test_an_entry_is_whole_and_has_the_key_that_its_citation_says(work: Work) -> None:
    assert {"author", "title"} <= work.fields.keys() and all(work.fields.values())
    assert work.key == re.sub(r"\W", "", work.authors[0].split()[-1]).lower() + work.year
    assert ("eprint" in work.fields) == ("archiveprefix" in work.fields)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", work.fields.get("eprint", "0000.00000"))
    letters = sorted(other.key[-1] for other in WORKS if other.key[:-1] == work.key[:-1] and work.key[-1].isalpha())
    assert not work.year or work.year.isdigit() or letters == sorted("ab"[:len(letters)]) != ["a"]


def test_all_that_is_cited_is_described_and_all_that_is_described_is_cited() -> None:
    cited = {path: re.sub(r"\s+", " ", text) for path, text in texts()
             if path.suffix in (".ipynb", ".py", ".md") and "tsae_nb" not in path.relative_to(ROOT).parts}
    unknown = {f"{path.relative_to(ROOT)}: {' '.join(found)}" for path, text in cited.items()
               for found in CITED.findall(text) if not any(work.is_meant(*found) for work in WORKS)}
    assert not unknown, f"references.bib has no such work, by this author and year: {sorted(unknown)}"
    notebooks = " ".join(text for path, text in cited.items() if path.suffix == ".ipynb")
    unused = [work.key for work in WORKS if not work.is_in(notebooks)]
    assert not unused, f"no notebook cites these of references.bib: {unused}"


@pytest.mark.parametrize("text", ["Gao et al. 2024", "(AuxK, Gao et al. 2024)", "Gao et al. (2024, *Scaling*)",
                                  "Bussmann, Gao et al. 2024"])
def test_a_citation_is_seen_however_it_stands(text: str) -> None:
    work = Work("gao2024", {"author": "Gao, Leo and Wu, Jeffrey and others", "year": "2024"})
    assert work.is_in(text) and not work.is_in(text.replace("2024", "2024a")) and not work.is_in(text.replace("o", "a"))


def test_the_file_for_citing_names_works_as_the_bibliography_does() -> None:
    page = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    by_title = {work.fields["title"]: work for work in WORKS}
    assert page["references"][0]["title"] == WORKS[0].fields["title"], "what is implemented comes first"
    for reference in page["references"]:
        work = by_title[reference["title"]]
        names = [author.get("name") or f"{author['family-names']}, {author['given-names']}"
                 for author in reference["authors"]]
        assert names == [name.strip("{}") for name in work.fields["author"].split(" and ")]
        assert str(reference.get("year", "")) == work.fields.get("year", "")
        assert ("eprint" in work.fields) == ("url" in reference)
        assert reference.get("url", "").removeprefix("https://arxiv.org/abs/") == work.fields.get("eprint", "")


def test_the_file_for_citing_names_the_work_of_every_sparse_code() -> None:
    text = source(ROOT / "nbs" / "components" / "10_sparse_code.ipynb")
    page = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    named = {reference["title"] for reference in page["references"]}
    cited = {work.fields["title"] for work in WORKS if work.is_in(text)}
    assert len(cited) >= 4 and cited <= named, cited - named
