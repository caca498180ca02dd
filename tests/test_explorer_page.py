"""The feature explorer in a page without JupyterLab, before its own Python: what a hand does, at a hand's speed"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from explorer_page import Served, served
from playwright.sync_api import Locator, Page, expect

from tsae_nb.language_model import LanguageModel
from tsae_nb.sae import SparseAutoencoder, load_sae
from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex

ROOT = Path(__file__).resolve().parents[1]
LAB = {"width": 1280, "height": 800}  # a laptop; with the file browser open about 900 are left for a widget
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
        box = place.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + min(40, box["width"] / 2), box["y"] + box["height"] / 2)
        self.page.mouse.down()
        self.page.wait_for_timeout(milliseconds)
        self.page.mouse.up()


Opening = Callable[..., Opened]


@pytest.fixture
def opened(explored: Explored, page: Page, tmp_path: Path) -> Iterator[Opening]:
    """Opens an explorer over a copy of the index, `width` pixels wide, in a window of a size and a theme."""
    folder = tmp_path / "temporal" / "index"
    shutil.copytree(explored.folder, folder)
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
