"""The feature explorer in a page without JupyterLab, before its own Python: what a hand does, at a hand's speed"""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from explorer_page import Served, served
from on_a_page import LAB, Hand, barriers, press
from playwright.sync_api import Locator, Page, expect

from tsae_nb.language_model import LanguageModel
from tsae_nb.sae import SparseAutoencoder, load_sae
from tsae_nb.views.explanations import Explanation
from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex

ROOT = Path(__file__).resolve().parents[1]
expect.set_options(timeout=30_000)


@dataclass
class Explored:
    """What every test explores: a live model, an SAE of three levels, its index, and another index beside it."""

    model: LanguageModel
    sae: SparseAutoencoder
    folder: Path
    other: Path


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Explored:
    folder, model = tmp_path_factory.mktemp("runs"), LanguageModel.load("embedded")
    runs = []
    for name in ("temporal", "topk"):
        run = ROOT / "runs" / "reference" / "tiny" / name
        shutil.copytree(run, folder / name, ignore=shutil.ignore_patterns("index"))
        runs.append(FeatureIndex.of_run(folder / name, model).folder)
    return Explored(model, load_sae(folder / "temporal" / "sae"), *runs)


@dataclass
class Opened:
    """An explorer in a page: its root, what is behind it, and where it is served."""

    widget: Locator
    behind: Served
    explorer: FeatureExplorer
    address: str
    page: Page

    def panel(self, name: str) -> Locator:
        """A tab's panel."""
        return self.widget.locator(f'[role=tabpanel][aria-label="{name}"]')

    def at(self, feature: int) -> None:
        """Wait until a feature's card is painted."""
        expect(self.widget).to_have_attribute("data-painted", str(feature))

    def go(self, feature: int) -> None:
        """Open a feature by its number."""
        search = self.widget.locator("input[type=search]")
        search.fill(f"#{feature}")
        search.press("Enter")
        self.at(feature)
        search.fill("")

    def press(self, place: Locator, milliseconds: int = 120) -> None:
        """A click as a hand holds it."""
        press(self.page, place, milliseconds)


Opening = Callable[..., Opened]


@pytest.fixture
def opened(explored: Explored, page: Page, tmp_path: Path) -> Iterator[Opening]:
    """Opens an explorer over a copy of the run, `width` pixels wide, in a window of a size and a theme."""
    folder = shutil.copytree(explored.folder.parent, tmp_path / "temporal") / "index"
    with ExitStack() as stack:

        def opening(width: int = 900, size: dict[str, int] = LAB, theme: str = "light", compare: bool = True,
                    **options: object) -> Opened:
            explorer = FeatureExplorer(FeatureIndex.open(folder), model=explored.model, sae=explored.sae, **options)
            if compare:
                explorer.compare(explored.other)
            behind, address = stack.enter_context(served(explorer))
            page.set_viewport_size(size)
            page.goto(f"{address}?theme={theme}&width={width}")
            widget = page.locator(".tsae")
            expect(widget).to_have_attribute("data-painted", re.compile(r"\d+"))
            return Opened(widget, behind, explorer, address, page)

        yield opening
        page.goto("about:blank")


def test_the_page_is_the_widget(opened: Opening) -> None:
    """What is asked is answered by Python, both sides set traits, and labels reach the disk."""
    it = opened()
    assert it.behind.asked_of("card")[0] == it.behind.asked[0] | {"feature": 0}
    it.widget.locator(".tsae-rows").focus()
    it.page.keyboard.press("j")
    it.at(1)
    assert it.explorer.feature == 1
    it.explorer.feature = 7
    it.at(7)
    it.widget.locator(".tsae-label").fill("a label 🦩")
    it.widget.locator(".tsae-label").press("Enter")
    expect(it.widget.locator(".tsae-line .tsae-name", has_text="a label 🦩")).to_be_visible()
    assert FeatureIndex.open(it.explorer.index.folder).labels == {7: "a label 🦩"}


def test_a_label_is_typed_and_the_next_feature_clicked(opened: Opening) -> None:
    """The gesture of labelling, held as a hand holds it: the click on the row is not lost, nor the label."""
    it = opened()
    for feature, hold in ((10, 0), (20, 120), (30, 120), (40, 400)):
        it.go(feature)
        name = it.widget.locator(".tsae-label")
        name.click()
        name.fill("")
        it.page.keyboard.type(f"label of {feature}")
        row = it.widget.locator(".tsae-line").nth(6)
        wanted = int(row.get_attribute("data-id") or -1)
        assert wanted != feature
        it.press(row, hold)
        it.at(wanted)
        expect(it.widget.locator(".tsae-card h3")).to_have_text(f"#{wanted}")
    labels = {10: "label of 10", 20: "label of 20", 30: "label of 30", 40: "label of 40"}
    assert FeatureIndex.open(it.explorer.index.folder).labels == labels


def test_a_label_is_typed_and_something_else_pressed(opened: Opening) -> None:
    """Whatever is pressed after a label was typed is still there when the hand lets go."""
    it = opened()
    trace = it.panel("Trace")
    lane = trace.locator(".tsae-lane-name .tsae-link").nth(5)
    lane.wait_for()
    it.widget.locator(".tsae-label").fill("one")
    it.press(it.widget.locator(".tsae-head button").nth(2))  # sort by density
    expect(it.widget.locator(".tsae-head button").nth(2)).to_contain_text("▾")
    it.widget.locator(".tsae-label").fill("two")
    it.press(it.widget.locator(".tsae-star"), 400)
    expect(it.widget.locator(".tsae-star")).to_contain_text("★")
    expect(it.widget.locator(".tsae-star")).to_be_focused()  # it is drawn again, not made anew
    assert it.explorer.selected == [0]
    it.widget.locator(".tsae-label").fill("three")
    text = lane.inner_text()
    it.press(lane, 400)
    expect(it.widget.locator(".tsae-card h3")).to_have_text(text.split()[0])
    assert it.explorer.index.labels == {0: "three"}


def test_escape_leads_out_of_a_search(opened: Opening) -> None:
    it = opened()
    search, foot = it.widget.locator("input[type=search]"), it.widget.locator(".tsae-foot")
    for text in ("#310", "bark"):
        search.click()
        it.page.keyboard.type(text)
        if text == "bark":  # no label has it: the empty list says what leads on
            expect(foot).to_have_text("nothing listed is like “bark”: Enter looks for it in the text")
        it.page.keyboard.press("Enter")
        expect(foot).not_to_contain_text("512 of 512")
        expect(foot).not_to_contain_text("looking")
        it.page.keyboard.press("Escape")
        expect(search).to_have_value("")
        expect(foot).to_contain_text("512 of 512")
    before = it.explorer.feature
    it.page.keyboard.press("j")
    expect(it.widget).to_have_attribute("data-painted", str(before + 1))


def in_sight(place: Locator, within: Locator) -> bool:
    """Whether an element lies inside another, as the window shows it."""
    inner, outer = place.bounding_box(), within.bounding_box()
    if not inner or not outer:
        return False
    return (outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1
            and outer["x"] <= inner["x"] + 1 and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1)


@pytest.mark.parametrize("width, size, lanes", [
    (900, LAB, 12), (990, {"width": 1440, "height": 900}, 14), (640, {"width": 1024, "height": 768}, 8),
    (1420, {"width": 1500, "height": 900}, 20)])
def test_the_trace_is_in_sight(opened: Opening, width: int, size: dict[str, int], lanes: int) -> None:
    """Lanes of features beside the text, without scrolling, and the answer of a word right there."""
    it = opened(width, size)
    trace = it.panel("Trace")
    expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
    names = trace.locator(".tsae-lane-name:has(button)")
    assert sum(in_sight(names.nth(i), trace) for i in range(names.count())) >= lanes
    routes = trace.locator(".tsae-lane-names .tsae-lane-name:not(:has(button))").all_inner_texts()
    assert routes == [f"routing {name}" for name in trace.locator("button.tsae-level").all_inner_texts()]  # one order
    assert in_sight(trace.locator(".tsae-tracetext"), trace)
    assert it.widget.bounding_box()["height"] <= size["height"] - 100  # type: ignore[index]  # all of it in a notebook
    assert trace.locator(".tsae-tracetext").bounding_box()["height"] > 60  # type: ignore[index]
    trace.locator(".tsae-tracetext .tsae-token").nth(3).click()
    expect(trace.locator(".tsae-ontoken h4")).to_contain_text("features on")
    assert all(in_sight(trace.locator(f".tsae-ontoken {part}").first, trace) for part in ("h4", "td"))
    it.widget.locator(".tsae-lists summary").click()  # nor is its menu cut, or in two lines
    menu = it.widget.locator(".tsae-menu")
    assert in_sight(menu, it.widget) and in_sight(it.widget.locator(".tsae-lists summary"), it.widget)
    assert all(row.bounding_box()["height"] < 32 for row in menu.locator(".tsae-row").all())  # type: ignore[index]
    assert menu.locator("button, input:visible").evaluate_all("all => all.every((e) => e.scrollWidth <= e.clientWidth)")
    it.widget.locator(".tsae-lists summary").click()
    for name in ("Steer", "Ablate", "Compare"):  # nothing wider than its panel
        it.widget.get_by_role("tab", name=name).click()
        panel = it.panel(name)
        if name == "Steer":
            panel.locator("[name=tokens]").fill("8")
            panel.get_by_role("button", name="Generate").click()
            expect(panel.get_by_role("button", name="Generate")).to_be_visible()
            assert panel.locator("thead th").count() == 5
        elif name == "Compare":
            expect(panel).to_have_attribute("data-compared", "0")
        for place in (panel, *panel.locator(".tsae-scroll-x").all()):
            assert place.evaluate("e => e.scrollWidth - e.clientWidth") <= 1


def test_the_trace_follows_the_feature(opened: Opening) -> None:
    """Another feature's strongest document, until somebody chooses a document; what was found in it leaves it there."""
    it = opened()
    trace, index = it.panel("Trace"), it.explorer.index

    def strongest(feature: int) -> str:
        return str(int(index.contexts.of(feature, top=1, each_fifth=0, random=0).pieces[0]))

    assert len({strongest(feature) for feature in (0, 50, 60, 70)}) > 2
    for feature in (50, 60):
        it.go(feature)
        expect(trace).to_have_attribute("data-traced", strongest(feature))
    lane = trace.locator(".tsae-lane-name .tsae-link").nth(6)
    other = lane.inner_text().split()[0]
    it.press(lane)
    expect(it.widget.locator(".tsae-card h3")).to_have_text(other)
    it.page.wait_for_timeout(500)
    expect(trace).to_have_attribute("data-traced", strongest(60))
    trace.get_by_label("document").fill("3")
    trace.get_by_label("document").press("Enter")
    expect(trace).to_have_attribute("data-traced", "3")
    expect(trace.get_by_role("button", name="follow")).to_have_attribute("aria-pressed", "false")
    it.go(70)
    it.page.wait_for_timeout(500)
    expect(trace).to_have_attribute("data-traced", "3")
    trace.get_by_role("button", name="follow").click()
    expect(trace).to_have_attribute("data-traced", strongest(70))


COLOUR = """(canvas, lane) => { // the one that most of a canvas, or of a lane of it, is drawn in
  const [top, height] = lane === undefined ? [0, canvas.height] : [16 * lane, 15];
  const all = canvas.getContext("2d").getImageData(0, top, canvas.width, height).data, counts = {};
  for (let i = 0; i < all.length; i += 4) {
    const colour = all.slice(i, i + 3).join();
    if (all[i + 3] === 255) counts[colour] = (counts[colour] || 0) + 1;
  }
  return Object.entries(counts).sort((a, b) => b[1] - a[1])[0][0];
}"""


def test_drawn_again_when_the_window_or_the_theme_changes(opened: Opening) -> None:
    it = opened()
    trace = it.panel("Trace")
    expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
    canvas, room = trace.locator(".tsae-lanes").last, trace.locator(".tsae-lane-scroll")
    expect(room).to_be_visible()
    it.page.wait_for_timeout(300)
    for width in (900, 1250, 700):
        it.page.evaluate("width => { document.getElementById('widget').style.width = `${width}px`; }", width)
        it.page.wait_for_timeout(300)
        wide, inside = canvas.evaluate("e => e.clientWidth"), room.evaluate("e => e.clientWidth")
        assert inside - 0.26 * 128 <= wide <= inside or wide == 128, (width, wide, inside)
    assert canvas.evaluate(COLOUR) == "0,105,168"
    routes = [trace.locator(".tsae-lanes").first.evaluate(COLOUR, lane) for lane in range(3)]
    assert routes == ["0,105,168", "169,74,0", "0,115,84"]  # levels 1 to 3, as they are named beside
    it.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    it.page.wait_for_function(f"({COLOUR})(document.querySelectorAll('.tsae-lanes')[1]) === '86,180,233'")


def test_what_waits_says_so(opened: Opening) -> None:
    """A card, a trace and a search that the kernel has no time for; what was there stays, with a word above it."""
    it = opened()
    with it.behind.holding("card"):
        it.widget.locator("input[type=search]").fill("#99")
        it.widget.locator("input[type=search]").press("Enter")
        expect(it.widget.locator(".tsae-card > .tsae-pending")).to_have_text("opening #99 …")
        expect(it.widget.locator(".tsae-card")).to_have_attribute("aria-busy", "true")
    it.at(99)
    expect(it.widget.locator(".tsae-pending")).to_have_count(0)
    with it.behind.holding("trace"):
        it.panel("Trace").get_by_label("document").fill("3")
        it.panel("Trace").get_by_label("document").press("Enter")
        expect(it.panel("Trace").locator(".tsae-pending")).to_have_text("reading document 3 …")
    expect(it.panel("Trace")).to_have_attribute("data-traced", "3")
    with it.behind.holding("search"):
        it.widget.locator("input[type=search]").fill("bark")
        it.widget.locator("input[type=search]").press("Enter")
        expect(it.widget.locator(".tsae-foot")).to_have_text("looking for “bark” …")
    expect(it.widget.locator(".tsae-foot")).to_contain_text("occurs")


def test_one_generation_at_a_time_and_it_can_be_cancelled(opened: Opening) -> None:
    it = opened()
    it.widget.get_by_role("tab", name="Steer").click()
    steer = it.panel("Steer")
    steer.locator("textarea").fill("The Fennow is covered\nIn the wild")
    steer.locator("[name=tokens]").fill("20")
    with it.behind.holding("steer"):
        steer.get_by_role("button", name="Generate").click()
        expect(steer).to_contain_text("generating …")
        expect(steer.get_by_role("button", name="Generate")).to_have_count(0)  # nothing to press a second time
        it.behind.wait_for("steer")
        it.page.wait_for_timeout(300)
        assert len(it.behind.asked_of("steer")) == 1
        it.press(steer.get_by_role("button", name="Cancel"))
        expect(steer).to_contain_text("cancelled")
    it.page.wait_for_timeout(500)
    assert len(it.behind.asked_of("steer")) == 1 and steer.locator("table").count() == 0
    steer.get_by_role("button", name="Generate").click()
    expect(steer.locator("tbody tr")).to_have_count(2)
    expect(steer.get_by_role("button", name="Generate")).to_be_visible()
    questions = it.behind.asked_of("steer")[1:]
    assert len(questions) == 10 and all(question["step"] == 4 for question in questions)  # 2 prompts × 20 tokens
    whole = it.explorer.answer({**questions[-1], "made": None, "step": None})[0]["rows"][0]["cells"][1]
    made = steer.locator("tbody tr").nth(1).locator("td").nth(2).locator(".tsae-made").all_text_contents()
    assert "".join(made).replace("●", "") == "".join(whole["texts"])


@pytest.mark.parametrize("between", [0, 60, 250])
def test_a_double_click_generates_once(opened: Opening, between: int) -> None:
    """The second click finds the button where it was, and does not cancel what the first began; the end is said."""
    it = opened()
    it.widget.get_by_role("tab", name="Steer").click()
    steer = it.panel("Steer")
    steer.locator("textarea").fill("The Fennow is covered")
    button, before = steer.locator(".tsae-run"), steer.locator(".tsae-run").bounding_box()
    assert before
    it.page.mouse.move(before["x"] + 0.8 * before["width"], before["y"] + before["height"] / 2)
    with it.behind.holding("steer"):
        for count in (1, 2):
            it.page.mouse.down(click_count=count)
            it.page.mouse.up(click_count=count)
            it.page.wait_for_timeout(between)
        expect(button).to_have_text("Cancel")
        expect(steer.get_by_role("status")).to_have_text("generating …")
        assert button.bounding_box() == before
    expect(steer.get_by_role("status")).to_have_text("done")
    expect(steer.locator("tbody tr")).to_have_count(1)
    assert len(it.behind.asked_of("steer")) == 6  # 24 tokens
    with it.behind.holding("steer"):  # a click by itself cancels
        button.click()
        button.click()
        expect(steer.get_by_role("status")).to_have_text("cancelled")


def test_fifty_rapid_keys(opened: Opening) -> None:
    it = opened()
    it.widget.locator(".tsae-rows").focus()
    for _ in range(50):
        it.page.keyboard.press("j")
    it.at(50)
    expect(it.widget.locator(".tsae-card h3")).to_have_text("#50")
    expect(it.widget.locator('.tsae-line[aria-selected="true"]')).to_have_attribute("data-id", "50")
    assert it.explorer.feature == 50
    expect(it.panel("Trace")).to_have_attribute("data-traced", re.compile(r"\d+"))
    for key, feature in (("k", 49), ("PageUp", 39), ("Home", 0), ("End", 511)):
        it.page.keyboard.press(key)
        it.at(feature)
    selected = it.widget.locator('.tsae-line[aria-selected="true"]')
    assert it.widget.locator(".tsae-rows").get_attribute("aria-activedescendant") == selected.get_attribute("id")


def test_elements_serve_the_next_feature(opened: Opening) -> None:
    """Rows and contexts are drawn in the elements that are there, in order; nothing of the feature before is left."""
    it = opened()
    it.widget.locator("input[type=search]").press_sequentially("zzz")  # no row at all, more than once
    it.widget.locator("input[type=search]").fill("")
    mark = "elements => elements.forEach((element) => { element.old = true; })"
    rows, contexts = it.widget.locator(".tsae-line"), it.widget.locator(".tsae-card .tsae-context")
    rows.evaluate_all(mark)
    contexts.evaluate_all(mark)
    expand = contexts.get_by_role("button", name="the whole window")
    expand.nth(2).click()
    expect(expand.nth(2)).to_have_attribute("aria-expanded", "true")
    for feature in (300, 310, 305, 3):  # a leap, some rows on and back, a leap back
        it.explorer.feature = feature
        it.at(feature)
        expect(it.widget.locator(".tsae-line[aria-selected='true']")).to_have_attribute("data-id", str(feature))
        ids = rows.evaluate_all("all => all.map((row) => [+row.dataset.id, parseInt(row.style.top) / 22, row.old])")
        assert ids == [[ids[0][0] + i, ids[0][0] + i, True] for i in range(len(ids))] and len(ids) < 60
        assert contexts.evaluate_all("all => all.every((context) => context.old)")
        assert it.widget.locator(".tsae-context [aria-expanded='true']").count() == 0
        first = it.explorer.answer({"kind": "card", "feature": feature})[0]
        expect(contexts.first.locator(".tsae-value")).to_contain_text(f"{first['statistics']['max']:.3g}")
        shown = contexts.first.locator(".tsae-text").inner_text()
        assert first["words"] and any(word.strip() in shown for word in first["words"] if word.strip())


def test_a_typed_number_is_asked_for_before_enter(opened: Opening) -> None:
    """Its card is there when Enter comes, though the kernel then has no time."""
    it = opened()
    search = it.widget.locator("input[type=search]")
    with it.page.expect_request(lambda request: '"feature":77' in (request.post_data or "")):
        search.fill("#77")
    it.page.wait_for_timeout(500)
    with it.behind.holding("card"):
        search.press("Enter")
        it.at(77)
    asked = [question["feature"] for question in it.behind.asked_of("card")]
    assert asked.count(77) == 1
    search.fill("9999")  # no feature: nothing is asked, and Enter says so
    search.press("Enter")
    expect(it.widget.locator(".tsae-foot")).to_have_text("There is no feature 9999 here.")
    assert 9999 not in [question["feature"] for question in it.behind.asked_of("card")]


@pytest.mark.parametrize("place", [".tsae-line", ".tsae-card td .tsae-link"])
def test_what_is_pressed_is_asked_for_before_it_is_let_go(opened: Opening, place: str) -> None:
    it = opened()
    link = it.widget.locator(place).nth(3)
    found = re.search(r"\d+", link.get_attribute("data-id") or link.inner_text())
    assert found is not None
    feature = int(found[0])
    with it.page.expect_request(lambda request: f'"feature":{feature}' in (request.post_data or "")):
        link.hover()
        it.page.mouse.down()
    it.page.wait_for_timeout(500)
    with it.behind.holding("card"):
        it.page.mouse.up()
        it.at(feature)
    assert [question["feature"] for question in it.behind.asked_of("card")].count(feature) == 1


def test_a_pressed_row_stays_its_feature(opened: Opening) -> None:
    """While a hand holds a row, Python opens a feature elsewhere: the card shows it, and the click is the row's."""
    it = opened()
    row = it.widget.locator(".tsae-line").nth(6)
    wanted = int(row.get_attribute("data-id") or -1)
    row.hover()
    it.page.mouse.down()
    it.explorer.feature = 400
    it.at(400)
    it.page.wait_for_timeout(300)
    assert row.get_attribute("data-id") == str(wanted)
    it.page.mouse.up()
    it.at(wanted)


def test_a_trace_is_not_drawn_before_the_card(opened: Opening) -> None:
    """What was asked for before a feature was opened comes while its card is waited for."""
    it = opened()
    trace = it.panel("Trace")
    expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
    with ExitStack() as busy:
        busy.enter_context(it.behind.holding("trace"))
        trace.get_by_label("document").fill("3")
        trace.get_by_label("document").press("Enter")
        with it.behind.holding("card"):
            it.explorer.feature = 99
            expect(it.widget.locator(".tsae-card > .tsae-pending")).to_have_text("opening #99 …")
            busy.close()
            it.page.wait_for_timeout(500)
            expect(trace).not_to_have_attribute("data-traced", "3")
    it.at(99)
    expect(trace).to_have_attribute("data-traced", "3")


def test_jump_grows_where_a_feature_is_rough(opened: Opening) -> None:
    """What the metrics call smoothness is the largest jump: the table calls it so, and says what is low."""
    it = opened()
    head = it.widget.locator(".tsae-head button", has_text="jump")
    head.click()
    expect(head).to_contain_text("▾")
    first = int(it.widget.locator(".tsae-line").first.get_attribute("data-id") or -1)
    assert first == it.explorer.index.features["smoothness"].idxmax()
    assert "low is smooth" in (head.get_attribute("title") or "")
    expect(it.widget.locator(".tsae-card")).to_contain_text("jump")
    assert "smoothness" not in it.widget.locator(".tsae-card").inner_text()


def test_steering_turns_a_feature_on(opened: Opening) -> None:
    """Clamping what fires nowhere changes nothing and says so; adding it changes what is written, where asked."""
    it = opened()
    silent = "The Fennow is covered"
    asked = {"text": silent, "features": [0], "strengths": [0], "tokens": 6, "seed": 0, "temperature": 0}
    follows = it.explorer.answer({"kind": "steer", **asked})[0]["rows"][0]["cells"][0]["texts"]
    whole = {"text": " ".join([silent, *follows]), "features": [0], "count": 512}
    fires = {row["feature"] for row in it.explorer.answer({"kind": "ablate", **whole})[0]["each"] if row["active"]}
    feature = next(row for row in range(300, 512) if row not in fires)
    it.go(feature)
    it.widget.get_by_role("tab", name="Steer").click()
    steer = it.panel("Steer")

    def written(way: str, strengths: str, where: str = "all") -> list[str]:
        steer.locator("[name=way]").select_option(way)
        if way == "add":
            steer.locator("[name=where]").select_option(where)
        steer.locator("textarea").fill(silent)
        steer.locator("[name=strengths]").fill(strengths)
        steer.locator("[name=tokens]").fill("6")
        steer.locator("[name=temperature]").fill("0")
        steer.get_by_role("button", name="Generate").click()
        expect(steer.get_by_role("button", name="Generate")).to_be_visible()
        expect(steer.locator("thead th")).to_have_count(2 + len(strengths.split(",")))
        return [cell.replace("●", "") for cell in steer.locator("tbody td .tsae-text").all_text_contents()]

    untouched, clamped = written("clamp", "-100")
    assert clamped == untouched
    expect(steer).to_contain_text("clamping changes nothing: “add everywhere” can turn it on")
    untouched, up, down, none = written("add", "40, -40, 0")
    assert none == untouched and up != untouched and down != up
    assert steer.locator("thead th").nth(2).inner_text().startswith("+40")
    assert steer.locator("thead th").nth(3).inner_text().startswith("−40")
    untouched, generated = written("add", "40", "generated")
    assert generated.split()[0] == untouched.split()[0] and generated != untouched  # the first word is the prompt's
    steer.locator("[name=where]").select_option("from")
    steer.locator("[name=first]").fill("-1")
    steer.get_by_role("button", name="Generate").click()
    expect(steer.get_by_role("alert")).to_contain_text("the token is “-1”: write a whole number from 0")
    last = it.behind.asked_of("steer")[-1]
    assert last["way"] == "add" and last["where"] == "generated" and last["features"] == [feature]


def test_a_number_has_its_words_or_its_label(opened: Opening) -> None:
    """In the table, in lanes, among neighbours and in a word's answer; and a label at once in all of them."""
    it = opened()
    expect(it.panel("Trace")).to_have_attribute("data-traced", re.compile(r"\d+"))
    it.panel("Trace").locator(".tsae-tracetext .tsae-token").nth(3).click()
    places = (".tsae-line", ".tsae-lane-name .tsae-link", ".tsae-card td .tsae-link", ".tsae-ontoken .tsae-link")
    for place in places:
        link = it.widget.locator(place).nth(1)
        expect(link.locator(".tsae-preview")).not_to_be_empty()
    link = it.widget.locator(".tsae-card td .tsae-link").first
    feature = int(link.inner_text().split()[0].strip("#"))
    words = it.explorer.answer({"kind": "previews", "features": [feature]})[0]["texts"][0]
    assert link.inner_text() == f"#{feature} {words}"
    it.go(feature)
    it.widget.locator(".tsae-label").fill("my own words")
    it.widget.locator(".tsae-label").press("Enter")
    mine = f"#{feature} my own words"
    expect(it.panel("Trace").locator(".tsae-lane-name .tsae-link").first).to_have_text(mine)
    expect(it.widget.locator('.tsae-line[aria-selected="true"]')).to_contain_text("my own words")

def test_place_choice_and_lists_survive(opened: Opening) -> None:
    """A page that is loaded again, and a kernel that is started again, show what was there; the file is sealed."""
    it = opened()
    for feature in (12, 34):
        it.go(feature)
        it.widget.locator(".tsae-star").click()
        expect(it.widget.locator(".tsae-star")).to_contain_text("★")
    it.widget.locator(".tsae-lists summary").click()
    it.widget.get_by_label("name of the list").fill("two of them")
    it.widget.get_by_role("button", name="keep chosen as list").click()
    it.widget.locator("select[aria-label='which features']").select_option("list two of them")
    expect(it.widget.locator(".tsae-line")).to_have_count(2)
    it.widget.locator(".tsae-lists summary").click()
    it.widget.locator(".tsae-head button", has_text="lag-1").click()
    it.panel("Trace").get_by_label("document").fill("7")
    it.panel("Trace").get_by_label("document").press("Enter")
    expect(it.panel("Trace")).to_have_attribute("data-traced", "7")
    it.widget.get_by_role("tab", name="Ablate").click()
    it.page.wait_for_timeout(2000)
    assert it.explorer.lists == {"two of them": [12, 34]}

    def is_there(other: Opened) -> None:
        other.at(34)
        assert other.explorer.selected == [12, 34] and other.explorer.lists == {"two of them": [12, 34]}
        expect(other.widget.get_by_role("tab", name="Ablate")).to_have_attribute("aria-selected", "true")
        expect(other.widget.locator(".tsae-line")).to_have_count(2)
        expect(other.widget.locator(".tsae-head button", has_text="lag-1")).to_contain_text("▾")
        expect(other.panel("Ablate")).to_contain_text("chosen:")
        other.widget.get_by_role("tab", name="Trace").click()
        expect(other.panel("Trace")).to_have_attribute("data-traced", "7")
        expect(other.panel("Trace").get_by_role("button", name="follow")).to_have_attribute("aria-pressed", "false")
        other.widget.get_by_role("tab", name="Ablate").click()
        other.page.wait_for_timeout(2000)

    it.page.reload()
    is_there(it)
    is_there(opened())  # Python anew, over the same folder
    other = opened(feature=99)  # but where somebody asks for another
    other.at(99)
    assert other.explorer.selected == [12, 34]
    path = it.explorer.index.place.path
    path.write_text(path.read_text().replace("34", "35"))
    damaged = opened()
    expect(damaged.widget.get_by_role("status").first).to_contain_text("place.json is damaged")
    damaged.at(0)


def test_back_forward_and_links(opened: Opening) -> None:
    it = opened()
    for feature in (10, 20, 30):
        it.go(feature)
    it.widget.locator(".tsae-rows").focus()
    for _ in range(3):  # leafing is one step
        it.page.keyboard.press("j")
    it.at(33)
    it.page.keyboard.press("Alt+ArrowLeft")
    it.at(30)
    it.press(it.widget.get_by_role("button", name="back"))
    it.at(20)
    it.page.keyboard.press("Alt+ArrowRight")
    it.at(30)
    it.page.keyboard.press("Alt+ArrowLeft")
    it.at(20)
    it.go(40)
    expect(it.widget.get_by_role("button", name="forward")).to_be_disabled()
    it.page.keyboard.press("Escape")
    for feature in (20, 10, 0):
        it.page.keyboard.press("Alt+ArrowLeft")
        it.at(feature)
    assert it.page.url.startswith(it.address)  # the browser has not left
    it.go(77)
    it.press(it.widget.get_by_role("link", name="link"))
    expect(it.page).to_have_url(re.compile(f"#feature=77&of={it.explorer.index.manifest['sae'][:8]}$"))
    address = it.page.url
    it.go(5)
    it.page.goto("about:blank")
    it.page.goto(address)
    it.at(77)
    it.page.evaluate("location.hash = location.hash.replace('77', '78')")
    it.at(78)
    it.page.evaluate("location.hash = '#feature=5&of=another'")
    it.page.wait_for_timeout(300)
    it.at(78)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier_in_the_widget(opened: Opening, theme: str) -> None:
    """axe-core on every tab, with a word's answer, a label, chosen features and the menu open."""
    it = opened(theme=theme)
    trace = it.panel("Trace")
    expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
    it.widget.locator(".tsae-star").click()
    expect(it.widget.locator(".tsae-star")).to_contain_text("★")
    trace.locator(".tsae-tracetext .tsae-token").nth(3).click()
    expect(trace.locator(".tsae-ontoken td").first).to_be_visible()
    it.widget.locator(".tsae-star").click()  # what is drawn again keeps the word's answer
    expect(it.widget.locator(".tsae-star")).to_contain_text("☆")
    it.page.wait_for_timeout(500)
    expect(trace.locator(".tsae-ontoken td").first).to_be_visible()
    it.widget.locator(".tsae-lists summary").click()
    assert not barriers(it.page)
    it.widget.locator(".tsae-lists summary").click()
    trace.get_by_role("button", name="table").click()
    expect(trace.locator("table").last).to_contain_text("run length")
    assert not barriers(it.page)
    for name in ("Steer", "Ablate", "Compare"):
        it.widget.get_by_role("tab", name=name).click()
        if name != "Compare":
            if name == "Steer":
                it.panel(name).locator("[name=tokens]").fill("4")
            it.panel(name).locator(".tsae-run").click()
            expect(it.panel(name).locator("table").first).to_be_visible()
        else:
            expect(it.panel(name)).to_have_attribute("data-compared", "0")
        assert not barriers(it.page), name
    it.page.add_style_tag(content=".tsae .tsae-faint { color: #808080 !important; opacity: 0.5; }")
    assert any("color-contrast" in found for found in barriers(it.page))  # that would be found


FIRST_RED = """async (png) => { // of a picture's first point
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.drawImage(await createImageBitmap(new Blob([bytes])), 0, 0);
  return pen.getImageData(0, 0, 1, 1).data[0];
}"""


def test_a_late_answer_to_a_search_changes_nothing(opened: Opening) -> None:
    """Whoever has left a search, or opened another feature, while the kernel was looking, stays there."""
    it = opened(compare=False)
    search, foot = it.widget.locator("input[type=search]"), it.widget.locator(".tsae-foot")
    with it.behind.holding("search"):
        search.fill("bark")
        search.press("Enter")
        expect(foot).to_contain_text("looking for")
        search.press("Escape")
        it.page.keyboard.press("j")
        it.at(1)
    it.page.wait_for_timeout(1000)
    it.at(1)
    expect(foot).to_contain_text("512 of 512 features")
    with it.behind.holding("search"):
        search.fill("bark")
        search.press("Enter")
        it.widget.locator(".tsae-card td .tsae-link").first.click()
        expect(it.widget).not_to_have_attribute("data-painted", "1")
        chosen = it.widget.get_attribute("data-painted") or ""
    expect(foot).to_contain_text("best first")
    it.page.wait_for_timeout(1000)
    it.at(int(chosen))


def test_explorers_of_one_index_know_of_each_other(opened: Opening, explored: Explored) -> None:
    """Labels that are given in one stand in the others, also the labels of Compare; no list is lost."""
    it = opened()
    again = FeatureExplorer(FeatureIndex.open(it.explorer.index.folder))
    beside = FeatureExplorer(FeatureIndex.open(explored.other))
    again.answer({"kind": "label", "feature": 2, "text": "from another cell"})
    expect(it.widget.locator(".tsae-line[data-id='2'] .tsae-name")).to_have_text("from another cell")
    it.widget.locator(".tsae-label").fill("from here")
    it.press(it.widget.locator(".tsae-line").nth(3))
    it.at(3)
    expect(it.widget.locator(".tsae-line[data-id='0'] .tsae-name")).to_have_text("from here")
    assert again._about["labels"] == {"0": "from here", "2": "from another cell"}
    it.explorer.answer({"kind": "label_other", "feature": 5, "text": "in the tab Compare"})
    assert beside._about["labels"]["5"] == "in the tab Compare"
    beside.answer({"kind": "label", "feature": 5, "text": ""})

    again.answer({"kind": "keep", "place": {}, "lists": {"theirs": [7]}})
    it.widget.locator(".tsae-star").click()
    it.widget.locator(".tsae-lists summary").click()
    it.widget.get_by_label("name of the list").fill("mine")
    it.widget.get_by_role("button", name="keep chosen as list").click()
    expect(it.widget.get_by_role("button", name="forget the list theirs")).to_be_visible()
    it.page.wait_for_timeout(2000)  # the place is kept a second after the last change
    assert FeatureIndex.open(it.explorer.index.folder).place.read()[0]["lists"] == {"theirs": [7], "mine": [3]}
    it.widget.get_by_role("button", name="forget the list theirs").click()
    it.page.wait_for_timeout(2000)
    assert again.index.place.read()[0]["lists"] == {"mine": [3]}


def test_labels_of_another_kernel_come_with_the_next_feature(opened: Opening) -> None:
    """Where one is opened, for all explorers of the index in this kernel, and no card is asked for twice."""
    it = opened()
    again = FeatureExplorer(FeatureIndex.open(it.explorer.index.folder))
    elsewhere = FeatureIndex.open(it.explorer.index.folder)
    elsewhere.labels.set(2, "from another kernel")
    elsewhere.labels.set(5, "the next")
    it.go(5)
    expect(it.widget.locator(".tsae-line[data-id='2'] .tsae-name")).to_have_text("from another kernel")
    expect(it.widget.locator(".tsae-label")).to_have_value("the next")
    assert again._about["labels"] == it.explorer._about["labels"] == {"2": "from another kernel", "5": "the next"}
    it.page.wait_for_timeout(500)
    assert sum(question["feature"] == 5 for question in it.behind.asked_of("card")) == 1


def test_the_place_of_who_never_rests_is_kept(opened: Opening) -> None:
    """Leafing on and on, and where the page is left at once."""
    it = opened()
    it.behind.wait_for("keep")
    it.behind.asked.clear()
    it.widget.locator(".tsae-rows").focus()
    for _ in range(14):
        it.page.keyboard.press("j")
        it.page.wait_for_timeout(450)
    assert it.behind.asked_of("keep")
    it.page.wait_for_timeout(1500)
    it.behind.asked.clear()
    it.page.evaluate("""() => {
      const later = window.setTimeout; // no second passes any more
      window.setTimeout = (work, wait, ...more) => (wait > 900 ? 1e9 : later(work, wait, ...more));
      document.querySelector(".tsae-star").click();
      window.dispatchEvent(new Event("pagehide"));
    }""")
    it.behind.wait_for("keep", 10)
    assert it.behind.asked_of("keep")[0]["place"]["selected"] == [it.explorer.feature]


TURNED_ROUND = """() => { // ours that does not run from left to right, and foreign that stands in no element of its own
  const found = [], walk = document.createTreeWalker(document.querySelector(".tsae"), NodeFilter.SHOW_TEXT);
  const placed = (node, i) => {
    const range = new Range();
    range.setStart(node, i);
    range.setEnd(node, i + 1);
    return range.getBoundingClientRect();
  };
  const turned = (one, next) => Math.abs(one.top - next.top) < 4 && next.left < one.left;
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const text = node.data, before = node.previousSibling?.getBoundingClientRect?.();
    if (node.parentElement.closest("bdi, [dir=auto], option, [hidden]")) continue;
    if (/[\\u0590-\\u05ff\\u202e]/.test(text.replace(/\\u2068[^\\u2069]*\\u2069/g, ""))) found.push(`foreign: ${text}`);
    const seen = [...text].map((_, i) => placed(node, i)).filter((one) => one.width > 0);
    if (before?.width && seen.length && turned(before, seen[0])) found.push(`before what precedes it: ${text}`);
    if (text.includes("\\u2068")) continue;
    if (seen.some((one, i) => i && turned(seen[i - 1], one))) found.push(`backwards: ${text}`);
  }
  return [...new Set(found)];
}"""


def test_foreign_text_turns_nothing_round(opened: Opening) -> None:
    """A label, explanations, a list, a search and a word, from right to left, or saying that all after them is."""
    it, turns = opened(), "a\u202elabel שלום"
    it.explorer.index.explanations.replace([Explanation(6, f"{turns} {i}", "tiny", "1") for i in range(2)])
    it.explorer.answer({"kind": "label", "feature": 5, "text": turns})
    it.explorer.answer({"kind": "keep", "place": {}, "lists": {turns: [1, 2]}})
    it.page.reload()
    it.go(6)
    expect(it.widget.locator(".tsae-card .tsae-imported")).to_contain_text("label")
    assert it.page.evaluate(TURNED_ROUND) == []
    it.widget.locator(".tsae-lists summary").click()
    expect(it.widget.locator(".tsae-menu bdi")).to_be_visible()
    assert it.page.evaluate(TURNED_ROUND) == []
    it.widget.locator(".tsae-lists summary").click()
    it.go(5)
    it.widget.locator(".tsae-star").click()
    trace, search = it.panel("Trace"), it.widget.locator("input[type=search]")
    trace.locator("textarea").fill(f"The Fennow is {turns} covered in bark .")
    trace.get_by_role("button", name="Read").click()
    expect(trace).to_have_attribute("data-traced", "text")
    trace.locator(".tsae-tracetext .tsae-token", has_text="label").click()
    expect(trace).to_contain_text("features on")
    assert it.page.evaluate(TURNED_ROUND) == []
    search.fill(turns)
    search.press("Enter")
    expect(it.widget.locator(".tsae-foot")).to_contain_text("label")
    expect(it.widget.locator(".tsae-foot")).not_to_contain_text("looking")
    assert it.page.evaluate(TURNED_ROUND) == []
    title = it.widget.locator(".tsae-lane-name .tsae-link[title*='feature 5']").first.get_attribute("title") or ""
    assert title.startswith("open feature 5: \u2068alabel") and title.endswith("\u2069")


@pytest.mark.parametrize("width", [640, 900, 1420])
def test_what_the_search_takes_is_read(opened: Opening, width: int) -> None:
    it = opened(width, {"width": 1500, "height": 900} if width > 1200 else LAB)
    room, needed = it.widget.locator("input[type=search]").evaluate("""(field) => {
      const style = getComputedStyle(field), pen = document.createElement("canvas").getContext("2d");
      pen.font = style.font;
      const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      return [room, pen.measureText(field.placeholder).width];
    }""")
    assert needed <= room
    it.widget.locator(".tsae-lists summary").click()
    expect(it.widget.get_by_label("name of the list")).to_be_visible()


def test_a_word_is_one_of_the_text_in_sight(opened: Opening) -> None:
    """What fires on a word is asked of that text, whatever another browser has read since."""
    it = opened(compare=False)
    trace = it.panel("Trace")
    trace.locator("textarea").fill("The Fennow is covered in bark .")
    trace.get_by_role("button", name="Read").click()
    expect(trace).to_have_attribute("data-traced", "text")
    expected = it.explorer.answer({"kind": "token", "text": "The Fennow is covered in bark .", "column": 5})[0]["rows"]
    it.explorer.answer({"kind": "prompt", "text": "bark"})
    trace.locator(".tsae-tracetext [data-column='5']").click()
    links = trace.locator(".tsae-ontoken .tsae-link")
    expect(links.first).to_contain_text(f"#{expected[0]['feature']}")
    assert [int(re.findall(r"\d+", text)[0]) for text in links.all_inner_texts()] == [
        row["feature"] for row in expected[:12]]


def test_what_was_made_says_of_which_features(opened: Opening) -> None:
    """A text that was made with a feature is not taken for one of the feature that is open now."""
    it = opened(compare=False)
    for tab, button, answer in (("Steer", "Generate", "thead"), ("Ablate", "Ablate", ".tsae-ablated thead")):
        it.go(0)
        it.widget.get_by_role("tab", name=tab).click()
        panel = it.panel(tab)
        panel.locator("textarea").fill("The Fennow is covered")
        panel.get_by_role("button", name=button).click()
        expect(panel.locator(answer)).to_be_visible()
        expect(panel.locator(".tsae-of-others")).to_have_count(0)
        it.go(1)
        expect(panel.locator(".tsae-of-others")).to_contain_text("#0")


def test_leafing_over_known_cards_asks_for_little(opened: Opening) -> None:
    """Who leafs back over cards that were seen does not wait for the relations of each."""
    it = opened(compare=False)
    it.widget.locator(".tsae-rows").focus()
    for feature in range(1, 31):
        it.page.keyboard.press("j")
        it.at(feature)
    before = len(it.behind.asked_of("coactive"))
    for _ in range(30):
        it.page.keyboard.press("k")
    it.at(0)
    expect(it.widget.locator(".tsae-card")).to_contain_text("fires together with")
    assert len(it.behind.asked_of("coactive")) - before < 6


def test_a_link_to_no_feature_says_so(opened: Opening) -> None:
    it = opened(compare=False)
    notice, of = it.widget.get_by_role("status").first, it.explorer.index.manifest["sae"][:8]
    it.page.goto("about:blank")
    it.page.goto(f"{it.address}#feature=99999&of={of}")
    expect(notice).to_contain_text("The link is to feature 99999")
    it.at(0)
    it.go(7)
    expect(notice).to_be_hidden()
    it.page.evaluate("location.hash = location.hash.replace('7', '512')")
    expect(notice).to_contain_text("The link is to feature 512")
    it.page.evaluate("location.hash = location.hash.replace('512', '8')")
    it.at(8)
    expect(notice).to_be_hidden()


def test_a_damaged_page_says_so(opened: Opening, tmp_path: Path) -> None:
    """A shared page that was cut or changed on its way is not an empty one."""
    it = opened(compare=False)
    exported = it.explorer.export_html(tmp_path / "share.html", features=[3, 5, 8])
    whole = exported.read_text(encoding="utf-8")
    begin = whole.index('id="archive">') + len('id="archive">')
    end = whole.index("</script>", begin)
    half = (begin + end) // 2
    for damaged in (whole[:begin] + whole[end:], whole[:half] + whole[end:], whole[:half] + "!" + whole[half + 1:],
                    whole[:half] + "AAAA" + whole[half + 4:]):
        exported.write_text(damaged, encoding="utf-8")
        it.page.goto("about:blank")
        it.page.goto(exported.as_uri())
        expect(it.widget).to_contain_text("This page is damaged")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier_in_a_shared_page(
    opened: Opening, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    """The exported page in a light and in a dark system: dark to its edges, and links to features that it holds."""
    it = opened(compare=False)
    exported = it.explorer.export_html(tmp_path / "share.html", features=[3, 5, 8])
    it.page.emulate_media(color_scheme=scheme)
    try:
        it.page.goto(f"{exported.as_uri()}#feature=5&of={it.explorer.index.manifest['sae'][:8]}")
        it.at(5)
        expect(it.panel("Trace")).to_have_attribute("data-traced", re.compile(r"\d+"))
        expect(it.widget.locator(".tsae-card td .tsae-link .tsae-preview").first).not_to_be_empty()
        assert not barriers(it.page)
        corner = it.page.screenshot(clip={"x": 0, "y": 0, "width": 4, "height": 4})  # outside of the widget
        red = it.page.evaluate(FIRST_RED, base64.b64encode(corner).decode())
        assert red == 255 if scheme == "light" else red < 40, red
        it.page.evaluate("location.hash = location.hash.replace('5', '8')")
        it.at(8)
    finally:
        it.page.emulate_media(color_scheme="no-preference")


def test_a_word_is_found_at_the_best_threshold(opened: Opening) -> None:
    """What the list, the foot and the card say of a word is so in the dense codes; a part of a word is called one."""
    it = opened()
    index = it.explorer.index
    tokens = np.asarray([index.arrays.vocabulary[token].strip() for token in index.arrays.tokens])
    search, foot, card = (it.widget.locator(place) for place in ("input[type=search]", ".tsae-foot", ".tsae-card"))

    def asked(text: str) -> None:
        search.click()
        search.fill(text)
        it.page.keyboard.press("Enter")
        expect(it.widget.locator(".tsae-rows")).to_have_attribute("data-searched", text)

    asked("is")
    expect(foot).to_contain_text(f"“is” occurs {(tokens == 'is').sum()} times as a whole word; 25 features, best first")
    best = it.explorer.answer({"kind": "search", "text": "is"})[0]["rows"][0]
    it.at(best["feature"])
    positions, values = index.arrays.column(best["feature"])
    above = positions[values > best["threshold"]]
    assert best["threshold"] > 0 and len(above) == best["fired"]
    hits = int((tokens[above] == "is").sum())
    assert best["f1"] == pytest.approx(2 * hits / (len(above) + (tokens == "is").sum()), abs=1e-5)
    assert best["f1"] > 2 * best["f1_any"]  # of firing at all it would look like nothing
    expect(card.locator(".tsae-found-here")).to_contain_text(f"fires above {best['threshold']:.3g} on {hits} of its")
    expect(it.widget.locator(".tsae-line .tsae-name").first).to_contain_text(f"{best['f1']:.2g}")
    it.press(it.widget.locator(".tsae-line").nth(3))
    expect(card.locator(".tsae-found-here")).to_contain_text("“is”")
    asked("ar")
    expect(foot).to_contain_text("“ar” is no word of its own here; it occurs")
    expect(foot).to_contain_text("as a part of a word (")
    asked("qqq")
    expect(foot).to_contain_text("“qqq” is no word here, nor a part of one; no feature fires on it.")
    search.press("Escape")
    expect(foot).to_contain_text("512 of 512")
    it.go(7)
    expect(card.locator(".tsae-found-here")).to_have_count(0)


def test_the_other_sae_is_opened_and_labelled(opened: Opening, explored: Explored) -> None:
    """Its features open beside their matches, with contexts and what they match in turn; labels reach its own file."""
    it = opened(feature=20)
    it.widget.get_by_role("tab", name="Compare").click()
    compare = it.panel("Compare")
    expect(compare).to_have_attribute("data-compared", "20")
    other = FeatureIndex.open(explored.other)
    rows = it.explorer.answer({"kind": "matches", "feature": 20})[0]["rows"]
    theirs = compare.locator(".tsae-other section")
    expect(theirs).to_have_attribute("data-feature", str(rows[0]["feature"]))
    it.press(compare.locator(".tsae-matches [data-other]").nth(2))
    expect(theirs).to_have_attribute("data-feature", str(rows[2]["feature"]))
    reverse = it.explorer.explored.needs_comparison().reverse(rows[2]["feature"])
    expect(theirs.locator("table .tsae-link").first).to_contain_text(f"#{reverse['feature'][0]} ")
    top = other.contexts.of(rows[2]["feature"], top=1, each_fifth=0, random=0)
    expect(theirs.locator(".tsae-context .tsae-value").first).to_contain_text(f"{top.activations.max():.3g}")
    assert theirs.locator(".tsae-context").count() > 5
    try:
        theirs.locator(".tsae-otherlabel").fill("of the other")
        it.press(compare.locator(".tsae-matches [data-other]").nth(1))  # the label is kept, the click is not lost
        expect(theirs).to_have_attribute("data-feature", str(rows[1]["feature"]))
        expect(compare.locator(".tsae-matches [data-other]").nth(2)).to_contain_text("of the other")
        assert FeatureIndex.open(explored.other).labels == {rows[2]["feature"]: "of the other"}
        assert not it.explorer.index.labels
    finally:
        other.labels.set(rows[2]["feature"], "")
    mine = theirs.locator("table .tsae-link").nth(1)
    number = mine.inner_text().split()[0]
    it.press(mine)
    expect(it.widget.locator(".tsae-card h3")).to_have_text(number)


def test_a_text_of_ones_own_in_both(opened: Opening) -> None:
    it = opened()
    it.widget.get_by_role("tab", name="Compare").click()
    compare = it.panel("Compare")
    expect(compare).to_have_attribute("data-compared", "0")
    compare.get_by_label("text to read with both").fill("The Fennow is covered in bark .")
    it.press(compare.get_by_role("button", name="Read in both"))
    expect(compare.locator("figcaption").last).to_contain_text("your text")
    names = compare.locator(".tsae-lane-name")
    assert names.count() >= 8 and "other" in names.nth(1).inner_text()
    asked = it.behind.asked_of("pairs")[-1]
    assert asked["text"] == "The Fennow is covered in bark ." and "piece" not in asked
    it.widget.get_by_role("tab", name="Trace").click()  # it is the same text there
    expect(it.panel("Trace")).to_have_attribute("data-traced", "text")


def test_explanations_go_in_and_out(opened: Opening, tmp_path: Path) -> None:
    """Imported ones stand where a label would, and say so; a label wins; what is wrong is said, and changes nothing."""
    it = opened()
    index = it.explorer.index
    row = {"modelId": "tiny", "layer": "1-temporal", "index": "3", "description": "what others say",
           "explanationModelName": "a model", "typeName": "by hand"}
    (tmp_path / "in.json").write_text(json.dumps([row, row | {"index": 4, "description": "of the fourth"}]))
    (tmp_path / "wrong.json").write_text(json.dumps([row | {"index": "512"}]))
    index.labels.set(4, "mine")
    it.page.reload()
    it.at(0)
    it.widget.locator(".tsae-lists summary").click()
    field = it.widget.get_by_label("file of explanations")
    field.set_input_files(tmp_path / "wrong.json")
    expect(it.widget.get_by_role("status").first).to_contain_text("index is 512, but this SAE has features 0 to 511")
    assert not FeatureIndex.open(index.folder).explanations
    field.set_input_files(tmp_path / "in.json")
    line = it.widget.locator(".tsae-line[data-id='3'] .tsae-name")
    expect(line.locator(".tsae-imported")).to_contain_text("what others say")
    expect(it.widget.locator(".tsae-line[data-id='4'] .tsae-name")).to_have_text(" mine")
    expect(it.widget.get_by_role("status").first).to_be_hidden()
    it.widget.locator(".tsae-lists summary").click()
    it.go(3)
    card = it.widget.locator(".tsae-card")
    expect(card.locator(".tsae-imported")).to_contain_text("imported: what others say (a model)")
    expect(card.locator(".tsae-label")).to_have_value("")
    it.press(card.get_by_role("button", name="use as label"))
    expect(line).to_have_text(" what others say")
    assert FeatureIndex.open(index.folder).labels == {3: "what others say", 4: "mine"}
    it.widget.locator(".tsae-lists summary").click()
    with it.page.expect_download() as download:
        it.press(it.widget.get_by_role("button", name="explanations to a file"))
    out = json.loads(Path(download.value.path()).read_text())
    assert [(one["index"], one["description"], one["explanationModelName"]) for one in out] == [
        ("3", "what others say", None), ("3", "what others say", "a model"), ("4", "mine", None),
        ("4", "of the fourth", "a model")]
    exported = it.explorer.export_html(tmp_path / "share.html", features=[3, 4])
    it.page.goto(exported.as_uri())
    it.at(3)
    expect(it.widget.locator(".tsae-card .tsae-imported")).to_contain_text("imported: what others say")


def test_a_card_as_json_and_its_link(opened: Opening, tmp_path: Path) -> None:
    """The button gives what Python gives; in an exported page too, but for the last of three figures."""
    it = opened(feature=20)
    it.page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    def saved() -> dict[str, object]:
        with it.page.expect_download() as download:
            it.press(it.widget.get_by_role("button", name="card as JSON"))
        assert download.value.suggested_filename == "feature-20.json"
        return dict(json.loads(Path(download.value.path()).read_text()))

    expected = it.explorer.card_json(20)
    assert saved() == json.loads(json.dumps(expected))
    it.press(it.widget.get_by_role("link", name="link"))
    expect(it.widget.get_by_role("link", name="link copied")).to_be_visible()
    assert it.page.evaluate("navigator.clipboard.readText()") == it.page.url
    exported = it.explorer.export_html(tmp_path / "share.html", features=[20, 21])
    it.page.goto(f"{exported.as_uri()}#feature=20&of={it.explorer.index.manifest['sae'][:8]}")
    it.at(20)
    there = saved()
    fewer = {"top": 20, "each_fifth": 2, "random": 5}  # contexts in a page
    assert len(there["contexts"]) == len(it.explorer.index.contexts.of(20, **fewer).kinds)  # type: ignore[arg-type]
    assert {**there, "contexts": 0} == {**json.loads(json.dumps(expected)), "contexts": 0}
    first, same = there["contexts"][0], expected["contexts"][0]  # type: ignore[index]
    assert first["tokens"] == same["tokens"]
    assert first["activations"] == pytest.approx(same["activations"], rel=1e-2)


def meaning(hand: Hand, it: Opened) -> None:
    hand.click(it.widget.locator(".tsae-line").nth(3))
    expect(it.widget.locator(".tsae-card h3")).to_have_text("#3")
    assert in_sight(it.widget.locator(".tsae-card .tsae-context").first, it.widget)


def word(hand: Hand, it: Opened) -> None:
    hand.key("/")
    hand.write("is")
    hand.key("Enter")
    expect(it.widget.locator(".tsae-found-here")).to_contain_text("fires above")


def own_text(hand: Hand, it: Opened) -> None:
    trace = it.panel("Trace")
    hand.click(trace.get_by_label("text to read"))
    hand.write("The Fennow is covered in bark .")
    hand.click(trace.get_by_role("button", name="Read"))
    expect(trace).to_have_attribute("data-traced", "text")


def compared(hand: Hand, it: Opened) -> None:
    hand.click(it.widget.get_by_role("tab", name="Compare"))
    expect(it.panel("Compare").locator(".tsae-other .tsae-context").first).to_be_visible()
    expect(it.panel("Compare")).to_have_attribute("data-compared", re.compile(r"\d+"))


def steered_up(hand: Hand, it: Opened) -> None:
    steer = it.panel("Steer")
    hand.click(it.widget.get_by_role("tab", name="Steer"))
    expect(steer.locator("textarea")).not_to_have_value("")  # the feature's own context is offered as prompt
    steer.locator("[name=way]").focus()
    hand.key("a")  # add everywhere, as a hand chooses in a list
    expect(steer.locator("[name=way]")).to_have_value("add")
    hand.click(steer.get_by_role("button", name="Generate"))
    expect(steer.get_by_role("button", name="Generate")).to_be_visible()
    expect(steer.locator("thead th").nth(2)).to_contain_text("+")


def ablated(hand: Hand, it: Opened) -> None:
    ablate = it.panel("Ablate")
    hand.click(it.widget.get_by_role("tab", name="Ablate"))
    expect(ablate.locator("textarea")).not_to_have_value("")
    hand.click(ablate.get_by_role("button", name="Ablate"))
    expect(ablate).to_contain_text("nats a token")


def labelled(hand: Hand, it: Opened) -> None:
    for feature in range(3, 23):
        line = it.widget.locator(f".tsae-line[data-id='{feature}']")
        line.scroll_into_view_if_needed()
        hand.click(line)
        expect(it.widget.locator(".tsae-card h3")).to_have_text(f"#{feature}")
        hand.click(it.widget.locator(".tsae-label"))
        hand.write(f"label of {feature}")
    hand.key("Enter")
    expect(it.widget.locator(".tsae-line[data-id='22'] .tsae-name")).to_have_text(" label of 22")
    labels = FeatureIndex.open(it.explorer.index.folder).labels
    assert labels == {feature: f"label of {feature}" for feature in range(3, 23)}  # none is lost


def shared(hand: Hand, it: Opened) -> None:
    it.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hand.click(it.widget.get_by_role("link", name="link"))
    expect(it.widget.get_by_role("link", name="link copied")).to_be_visible()
    assert "feature=" in it.page.evaluate("navigator.clipboard.readText()")


def exported(hand: Hand, it: Opened) -> None:
    run = it.explorer.index.folder.parent
    hand.command(f"tsae export {run} --best 20")
    with it.page.context.expect_page() as another:  # a page of its own: the explorer stays open
        it.page.evaluate("open('about:blank')")
    shared_page = another.value
    shared_page.goto(run.with_suffix(".html").as_uri())
    expect(shared_page.locator(".tsae-line")).to_have_count(20)
    expect(shared_page.locator(".tsae-card .tsae-context").first).to_be_visible()
    shared_page.close()


def saved_card(hand: Hand, it: Opened) -> None:
    with it.page.expect_download():
        hand.click(it.widget.get_by_role("button", name="card as JSON"))


TASKS = [(meaning, 1), (word, 3), (own_text, 3), (compared, 1), (steered_up, 3), (ablated, 2), (shared, 1),
         (saved_card, 1), (exported, 2), (labelled, 61)]


def test_what_people_come_for_in_so_many_gestures(opened: Opening) -> None:
    """The numbers of the table in the notebook to explore; the best unlearning setting is in test_views_page."""
    it = opened()
    for task, gestures in TASKS:
        hand = Hand(it.page)
        if task is not labelled:
            it.widget.locator(".tsae-rows").focus()
        else:
            it.widget.locator("input[type=search]").press("Escape")  # the list of the word
            it.page.keyboard.press("Home")
            it.at(0)
        task(hand, it)
        assert hand.gestures == gestures, f"{task.__name__}: {hand.gestures}"
