"""JupyterLab on loopback and a Chromium beside it, for the browser tests and the latency script."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

from tsae_nb.foundation import find_chrome

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowser(Exception):
    """There is no Chrome or Chromium; the message says how to get one."""


@contextmanager
def jupyter_lab(root: Path, scratch: Path) -> Iterator[Callable[[str], str]]:
    """JupyterLab with `root` as its folder and its own settings in `scratch`; yields notebook path → address."""
    token = secrets.token_hex(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page_config = scratch / "config" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True)
    page_config.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    environment = {
        **os.environ,
        **{name: str(scratch / place) for name, place in places.items()},
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    log = scratch / "lab.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", log)
        yield lambda notebook: f"http://127.0.0.1:{port}/lab/tree/{notebook}?token={token}&reset"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait_for(address: str, log: Path, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


@contextmanager
def chromium(width: int = 1500, height: int = 1000) -> Iterator[Page]:
    """A page of `$CHROME`, a system's Chromium or playwright's own. `NoBrowser` where there is none."""
    with sync_playwright() as playwright:
        found: dict[str, Any] = {"executable_path": chrome} if (chrome := find_chrome()) else {}
        try:
            browser = playwright.chromium.launch(headless=True, args=list(FLAGS), **found)
        except Error as error:
            raise NoBrowser(
                "no Chrome or Chromium found: install one, set CHROME, or run `playwright install chromium`"
            ) from error
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def run_all(page: Page, address: str, seconds: float = 300.0) -> None:
    """Open a notebook and run all its cells; returns when they have been started."""
    page.goto(address, timeout=1000 * seconds)
    run_cells(page, seconds)


def run_cells(page: Page, seconds: float = 300.0) -> None:
    """Run all cells of the notebook that is open; returns when they have been started."""
    page.wait_for_selector(
        "#jp-main-statusbar >> text=/\\| Idle$/", timeout=1000 * seconds
    )  # else a kernel dialog opens
    page.click('.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
