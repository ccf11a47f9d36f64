"""A registry to fetch from: counts what it sends and holds each connection to a rate.

A process of its own, `python -m tests.bench.upstream FOLDER`, which prints its
port as the first line. A thread per connection and blocking `sendfile`: that is
fast enough (several GB/s) not to be what is measured, and it serves as the
plain sendfile server whose copy time is the floor of the stampede row.

It has two paths besides `/v2`: `GET /counters` tells what was sent since the
last `GET /reset?bytes_s=N&link_bytes_s=M`, which also sets the rate of each
connection and of all together (0: unlimited).
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qs, urlsplit

from tests.bench.content import MANIFEST_TYPE, TAG, Item, read_catalog

_WINDOW_BYTES = 8 << 20
_LINK_PIECE_BYTES = 256 << 10
_CATCH_UP_S = 0.02
_WINDOWS_S = 100  # a second, so that a low rate is as even as a high one
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Counters:
    """What went out since the last reset; requests and body bytes by URL path."""

    gets: dict[str, int] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)


class Link:
    """A line of a fixed rate that all connections share: who sends waits for its turn."""

    def __init__(self, bytes_s: int) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Wait until `count` bytes may leave."""
        with self._lock:
            now = time.monotonic()
            # A little may be made up for (a thread that overslept), a pause may not.
            start = max(self._free_at, now - _CATCH_UP_S)
            self._free_at = start + count / self._bytes_s
        if start > now:
            time.sleep(start - now)


class Registry(ThreadingTCPServer):
    """The content of one folder, under `/v2`."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 4096

    def __init__(self, items: list[Item]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.routes = {f"/v2/{item.url}": item for item in items}
        for item in items:
            if item.media_type == MANIFEST_TYPE:
                self.routes[f"/v2/{item.repository}/manifests/{TAG}"] = item
        self.bytes_s = 0
        self.link: Link | None = None
        self.window_bytes = 512 << 10  # of a limited body at most: 5 ms at 100 MB/s
        self.counters = Counters()
        self.lock = threading.Lock()

    def count(self, method: str, path: str) -> None:
        with self.lock:
            counts = self.counters.heads if method == "HEAD" else self.counters.gets
            counts[path] = counts.get(path, 0) + 1

    def count_sent(self, counters: Counters, path: str, sent: int) -> None:
        with self.lock:
            counters.sent[path] = counters.sent.get(path, 0) + sent

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is not news; everything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed names private types


class Connection(StreamRequestHandler):
    """One connection, kept alive until the client leaves it."""

    server: Registry
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while True:
            request_line = self.rfile.readline(8192).decode("latin-1").split()
            if len(request_line) != 3:
                return
            headers: dict[str, str] = {}
            while line := self.rfile.readline(65536).decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            method, target, _ = request_line
            self._answer(method, target, headers)
            if headers.get("connection", "").lower() == "close":
                return

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
        url = urlsplit(target)
        item = self.server.routes.get(url.path)
        if item is not None:
            self.server.count(method, url.path)
            self._content(method, url.path, item, headers.get("range"))
        elif url.path in ("/v2/", "/v2"):
            self._json(200, {})
        elif url.path == "/counters":
            with self.server.lock:
                counters = self.server.counters
                body = {"gets": counters.gets, "heads": counters.heads, "sent": counters.sent}
                self._json(200, body)
        elif url.path == "/reset":
            with self.server.lock:
                asked = parse_qs(url.query)
                self.server.bytes_s = int(asked.get("bytes_s", ["0"])[0])
                link_bytes_s = int(asked.get("link_bytes_s", ["0"])[0])
                self.server.link = Link(link_bytes_s) if link_bytes_s else None
                self.server.counters = Counters()
            self._json(200, {})
        else:
            self._json(404, {"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]})

    def _json(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n"
            f"Docker-Distribution-Api-Version: registry/2.0\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        self.request.sendall(head.encode() + payload)

    def _content(self, method: str, path: str, item: Item, wanted: str | None) -> None:
        match = _RANGE.fullmatch(wanted or "")  # what can't be read is ignored, as the RFC asks
        span = _span(match, item.size) if match else (0, item.size)
        if span is None:
            head = (
                f"HTTP/1.1 416 -\r\nContent-Range: bytes */{item.size}\r\nContent-Length: 0\r\n\r\n"
            )
            self.request.sendall(head.encode())
            return
        start, end = span
        partial = match is not None
        plain = "application/octet-stream" if "/blobs/" in path else item.media_type
        head = (
            f"HTTP/1.1 {'206 Partial Content' if partial else '200 OK'}\r\n"
            f"Content-Type: {plain}\r\n"
            f"Content-Length: {end - start}\r\n"
            f"Docker-Content-Digest: {item.digest}\r\n"
            f'Etag: "{item.digest}"\r\n'
            "Accept-Ranges: bytes\r\n"
            "Cache-Control: max-age=31536000\r\n"
            "Docker-Distribution-Api-Version: registry/2.0\r\n"
        )
        if partial:
            head += f"Content-Range: bytes {start}-{end - 1}/{item.size}\r\n"
        # MSG_MORE: head and first bytes leave in one segment, as a real server's would.
        more = socket.MSG_MORE if method == "GET" and end > start else 0
        self.request.sendall((head + "\r\n").encode(), more)
        if method == "GET":
            self._body(path, item, start, end)

    def _body(self, path: str, item: Item, start: int, end: int) -> None:
        """Send `[start, end)`, no faster than the rate as it is when this begins."""
        bytes_s = self.server.bytes_s
        link = self.server.link
        window = _WINDOW_BYTES
        if bytes_s:
            window = min(self.server.window_bytes, max(1, bytes_s // _WINDOWS_S))
        if link:
            window = min(window, _LINK_PIECE_BYTES)
        began = time.monotonic()
        position = start
        file = os.open(item.path, os.O_RDONLY)
        try:
            while position < end:
                if bytes_s:
                    # A schedule and not a pause after each piece: oversleeping is made up for.
                    early = (position - start) / bytes_s - (time.monotonic() - began)
                    if early > 0:
                        time.sleep(early)
                wanted = min(window, end - position)
                if link:
                    link.take(wanted)
                # Counted first: who has the bytes must find them counted.
                counters, sent = self.server.counters, 0
                self.server.count_sent(counters, path, wanted)
                try:
                    sent = os.sendfile(self.request.fileno(), file, position, wanted)
                finally:
                    self.server.count_sent(counters, path, sent - wanted)
                if not sent:
                    raise ConnectionResetError(
                        "the content's file is shorter than its catalog says"
                    )
                position += sent
        finally:
            os.close(file)


def _span(match: re.Match[str], size: int) -> tuple[int, int] | None:
    """`[start, end)` of a single range; None if it lies beyond the end."""
    first, last = match.groups()
    if not first:
        return max(0, size - int(last or size)), size
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


def main() -> None:
    server = Registry(read_catalog(Path(sys.argv[1])))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
