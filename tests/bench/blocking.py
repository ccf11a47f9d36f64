"""One request at a time over one blocking connection: for what is sequential by nature."""

from __future__ import annotations

import http.client
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_BUFFER_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Got:
    """`size`: body bytes that were read. `first_s`, `done_s`: since the request was sent."""

    status: int
    size: int
    first_s: float
    done_s: float


class Asker:
    """Connected to a server on loopback. Use as a context manager."""

    def __init__(self, port: int, ca: Path | None = None) -> None:
        """`ca`: PEM file of the authority to trust, for TLS."""
        self._connection: http.client.HTTPConnection
        if ca:
            context = ssl.create_default_context(cafile=ca)
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=60, context=context
            )
        else:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, path: str, *, window: str = "", stop_after: int | None = None) -> Got:
        """`window`: the Range header. `stop_after`: leave once this many bytes came.

        Raises `OSError`, `HTTPException`.
        """
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if window:
            headers["Range"] = window
        began = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        size, first_s = 0, 0.0
        while stop_after is None or size < stop_after:
            most = _BUFFER_BYTES if stop_after is None else min(_BUFFER_BYTES, stop_after - size)
            count = answer.readinto(self._buffer[:most])
            if not count:
                break
            first_s = first_s or time.perf_counter() - began
            size += count
        done_s = time.perf_counter() - began
        if not answer.isclosed():
            answer.close()
            self._connection.close()  # what it still wanted to send is not wanted
        return Got(answer.status, size, first_s, done_s)
