"""An OCI registry in this process, on a loopback port, as faithful or as odd as a
test wants it: `Quirks` are habits of the whole registry, `FakeAuth` says who may
read, a `Fault` spoils single answers.

    async with FakeRegistry() as registry:
        registry.add("library/alpine", image(5000), "latest")
        registry.inject(Fault(reset_at=100), kind="blob")
        ...
        assert registry.count(kind="blob") == 2

It runs two servers: the registry at `url`, and at `cdn_url` another origin, to
which blobs and manifests may be redirected.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.fake_answers import (
    Kind,
    Quirks,
    Reply,
    Repo,
    Seen,
    answer,
    faulty,
    problem,
    read,
)
from tests.support.fake_auth import FakeAuth, Refusal
from tests.support.fault_plans import FaultPlans, Plan
from tests.support.faults import NO_FAULT, Fault, hang_up, send
from tests.support.images import Image

__all__ = ["FakeAuth", "FakeRegistry", "Fault", "Quirks", "Seen"]


class FakeRegistry:
    """See the module. Use as an async context manager; stop with `stop()`."""

    def __init__(
        self,
        quirks: Quirks | None = None,
        auth: FakeAuth | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.quirks = quirks or Quirks()
        self.auth = auth
        self._tls = tls
        self.repositories: dict[str, Repo] = {}
        self.seen: list[Seen] = []
        self.bodies_at_once = 0
        """The most blobs, or parts of them, that were being sent at the same time."""
        self._bodies: set[int] = set()
        self.url = ""
        self.cdn_url = ""
        self._faults = FaultPlans()
        self._runners: list[web.ServerRunner] = []
        self._signatures: set[str] = set()
        self._arrival = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        if self.auth is not None and not self.auth.realm:
            self.auth.realm = f"{self.url}/token"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop()` at the same ports as before."""
        self.url = await self._listen(self.url, at_cdn=False)
        at_cdn = await self._listen(self.cdn_url, at_cdn=True)
        self.cdn_url = at_cdn.replace("127.0.0.1", "localhost")

    async def stop(self) -> None:
        """Cut all connections and refuse new ones. Idempotent; `start()` undoes it."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    def add(self, repository: str, image: Image, *tags: str) -> Image:
        """Hold `image` there under `tags`; an artifact becomes a referrer, too."""
        return self.repositories.setdefault(repository, Repo()).add(image, *tags)

    def inject(
        self,
        fault: Fault,
        *,
        kind: Kind | None = None,
        method: str | None = None,
        times: int | None = 1,
        match: Callable[[Seen], bool] = lambda _: True,
        early: bool = False,
    ) -> None:
        """Answer the next `times` requests (None: all) that match with `fault`.

        Faults given earlier are used up first. The fault befalls requests that
        reach the content: refusals (401) and redirects are answered as ever.
        With `early` it befalls them, too, as an outage would.
        """

        def matches(seen: Seen) -> bool:
            return kind in {None, seen.kind} and method in {None, seen.method} and match(seen)

        self._faults.plans.append(Plan(fault, matches, times, early))

    def heal(self) -> None:
        """Forget all faults that were not used up."""
        self._faults.plans.clear()

    def requests(self, *, kind: Kind | None = None, method: str | None = None) -> list[Seen]:
        """Requests seen so far; a redirected one is two."""
        return [s for s in self.seen if kind in {None, s.kind} and method in {None, s.method}]

    def count(self, *, kind: Kind | None = None, method: str | None = None) -> int:
        """How many `requests`."""
        return len(self.requests(kind=kind, method=method))

    def bytes_sent(self, *, kind: Kind | None = None, method: str | None = None) -> int:
        """Body bytes handed to sockets for these requests."""
        return sum(s.sent for s in self.requests(kind=kind, method=method))

    async def wait_requests(
        self, count: int, *, kind: Kind | None = None, method: str | None = None
    ) -> None:
        """Until so many such requests have arrived."""
        while self.count(kind=kind, method=method) < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def _listen(self, before: str, *, at_cdn: bool) -> str:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, at_cdn=at_cdn)

        # A stalled answer ends with its client, or with the registry.
        runner = web.ServerRunner(
            web.Server(handle, handler_cancellation=True), shutdown_timeout=0.01
        )
        await runner.setup()
        port = int(before.rpartition(":")[2] or 0)
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=self._tls)
        await site.start()
        self._runners.append(runner)
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"

    async def _handle(self, request: web.BaseRequest, *, at_cdn: bool) -> web.StreamResponse:
        seen = read(request.method, request.raw_path, request.headers, at_cdn=at_cdn)
        self.seen.append(seen)
        self._arrival.set()
        form = seen.query
        if request.method == "POST":
            form = parse_qs((await request.read()).decode())
        fault = self._faults.take(seen, early=True)
        reply = self._before(seen) if fault is None else None
        if reply is None:
            fault = fault or self._faults.take(seen, early=False) or NO_FAULT
            if fault.delay is not None:
                await fault.delay.wait()
            if fault.hang_up:
                return hang_up(request)
            reply = faulty(fault) or self._answer(seen, form, fault)
        seen.status = reply.status

        if seen.kind == "blob" and seen.method == "GET" and reply.status in {200, 206}:
            self._bodies.add(id(seen))
            self.bodies_at_once = max(self.bodies_at_once, len(self._bodies))

        def sent(count: int) -> None:
            seen.sent += count
            if seen.sent >= len(reply.body):
                # A speed limit waits once more, when the client has it all.
                self._bodies.discard(id(seen))

        try:
            return await send(
                request,
                status=reply.status,
                headers=reply.headers,
                body=reply.body,
                fault=fault or NO_FAULT,
                sent=sent,
            )
        finally:
            self._bodies.discard(id(seen))

    def _before(self, seen: Seen) -> Reply | None:
        """Answers that a fault does not touch: "no" and "elsewhere"."""
        if seen.method not in {"GET", "HEAD"} and seen.kind != "token":
            return problem(405, "UNSUPPORTED")
        if seen.at_cdn and seen.kind == "blob":
            return self._signed(seen)
        auth = self.quirks.cdn_auth if seen.at_cdn else self.auth
        if auth is not None and seen.kind not in {"token", "other"}:
            refusal = auth.check(seen.repository, seen.kind, seen.headers.get("Authorization"))
            if refusal is not None:
                return problem(refusal.status, refusal.code, refusal.headers)
            seen.user = auth.whose(seen.headers.get("Authorization")) or ""
        return None if seen.at_cdn else self._elsewhere(seen)

    def _signed(self, seen: Seen) -> Reply | None:
        """A CDN looks at the signature only, and at a second one not at all."""
        if "Authorization" in seen.headers:
            return problem(400, "InvalidArgument")
        signature = seen.query.get("signature", [""])[0]
        if signature not in self._signatures:
            return problem(403, "AccessDenied")
        self._signatures.discard(signature)
        if seen.method == "HEAD" and self.quirks.cdn_head_status is not None:
            return problem(self.quirks.cdn_head_status, "AccessDenied")
        return None

    def _elsewhere(self, seen: Seen) -> Reply | None:
        repo = self.repositories.get(seen.repository, Repo())
        tail = f"{seen.repository}/{seen.kind}s/{seen.reference}"
        if seen.kind == "manifest" and self.quirks.moved_to:
            return Reply(307, {"Location": f"{self.cdn_url}/v2/{self.quirks.moved_to}/{tail}"})
        here = seen.method == "HEAD" and self.quirks.cdn_head_status is None
        if seen.kind == "blob" and self.quirks.blobs_at_cdn and not here:
            if seen.reference not in repo.blobs:
                return None
            signature = secrets.token_hex(8)
            self._signatures.add(signature)
            # A signature with %2B must arrive as it was sent.
            location = f"{self.cdn_url}/v2/{tail}?signature={signature}&x=a%2Bb%2F"
            return Reply(307, {"Location": location})
        return None

    def _answer(self, seen: Seen, form: Mapping[str, list[str]], fault: Fault) -> Reply:
        if seen.kind == "token":
            auth = (self.quirks.cdn_auth if seen.at_cdn else None) or self.auth or FakeAuth()
            given = auth.token(seen.method, form, seen.headers.get("Authorization"))
            if isinstance(given, Refusal):
                return problem(given.status, given.code, given.headers)
            return Reply(200, {"Content-Type": "application/json"}, given)
        name = seen.repository
        if seen.at_cdn and self.quirks.moved_to:
            name = name.removeprefix(f"{self.quirks.moved_to}/")
        repo = self.repositories.get(name)
        if repo is None and seen.kind != "ping":
            return problem(404, "NAME_UNKNOWN")
        return answer(repo or Repo(), seen, self.quirks, fault, url=self.url)
