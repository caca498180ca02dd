"""The works of `references.bib`, and where a text cites one."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Gao et al. 2024, Beck & Teboulle (2009; not the first part of a date
CITED = re.compile(r"([A-Z][\w’-]+)(?: et al\.)? \(?((?:19|20)\d\d[a-z]?)\b(?!-)")
ENTRY = re.compile(r"@(?:article|inproceedings|misc)\{(\w+),\n((?:  \w+ = \{.*\},\n)+)\}\n")


@dataclass(frozen=True)
class Work:
    """An entry of `references.bib`."""

    key: str
    fields: dict[str, str]

    @property
    def authors(self) -> list[str]:
        """Family names, with what stands before them; of a team its name."""
        return [name.strip("{}").split(",")[0] for name in self.fields["author"].split(" and ") if name != "others"]

    @property
    def year(self) -> str:
        """As it is cited: with the key's letter."""
        letter = self.key[-1] if self.key[-2:-1].isdigit() and self.key[-1].isalpha() else ""
        return self.fields.get("year", "") + letter

    def is_meant(self, name: str, year: str) -> bool:
        """Whether this is what `name … year` in a text stands for."""
        return year == self.year and name in {word for author in self.authors for word in author.split()}

    def is_in(self, text: str) -> bool:
        """Whether a text cites it: by author and year, where it has no year by its title."""
        if not self.year:
            return self.fields["title"] in text
        return any(self.is_meant(*found) for found in CITED.findall(text))


def bibliography() -> list[Work]:
    """All entries; a line that belongs to none, and is no comment, is a mistake."""
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    left = [line for line in ENTRY.sub("", text).splitlines() if line.strip() and not line.startswith("%")]
    assert not left, f"references.bib: {left[0]!r} belongs to no entry that can be read"
    return [Work(key, dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE)))
            for key, body in ENTRY.findall(text)]
