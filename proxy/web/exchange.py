"""One request on its way to an answer: what is learnt of it for logs and metrics."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Literal

from aiohttp import web

from proxy.cache.content import Bytes, Content, Outcome
from proxy.errors import InvalidHeader
from proxy.events import RequestServed
from proxy.oci.endpoints import Addressed
from proxy.oci.ranges import (
    ByteRange,
    content_range,
    if_none_match,
    if_range_matches,
    multipart,
    parse_range,
)
from proxy.web.problems import Problem
from proxy.web.send import Sender, deliver
from proxy.web.uses import Given

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "entrepot"}
Kind = Literal["manifest", "blob", "tags", "referrers", "catalog", "ping", "other"]


class Exchange:
    """Builds and sends the one response of a request."""

    def __init__(self, request: web.BaseRequest, *, stall_s: float) -> None:
        self.request = request
        self.kind: Kind = "other"
        self.upstream = ""
        self.namespace: str | None = None
        self.route: Addressed | None = None
        self.given: Given | None = None
        self.outcome: Outcome = "error"
        self.status = 0
        self.complete = False
        self.error = ""
        self.size = 0
        self.first_byte_s = 0.0
        self.started_at = time.monotonic()
        self._stall_s = stall_s

    @property
    def is_head(self) -> bool:
        """Whether no body may be sent."""
        return self.request.method == "HEAD"

    def served(self) -> RequestServed:
        """The event that tells of it, once it is over."""
        return RequestServed(
            kind=self.kind,
            method=self.request.method if self.request.method in {"GET", "HEAD"} else "other",
            upstream=self.upstream,
            outcome=self.outcome,
            status=self.status,
            size=self.size,
            complete=self.complete,
            duration_s=time.monotonic() - self.started_at,
            first_byte_s=self.first_byte_s,
        )

    async def send_bytes(
        self, status: int, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        """A whole small answer."""
        response = web.Response(status=status, body=body, headers=self._headers(headers))
        return await self._finish(response, 0 if self.is_head else len(body))

    def wants_head(self, etag: str) -> bool:
        """Whether no body is due: it is a HEAD, or the client has the content."""
        return self.is_head or self._known(etag)

    async def send_described(
        self, size: int, headers: dict[str, str], etag: str, *, outcome: Outcome
    ) -> web.StreamResponse:
        """What content of `size` bytes is, without its body: 200, or 304 if asked so."""
        self.outcome = outcome
        known = self._known(etag)
        headers |= {"ETag": etag, "Accept-Ranges": "bytes"}
        response = web.StreamResponse(status=304 if known else 200, headers=self._headers(headers))
        response.content_length = None if known else size
        return await self._finish(response, 0)

    async def send_problem(self, problem: Problem) -> web.StreamResponse:
        """An error, as the OCI envelope."""
        self.outcome = "error"
        self.error = f"{problem.code}: {problem.message}"
        headers = {"Content-Type": "application/json", **problem.headers}
        return await self.send_bytes(problem.status, problem.body(), headers)

    async def send_content(
        self, content: Content, headers: dict[str, str], etag: str
    ) -> web.StreamResponse:
        """Content whole or in the asked ranges; closes it.

        Raises `UnsatisfiableRange`, `InvalidHeader` before anything is sent.
        """
        try:
            if self.wants_head(etag):
                return await self.send_described(
                    content.size, headers, etag, outcome=content.outcome
                )
            headers |= {"ETag": etag, "Accept-Ranges": "bytes"}
            self.outcome = content.outcome
            ranges = self._ranges(content.size, etag)
            if ranges is None:
                if isinstance(content, Bytes):
                    return await self.send_bytes(200, content.data, headers)
                whole = ByteRange(0, content.size)
                return await self._stream(200, content, [whole], content.size, headers)
            if len(ranges) == 1:
                headers["Content-Range"] = content_range(ranges[0], content.size)
                return await self._stream(206, content, ranges, len(ranges[0]), headers)
            media_type = headers["Content-Type"]
            parts = multipart(ranges, content.size, media_type, secrets.token_hex(16))
            headers["Content-Type"] = parts.content_type
            pieces: list[bytes | ByteRange] = []
            for head, span in parts.parts:
                pieces += (head, span)
            pieces.append(parts.tail)
            return await self._stream(206, content, pieces, parts.length, headers)
        finally:
            content.close()

    async def _stream(
        self,
        status: int,
        content: Content,
        pieces: Iterable[bytes | ByteRange],
        length: int,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=self._headers(headers))
        response.content_length = length
        self.status = status
        await response.prepare(self.request)
        self.first_byte_s = time.monotonic() - self.started_at
        sender = Sender(self.request, response, stall_s=self._stall_s)
        try:
            self.complete = await deliver(sender, content, pieces)
        finally:
            self.size = sender.sent
        if self.complete:
            await response.write_eof()
        return response

    async def _finish(self, response: web.StreamResponse, size: int) -> web.StreamResponse:
        self.status = response.status
        await response.prepare(self.request)
        await response.write_eof()
        self.first_byte_s = time.monotonic() - self.started_at
        self.size = size
        self.complete = True
        return response

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        headers |= API_VERSION
        if self.namespace is not None:
            headers["OCI-Namespace"] = self.namespace
        return headers

    def _known(self, etag: str) -> bool:
        asked = self.request.headers.getall("If-None-Match", ())
        return bool(asked) and if_none_match(asked, etag)

    def _ranges(self, size: int, etag: str) -> tuple[ByteRange, ...] | None:
        asked = self.request.headers.getall("Range", ())
        if not asked:
            return None
        if len(set(asked)) > 1:
            raise InvalidHeader("there is more than one Range header")
        condition = self.request.headers.get("If-Range")
        if condition is not None and not if_range_matches(condition, etag):
            return None
        return parse_range(asked[0], size)
