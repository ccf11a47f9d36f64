"""The side of an import that has the bundle: asks a running proxy what it lacks, and
sends that, straight from the bundle's file to the socket.

Nothing is read twice and nothing is held in memory. A proxy that was restarted in
between is asked anew and lacks only what it had not kept by then.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from proxy.bundles.reader_media import Spans, opened, size_of

_SEND_BYTES = 8 * 1024 * 1024
_ANSWER_MAX = 256 * 1024 * 1024
FORGOTTEN = 410
"""What a proxy answers that knows nothing of an import: begin again."""


class ImportRefused(Exception):
    """The proxy did not take it; `status` as it answered, 0 where it did not."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Lacking:
    """A blob that the proxy wants, for one of its sharing groups."""

    group: str
    digest: str
    size: int


class Receiver:
    """The admin listener at `url`, over one connection. All of it blocks.

    Raises `ImportRefused`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ImportRefused(f"{url} must be an http:// or https:// URL")
        self._secure = parts.scheme == "https"
        self._base = parts.path.rstrip("/")
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        self._connection = make(parts.hostname, parts.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what is asked next has a new one."""
        self._connection.close()

    def get(self, target: str) -> dict[str, Any]:
        """What it answers."""
        return self._ask("GET", target, None)

    def post(self, target: str, document: object) -> dict[str, Any]:
        """What it answers when it is done."""
        return self._ask("POST", target, json.dumps(document).encode())

    def send(self, token: str, blob: Lacking, place: Spans, sent: Callable[[int], None]) -> None:
        """One blob; `sent` hears of bytes as they go. Raises `BadBundle`, too."""
        query = urlencode({"import": token, "group": blob.group, "digest": blob.digest})
        try:
            self._connection.putrequest("PUT", f"{self._base}/bundles/blob?{query}")
            self._connection.putheader("Content-Length", str(size_of(place)))
            self._connection.endheaders()
            # One that breaks off has answered before all was sent; the answer says why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._body(place, sent)
            self._answer()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise _unreachable(error) from error

    def _body(self, place: Spans, sent: Callable[[int], None]) -> None:
        connection = self._connection.sock
        for span in place:
            if isinstance(span, bytes):
                connection.sendall(span)
                sent(len(span))
                continue
            at, end = span.offset, span.offset + span.size
            with opened(span.path) as fd:
                while at < end:
                    count = min(_SEND_BYTES, end - at)
                    if self._secure:
                        data = os.pread(fd, count, at)
                        connection.sendall(data)
                        count = len(data)
                    else:
                        count = os.sendfile(connection.fileno(), fd, at, count)
                    if not count:
                        raise ImportRefused(f"{span.path} became shorter")
                    at += count
                    sent(count)

    def _ask(self, method: str, target: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            self._connection.request(method, self._base + target, body=body, headers=headers)
            return self._answer()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise _unreachable(error) from error

    def _answer(self) -> dict[str, Any]:
        answer = self._connection.getresponse()
        said = answer.read(_ANSWER_MAX)
        if answer.status != 200:
            text = said.decode(errors="replace").strip() or f"it answered {answer.status}"
            raise ImportRefused(text, answer.status)
        return dict(json.loads(said))


def _unreachable(error: Exception) -> ImportRefused:
    return ImportRefused(f"the proxy can't be reached: {str(error) or type(error).__name__}")
