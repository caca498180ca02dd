"""The notebooks to explore in a real JupyterLab: run all, and do with the mouse and the keyboard what a person does"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import run_all
from explorer_latency import synthetic_index
from playwright.sync_api import Locator, Page, expect

from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex

Lab = Callable[[str], str]
MINUTES = 5 * 60_000  # for cells that train
expect.set_options(timeout=30_000)  # ms: other tests have the cores, and one kernel answers in turn


@pytest.fixture(autouse=True)
def nobody_was_here(project: Path, page: Page) -> Iterator[None]:
    """Explorers open at their beginning, not where the test before left them."""
    yield
    page.goto("about:blank")
    page.wait_for_timeout(1000)  # a page that is left has its place kept
    for place in project.glob("runs/reference/tiny/*/index/place.json"):
        place.unlink()


def painted_feature(widget: Locator) -> int:
    return int(widget.get_attribute("data-painted") or -1)


def explorer_at(page: Page, number: int) -> Locator:
    """The root of the explorer widget of that number in the notebook, once it has painted a card."""
    widget = page.locator(".tsae:has(.tsae-explorer)").nth(number)
    widget.wait_for(timeout=MINUTES)
    widget.scroll_into_view_if_needed()
    expect(widget).to_have_attribute("data-painted", re.compile(r"\d+"), timeout=MINUTES)
    return widget


def test_features(lab: Lab, page: Page, tmp_path: Path) -> None:
    run_all(page, lab("nbs/explore/explore_features.ipynb"))
    widget = explorer_at(page, 0)

    widget.locator(".tsae-rows").focus()  # next feature by keyboard; JupyterLab's own j and k do not interfere
    before = painted_feature(widget)
    page.keyboard.press("j")
    expect(widget).not_to_have_attribute("data-painted", str(before))
    page.keyboard.press("k")
    expect(widget).to_have_attribute("data-painted", str(before))

    page.keyboard.press("/")  # search for a word
    page.keyboard.type("is")
    page.keyboard.press("Enter")
    expect(widget.locator(".tsae-foot")).to_contain_text("best first")
    assert widget.locator(".tsae-line").count() > 0
    page.keyboard.press("Escape")

    trace = widget.locator('[role=tabpanel][aria-label="Trace"]')  # read a pasted text
    trace.locator("textarea").fill("The Fennow is covered in bark 🦩 שלום .")
    trace.get_by_role("button", name="Read").click()
    expect(trace).to_have_attribute("data-traced", "text")
    expect(trace.locator(".tsae-tracetext")).to_contain_text("🦩")
    assert trace.locator(".tsae-unknown").count() == 2  # not in this vocabulary, and shown as typed
    trace.locator(".tsae-tracetext .tsae-token").nth(3).click()
    expect(trace).to_contain_text(re.compile("features on “ ?is”"))
    trace.get_by_role("button", name="table").click()
    expect(trace.locator("table").last).to_contain_text("run length")

    widget.locator(".tsae-star").click()  # choose the feature, clamp it, see both generations
    widget.get_by_role("tab", name="Steer").click()
    steer = widget.locator('[role=tabpanel][aria-label="Steer"]')
    steer.locator("textarea").fill("The Fennow is covered")
    steer.get_by_role("button", name="Generate").click()
    expect(steer.locator("thead")).to_contain_text("untouched", timeout=MINUTES)
    assert steer.locator("thead th").count() == 5 and steer.locator("tbody tr").count() == 1
    expect(steer.locator(".tsae-changed").first).to_be_attached(timeout=MINUTES)  # it fires on the prompt

    widget.get_by_role("tab", name="Ablate").click()
    ablate = widget.locator('[role=tabpanel][aria-label="Ablate"]')
    ablate.get_by_role("button", name="Ablate").click()
    expect(ablate).to_contain_text("nats a token", timeout=MINUTES)

    widget.get_by_role("tab", name="Compare").click()
    compare = widget.locator('[role=tabpanel][aria-label="Compare"]')
    expect(compare).to_contain_text("Median best cosine")
    expect(compare).to_contain_text("nearest to #")
    page.screenshot(path=tmp_path / "features.png")


def test_keys_stay_in_the_widget(lab: Lab, project: Path, page: Page) -> None:
    """What is typed in the explorer is not taken by JupyterLab, for which "b" is a new cell and "dd" the end of one."""
    run_all(page, lab("nbs/explore/explore_features.ipynb"))
    widget = explorer_at(page, 0)
    trace = widget.locator('[role=tabpanel][aria-label="Trace"]')
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    for place in (".tsae-line >> nth=3", ".tsae-card h3", "select >> nth=0", ".tsae-star", ".tsae-lanes >> nth=0"):
        widget.locator(place).click()
        for key in "bxdd":
            page.keyboard.press(key)
        page.keyboard.press("Escape")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    expect(widget.locator(".tsae-card h3")).to_be_visible()

    search = widget.locator("input[type=search]")  # a click on lanes just drawn may have opened another
    search.fill("3")
    search.press("Enter")
    expect(widget).to_have_attribute("data-painted", "3")
    search.press("Escape")

    name = widget.locator(".tsae-label")  # Enter saves a label
    name.fill("a label 🦩")
    name.press("Enter")
    labels = project / "runs" / "reference" / "tiny" / "topk" / "index" / "labels.json"
    expect(widget.locator(".tsae-line .tsae-name", has_text="a label 🦩")).to_be_visible()
    assert "a label 🦩" in json.loads(labels.read_text())["value"].values()

    labelled = painted_feature(widget)
    name.fill("half a la")  # the card is drawn again under the hand, as when the kernel's answer comes late
    widget.locator(".tsae-star").evaluate("star => star.click()")
    expect(widget.locator(".tsae-star")).to_contain_text("☆")
    expect(name).to_be_focused()
    page.keyboard.type("bel")
    expect(name).to_have_value("half a label")
    # another feature opens: what was typed is kept
    widget.locator(".tsae-card button.tsae-link").first.evaluate("link => link.click()")
    expect(name).to_have_value("")
    expect(widget.locator(".tsae-card h3")).not_to_have_attribute("data-feature", str(labelled))
    widget.locator("select[aria-label='which features']").select_option("labelled")
    expect(widget.locator(f".tsae-line[data-id='{labelled}'] .tsae-name")).to_have_text("half a label")
    widget.locator("select[aria-label='which features']").select_option("")

    before = painted_feature(widget)  # after a click on a button, the keys still move
    widget.locator(".tsae-star").click()
    page.keyboard.press("j")
    expect(widget).not_to_have_attribute("data-painted", str(before))

    trace.locator("textarea").fill("The Fennow is covered in bark .")  # a pasted text stays while features change
    trace.get_by_role("button", name="Read").click()
    expect(trace).to_have_attribute("data-traced", "text")
    widget.locator(".tsae-rows").focus()
    page.keyboard.press("j")
    page.wait_for_timeout(1000)
    expect(trace).to_have_attribute("data-traced", "text")
    expect(trace.locator(".tsae-tracetext")).to_contain_text("Fennow")

    trace.locator("textarea").fill(" ")  # nothing to read
    trace.get_by_role("button", name="Read").click()
    expect(trace).to_contain_text("No feature fires on this text.")


def test_levels(lab: Lab, page: Page) -> None:
    """The second explorer of the same notebook shows an SAE with three levels."""
    run_all(page, lab("nbs/explore/explore_features.ipynb"))
    widget = explorer_at(page, 1)
    trace = widget.locator('[role=tabpanel][aria-label="Trace"]')
    expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
    badges = trace.locator(".tsae-lane-name .tsae-level")
    before = badges.all_inner_texts()
    assert "L1" in before and len(set(before)) > 1
    trace.locator("button.tsae-level-1").click()
    pinned = widget.locator(".tsae-card .tsae-level").first.inner_text()  # the feature on the card is always traced
    after = trace.locator(".tsae-lane-name .tsae-level").all_inner_texts()
    assert after.count("L1") == (1 if pinned == "L1" else 0)
    assert "routing L3" in trace.inner_text()


COUNT_POINTS = """window.seenPoints = new Set(); setInterval(() => {
  const curve = document.querySelector('.tsae-monitor .tsae-curve[data-term="loss"]');
  if (curve) window.seenPoints.add(curve.dataset.points);
}, 50);"""


def test_live_run(lab: Lab, page: Page, tmp_path: Path) -> None:
    page.add_init_script(COUNT_POINTS)  # from the start, so that a fast run is seen growing too
    run_all(page, lab("nbs/explore/monitor_training.ipynb"))
    widget = page.locator(".tsae-monitor")
    widget.wait_for(timeout=MINUTES)
    widget.scroll_into_view_if_needed()
    widget.locator('.tsae-curve[data-term="loss"]').wait_for(timeout=MINUTES)
    expect(widget.locator("tbody tr").first).to_contain_text("complete", timeout=MINUTES)
    seen = page.evaluate("[...window.seenPoints]")
    assert len(seen) > 1, seen  # the curve grew while another process trained
    expect(widget.locator("tbody").first).to_contain_text("resumed")
    assert widget.locator(".tsae-curve canvas").count() > 4
    page.screenshot(path=tmp_path / "monitor.png")


def test_unlearning(lab: Lab, page: Page, tmp_path: Path) -> None:
    run_all(page, lab("nbs/explore/explore_unlearning.ipynb"))
    widget = page.locator(".tsae-unlearning")
    widget.wait_for(timeout=MINUTES)
    widget.scroll_into_view_if_needed()
    points = widget.locator("g[role=button]")
    points.first.wait_for()
    point = points.nth(points.count() - 1)
    number = point.get_attribute("data-setting")
    point.click()
    expect(widget).to_have_attribute("data-shown", str(number))
    expect(widget).to_contain_text("accuracy by set")
    expect(widget).to_contain_text("clamped features")
    points.first.focus()  # by keyboard: Enter chooses, and the place is kept
    chosen = points.first.get_attribute("data-setting")
    page.keyboard.press("Enter")
    expect(widget).to_have_attribute("data-shown", str(chosen))
    assert page.evaluate("document.activeElement.dataset.setting") == chosen
    widget.get_by_role("button", name="table").first.click()
    widget.locator(".tsae-settings tbody tr").first.press("Enter")
    expect(widget).to_have_attribute("data-shown", "0")
    page.screenshot(path=tmp_path / "unlearning.png")


def shown_of(widget: Locator, world: str, variant: str, document: int) -> None:
    """Wait until the lanes are those of a world, an SAE and a document."""
    key = f'[{{"world":"{world}","variant":"{variant}","document":{document}}},'
    expect(widget).to_have_attribute("data-shown", re.compile("^" + re.escape(key)), timeout=MINUTES)


def test_time(lab: Lab, page: Page, tmp_path: Path) -> None:
    run_all(page, lab("nbs/explore/does_time_help.ipynb"))
    widget = page.locator(".tsae-time")
    widget.wait_for(timeout=MINUTES)
    widget.scroll_into_view_if_needed()
    shown_of(widget, "length32-noise0.4", "taps-8", 0)
    assert widget.locator("rect.tsae-true").count() > 0 < widget.locator("rect.tsae-hit").count()
    said = widget.locator(".tsae-said")
    expect(said).to_contain_text("Runs of 32 tokens, noise 0.4, slow features")

    cells = page.locator(".jp-Notebook .jp-Cell").count()
    widget.get_by_role("slider", name="taps K").focus()  # by keyboard, one after the other, and the place is kept
    page.keyboard.press("ArrowLeft")
    shown_of(widget, "length32-noise0.4", "taps-2", 0)
    page.keyboard.press("ArrowLeft")
    shown_of(widget, "length32-noise0.4", "taps-1", 0)
    expect(said).to_contain_text("K = 1 has no time")
    widget.get_by_role("slider", name="noise", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    shown_of(widget, "length32-noise0.25", "taps-1", 0)
    for key in "bxdd":  # not JupyterLab's
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "noise"
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    widget.get_by_role("slider", name="document", exact=True).focus()
    page.keyboard.press("ArrowRight")
    shown_of(widget, "length32-noise0.25", "taps-1", 1)

    cell = widget.locator('[data-cell="room length4-noise0.1"]')  # a click on a number goes there
    cell.focus()
    page.keyboard.press("Enter")
    shown_of(widget, "length4-noise0.1", "taps-1", 1)
    expect(widget.locator('[aria-pressed="true"][data-cell]')).to_have_count(4)
    assert page.evaluate("document.activeElement.dataset.cell") == "room length4-noise0.1"
    before = widget.locator('[data-cell^="whole"]').all_inner_texts()
    widget.get_by_role("button", name="fast", exact=True).click()
    expect(said).to_contain_text("fast features")
    assert widget.locator('[data-cell^="whole"]').all_inner_texts() != before
    widget.get_by_role("button", name="mistakes").click()
    expect(widget.locator("section").first).to_contain_text("missed")

    widget.get_by_label("own noise").fill("-1")  # what cannot be is a sentence
    widget.get_by_role("button", name="Train").click()
    expect(widget.locator(".tsae-own")).to_contain_text("planted.noise")
    widget.get_by_label("own noise").fill("0.2")
    widget.get_by_label("own steps").fill("3")
    widget.get_by_role("button", name="Train").click()
    expect(widget).to_have_attribute("data-training", "done", timeout=MINUTES)
    shown_of(widget, "own", "taps-4", 1)
    expect(said).to_contain_text("Runs of 20 tokens, noise 0.2")
    expect(widget.locator('[aria-pressed="true"][data-cell]')).to_have_count(0)
    widget.locator('[data-cell="time length12-noise0.4"]').click()  # K = 4 is not on the grid
    shown_of(widget, "length12-noise0.4", "taps-8", 1)
    widget.get_by_role("button", name="own: length 20").click()
    shown_of(widget, "own", "taps-4", 1)
    page.screenshot(path=tmp_path / "time.png")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> FeatureIndex:
    folder = tmp_path_factory.mktemp("synthetic") / "index"
    synthetic_index(folder, features=1024, tokens=200_000)
    return FeatureIndex.open(folder)


def shown_values(tokens: Locator) -> list[float]:
    """The activations in the titles of tokens, in the order of the text; tokens without one have none."""
    titles = [tokens.nth(i).get_attribute("title") for i in range(tokens.count())]
    return [float(title.split()[-1].replace("−", "-")) for title in titles if title]


def test_export_of_dense_features(project: Path, page: Page, tmp_path: Path) -> None:
    """500 features of an SAE of three levels whose features are active on a third of all tokens."""
    index = FeatureIndex.of_run(project / "runs" / "reference" / "tiny" / "temporal")
    exported = FeatureExplorer(index).export_html(tmp_path / "share.html")
    assert exported.stat().st_size <= 8_000_000
    page.goto(exported.as_uri())
    widget = explorer_at(page, 0)
    trace = widget.locator('[role=tabpanel][aria-label="Trace"]')
    for feature in (0, 137, 498):  # each has the trace of its strongest document
        widget.locator("input[type=search]").fill(f"#{feature}")
        widget.locator("input[type=search]").press("Enter")
        expect(widget).to_have_attribute("data-painted", str(feature))
        piece = int(index.contexts.of(feature, top=1, each_fifth=0, random=0).pieces[0])
        expect(trace).to_have_attribute("data-traced", str(piece))
        expect(trace.locator(".tsae-lane-name").first).to_contain_text("routing")
        expect(trace.locator(".tsae-lane-names")).to_contain_text(f"#{feature}")


def test_export_opens_from_disk(index: FeatureIndex, page: Page, tmp_path: Path) -> None:
    explorer = FeatureExplorer(index)
    exported = explorer.export_html(tmp_path / "share.html", features=range(100, 600))
    assert exported.stat().st_size <= 8_000_000
    page.context.set_offline(True)
    try:
        page.goto(exported.as_uri())
        widget = explorer_at(page, 0)
        assert painted_feature(widget) == 100
        trace = widget.locator('[role=tabpanel][aria-label="Trace"]')
        expect(trace).to_have_attribute("data-traced", re.compile(r"\d+"))
        expect(trace).to_contain_text("features fire")
        piece = int(trace.get_attribute("data-traced") or -1)
        reply, buffers = explorer.answer({"kind": "trace", "piece": piece, "feature": 100, "count": 10})
        matrix = np.frombuffer(buffers[0], "<f4").reshape(len(reply["features"]), -1)
        expected = matrix[reply["features"].index(100)]
        assert (expected > 0).any()  # the same trace as with a kernel, to the three figures shown
        np.testing.assert_allclose(
            shown_values(trace.locator(".tsae-tracetext .tsae-token")), expected[expected > 0], rtol=6e-3
        )
        widget.locator(".tsae-rows").focus()
        page.keyboard.press("j")
        expect(widget).to_have_attribute("data-painted", "101")
        reply, _ = explorer.answer({"kind": "card", "feature": 101})  # the same card as with a kernel
        card = widget.locator(".tsae-card")
        expect(card).to_contain_text(f"active on {reply['statistics']['active']:,} tokens")
        for row in reply["logits"][:10]:
            expect(card).to_contain_text(row["text"].strip())
        expect(card).to_contain_text("fires together with")
        strongest = np.frombuffer(explorer.answer({"kind": "card", "feature": 101})[1][1], "<f4").max()
        assert max(shown_values(card.locator(".tsae-contexts .tsae-token"))) == pytest.approx(strongest, rel=6e-3)
        widget.get_by_role("tab", name="Steer").click()
        expect(widget).to_contain_text("A stored page has no model to steer.")
    finally:
        page.context.set_offline(False)
