"""The site that `make site` built, in a Chromium: pages, equations, figures, links, search, no request to elsewhere"""

import functools
import html
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import readme
from browser import chromium
from playwright.sync_api import Page, expect
from site_pages import bibliography, blocks_apart, cited, module_heads, navigation, target

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_site"
MARGIN = "components/14_margin_ema.html"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def text_of(page: str) -> str:
    return (SITE / page).read_text(encoding="utf-8")


def said(page: str) -> str:
    """The words of a page, with one space between two."""
    article = text_of(page).partition("<article")[2].partition("</article>")[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", article)))


def page_of(notebook: Path) -> str:
    return notebook.relative_to(ROOT / "nbs").with_suffix(".html").as_posix()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing, else pytest's output is full of it."""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def chromium_page() -> Iterator[Page]:
    """Without a browser this fails: here it is what is tested."""
    with chromium(1366, 768) as page:
        page.set_default_timeout(60_000)
        yield page


# -- the pages ---------------------------------------------------------------------------------------------------------

def test_it_is_built_of_what_there_is() -> None:
    assert SITE.is_dir(), "make site"
    modules = [f"api/{name}.html" for name in module_heads()]
    assert {*map(page_of, NOTEBOOKS), *modules, "references.html", "contributing.html"} <= set(PAGES)
    built = (SITE / "index.html").stat().st_mtime
    assert all(path.stat().st_mtime < built for path in NOTEBOOKS), "a notebook is newer than the site: make site"


def test_the_order_is_that_of_reading() -> None:
    names = [next(iter(entry)) for entry in navigation()]
    wanted = ["Tutorial", "Explore", "Paper, equation by equation", "Components", "Evaluation", "Experiments", "API"]
    assert [name for name in names if name in wanted] == wanted


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_what_its_notebook_shows(notebook: Path) -> None:
    """The question and every line of code that is not hidden; no directive, no hidden cell."""
    words = said(page_of(notebook))
    code = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    if notebook.stem != "index":
        assert readme.head(notebook).question.replace("`", "") in words
    for cell in code:
        directives = readme.DIRECTIVE.findall(cell.source)
        source = re.sub(r"\s+", " ", readme.DIRECTIVE.sub("", cell.source)).strip()
        if len(source) > 40:
            hidden = {"hide", "hide_input"} & set(directives)
            assert (source in words) != bool(hidden), f"{source[:200]!r} is {'shown' if hidden else 'not there'}"
    assert not re.search(r"#\s*\| ?(export|hide|default_exp|slow|cuda)\b", words)


def test_every_link_within_leads_to_a_page_and_a_heading() -> None:
    names = {page: set(re.findall(r'\bid="([^"]+)"', text_of(page))) for page in PAGES}
    wrong = []
    for page in PAGES:
        for link in map(html.unescape, re.findall(r'<a[^>]*\bhref="([^"]+)"', text_of(page))):
            parts = urlsplit(link)
            if parts.scheme or page == "404.html":  # which may be shown at any address, and has absolute links
                continue
            place = (SITE / page).parent / unquote(parts.path) if parts.path else SITE / page
            there = place.resolve().relative_to(SITE).as_posix()
            if not place.is_file() or parts.fragment and unquote(parts.fragment) not in names.get(there, ()):
                wrong.append(f"{page}: {link}")
    assert not wrong, wrong


def test_nothing_is_asked_of_another_machine() -> None:
    for page in PAGES:
        asked = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//[^"]+"', text_of(page))
        asked += [link for link in re.findall(r"<link\b[^>]*>", text_of(page))
                  if "//" in link and "canonical" not in link]
        assert not asked, f"{page}: {asked}"


# -- in the browser ----------------------------------------------------------------------------------------------------

def test_equations_are_drawn(served: str, page: Page) -> None:
    page.goto(f"{served}/paper.html")
    drawn = page.locator(".arithmatex .katex")
    assert drawn.count() == page.locator(".arithmatex").count() > 25
    first = page.locator(".katex-display .katex-html").first
    expect(first).to_be_visible()
    assert "L" in first.inner_text() and "\\" not in first.inner_text()
    assert page.evaluate("document.fonts.check('16px KaTeX_Main')"), "with a font of its own"


def test_every_equation_can_be_drawn(served: str, page: Page) -> None:
    found = [(name, html.unescape(text)) for name in PAGES
             for text in re.findall(r'class="arithmatex">\\[(\[](.*?)\\[)\]]</', text_of(name), re.DOTALL)]
    assert len(found) > 100
    torn = [name for name in PAGES if re.search(r'\$<span class="arithmatex">', text_of(name))]
    assert not torn, f"equations within a line, with dollars around: {torn}"
    page.goto(f"{served}/paper.html")
    wrong = page.evaluate("""found => found.flatMap(([page, text]) => {
        try { katex.renderToString(text, {displayMode: true}); } catch (error) { return [`${page}: ${error}`]; }
        return [];
    })""", found)
    assert not wrong, wrong


def test_pictures_are_shown(served: str, page: Page) -> None:
    page.goto(f"{served}/{MARGIN}")
    picture = page.locator("article img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('article img').naturalWidth > 300")
    stored_as_data = next(name for name in PAGES if 'class="output figure"' in text_of(name))
    page.goto(f"{served}/{stored_as_data}")
    expect(page.locator(".figure .main-svg").first).to_be_visible()


def test_a_module_has_its_signatures_and_a_way_to_its_notebook(served: str, page: Page) -> None:
    page.goto(f"{served}/api/components.margin_ema.html")
    name = "tsae_nb.components.margin_ema.nearest_rows"
    function = page.locator(f".doc-function:has([id='{name}'])").last
    signature = "nearest_rows(decoder: Tensor, block: int = 1024) -> Tensor"
    expect(function.locator(".doc-signature")).to_contain_text(signature)
    expect(function).to_contain_text("largest cosine")
    page.locator("article a", has_text="14 Dynamic margin").click()
    expect(page).to_have_url(f"{served}/{MARGIN}")


def test_a_notebook_leads_to_another_and_to_the_works(served: str, page: Page) -> None:
    page.goto(f"{served}/paper.html")
    page.locator("article a[href^='components/14_margin_ema.html#']").first.click()
    expect(page.locator("h1")).to_contain_text("Dynamic margin")
    page.goto(f"{served}/paper.html")
    page.locator("article a", has_text="Gao et al. 2020").first.click()
    expect(page).to_have_url(re.compile("references.html#gao2020$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(served: str, page: Page, scheme: str) -> None:
    page.goto(served)
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.reload()
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g)[0] > 128")
    assert shade == (scheme == "light")


@pytest.mark.parametrize("name", ["index.html", "paper.html", MARGIN, "evaluation/34_unlearning.html"])
def test_no_page_is_wider_than_a_phone(served: str, page: Page, name: str) -> None:
    """Tables, code and equations that are have a bar of their own."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{served}/{name}")
    width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1366, "height": 768})
    assert width <= 390


@pytest.mark.parametrize("how", ["served", "opened"])
def test_search_finds_the_notebook(served: str, page: Page, how: str) -> None:
    """From a server, and from the folder without one."""
    address = served if how == "served" else SITE.as_uri()
    page.goto(f"{address}/index.html")
    page.locator(".md-search__input").fill("margin")
    first = page.locator(".md-search-result__link").first
    expect(first.locator("h1")).to_have_text("Dynamic margin", timeout=60_000)
    first.click()
    expect(page).to_have_url(re.compile(re.escape(f"{address}/{MARGIN}")))


# -- what pages are made of --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, made", [
    ("as Gao et al. 2024 has", "as [Gao et al. 2024](references.md#gao2024) has"),
    ("(Adam, Kingma & Ba 2015)", "(Adam, [Kingma & Ba 2015](references.md#kingma2015))"),
    ("AuxK of Gao et al.\n2024", "AuxK of [Gao et al.\n2024](references.md#gao2024)"),
    ("BatchTopK Bussmann et al. 2024", "BatchTopK [Bussmann et al. 2024](references.md#bussmann2024)"),
])
def test_a_citation_leads_to_its_work(text: str, made: str) -> None:
    assert cited(text, bibliography(), "references.md") == made


@pytest.mark.parametrize("form", ["`{}`", "[{}](paper.md)", "$x$ ```\n{}\n```"])
def test_code_and_links_stay_as_they_are(form: str) -> None:
    text = form.format("Gao et al. 2024")
    assert cited(text, bibliography(), "references.md") == text
    unknown = text.replace("Gao", "Gau").strip("`[]")
    assert cited(unknown, bibliography(), "references.md") == unknown


@pytest.mark.parametrize("link, heading, page, made", [
    ("components/14_margin_ema.ipynb", None, "paper.md", "components/14_margin_ema.md"),
    ("../20_sae.ipynb", "It-is,-in-short:-a", "components/09_sparse_products.md", "../20_sae.md#it-is-in-short-a"),
    ("../../figures/explorer.png", None, "explore/own_model.md", "../figures/explorer.png"),
    ("../references.bib", None, "paper.md", "references.md"),
    ("", "Nothing-leaks", "paper.md", "#nothing-leaks"),
    ("../tests/test_preset.py", None, "paper.md", "https://github.com/tsae-nb/tsae_nb/blob/main/tests/test_preset.py"),
])
def test_a_link_leads_where_it_led_in_the_notebook(link: str, heading: str | None, page: str, made: str) -> None:
    assert target(link, heading, Path(page)) == made  # type: ignore[arg-type]


def test_lists_and_equations_stand_apart() -> None:
    assert blocks_apart("One:\n- a\n  b\n- c\n\n```\nx\n- y\n```") == "One:\n\n- a\n  b\n- c\n\n```\nx\n- y\n```"
    assert blocks_apart("$$a$$\n$$b\nc$$\nand") == "\n$$a$$\n\n\n$$b\nc$$\n\nand"
    assert blocks_apart("1. One:\n   $$a$$\n   and\n2. Two:\n   $$b$$\n\nOn") == (
        "1. One:\n\n    $$a$$\n\n    and\n\n2. Two:\n\n    $$b$$\n\n\nOn")
