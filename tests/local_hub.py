"""A hub on 127.0.0.1 that speaks the protocol of huggingface.co: what the tests of fetching and refusing stand on.

    with LocalHub({"owner/model": folder, "datasets/owner/data": {"train.jsonl": b"..."}}) as hub:
        subprocess.run(..., env=hub.environment(home))

Repositories are named as in a URL: data sets begin with `datasets/`. Clients read the address when they are imported,
so that a test runs them in a process of its own, with `environment`.
"""

import hashlib
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "b" * 40
ROUTE = re.compile(r"(?P<api>/api)?/(?:models/)?(?P<id>(?:datasets/)?[\w.-]+(?:/[\w.-]+)?)(?P<rest>/.*)?")
CALLS = ("resolve", "tree", "revision", "paths-info", "auth-check", "refs")
HUB_SETTINGS = re.compile(r"^(HF_|HUGGING|TRANSFORMERS_OFFLINE|https?_proxy|all_proxy)", re.IGNORECASE)


def files_of(repository: Mapping[str, bytes] | str | Path) -> dict[str, bytes]:
    """The files of a repository: given, or those below a folder."""
    if isinstance(repository, Mapping):
        return dict(repository)
    folder = Path(repository)
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


class LocalHub:
    """Repositories over HTTP, as long as the `with` lasts; `log` holds the requests ("GET /path").

    `moved`: old name → new name. `gated`: name → "auto" (accept a licence) or "manual" (wait for approval); a token of
    `granted` (token → names) opens it. `dropping`: "name/file" → how many times its body ends half-way. `failing`:
    name → status of every answer. While `silent` is set, nothing is answered; while `gone`, connections are closed.
    """

    def __init__(
        self, repositories: Mapping[str, Mapping[str, bytes] | str | Path], *, moved: Mapping[str, str] | None = None,
        gated: Mapping[str, str] | None = None, granted: Mapping[str, set[str]] | None = None,
        dropping: Mapping[str, int] | None = None, failing: Mapping[str, int] | None = None,
    ) -> None:
        self.repositories = {name: files_of(repository) for name, repository in repositories.items()}
        self.moved, self.gated, self.granted = dict(moved or {}), dict(gated or {}), dict(granted or {})
        self.dropping, self.failing = dict(dropping or {}), dict(failing or {})
        self.gone = self.silent = False
        self.log: list[str] = []
        self.stopped = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def environment(self, home: str | Path, **more: str) -> dict[str, str]:
        """The environment of a process that uses this hub and keeps what it fetches in the folder `home`."""
        kept = {name: value for name, value in os.environ.items() if not HUB_SETTINGS.match(name)}
        own = {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
               "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        return kept | own | more


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes | Any = b"", sent: int | None = None, **headers: str) -> None:
        """An answer; of its body only the first `sent` bytes, then the connection is closed."""
        if not isinstance(body, bytes):
            body, headers["Content_Type"] = json.dumps(body).encode(), "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
            self.close_connection = self.close_connection or sent is not None

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def handle_any(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.log.append(f"{self.command} {self.path}")
        if self.hub.silent:
            self.hub.stopped.wait()
        if self.hub.gone or self.hub.silent:
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        found = ROUTE.fullmatch(path)
        if not found:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        name, rest = found["id"], found["rest"] or ""
        owner, slash, first = name.rpartition("/")
        if slash and first in CALLS and owner != "datasets":  # an id without an owner
            name, rest = owner, f"/{first}{rest}"
        if name in self.hub.moved:
            target = self.path.replace(f"/{name}", f"/{self.hub.moved[name]}", 1)
            return self.answer(307, Location=target)
        if name in self.hub.failing:
            return self.refuse(self.hub.failing[name], "", "made up")
        if name not in self.hub.repositories:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        call, _, tail = rest.strip("/").partition("/")
        revision, _, place = tail.partition("/")
        if call in ("resolve", "tree", "revision", "paths-info") and revision not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if call in ("", "revision"):
            return self.information(name, "blobs" in query)
        if call == "tree":
            return self.tree(name, urllib.parse.unquote(place), "recursive=true" in query.lower())
        if call == "paths-info":
            return self.paths_information(name, sent)
        if call == "auth-check":
            return None if self.closed(name) else self.answer(200)
        if call == "resolve":
            return self.file(name, urllib.parse.unquote(place))
        return self.refuse(404, "EntryNotFound", "Not found")

    do_GET = do_HEAD = do_POST = handle_any

    def closed(self, name: str) -> bool:
        """Whether a gate is closed for who asks; the refusal is then sent, in the real hub's words."""
        gate, token = self.hub.gated.get(name), (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if gate is None or name in self.hub.granted.get(token, ()):
            return False
        what = f"{'dataset' if name.startswith('datasets/') else 'model'} {name.removeprefix('datasets/')}"
        if token not in self.hub.granted:
            message = f"Access to {what} is restricted. You must have access to it and be authenticated to access it."
            self.refuse(401, "GatedRepo", message + " Please log in.")
        elif gate == "manual":
            message = f"Your request to access {what} is awaiting a review from the repo authors."
            self.refuse(403, "GatedRepo", message)
        else:
            message = f"Access to {what} is restricted and you are not in the authorized list."
            self.refuse(403, "GatedRepo", message + f" Visit https://huggingface.co/{name} to ask for access.")
        return True

    def entry(self, name: str, file: str) -> dict[str, Any]:
        content = self.hub.repositories[name][file]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": file}

    def information(self, name: str, sizes: bool) -> None:
        """What the page of a repository says; anyone may read it, gated or not."""
        files = self.hub.repositories[name]
        siblings = [{"rfilename": file} | ({"size": len(files[file])} if sizes else {}) for file in files]
        plain = name.removeprefix("datasets/")
        self.answer(200, {
            "_id": "1", "id": plain, "modelId": plain, "author": plain.partition("/")[0], "sha": COMMIT, "tags": [],
            "private": False, "gated": self.hub.gated.get(name, False), "disabled": False, "downloads": 0, "likes": 0,
            "siblings": siblings,
        })

    def tree(self, name: str, folder: str, recursive: bool) -> None:
        below = [file for file in self.hub.repositories[name] if not folder or file.startswith(f"{folder}/")]
        start = len(folder) + 1 if folder else 0
        parts = {file: file[start:].split("/") for file in below}
        depth = {file: len(part) if recursive else 2 for file, part in parts.items()}
        folders = {"/".join([*([folder] if folder else []), *part[:n]])
                   for file, part in parts.items() for n in range(1, min(len(part), depth[file]))}
        listed: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": x} for x in folders]
        listed += [self.entry(name, file) for file in below if recursive or len(parts[file]) == 1]
        if folder and not below:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist on main")
        self.answer(200, listed)

    def paths_information(self, name: str, sent: bytes) -> None:
        try:
            asked = json.loads(sent)["paths"]
        except ValueError:
            asked = urllib.parse.parse_qs(sent.decode())["paths"]
        files = self.hub.repositories[name]
        listed: list[dict[str, Any]] = [self.entry(name, path) for path in asked if path in files]
        listed += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in asked
                   if path not in files and any(file.startswith(f"{path}/") for file in files)]
        self.answer(200, listed)

    def file(self, name: str, file: str) -> None:
        """A file or a range of it; the page's own text stays readable when the repository is gated."""
        if file != "README.md" and self.closed(name):
            return
        content = self.hub.repositories[name].get(file)
        if content is None:
            return self.answer(404, b"Entry not found", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        status, whole = 200, len(content)
        if asked and self.command == "GET":
            begin, end = int(asked[1]), min(int(asked[2] or whole - 1), whole - 1)
            if begin >= whole:
                return self.answer(416, Content_Range=f"bytes */{whole}")
            content, status = content[begin : end + 1], 206
            headers["Content_Range"] = f"bytes {begin}-{end}/{whole}"
        sent = None
        if self.command == "GET" and self.hub.dropping.get(f"{name}/{file}", 0):
            self.hub.dropping[f"{name}/{file}"] -= 1
            sent = len(content) // 2
        self.answer(status, content, sent, **headers)
