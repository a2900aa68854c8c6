"""A fake Hugging Face Hub that serves datasets, revisions, listings and bytes over the Hub's HTTP API."""

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
LFS_EXTENSIONS = (".parquet", ".zst", ".gz")


class FakeHub:
    """The content of the Hub, its faults, and a record of its requests.

    Attributes:
        url: the address that the server listens on.
        commits: the files of each commit, by path.
        branches: the last commit of each branch.
        token: the token that a request must send; None if none is required.
        remaining_downloads: how many more downloads of a path succeed; after that they are refused with 403.
        replaced_bytes: bytes to serve instead of a path's own.
        truncated_responses: how many of the next responses with bytes break off in the middle.
        request_paths: the path of every request.
        range_sizes: the number of bytes of each ranged response, before any truncation.
    """

    def __init__(self) -> None:
        self.url = ""
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.token: str | None = None
        self.remaining_downloads: dict[str, int] = {}
        self.replaced_bytes: dict[str, bytes] = {}
        self.truncated_responses = 0
        self.request_paths: list[str] = []
        self.range_sizes: list[int] = []

    def push(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Replace all files of a branch; returns the new commit."""
        commit = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit that a revision names, and its files; None if there is no such revision."""
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None

    @property
    def downloads(self) -> list[str]:
        """The path of each download, in the order of the requests."""
        return [path.split("/", 6)[6] for path in self.request_paths if "/resolve/" in path]


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve the hub on a free port of 127.0.0.1."""

    class Handler(_Handler):
        fake_hub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake_hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.fake_hub.request_paths.append(path)
        token = self.fake_hub.token
        if token is not None and self.headers["Authorization"] != f"Bearer {token}":
            self._refuse(401, "RepoNotFound")
        elif match := re.fullmatch(r"/api/datasets/ours/pairs(?:/revision/(.+))?", path):
            self._send_repo_info(unquote(match[1] or "main"))
        elif match := re.fullmatch(r"/api/datasets/ours/pairs/tree/([^/]+)(?:/(.+))?", path):
            self._send_tree(unquote(match[1]), unquote(match[2] or ""), "recursive=true" in self.path.lower())
        elif match := re.fullmatch(r"/datasets/ours/pairs/resolve/([^/]+)/(.+)", path):
            self._redirect_to_storage(unquote(match[1]), unquote(match[2]))
        elif match := re.fullmatch(r"/storage/([^/]+)/(.+)", path):
            name = unquote(match[2])
            self._send_bytes(self.fake_hub.replaced_bytes.get(name, self.fake_hub.commits[match[1]][name]))
        elif path == "/expired":
            self._refuse(403, None)
        else:
            self._refuse(404, "RepoNotFound")

    def log_message(self, *_: Any) -> None:
        """Write no log."""

    def _send_repo_info(self, revision: str) -> None:
        resolved = self.fake_hub.files(revision)
        if resolved is None:
            self._refuse(404, "RevisionNotFound")
        else:
            self._send_json({"id": "ours/pairs", "sha": resolved[0]})

    def _send_tree(self, revision: str, folder: str, recursive: bool) -> None:
        resolved = self.fake_hub.files(revision)
        if resolved is None:
            return self._refuse(404, "RevisionNotFound")
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, data in resolved[1].items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                entries[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                entries[path] = _file_entry(path, data)
        return self._send_json([*entries.values()]) if entries else self._refuse(404, "EntryNotFound")

    def _redirect_to_storage(self, revision: str, path: str) -> None:
        resolved = self.fake_hub.files(revision)
        remaining = self.fake_hub.remaining_downloads
        if resolved is None or path not in resolved[1]:
            self._refuse(404, "EntryNotFound")
        elif remaining.get(path) == 0:
            self._respond(302, b"", {"Location": f"{self.fake_hub.url}/expired?{SIGNATURE}"})
        else:
            if path in remaining:
                remaining[path] -= 1
            self._respond(302, b"", {"Location": f"{self.fake_hub.url}/storage/{resolved[0]}/{path}?{SIGNATURE}"})

    def _send_bytes(self, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if match is None:
            return self._respond(200, data)
        if int(match[1]) >= len(data):
            return self._refuse(416, None)
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        part = data[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self.fake_hub.range_sizes.append(len(part))
        if self.fake_hub.truncated_responses:
            self.fake_hub.truncated_responses -= 1
            self.close_connection = True
            return self._respond(206, part[: len(part) // 2], {**headers, "Content-Length": str(len(part))})
        return self._respond(206, part, headers)

    def _send_json(self, value: Any) -> None:
        self._respond(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str | None) -> None:
        self._respond(status, b"", {"X-Error-Code": code} if code else {})

    def _respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _file_entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if path.endswith(LFS_EXTENSIONS):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
