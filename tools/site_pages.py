"""What MkDocs makes the site of: a page for each notebook with its stored outputs, one for each module, and the works.

`mkdocs.yml` names this file as a hook. No notebook is executed and nothing of the library imported.
"""

import base64
import html
import json
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser, SectionProxy
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from textwrap import dedent, indent
from typing import Any, NamedTuple
from urllib.parse import unquote

import nbformat
from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import readme  # noqa: E402
from bibliography import CITED, Work, bibliography  # noqa: E402

NOTEBOOKS = ROOT / "nbs"
ASSETS = ROOT / "tools" / "site_assets"
SERVED = {  # where it stands in the site: where npm has put it
    "assets/katex/katex.min.js": "katex/dist/katex.min.js",
    "assets/katex/katex.min.css": "katex/dist/katex.min.css",
    "assets/iframe-worker.js": "iframe-worker/shim/index.js",
}
DEFAULT_EXPORT = re.compile(r"^#\s*\|\s*default_exp\s+(\S+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
KEPT = re.compile(r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]]*\]\([^)]*\)|<!--.*?-->)", re.DOTALL)
CITATION = re.compile(r"((?:[A-Z][\w’-]+\s+(?:&\s+)?)?)(" + CITED.pattern.replace(" ", r"\s+") + ")")
EQUATION = re.compile(r"^(\$\$.*?\$\$)$", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"^([-*]|\d+\.) ")
IN_ITEM = re.compile(r"^ +(\$\$[^$]+\$\$)\n?((?: +\S.*\n?)*)", re.MULTILINE)  # an equation, and the rest of its item
TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
PAGES = {"references.bib": "references.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


# -- text --------------------------------------------------------------------------------------------------------------

def target(link: str, heading: str | None, page: PurePosixPath) -> str:
    """Where a link of a notebook leads in the site, from its page there (`page`, below `nbs/` as the notebook is).

    JupyterLab's name of a heading is its text with dashes, MkDocs' has small letters and digits only. What is no page
    and no picture is in the repository.
    """
    anchor = f"#{slugify(unquote(heading), '-')}" if heading else ""
    if not link:
        return anchor
    place = PurePosixPath(normpath(f"nbs/{page.parent}/{link}"))
    if place.parts[0] == "nbs" and place.suffix == ".ipynb":
        here = place.relative_to("nbs").with_suffix(".md").as_posix()
    elif place.as_posix() in PAGES or place.parts[0] == "figures":
        here = PAGES.get(place.as_posix(), place.as_posix())
    else:
        return f"{settings()['git_url']}/blob/{settings()['branch']}/{place}"
    return relpath(here, page.parent.as_posix()) + anchor


@cache
def settings() -> SectionProxy:
    """The project's own, of `settings.ini`."""
    found = ConfigParser()
    found.read(ROOT / "settings.ini", encoding="utf-8")
    return found["DEFAULT"]


def cited(text: str, works: list[Work], to: str) -> str:
    """Text with a link to the work at each citation that stands in prose. `to` is the page of works."""
    def linked(found: re.Match[str]) -> str:
        before, _, name, year = found.groups()
        work = next((work for work in works if work.is_meant(name, year)), None)
        if work is None:
            return found[0]
        words = {word for author in work.authors for word in author.split()}
        outside = before if before and before.split()[0] not in words else ""  # Kingma & Ba are two authors
        return f"{outside}[{found[0].removeprefix(outside)}]({to}#{work.key})"

    parts = KEPT.split(text)
    parts[::2] = [CITATION.sub(linked, part) for part in parts[::2]]
    return "".join(parts)


def blocks_apart(text: str) -> str:
    """Text with an empty line before lists and around equations: notebooks need none, MkDocs' Markdown does.

    It also wants four columns before what stands apart within an item of a list.
    """
    lines: list[str] = []
    fenced = False
    text = IN_ITEM.sub(lambda item: "\n" + indent(f"{item[1]}\n\n{dedent(item[2])}".rstrip(), " " * 4) + "\n\n", text)
    for line in EQUATION.sub(r"\n\1\n", text).splitlines():
        before = lines[-1] if lines else ""
        if ITEM.match(line) and not fenced and before.strip() and not before.startswith(" ") and not ITEM.match(before):
            lines.append("")
        fenced ^= line.startswith("```")
        lines.append(line)
    return "\n".join(lines)


def prose(text: str, page: PurePosixPath, works: list[Work]) -> str:
    """Markdown of a notebook as a page of the site has it."""
    text = LINK.sub(lambda found: f"]({target(found[1], found[2], page)})", text.replace(f"{readme.MARK}\n", ""))
    return blocks_apart(cited(text, works, relpath("references.md", page.parent.as_posix())))


# -- notebooks ---------------------------------------------------------------------------------------------------------

class Made(NamedTuple):
    """A page, and the pictures on it: place in the site → PNG (base64)."""

    text: str
    pictures: dict[str, str]


def shown(output: Any, page: PurePosixPath, picture: str, works: list[Work]) -> tuple[str, str | None]:
    """A stored output as Markdown, and where it is a picture (to be kept under the name `picture`) its PNG."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![]({PurePosixPath(picture).name}){{ .output }}", data["image/png"]
    if "application/vnd.plotly.v1+json" in data:
        figure = json.dumps(data["application/vnd.plotly.v1+json"]).replace("<", "\\u003c")
        return f'<div class="output figure"><script type="application/json">{figure}</script></div>', None
    if "text/markdown" in data:
        return prose(data["text/markdown"], page, works), None
    if "text/html" in data:
        return f'<div class="output table">{data["text/html"]}</div>', None
    text = html.escape(TERMINAL.sub("", output.get("text") or data.get("text/plain", "")).rstrip(), quote=False)
    return f'<div class="output"><pre><code>{text}</code></pre></div>' if text else "", None


def module(path: Path) -> str | None:
    """The module that a notebook defines, without `tsae_nb.` in front."""
    cells = nbformat.read(path, as_version=4).cells
    return next((found[1] for cell in cells if (found := DEFAULT_EXPORT.search(cell.source))), None)


def page_of(path: Path, works: list[Work]) -> Made:
    """A notebook's page: prose, code without directives, outputs as they are stored; hidden cells left out."""
    page = PurePosixPath(path.relative_to(NOTEBOOKS).with_suffix(".md").as_posix())
    parts: list[str] = []
    pictures: dict[str, str] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        directives = readme.DIRECTIVE.findall(cell.source)
        if "hide" in directives:
            continue
        if cell.cell_type == "markdown":
            parts.append(prose(cell.source, page, works))
            if len(parts) == 1 and (defined := module(path)):
                api = relpath(api_page(defined), page.parent.as_posix())
                parts.append(f"Cells with a bar are exported to [`tsae_nb.{defined}`]({api}).\n{{ .defines }}")
        if cell.cell_type != "code":
            continue
        code = readme.DIRECTIVE.sub("", cell.source).strip("\n")
        if code and "hide_input" not in directives:
            kind = ".python .exported" if "export" in directives else ".python"
            parts.append(f"````{{ {kind} }}\n{code}\n````")
        for output in cell.outputs:
            picture = f"{page.with_suffix('')}-{cell.id}.png"
            text, png = shown(output, page, picture, works)
            parts.append(text)
            if png:
                pictures[picture] = png
    return Made("\n\n".join(filter(None, parts)) + "\n", pictures)


# -- modules and works -------------------------------------------------------------------------------------------------

def api_page(name: str) -> str:
    """Where the page of a module stands in the site."""
    return f"api/{name}.md"


def api_of(name: str, head: readme.Head) -> str:
    """The page of a module: whence it comes, and what `mkdocstrings` says of it."""
    notebook = relpath(head.path.relative_to(NOTEBOOKS).with_suffix(".md").as_posix(), "api")
    return (f"---\nsearch:\n  boost: 0.5\n---\n\n# tsae_nb.{name}\n\n"
            f"[{head.name}]({notebook}) defines it, and shows and tests what it does:\n\n::: tsae_nb.{name}\n")


def api_index(modules: dict[str, readme.Head]) -> str:
    """The page that leads to those of all modules."""
    lines = [f"- [`tsae_nb.{name}`]({name}.md): {head.question}" for name, head in modules.items()]
    return "\n".join(["# API", "", "The modules of the package, each exported from a notebook, in the order of the "
                      "notebooks. What starts with an underscore is for the module alone.", "", *lines, ""])


def bare(text: str) -> str:
    """Text of a bibliography without its braces."""
    return re.sub(r"[{}]", "", text).replace("--", "–")


def references(works: list[Work]) -> str:
    """The page of works, each where citations lead."""
    lines = ["# References", "", "The works that the notebooks cite, as `references.bib` has them.", ""]
    for work in works:
        fields = {name: bare(value) for name, value in work.fields.items()}
        names = [" ".join(reversed(name.split(", "))) for name in fields["author"].split(" and ") if name != "others"]
        authors = ", ".join(names) + (" et al." if fields["author"].endswith(" and others") else "")
        where = fields.get("journal") or fields.get("booktitle") or fields.get("note", "")
        pages = " ".join(filter(None, (fields.get("volume"), f"pp. {fields['pages']}" if "pages" in fields else "")))
        place = f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else fields.get("url")
        title = f"[{fields['title']}]({place})" if place else f"*{fields['title']}*"
        said = [authors + (f", {work.year}" if work.year else ""), title, ", ".join(filter(None, (where, pages)))]
        lines += [f"<span id=\"{work.key}\"></span>{'. '.join(filter(None, said))}.".replace("..", "."), ""]
    return "\n".join(lines)


# -- the site ----------------------------------------------------------------------------------------------------------

def heads() -> list[readme.Head]:
    """What the first cells of all notebooks say, by number; those without one as the index names them first."""
    index = (NOTEBOOKS / "index.ipynb").read_text(encoding="utf-8")

    def named(path: Path) -> int:
        place = path.relative_to(NOTEBOOKS).as_posix()
        return -1 if readme.NUMBER.match(path.name) else index.find(f"({place})") % len(index)

    return [readme.head(path) for path in sorted(readme.notebooks(NOTEBOOKS), key=named)]


def module_heads() -> dict[str, readme.Head]:
    """Module → what the notebook says that defines it."""
    return {name: head for head in heads() if (name := module(head.path))}


def navigation() -> list[Any]:
    """The order of the pages: as one reads who comes new; within a part as the data flow."""
    by_place = {head.path.relative_to(NOTEBOOKS).as_posix(): head for head in heads()}

    def pages(*beginnings: str) -> list[Any]:
        chosen = [(place, head) for place, head in by_place.items() if place.startswith(beginnings)]
        return [{head.name: place.replace(".ipynb", ".md")} for place, head in chosen]

    names = list(module_heads())
    parts = sorted({name.partition(".")[0] for name in names if "." in name})
    return [
        {"Home": "index.md"},
        *pages("tutorial"),
        {"Explore": pages("explore/")},
        *pages("paper"),
        {"Settings, text and models": pages("0")},
        {"Components": pages("components/")},
        {"Training": pages("2")},
        {"Evaluation": pages("evaluation/", "3")},
        {"Figures and explorers": pages("views/")},
        {"Runs and commands": pages("4", "5")},
        {"Experiments": pages("experiments/")},
        {"API": [
            "api/index.md",
            *({name: api_page(name)} for name in names if "." not in name),
            *({part: [{name.partition(".")[2]: api_page(name)} for name in names if name.startswith(f"{part}.")]}
              for part in parts),
        ]},
        {"References": "references.md"},
        {"Contributing": "contributing.md"},
        {"Changes": "changelog.md"},
    ]


def sources() -> Iterator[tuple[str, str | bytes | Path]]:
    """Place in the site → Markdown of a page, or the file or bytes that are served there."""
    works = bibliography()
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            made = page_of(path, works)
            yield path.relative_to(NOTEBOOKS).with_suffix(".md").as_posix(), made.text
            yield from ((place, base64.b64decode(png)) for place, png in made.pictures.items())
    modules = module_heads()
    yield "api/index.md", api_index(modules)
    yield from ((api_page(name), api_of(name, head)) for name, head in modules.items())
    yield "references.md", references(works)
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        yield PAGES[name], blocks_apart((ROOT / name).read_text(encoding="utf-8"))
    yield from ((f"figures/{path.name}", path) for path in sorted((ROOT / "figures").glob("*.png")))
    yield from ((f"assets/{name}", ASSETS / name) for name in ("site.css", "site.js"))
    yield from ((place, ASSETS / "node_modules" / name) for place, name in SERVED.items())
    fonts = sorted((ASSETS / "node_modules" / "katex" / "dist" / "fonts").glob("*.woff2"))
    yield from ((f"assets/katex/fonts/{path.name}", path) for path in fonts)
    plotly = find_spec("plotly")
    assert plotly and plotly.origin
    yield "assets/plotly.min.js", Path(plotly.origin).parent / "package_data" / "plotly.min.js"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """MkDocs asks: the navigation is that of the notebooks there are."""
    config.nav = navigation()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs asks: no file of the notebooks' folder as it is, but what is made of them."""
    made = [File.generated(config, place, abs_src_path=str(source)) if isinstance(source, Path) else
            File.generated(config, place, content=source) for place, source in sources()]
    theme = [file for file in files if file.abs_src_path and not Path(file.abs_src_path).is_relative_to(NOTEBOOKS)]
    return Files([*theme, *made])
