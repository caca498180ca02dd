"""The other views in a page without JupyterLab, before their own Python: monitor, unlearning explorer, time explorer"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from explorer_page import Served, served
from on_a_page import LAB, Hand, barriers
from playwright.sync_api import Locator, Page, expect

from tsae_nb.language_model import LanguageModel
from tsae_nb.packed import file_content
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.training_monitor import TrainingMonitor
from tsae_nb.views.unlearning_explorer import UnlearningExplorer
from tsae_nb.views.widget import AnsweringWidget

REFERENCE = Path(__file__).resolve().parents[1] / "runs" / "reference"
expect.set_options(timeout=30_000)


@dataclass
class Opened:
    """A view in a page: its root, what is behind it, the page."""

    widget: Locator
    behind: Served
    page: Page

    def box(self, place: Locator) -> dict[str, float]:
        """Where something is, in sight."""
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box
        return dict(box)


Opening = Callable[..., Opened]


@pytest.fixture
def opened(page: Page) -> Iterator[Opening]:
    """Opens a view `width` pixels wide, in a theme."""
    with ExitStack() as stack:

        def opening(widget: AnsweringWidget, width: int = 900, theme: str = "light") -> Opened:
            behind, address = stack.enter_context(served(widget))
            page.set_viewport_size(LAB)
            page.goto(f"{address}?theme={theme}&width={width}")
            root = page.locator(".tsae")
            expect(root).to_be_visible()
            return Opened(root, behind, page)

        yield opening
        page.goto("about:blank")


# -- the monitor ------------------------------------------------------------------------------------------------------


@dataclass
class Runs:
    """Runs of the reference, and one that is written while somebody looks."""

    folder: Path
    lines: list[str]

    def write(self, first: int, last: int) -> None:
        """So many more lines of the run under way."""
        with open(self.folder / "growing.partial" / "metrics.jsonl", "a") as file:
            file.writelines(self.lines[first:last])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    folder = tmp_path / "runs"
    for name in ("baseline", "temporal"):
        (folder / name).mkdir(parents=True)
        for file in ("config.yaml", "metrics.jsonl", "manifest.json", "stored.json"):
            (folder / name / file).write_bytes(file_content(REFERENCE / "tiny" / name / file))
    (folder / "growing.partial").mkdir()
    shutil.copy(folder / "temporal" / "config.yaml", folder / "growing.partial")
    made = Runs(folder, (folder / "temporal" / "metrics.jsonl").read_text().splitlines(keepends=True))
    made.write(0, 20)
    return made


def curve(it: Opened, term: str) -> Locator:
    """A term's chart, drawn."""
    place = it.widget.locator(f'.tsae-curve[data-term="{term}"]')
    expect(place.locator("canvas")).to_be_visible()
    return place


def logged(runs: Runs, run: str, term: str, step: float) -> float:
    """What a run last logged of a term up to a step."""
    lines = [json.loads(line) for line in (runs.folder / run / "metrics.jsonl").read_text().splitlines()]
    return float([line[term] for line in lines if line["step"] <= step and term in line][-1])


CURSORS = """() => [...document.querySelectorAll(".u-cursor-x")].map((line) => // how far right each chart's is
  Math.round(line.getBoundingClientRect().left - line.parentElement.getBoundingClientRect().left))"""


def test_the_readout_is_of_the_chart_pointed_at(opened: Opening, runs: Runs) -> None:
    """Its own metric at that step, for each run; every other chart shows the same place."""
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    readout = it.widget.locator(".tsae-readout")
    for term in ("l0", "loss", "dead_features"):
        box = it.box(curve(it, term).locator(".u-over"))
        it.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 20)
        expect(readout).to_contain_text(f"{term} at step")
        step = float(re.search(r"at step (\d+)", readout.inner_text())[1])  # type: ignore[index]
        assert step == pytest.approx(400, abs=5)
        said = dict(re.findall(r"(\w+) ([\d.]+)(?: ·|$)", readout.inner_text()))
        for run in ("baseline", "temporal"):
            assert float(said[run]) == pytest.approx(logged(runs, run, term, step), rel=6e-3), (term, run)
        places = it.page.evaluate(CURSORS)
        assert len(places) > 8 and max(places) - min(places) <= 1, places


def test_dragging_zooms_and_a_double_click_goes_back(opened: Opening, runs: Runs) -> None:
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    box = it.box(curve(it, "loss").locator(".u-over"))
    pixels = it.page.evaluate("document.querySelector('.tsae-curve[data-term=l0] canvas').toDataURL()")
    it.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 40)
    it.page.mouse.down()
    it.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 45, steps=6)
    it.page.mouse.up()
    back = it.widget.get_by_role("button", name="show all")
    low, high = map(int, re.findall(r"(\d+)", back.inner_text()))
    assert (low, high) == (pytest.approx(250, abs=8), pytest.approx(500, abs=8))
    assert pixels != it.page.evaluate("document.querySelector('.tsae-curve[data-term=l0] canvas').toDataURL()")  # all
    runs.write(20, 22)  # what comes meanwhile leaves it so
    expect(it.widget.locator(".tsae-runs tbody tr", has_text="growing")).to_contain_text("/1000")
    it.page.wait_for_timeout(800)
    expect(back).to_be_visible()
    it.page.mouse.dblclick(box["x"] + 0.5 * box["width"], box["y"] + 40)
    expect(back).to_have_count(0)


def test_tokens_smoothing_and_scales_are_said(opened: Opening, runs: Runs) -> None:
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    loss = curve(it, "loss")
    expect(it.widget.locator('[data-chart="loss"] figcaption')).to_contain_text("loss logarithmic")
    expect(it.widget.locator('[data-chart="l0"] figcaption')).to_contain_text("l0 linear")
    expect(it.widget.locator('[data-chart="term/margin"] figcaption')).to_contain_text("not always above 0")
    it.widget.get_by_role("button", name="log", exact=True).click()
    expect(loss).to_have_attribute("data-scale", "linear")
    assert loss.get_attribute("data-last") == "1000"
    it.widget.get_by_role("button", name="tokens").click()
    expect(loss).to_have_attribute("data-last", str(1000 * 32 * 128))
    it.widget.get_by_label("smoothing").select_option("0.9")
    box = it.box(loss.locator(".u-over"))
    it.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    said = re.compile(r"loss at 2\.\d+ M tokens: baseline [\d.]+ \(smoothed")
    expect(it.widget.locator(".tsae-readout")).to_contain_text(said)


def test_a_run_under_way_says_how_fast_and_how_long(opened: Opening, runs: Runs) -> None:
    """Its curve grows in place: no chart is made anew, and a table that is open stays so."""
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    row = it.widget.locator(".tsae-runs tbody tr", has_text="growing")
    expect(row).to_contain_text("running")
    loss = curve(it, "loss")
    before = int(loss.get_attribute("data-points") or 0)
    loss.locator("canvas").evaluate("(canvas) => { canvas.marked = true; }")
    it.widget.locator('[data-chart="l0"]').get_by_role("button", name="table").click()
    for first in range(20, 40, 4):
        runs.write(first, first + 4)
        it.page.wait_for_timeout(400)
    expect(row).to_contain_text(re.compile(r"390/1000[\d.]+ steps/s, [\d.]+ [kM] tokens/s\d+ (s|min)"))
    expect(loss).to_have_attribute("data-points", str(before + 20))
    assert loss.locator("canvas").evaluate("(canvas) => canvas.marked")
    expect(it.widget.locator('[data-chart="l0"] td', has_text="390")).to_be_visible()


def test_complete_runs_have_no_pace_and_what_is_left_of_variance_is_drawn(opened: Opening, runs: Runs) -> None:
    shutil.rmtree(runs.folder / "growing.partial")
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    left = it.box(curve(it, "variance left").locator(".u-over"))
    heads = it.widget.locator(".tsae-runs thead th").all_inner_texts()
    assert heads == ["run", "", "state", "step", "loss", "L0", "dead", "alerts"]
    assert it.widget.locator(".tsae-runs tbody tr").first.locator("td").count() == len(heads)
    said = it.widget.locator('[data-chart="variance left"] figcaption')
    expect(said).to_contain_text("1 − explained variance, logarithmic")
    it.page.mouse.move(left["x"] + 0.4 * left["width"], left["y"] + 20)
    readout = it.widget.locator(".tsae-readout")
    expect(readout).to_contain_text("variance left at step")
    step = float(re.search(r"at step (\d+)", readout.inner_text())[1])  # type: ignore[index]
    shown = float(re.search(r"temporal ([\d.]+)", readout.inner_text())[1])  # type: ignore[index]
    assert shown == pytest.approx(1 - logged(runs, "temporal", "explained_variance", step), rel=6e-3)
    expect(it.widget.locator('[data-chart="explained_variance"]')).to_have_count(0)


def test_a_damaged_line_is_said_and_hides_nothing(opened: Opening, runs: Runs) -> None:
    """Of the run that has it, while the others and its own later steps are drawn."""
    with open(runs.folder / "growing.partial" / "metrics.jsonl", "ab") as file:
        file.write(bytes(40) + b'"loss": 1}\n')
    runs.write(20, 22)
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    row = it.widget.locator(".tsae-runs tbody tr", has_text="growing")
    expect(row).to_contain_text("210/1000")
    expect(row).to_contain_text("line 21 of metrics.jsonl cannot be read, and is left out")
    expect(it.widget.locator(".tsae-alert")).to_have_count(1)
    expect(curve(it, "loss")).to_have_attribute("data-points", str(2 * 101 + 22))


def test_what_runs_differ_in(opened: Opening, runs: Runs) -> None:
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    curve(it, "loss")
    it.widget.get_by_text("settings that differ").click()
    table = it.widget.locator(".tsae-differ")
    expect(table.locator("tbody tr", has_text="sae.variant")).to_have_text("sae.variantbaselinetemporaltemporal")
    it.widget.get_by_label("show baseline").uncheck()
    expect(it.widget).to_contain_text("These 2 runs have the same settings.")
    expect(it.widget.locator('[data-chart="loss"]')).to_be_visible()


COUNT_DRAWINGS = """() => { // each chart that is drawn clears its canvas first
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  window.drawings = {};
  CanvasRenderingContext2D.prototype.clearRect = function (...place) {
    const term = this.canvas.closest(".tsae-curve")?.dataset.term;
    window.drawings[term] = (window.drawings[term] || 0) + 1;
    return clear.apply(this, place);
  };
  document.querySelectorAll(".tsae-curve canvas").forEach((canvas) => { canvas.marked = true; });
}"""
TICK_IN_ONE_FRAME = """async (times) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
  window.drawings = {};
  await frame();
  for (let i = 0; i < times; i += 1) document.querySelector('.tsae-runs input[aria-label="show baseline"]').click();
  await frame();
  await frame();
  return window.drawings;
}"""


def test_a_tick_shows_or_hides_curves_and_makes_no_chart(opened: Opening, runs: Runs) -> None:
    """Each chart is drawn once a frame, however often somebody ticks, with what it has; pointing draws none."""
    shutil.rmtree(runs.folder / "growing.partial")
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    curve(it, "loss")
    it.page.wait_for_timeout(1000)  # all has come
    before = it.page.evaluate(PIXELS)
    it.page.evaluate(COUNT_DRAWINGS)
    assert it.page.evaluate(TICK_IN_ONE_FRAME, 2) == {}
    drawn = it.page.evaluate(TICK_IN_ONE_FRAME, 1)
    expect(it.widget.get_by_label("show baseline")).not_to_be_checked()
    kept = it.widget.locator(".tsae-curve").evaluate_all(
        "(all) => all.filter((one) => one.querySelector('canvas').marked).map((one) => one.dataset.term)")
    assert {"loss", "l0", "variance left", "dead_features"} <= set(kept), kept
    assert set(drawn.values()) == {1} and {"loss", "l0"} <= set(drawn), drawn
    assert it.page.evaluate(PIXELS) != before
    expect(curve(it, "loss")).to_have_attribute("data-points", "101")
    assert set(it.page.evaluate(TICK_IN_ONE_FRAME, 3).values()) == {1}
    assert it.page.evaluate(PIXELS) == before
    it.page.evaluate("window.drawings = {}")
    box = it.box(curve(it, "loss").locator(".u-over"))
    for part in (0.2, 0.4, 0.6):
        it.page.mouse.move(box["x"] + part * box["width"], box["y"] + 20)
    expect(it.widget.locator(".tsae-readout")).to_contain_text("loss at step")
    assert it.page.evaluate("window.drawings") == {}


PIXELS = "document.querySelector('.tsae-curve[data-term=loss] canvas').toDataURL()"
FITS = "document.querySelector('.tsae').scrollWidth <= document.querySelector('.tsae').clientWidth"


def test_charts_follow_room_and_theme(opened: Opening, runs: Runs) -> None:
    it = opened(TrainingMonitor(runs.folder, seconds=0.2))
    loss = curve(it, "loss")
    light = it.page.evaluate(PIXELS)
    it.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    it.page.wait_for_function(f"(before) => {PIXELS} !== before", arg=light)
    for width in (620, 1100):
        it.page.evaluate("(width) => { document.getElementById('widget').style.width = `${width}px`; }", width)
        it.page.wait_for_timeout(300)
        chart, canvas = loss.bounding_box(), loss.locator("canvas").bounding_box()
        assert chart and canvas and abs(chart["width"] - canvas["width"]) <= 1
        assert it.page.evaluate(FITS)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier_in_the_monitor(opened: Opening, runs: Runs, theme: str) -> None:
    it = opened(TrainingMonitor(runs.folder, seconds=0.2), theme=theme)
    curve(it, "loss")
    it.widget.get_by_text("settings that differ").click()
    expect(it.widget.locator(".tsae-differ")).to_be_visible()
    it.widget.locator('[data-chart="loss"]').get_by_role("button", name="table").click()
    expect(it.widget.locator('[data-chart="loss"] td').first).to_be_visible()
    assert not barriers(it.page)


def test_no_run_yet(opened: Opening, tmp_path: Path) -> None:
    it = opened(TrainingMonitor(tmp_path / "none", seconds=0.2))
    expect(it.widget).to_contain_text("has written a step yet; this view waits for it")


# -- the unlearning explorer -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which some settings forget, with its index; one feature has a label."""
    run = tmp_path_factory.mktemp("unlearned") / "topk"
    shutil.copytree(REFERENCE / "tiny" / "topk", run, ignore=shutil.ignore_patterns("index"))
    FeatureIndex.of_run(run, LanguageModel.load("embedded")).labels.set(392, "names of subjects")
    return run


def unlearning(run: Path) -> UnlearningExplorer:
    return UnlearningExplorer(run, FeatureIndex.open(run / "index"))


MIDDLES = """(all) => all.map((one) => one.getBBox())
  .map((box) => [box.x + box.width / 2, box.y + box.height / 2])"""
BOXES = """(all) => all.map((one) => one.getBoundingClientRect())
  .map((box) => [box.left, box.top, box.right, box.bottom])"""
ANOTHER = """(of) => { // what a feature explorer of the index is to others
  const other = document.createElement("div");
  other.className = "tsae";
  other.dataset.of = of;
  document.body.append(other);
}"""


def size_and_shape(mark: Locator) -> tuple[float, str]:
    """How large a mark is drawn, and by which commands."""
    outline = mark.locator("path").get_attribute("d") or ""
    box = mark.locator("path").evaluate("(path) => path.getBBox().width")
    return float(box), re.sub(r"[-\d.,\s]", "", outline)


def test_marks_say_multiplier_and_threshold(opened: Opening, unlearned: Path) -> None:
    """A stronger multiplier is larger, another threshold has another shape, more features another colour."""
    it = opened(unlearning(unlearned))
    marks = it.widget.locator(".tsae-plane g[role=button]")
    expect(marks).to_have_count(32)
    looks = {}
    for one in it.behind.widget._about["settings"]:  # type: ignore[attr-defined]
        mark = it.widget.locator(f'.tsae-plane [data-setting="{one["setting"]}"]')
        size, shape = size_and_shape(mark)
        name = mark.locator("path").get_attribute("class") or ""
        tint = re.search(r"tsae-tint(\d)", name)
        looks[one["setting"]] = (one["multiplier_norms"], size, one["retain_threshold"], shape, one["feature_count"],
                                 tint and tint[1])
        assert ("tsae-passed" in name) == one["passed"] and ("tsae-control" in name) == bool(one["control"])
        assert f"threshold {one['retain_threshold']}" in (mark.get_attribute("aria-label") or "")
    for seen, by in ((2, 3), (4, 5)):  # one look for each value
        assert len({(row[seen], row[by]) for row in looks.values()}) == len({row[seen] for row in looks.values()}) == 2
    circles = sorted((row[0], row[1]) for row in looks.values() if row[2] == 0.001)
    assert [size for _, size in circles] == sorted(size for _, size in circles) and circles[0][1] < circles[-1][1]
    places = np.array(it.widget.locator(".tsae-plane g[role=button] path").evaluate_all(MIDDLES))
    between = np.linalg.norm(places[:, None] - places[None], axis=-1) + 99 * np.eye(len(places))
    assert between.min() > 6.5  # the smallest are 7 wide
    texts = it.widget.locator(".tsae-plane text").evaluate_all(BOXES)
    for i, (left, top, right, bottom) in enumerate(texts):
        for other in texts[:i]:
            assert right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3], "text on text"
    key = it.widget.locator(".tsae-key")
    for value in ("0.25", "2", "0.001", "0.01", "10", "20"):
        expect(key.get_by_text(value, exact=True)).to_be_visible()


def test_the_best_unlearning_setting_in_so_many_gestures(opened: Opening, unlearned: Path) -> None:
    """It is there at once; from another setting one click leads back. The last of the table of ten tasks."""
    it = opened(unlearning(unlearned))
    hand, settings = Hand(it.page), it.behind.widget._about["settings"]  # type: ignore[attr-defined]
    passing = [one for one in settings if one["passed"] and not one["control"]]
    best = min(passing, key=lambda one: float(one["forget_accuracy"]))
    expect(it.widget).to_have_attribute("data-shown", str(best["setting"]))
    said = f"retain threshold {best['retain_threshold']} · passes the gate · the best setting"
    expect(it.widget).to_contain_text(said)
    assert hand.gestures == 0
    back = it.widget.get_by_role("button", name="best setting")
    expect(back).to_have_count(0)
    hand.click(it.widget.locator('.tsae-plane [data-setting="15"]'))
    expect(it.widget).to_have_attribute("data-shown", "15")
    hand.click(back)
    expect(it.widget).to_have_attribute("data-shown", str(best["setting"]))
    assert hand.gestures == 2


def test_settings_at_one_place_are_one_mark(opened: Opening) -> None:
    """Of a run in tables, in which nothing was selected: all its settings have the same accuracies."""
    it = opened(UnlearningExplorer(REFERENCE / "tiny" / "temporal-seed1"))
    mark = it.widget.locator(".tsae-plane g[role=button]")
    expect(mark).to_have_count(1)
    expect(mark).to_have_text("×32")
    for shown, said in ((0, "the 1. is shown"), (1, "the 2. is shown")):
        mark.click()
        expect(it.widget).to_have_attribute("data-shown", str(shown))
        expect(it.widget.locator(".tsae-pointed")).to_contain_text("32 settings at one place, 16 of them controls: "
                                                                   "forget 1.000, side 1.000, pass the gate; " + said)
    it.widget.get_by_role("checkbox", name="controls").uncheck()
    expect(mark).to_have_text("×16")


def test_what_was_forgotten_comes_first(opened: Opening, unlearned: Path) -> None:
    it = opened(unlearning(unlearned))
    expect(it.widget).to_have_attribute("data-shown", "2")
    first = it.widget.locator(".tsae-flips details").first
    expect(first.locator("summary")).to_have_text("forget: bio: 16 of 74")
    assert first.evaluate("(details) => details.open")
    expect(it.widget.locator(".tsae-setbar").first).to_contain_text("forget: bio")
    mark = it.widget.locator('.tsae-plane [data-setting="15"]')
    mark.hover()
    said = "setting 15: threshold 0.01, 20 of 20 features, multiplier 34 (2 norms); forget 0.378"
    expect(it.widget.locator(".tsae-pointed")).to_contain_text(said)
    mark.focus()
    it.page.keyboard.press("Enter")
    expect(it.widget).to_have_attribute("data-shown", "15")
    it.page.wait_for_function("document.activeElement.dataset.setting === '15'")  # the place is kept
    until = time.monotonic() + 10
    while it.behind.widget.selected != 15 and time.monotonic() < until:  # type: ignore[attr-defined]
        it.page.wait_for_timeout(50)  # Python hears of it a little later
    assert it.behind.widget.selected == 15  # type: ignore[attr-defined]


def test_clamped_features_have_names_and_open(opened: Opening, unlearned: Path) -> None:
    """A label, or the strongest words; the link names the feature in the address, which feature explorers follow."""
    it = opened(unlearning(unlearned))
    cards = it.widget.locator(".tsae-mini")
    expect(cards.first).to_contain_text("names of subjects")
    expect(cards.nth(1).locator("i")).not_to_be_empty()
    assert len(it.behind.asked_of("card")) == 10
    index = FeatureIndex.open(unlearned / "index")
    cards.first.get_by_role("link").click()
    expect(it.page).to_have_url(re.compile(f"#feature=392&of={index.manifest['sae'][:8]}$"))
    expect(it.widget).to_contain_text("There is no feature explorer of this index in sight")
    it.page.evaluate(ANOTHER, index.manifest["sae"][:8])
    cards.nth(1).get_by_role("link").click()
    expect(it.widget.first).to_contain_text("is open in the feature explorer on this page")


@pytest.mark.parametrize("width", [520, 640, 900])
def test_bars_are_wide_enough(opened: Opening, unlearned: Path, width: int) -> None:
    it = opened(unlearning(unlearned), width=width)
    expect(it.widget.locator(".tsae-mini b").first).to_be_visible()
    for box in (bar.bounding_box() for bar in it.widget.locator(".tsae-track").all()):
        assert box and box["width"] > 250
    assert it.page.evaluate(FITS)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier_in_the_unlearning_explorer(opened: Opening, unlearned: Path, theme: str) -> None:
    it = opened(unlearning(unlearned), theme=theme)
    expect(it.widget.locator(".tsae-mini b").first).to_be_visible()
    assert not barriers(it.page)
    for button in it.widget.get_by_role("button", name="table").all():
        button.click()
    expect(it.widget.locator(".tsae-settings")).to_be_visible()
    assert not barriers(it.page)
