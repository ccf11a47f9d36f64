"""The connection to one bucket: lifetime, deadlines, retries, the breaker.

Everything S3 is asked goes through `S3Client.call`, so that a dead or slow store
costs every caller the same bounded time. Nothing here knows what is stored.
Retries are ours, not the library's: they stop at the deadline, and the breaker
sees one call, however many tries it took. While the breaker is open, a task of
our own looks whether the store is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from proxy.cache import keys
from proxy.config import S3Settings
from proxy.errors import StorageUnavailable
from proxy.events import StorageAsked
from proxy.ports import Observe
from proxy.storage.s3.bodies import Upload
from proxy.storage.s3.breaker import Breaker
from proxy.storage.s3.connect import connect
from proxy.storage.s3.trouble import EXPECTED, S3Refused, S3Unreachable, translate

CALL_S = 3.0
"""Deadline of a call that a client may be waiting for, all tries together: a store
that needs a second or two for its answer is slow and works, a silent one costs a
client this once.
"""
PATIENT_S = 15.0
"""The same of a call that nobody waits for."""
STALL_S = 30.0
"""A body, either way, that does not move for this long is given up."""
_TRIES_MAX = 3
_BACKOFF_S = 0.1


def _unheard(_event: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Call:
    """`awaited`: a client may be waiting for it, so its silence counts."""

    operation: str
    parameters: Mapping[str, Any]
    body: Upload | None
    whole: bool
    awaited: bool


class S3Client:
    """Opened with `async with`, which never fails for S3's sake: a store that is
    away is asked again with the next call.
    """

    def __init__(
        self,
        settings: S3Settings,
        *,
        observe: Observe = _unheard,
        monotonic: Callable[[], float] = time.monotonic,
        call_s: float = CALL_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._monotonic = monotonic
        self._root = f"{settings.prefix}/" if settings.prefix else ""
        self._call_s = call_s
        self._stall_s = stall_s
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._clients: tuple[Any, Any] | None = None
        self._awaited: set[asyncio.Timeout] = set()
        self._prober: asyncio.Task[None] | None = None
        self.breaker = Breaker()

    @property
    def known_store(self) -> bool:
        """Whether it is AWS, whose abilities need no trial."""
        return self._settings.endpoint is None

    @property
    def encryption(self) -> dict[str, str]:
        """The parameters to add to everything that is written."""
        asked: dict[str, str] = {}
        if self._settings.sse != "none":
            asked["ServerSideEncryption"] = self._settings.sse
        if self._settings.sse_kms_key:
            asked["SSEKMSKeyId"] = self._settings.sse_kms_key
        return asked

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        try:
            async with asyncio.timeout(self._call_s):
                await self._opened()
        except (*EXPECTED, S3Unreachable):
            return self  # The next call tries again, and reports.
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait({self._prober})
        await self._stack.aclose()

    def full(self, key: str) -> str:
        """A key of ours as S3 knows it."""
        return self._root + key

    def bare(self, full: str) -> str:
        """The reverse of `full`."""
        return full.removeprefix(self._root)

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        body: Upload | None = None,
        whole: bool = False,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """One operation on the bucket, by botocore's names, and its answer.

        With `body` to send, the deadline starts anew with each piece that goes.
        `whole`: read the answer's `Body` within the deadline, too; it is `bytes`
        then. Raises `S3Refused`, `S3Unreachable` (both `StorageUnavailable`).
        """
        sent: dict[str, Any] = {**parameters, "Bucket": self._settings.bucket}
        if body is not None:
            sent |= {"Body": body, "ContentLength": body.size}
        limit_s = deadline_s or (self._call_s if body is None else self._stall_s)
        awaited = limit_s <= self._call_s and (body is None or deadline_s is not None)
        try:
            with self.breaker.call():
                return await self._timed(_Call(operation, sent, body, whole, awaited), limit_s)
        except S3Unreachable as error:
            if self.breaker.trouble and (self._prober is None or self._prober.done()):
                self._opened_breaker(silent=error.silent)
            raise
        finally:
            if body is not None:
                body.silence()

    def _opened_breaker(self, *, silent: bool) -> None:
        """Look for the store from now on; if it is silent, nobody need wait any longer."""
        now = asyncio.get_running_loop().time()
        for limit in self._awaited if silent else ():
            if not limit.expired():
                limit.reschedule(now)
        self._prober = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        parameters = {"Bucket": self._settings.bucket, "Key": self.full(keys.LAYOUT)}
        call = _Call("head_object", parameters, None, whole=False, awaited=False)
        while True:
            await asyncio.sleep(self.breaker.wait_s)
            if not self.breaker.trouble:
                return
            with contextlib.suppress(StorageUnavailable), self.breaker.call(probe=True):
                await self._timed(call, self._call_s, tries=1)

    async def _timed(self, call: _Call, limit_s: float, tries: int = _TRIES_MAX) -> dict[str, Any]:
        """The same, and say how long it took. If it is cancelled, that tells nothing."""
        began = self._monotonic()
        try:
            answer = await self._tries(call, limit_s, tries)
        except StorageUnavailable as error:
            self._asked(call, began, answered=isinstance(error, S3Refused))
            raise
        self._asked(call, began, answered=True)
        return answer

    def _asked(self, call: _Call, began: float, *, answered: bool) -> None:
        duration_s = self._monotonic() - began
        self._observe(
            StorageAsked(operation=call.operation, answered=answered, duration_s=duration_s)
        )

    async def _tries(self, call: _Call, limit_s: float, tries: int) -> dict[str, Any]:
        failed: S3Unreachable | None = None
        loop = asyncio.get_running_loop()
        try:
            async with self._limited(call, limit_s) as limit:
                if call.body is not None:
                    call.body.moved = lambda: limit.reschedule(loop.time() + limit_s)
                for number in range(tries):
                    if number:
                        await asyncio.sleep(_backoff(number))
                    try:
                        return await self._once(call)
                    except S3Refused as refused:
                        refused.retried = failed is not None
                        raise
                    except S3Unreachable as error:
                        failed = error
        except TimeoutError:
            failed = failed or S3Unreachable(
                f"S3 does not answer {call.operation} within {limit_s:g} s"
            )
            failed.silent = call.awaited
        assert failed is not None, "every try answers or fails"  # noqa: S101 - for the reader
        raise failed

    @contextlib.asynccontextmanager
    async def _limited(self, call: _Call, limit_s: float) -> AsyncIterator[asyncio.Timeout]:
        async with asyncio.timeout(limit_s) as limit:
            if call.awaited:
                self._awaited.add(limit)
            try:
                yield limit
            finally:
                self._awaited.discard(limit)

    async def _once(self, call: _Call) -> dict[str, Any]:
        try:
            client, _ = await self._opened()
            answer: dict[str, Any] = await getattr(client, call.operation)(**call.parameters)
            if call.whole:
                async with answer["Body"] as body:
                    answer["Body"] = await body.read()
        except EXPECTED as error:
            raise translate(error, call.operation) from error
        return answer

    async def presigned(self, key: str, *, valid_s: int) -> str:
        """A URL at the public endpoint where anyone can GET `key` for `valid_s`.

        Raises `S3Unreachable` when there are no credentials.
        """
        try:
            async with asyncio.timeout(self._call_s):  # temporary credentials may be renewed
                _, signer = await self._opened()
                url: str = await signer.generate_presigned_url(
                    "get_object",
                    Params={"Bucket": self._settings.bucket, "Key": self.full(key)},
                    ExpiresIn=valid_s,
                )
        except EXPECTED as error:
            raise translate(error, "presign") from error
        return url

    async def _opened(self) -> tuple[Any, Any]:
        """The library's clients, made when they are first needed and can be."""
        async with self._opening:
            if self._clients is None:
                self._clients = await connect(self._settings, self._stack, stall_s=self._stall_s)
        return self._clients


def _backoff(number: int) -> float:
    """Seconds to wait before the `number`th further try."""
    return float(_BACKOFF_S * 2**number * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
