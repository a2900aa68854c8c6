"""A stand-in for the Hugging Face Hub: datasets, revisions, listings and bytes, as its HTTP has them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SIGNATURE = "X-Signature=c0ffee"
LARGE = (".parquet", ".zst", ".gz")


class Hub:
    """What it holds, and what it was asked.

    Attributes:
        url: where it listens.
        commits: files by path, for each commit and each branch's name, which stands for the branch's last commit.
        token: what one has to show; None: nothing.
        answers: how many more requests for the bytes of a path are answered; then they are refused with 403.
        others: bytes that come in place of a path's own.
        cut: how many answers with bytes break off in the middle from now on.
        asked: the path of every request.
        ranges: how many bytes each answer with bytes had.
    """

    def __init__(self) -> None:
        self.url = ""
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.token: str | None = None
        self.answers: dict[str, int] = {}
        self.others: dict[str, bytes] = {}
        self.cut = 0
        self.asked: list[str] = []
        self.ranges: list[int] = []

    def push(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make these files a branch's only ones; the new commit."""
        commit = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision names, and its files."""
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None

    @property
    def opened(self) -> list[str]:
        """The paths of which bytes were asked, once for each request."""
        return [path.split("/", 6)[6] for path in self.asked if "/resolve/" in path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port of 127.0.0.1."""

    class Answer(_Answer):
        holds = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answer(BaseHTTPRequestHandler):
    holds: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.holds.asked.append(path)
        token = self.holds.token
        if token is not None and self.headers["Authorization"] != f"Bearer {token}":
            self._refuse(401, "RepoNotFound")
        elif found := re.fullmatch(r"/api/datasets/ours/pairs(?:/revision/(.+))?", path):
            self._facts(unquote(found[1] or "main"))
        elif found := re.fullmatch(r"/api/datasets/ours/pairs/tree/([^/]+)(?:/(.+))?", path):
            self._tree(unquote(found[1]), unquote(found[2] or ""), "recursive=true" in self.path.lower())
        elif found := re.fullmatch(r"/datasets/ours/pairs/resolve/([^/]+)/(.+)", path):
            self._resolve(unquote(found[1]), unquote(found[2]))
        elif found := re.fullmatch(r"/storage/([^/]+)/(.+)", path):
            name = unquote(found[2])
            self._bytes(self.holds.others.get(name, self.holds.commits[found[1]][name]))
        elif path == "/expired":
            self._refuse(403, None)
        else:
            self._refuse(404, "RepoNotFound")

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def _facts(self, revision: str) -> None:
        known = self.holds.files(revision)
        if known is None:
            self._refuse(404, "RevisionNotFound")
        else:
            self._json({"id": "ours/pairs", "sha": known[0]})

    def _tree(self, revision: str, folder: str, recursive: bool) -> None:
        known = self.holds.files(revision)
        if known is None:
            return self._refuse(404, "RevisionNotFound")
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, data in known[1].items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                entries[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                entries[path] = _entry(path, data)
        return self._json([*entries.values()]) if entries else self._refuse(404, "EntryNotFound")

    def _resolve(self, revision: str, path: str) -> None:
        known = self.holds.files(revision)
        if known is None or path not in known[1]:
            self._refuse(404, "EntryNotFound")
        elif self.holds.answers.get(path) == 0:
            self._answer(302, b"", {"Location": f"{self.holds.url}/expired?{SIGNATURE}"})
        else:
            if path in self.holds.answers:
                self.holds.answers[path] -= 1
            self._answer(302, b"", {"Location": f"{self.holds.url}/storage/{known[0]}/{path}?{SIGNATURE}"})

    def _bytes(self, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if found is None:
            return self._answer(200, data)
        if int(found[1]) >= len(data):
            return self._refuse(416, None)
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        part = data[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self.holds.ranges.append(len(part))
        if self.holds.cut:
            self.holds.cut -= 1
            self.close_connection = True
            return self._answer(206, part[: len(part) // 2], {**headers, "Content-Length": str(len(part))})
        return self._answer(206, part, headers)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str | None) -> None:
        self._answer(status, b"", {"X-Error-Code": code} if code else {})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
