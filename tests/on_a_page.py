"""What tests of views in a page share: a laptop's window, what axe finds in it, and a hand that counts"""

import shlex

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tsae_nb.cli import main

LAB = {"width": 1280, "height": 800}  # a laptop; with the file browser open about 900 are left for a widget
SERIOUS = ("serious", "critical")


def barriers(page: Page) -> list[str]:
    """What axe-core finds of the serious kinds, contrast among them."""
    found = Axe().run(page, context=".tsae").response["violations"]
    return [f"{one['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:200]}"
            for one in found if one["impact"] in SERIOUS for node in one["nodes"][:4]]


def press(page: Page, place: Locator, milliseconds: int = 120) -> None:
    """A click as a hand holds it."""
    box = None
    while box is None:  # it may just be drawn again
        expect(place).to_be_visible()
        box = place.bounding_box()
    page.mouse.move(box["x"] + min(40, box["width"] / 2), box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(milliseconds)
    page.mouse.up()


class Hand:
    """Counts gestures: a click, a key, a text typed or pasted in one go; looking costs nothing."""

    def __init__(self, page: Page) -> None:
        self.page, self.gestures = page, 0

    def click(self, place: Locator) -> None:
        press(self.page, place)
        self.gestures += 1

    def key(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.gestures += 1

    def write(self, text: str) -> None:
        self.page.keyboard.insert_text(text)
        self.gestures += 1

    def command(self, line: str) -> None:
        """A line typed into a shell, and Enter."""
        name, *arguments = shlex.split(line)
        assert name == "tsae" and main(arguments) == 0
        self.gestures += 2
