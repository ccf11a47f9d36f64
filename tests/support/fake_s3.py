"""A tiny S3 for what a real one won't show: stores without conditional writes or
ranges, overload, resets, bodies that stall, answers that get lost.

Path style, no signatures checked; every request is kept in `asked`. It also
answers as AWS's token service (`POST /`), which web identity asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from xml.sax.saxutils import escape

from aiohttp import web

from proxy.config import S3Settings

BUCKET = "fake"
DATE = "2026-01-01T00:00:00Z"
"""When everything in it was written."""
PAGE = 3
"""Keys in a page of a list."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the key is without the bucket."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int


@dataclass(slots=True)
class Fault:
    """What to do to the next request that `when` holds for, instead of or after serving it."""

    when: Callable[[str, str, str], bool]
    do: str
    """`503`, `500`, `403`: that status; `nobucket`: there is none. `reset`: cut before serving; `lose`: cut after
    serving; `stall`: half the body, then nothing; `cut`: half, then cut;
    `deaf`: never read, never answer.
    """


@dataclass(slots=True)
class FakeS3:
    """Served on an ephemeral loopback port while entered."""

    conditions: bool = True
    """Honour `If-Match` and `If-None-Match` on PUT."""
    ranges: bool = True
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    deaf: asyncio.Event = field(default_factory=asyncio.Event)
    """A request has come to a `deaf` end."""
    tls: ssl.SSLContext | None = None
    url: str = ""
    _runner: web.ServerRunner | None = None
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def settings(self, **more: object) -> S3Settings:
        """The settings to use it."""
        given = {"endpoint": self.url, "bucket": BUCKET, "access_key": "ak", "secret_key": "sk"}
        return S3Settings.model_validate({**given, **more})

    def fail(
        self, do: str, *, times: int = 1, method: str = "", key: str = "", query: str = ""
    ) -> None:
        """Do that to the next `times` requests with this method, in this key and query."""
        fault = Fault(lambda m, k, q: method in {"", m} and key in k and query in q, do)
        self.faults += [fault] * times

    def asked_for(self, method: str) -> list[Asked]:
        return [one for one in self.asked if one.method == method]

    async def __aenter__(self) -> Self:
        server = web.Server(self._serve)
        runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        key = request.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        fault = next(
            (one for one in self.faults if one.when(request.method, key, request.query_string)),
            None,
        )
        do = fault.do if fault else ""
        if fault:
            self.faults.remove(fault)
        if do == "deaf":
            self.deaf.set()
            await self._leaving.wait()
        body = await request.content.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, key, dict(request.query), headers, len(body)))
        assert request.transport is not None
        if do == "reset":
            request.transport.abort()
            return web.Response()
        if do == "nobucket":
            return _error(404, "NoSuchBucket")
        if do.isdecimal():
            code = {"503": "SlowDown", "403": "AccessDenied", "500": "InternalError"}[do]
            return _error(int(do), code)
        response = self._answer(request, key, body)
        if do == "lose":
            request.transport.abort()
        if do in {"stall", "cut"}:
            return await self._half(request, response, stall=do == "stall")
        return response

    async def _half(
        self, request: web.BaseRequest, whole: web.Response, *, stall: bool
    ) -> web.StreamResponse:
        data = whole.body
        assert isinstance(data, bytes)
        half = web.StreamResponse(status=whole.status, headers=whole.headers)
        half.content_length = len(data)
        await half.prepare(request)
        await half.write(data[: len(data) // 2])
        if stall:
            await self._leaving.wait()
        assert request.transport is not None
        request.transport.abort()
        return half

    def _answer(self, request: web.BaseRequest, key: str, body: bytes) -> web.Response:
        query = request.query
        match request.method:
            case "POST" if not key:
                return _token(body)
            case "POST" if "uploads" in query:
                upload = f"upload-{len(self.asked)}"
                self.uploads[upload] = {}
                return _xml(f"<R><UploadId>{upload}</UploadId></R>")
            case "PUT" | "POST" | "DELETE" if "uploadId" in query:
                return self._multipart(request.method, key, query, body)
            case "GET" if not key:
                return self._list(query.get("prefix", ""), dict(query))
            case "PUT":
                return self._put(request, key, body)
            case "DELETE":
                self.objects.pop(key, None)
                return web.Response(status=204)
            case _:
                return self._get(request, key)

    def _list(self, prefix: str, query: dict[str, str]) -> web.Response:
        if "uploads" in query:
            return _xml("<R><IsTruncated>false</IsTruncated></R>")
        after = query.get("continuation-token") or query.get("start-after", "")
        found = sorted(k for k in self.objects if k.startswith(prefix) and k > after)
        page = found[:PAGE]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{DATE}</LastModified>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        if len(found) <= PAGE:
            return _xml(f"<R>{entries}<IsTruncated>false</IsTruncated></R>")
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return _xml(f"<R>{entries}<IsTruncated>true</IsTruncated>{more}</R>")

    def _multipart(self, method: str, key: str, query: object, body: bytes) -> web.Response:
        upload = query["uploadId"]  # type: ignore[index]  # a multi-dict
        if upload not in self.uploads:
            return _error(404, "NoSuchUpload")
        match method:
            case "PUT":
                self.uploads[upload][int(query["partNumber"])] = body  # type: ignore[index]
                return web.Response(headers={"ETag": _tag(body)})
            case "POST":
                parts = self.uploads.pop(upload)
                self.objects[key] = b"".join(parts[number] for number in sorted(parts))
                return _xml("<R><ETag>x</ETag></R>")
            case _:
                del self.uploads[upload]
                return web.Response(status=204)

    def _put(self, request: web.BaseRequest, key: str, body: bytes) -> web.Response:
        held = self.objects.get(key)
        if self.conditions:
            wanted = request.headers.get("If-Match")
            if request.headers.get("If-None-Match") == "*" and held is not None:
                return _error(412, "PreconditionFailed")
            if wanted is not None and held is None:
                return _error(404, "NoSuchKey")
            if wanted is not None and held is not None and wanted != _tag(held):
                return _error(412, "PreconditionFailed")
        self.objects[key] = body
        return web.Response(headers={"ETag": _tag(body)})

    def _get(self, request: web.BaseRequest, key: str) -> web.Response:
        data = self.objects.get(key)
        if data is None:
            return _error(404, "NoSuchKey")
        headers = {"ETag": _tag(data)}
        wanted = request.http_range
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(data))})
        if not self.ranges or wanted.start is None:
            return web.Response(body=data, headers=headers)
        if wanted.start >= len(data):
            return _error(416, "InvalidRange", {"Content-Range": f"bytes */{len(data)}"})
        piece = data[wanted]
        end = wanted.start + len(piece) - 1
        said = f"bytes {wanted.start}-{end}/{len(data)}"
        return web.Response(status=206, body=piece, headers=headers | {"Content-Range": said})


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _xml(text: str) -> web.Response:
    return web.Response(text=f"<?xml version='1.0'?>{text}", content_type="application/xml")


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    return web.Response(
        status=status, text=text, content_type="application/xml", headers=headers or {}
    )


def _token(body: bytes) -> web.Response:
    """`AssumeRoleWithWebIdentity`, when the token is the right one."""
    if b"WebIdentityToken=a-token" not in body:
        return _error(403, "InvalidIdentityToken")
    return _xml(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<AccessKeyId>from-web-identity</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
