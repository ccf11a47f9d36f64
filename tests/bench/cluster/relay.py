"""Counts the requests on their way to an S3 server, and is its off switch.

Threads in the bench's own process. What it forwards it does not change; it reads
just enough of each request to know where the next one begins.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter

_PIECE_BYTES = 256 << 10
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class Requests:
    """Finds the request heads in what one connection sends."""

    def __init__(self) -> None:
        self._head = b""
        self._body_left = 0

    def feed(self, data: bytes) -> list[str]:
        """Methods and first path components of the requests that begin. Raises
        `ValueError` for a body without a length: S3 clients send none.
        """
        found = []
        while data:
            if self._body_left:
                skipped = min(self._body_left, len(data))
                self._body_left -= skipped
                data = data[skipped:]
                continue
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                break
            self._head = b""
            if _CHUNKED.search(head):
                raise ValueError("a request with a body of unknown length")
            length = _LENGTH.search(head)
            self._body_left = int(length[1]) if length else 0
            method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
            parts = target.partition("?")[0].split("/")
            found.append(f"{method} {parts[2] if len(parts) > 2 else ''}")
        return found


class Relay:
    """From a port of its own to `target`. `counts`: requests since `reset`."""

    def __init__(self, target: int, port: int) -> None:
        self.port = port
        self.counts: Counter[str] = Counter()
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """From now on connections are refused, those there are reset."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        with self._lock:
            self.counts = Counter()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            ways = ((client, server, Requests()), (server, client, None))
            for way in ways:
                threading.Thread(target=self._forward, args=way, daemon=True).start()

    def _forward(
        self, source: socket.socket, sink: socket.socket, requests: Requests | None
    ) -> None:
        try:
            while data := source.recv(_PIECE_BYTES):
                if requests is not None:
                    begun = requests.feed(data)
                    with self._lock:
                        self.counts.update(begun)
                sink.sendall(data)
        except OSError:
            pass  # either side has gone; the other one is told below
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(source)
            source.close()
