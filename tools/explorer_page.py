"""An explorer's widget in a page without JupyterLab: its own module, and its Python behind a server on loopback.

    python tools/explorer_page.py runs/reference/tiny/temporal                # prints an address to open; Ctrl-C ends it
    python tools/explorer_page.py runs/reference/tiny --view monitor          # the same for another view: VIEWS

The page is given the widget's traits and posts its messages; what Python sends, and traits that change, come back on a
line that waits. Colours and room are JupyterLab's: address?theme=dark&width=900.
"""

import argparse
import base64
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anywidget import AnyWidget

from tsae_nb.views.widget import AnsweringWidget

THEMES = Path(sys.prefix, "share", "jupyter", "lab", "themes", "@jupyterlab")
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>explorer</title><link rel="icon" href="data:,"><style>
{theme}
body {{ margin: 8px; background: var(--jp-layout-color0); }}
#widget {{ width: {width}; }}
{style}</style></head>
<body data-jp-theme-light="{light}"><main id="widget"></main><script type="module">
import widget from "/module.js";
const traits = {traits}, listeners = new Map(), unsaved = new Set();
for (const [name, value] of Object.entries(traits)) {{
  if (value && value.bytes !== undefined) {{
    traits[name] = new DataView(Uint8Array.from(atob(value.bytes), (letter) => letter.charCodeAt(0)).buffer);
  }}
}}
const emit = (event, ...what) => [...(listeners.get(event) || [])].forEach((listener) => listener(...what));
let saving = Promise.resolve();
async function post(path, content) {{
  const reply = await fetch(path, {{ method: "POST", body: JSON.stringify(content) }});
  if (!reply.ok) throw new Error(String(reply.status));
}}
const change = (name, value) => {{
  if (JSON.stringify(traits[name]) === JSON.stringify(value)) return;
  traits[name] = value;
  emit(`change:${{name}}`);
}};
const model = {{
  get: (name) => traits[name],
  set(name, value) {{ change(name, value); unsaved.add(name); }},
  save_changes() {{
    const changed = Object.fromEntries([...unsaved].map((name) => [name, traits[name]]));
    unsaved.clear();
    saving = saving.then(() => post("/traits", changed)).catch(() => {{}}); // in order
  }},
  send: (content) => post("/message", content),
  on(event, listener) {{ listeners.set(event, [...(listeners.get(event) || []), listener]); }},
  off(event, listener) {{ listeners.set(event, (listeners.get(event) || []).filter((other) => other !== listener)); }},
}};
async function follow(number) {{
  for (;;) {{
    const reply = await fetch(`/news?after=${{number}}`).catch(() => null);
    if (!reply || !reply.ok) return;
    const whole = await reply.arrayBuffer(), size = new DataView(whole).getUint32(0, true);
    if (!size) continue;
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, size)));
    let at = 4 + size;
    const buffers = head.sizes.map((length) => {{ at += length; return new DataView(whole, at - length, length); }});
    number = head.number;
    if (head.trait) change(head.trait, head.value);
    else emit("msg:custom", head.content, buffers);
  }}
}}
follow({number});
widget.render({{ model, el: document.getElementById("widget") }});
</script></body></html>
"""


def theme_of(name: str) -> str:
    """The colours of JupyterLab's light or dark theme: its `:root` block."""
    style = (THEMES / f"theme-{name}-extension" / "index.css").read_text(encoding="utf-8")
    return "\n".join(re.findall(r":root\s*{[^}]*}", style))


class Served:
    """A widget behind a server: what it is asked, in order, and what of its news the page has not had."""

    def __init__(self, widget: AnsweringWidget) -> None:
        self.widget = widget
        self.asked: list[dict[str, Any]] = []
        self._news: list[tuple[dict[str, Any], list[bytes]]] = []
        self._changed = threading.Condition()
        self._held: dict[str, threading.Event] = {}
        self._closed = False
        widget.send = self._send
        own = {*widget.traits(sync=True)} - {*AnyWidget.class_traits(sync=True)}
        self.names = sorted(name for name in own if name not in ("_esm", "_css") and not name.startswith("_anywidget"))
        self._setting: dict[str, Any] = {}
        widget.observe(self._observed, self.names)

    def _observed(self, change: dict[str, Any]) -> None:
        if self._setting.get(change["name"]) != change["new"]:  # what the page has set, it knows
            self._tell({"trait": change["name"], "value": change["new"]}, [])

    def _tell(self, head: dict[str, Any], buffers: list[bytes]) -> None:
        with self._changed:
            self._news.append((head, buffers))
            self._changed.notify_all()

    def _send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self._tell({"content": content}, buffers or [])

    @contextmanager
    def holding(self, kind: str) -> Iterator[None]:
        """Questions of a kind are not answered before this ends, as by a busy kernel."""
        self._held[kind] = free = threading.Event()
        try:
            yield
        finally:
            del self._held[kind]
            free.set()

    def asked_of(self, kind: str) -> list[dict[str, Any]]:
        """The questions of a kind so far."""
        return [question for question in self.asked if question["kind"] == kind]

    def wait_for(self, kind: str, seconds: float = 30.0) -> None:
        """Wait until a question of a kind has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.asked_of(kind), seconds):
                raise TimeoutError(f"nothing of kind {kind!r} was asked in {seconds:.0f} s")

    def page(self, theme: str, width: str) -> bytes:
        """The page with the widget as it is now."""
        traits = {name: getattr(self.widget, name) for name in self.names}
        plain = {name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
                 for name, value in traits.items()}
        return PAGE.format(
            theme=theme_of(theme), light=str(theme == "light").lower(), width=width, number=len(self._news),
            style=self.widget._css, traits=json.dumps(plain).replace("</", "<\\/")).encode()

    def news(self, after: int, seconds: float = 20.0) -> bytes:
        """The next of the news, waited for: length of a JSON head, head, buffers; 0 where there was none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._news) > after, seconds)
            if self._closed or len(self._news) <= after:
                return (0).to_bytes(4, "little")
            head, buffers = self._news[after]
        text = json.dumps({"number": after + 1, "sizes": [len(part) for part in buffers], **head}).encode()
        return len(text).to_bytes(4, "little") + text + b"".join(buffers)

    def post(self, path: str, content: dict[str, Any]) -> None:
        """A message of the page, or traits that it has set."""
        if path == "/traits":
            for name, value in content.items():
                self._setting[name] = value
                setattr(self.widget, name, value)
                del self._setting[name]
            return
        with self._changed:
            self.asked.append(content)
            self._changed.notify_all()
        if held := self._held.get(content["kind"]):
            held.wait(60)
        self.widget._receive(None, content, [])

    def close(self) -> None:
        """Let go whoever waits for news."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@contextmanager
def served(widget: AnsweringWidget) -> Iterator[tuple[Served, str]]:
    """A widget on a server of loopback, and the page's address."""
    behind = Served(widget)

    class Handler(BaseHTTPRequestHandler):
        def _reply(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # the page was closed meanwhile
                self.wfile.write(content)

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            options = {name: values[0] for name, values in parse_qs(address.query).items()}
            if address.path == "/module.js":
                self._reply(behind.widget._esm.encode(), "text/javascript")
            elif address.path == "/news":
                self._reply(behind.news(int(options["after"])), "application/octet-stream")
            elif address.path == "/":
                room = f"{options['width']}px" if "width" in options else "auto"
                self._reply(behind.page(options.get("theme", "light"), room), "text/html; charset=utf-8")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            behind.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._reply(b"", "text/plain")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield behind, f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        behind.close()
        server.shutdown()
        server.server_close()


def features_of(run: Path, compare: Path | None) -> AnsweringWidget:
    """The feature explorer of a run of the embedded language model."""
    from tsae_nb.language_model import LanguageModel
    from tsae_nb.sae import load_sae
    from tsae_nb.views.explorer import FeatureExplorer
    from tsae_nb.views.feature_index import FeatureIndex

    model = LanguageModel.load("embedded")
    explorer = FeatureExplorer(FeatureIndex.of_run(run, model), model=model, sae=load_sae(run / "sae"))
    if compare:
        explorer.compare(FeatureIndex.of_run(compare, model))
    return explorer


def unlearning_of(run: Path, _: Path | None) -> AnsweringWidget:
    """The unlearning explorer of such a run."""
    from tsae_nb.language_model import LanguageModel
    from tsae_nb.views.feature_index import FeatureIndex
    from tsae_nb.views.unlearning_explorer import UnlearningExplorer

    return UnlearningExplorer(run, FeatureIndex.of_run(run, LanguageModel.load("embedded")))


def monitor_of(folder: Path, _: Path | None) -> AnsweringWidget:
    """The monitor of all runs below a folder."""
    from tsae_nb.views.training_monitor import TrainingMonitor

    return TrainingMonitor(folder)


def time_of(folder: Path, _: Path | None) -> AnsweringWidget:
    """The explorer of planted worlds, of a stored grid."""
    from tsae_nb.views.time_explorer import TimeExplorer

    return TimeExplorer(folder)


VIEWS = {"features": features_of, "unlearning": unlearning_of, "monitor": monitor_of, "time": time_of}


def main() -> None:
    """Serve a view of a run, or of a folder of runs, until somebody ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder; of the monitor a folder of runs")
    parser.add_argument("--view", choices=VIEWS, default="features")
    parser.add_argument("--compare", type=Path, help="features: another run, to stand beside it")
    options = parser.parse_args()
    with served(VIEWS[options.view](options.run, options.compare)) as (_, address):
        print(address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
