"""A project folder of its own with JupyterLab on it, and a browser that is watched; notebooks draw no pictures"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from browser import NoBrowser, chromium, jupyter_lab  # noqa: E402

os.environ["TSAE_PICTURES"] = "0"  # a Chrome for each notebook takes long; test_ways looks at one with a picture


@pytest.fixture
def without_chrome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as pages and tables: a Chrome for each takes long; test_ways and test_preset see pictures."""
    monkeypatch.setattr("tsae_nb.views.figures.find_chrome", lambda: None)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the notebooks to explore need, with the reference runs, so that the tree stays as it is."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "settings.ini", folder)
    (folder / "runs").mkdir()
    shutil.copy(ROOT / "runs" / "tiny.yaml", folder / "runs")
    shutil.copytree(
        ROOT / "nbs" / "explore", folder / "nbs" / "explore", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    for name in ("tiny", "planted-grid"):
        reference = Path("runs", "reference", name)
        shutil.copytree(ROOT / reference, folder / reference, ignore=shutil.ignore_patterns("index"))
    shutil.copytree(ROOT / "figures", folder / "figures")
    return folder


@pytest.fixture(scope="session")
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """JupyterLab on the project: notebook path → address."""
    with jupyter_lab(project, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


@pytest.fixture(scope="module")
def chromium_page() -> Iterator[Page]:
    try:
        with chromium() as page:
            page.set_default_timeout(120_000)
            yield page
    except NoBrowser as error:
        pytest.skip(str(error))


@pytest.fixture()
def page(chromium_page: Page) -> Iterator[Page]:
    """A page; the test fails on a console error or a request that leaves this machine."""
    problems: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    def requested(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "file:", "data:", "blob:")):
            problems.append(f"request to {request.url}")

    listeners = {"console": console, "request": requested, "pageerror": lambda error: problems.append(str(error))}
    for event, listener in listeners.items():
        chromium_page.on(event, listener)  # type: ignore[call-overload]
    yield chromium_page
    for event, listener in listeners.items():
        chromium_page.remove_listener(event, listener)
    assert not problems, problems
