"""What tests of views in a page share: a laptop's window, and what axe finds in it"""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LAB = {"width": 1280, "height": 800}  # a laptop; with the file browser open about 900 are left for a widget
SERIOUS = ("serious", "critical")


def barriers(page: Page) -> list[str]:
    """What axe-core finds of the serious kinds, contrast among them."""
    found = Axe().run(page, context=".tsae").response["violations"]
    return [f"{one['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:200]}"
            for one in found if one["impact"] in SERIOUS for node in one["nodes"][:4]]
