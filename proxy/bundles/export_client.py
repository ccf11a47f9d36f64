"""The side of an export that writes the bundle: asks a running proxy for the plan and for
the bytes of each blob.

Breaks are taken in one's stride: what came of a blob is kept, the rest is asked for again.
Only when nothing at all comes for a while is it given up. All of it blocks.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Protocol, Self
from urllib.parse import urlencode, urlsplit

from proxy.bundles.contents import Blob, Place
from proxy.errors import BadBundle, UpstreamUnavailable

# An upstream that is away for longer is worth a look by somebody.
_PATIENCE_S = 300.0
_DELAYS_S = (0.2, 1.0, 3.0, 10.0, 20.0)
# The proxy answers within its header budget; a body may pause for as long as its
# upstream does, and that is cut by the proxy.
_SILENCE_S = 180.0
_SAID_MAX = 64 * 1024


class Readable(Protocol):
    """What bytes are read from."""

    def readinto(self, buffer: memoryview, /) -> int: ...


Take = Callable[[Readable], int]
"""Reads some bytes; how many, 0 at the end."""


class Giver:
    """The admin listener at `url`, over one connection."""

    def __init__(
        self,
        url: str,
        *,
        tell: Callable[[str], None],
        patience_s: float = _PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`tell` hears why there is a wait. Raises `BadBundle` for what is no URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadBundle(f"{url} must be an http:// or https:// URL")
        make = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = make(parts.hostname, parts.port, timeout=_SILENCE_S)
        self._base = parts.path.rstrip("/")
        self._tell = tell
        self._patience_s = patience_s
        self._sleep = sleep
        self._kept = False
        self._stale = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()

    def give(self, blob: Blob, start: int, take: Take) -> None:
        """The bytes of a blob from `start` to its end, taken by `take`.

        Asks for them as of the repositories that the blob belongs to, in turn. Raises
        `BadBundle` if none of them has it or it has another size, `UpstreamUnavailable`
        after too long a wait.
        """
        at, places, patience = start, list(blob.places), self._patience()
        while at < blob.descriptor.size:
            before = at
            try:
                for count in self._counts(blob, places[0], at, take):
                    at += count
            except _Refused as refused:
                places.pop(0)
                if not places:
                    raise BadBundle(
                        f"{blob.descriptor.digest} can't be had: {refused}"
                    ) from refused
            except (OSError, http.client.HTTPException, _Broken) as error:
                self._connection.close()
                if self._stale:
                    # It was idle for too long; a fresh one tells how things are.
                    self._stale = False
                    continue
                if at > before:
                    patience = self._patience()
                reason = f"{blob.descriptor.digest}: {str(error) or type(error).__name__}"
                delay_s = next(patience, None)
                if delay_s is None:
                    raise UpstreamUnavailable(reason) from error
                self._tell(f"{reason}; trying again in {delay_s:g} s")
                self._sleep(delay_s)

    def _counts(self, blob: Blob, place: Place, at: int, take: Take) -> Iterator[int]:
        """Of one answer: how many bytes were taken, time and again."""
        query = {
            "upstream": place.upstream,
            "repository": place.repository,
            "digest": blob.descriptor.digest,
            "kind": blob.kind,
        }
        headers = {"Range": f"bytes={at}-"} if at else {}
        # What was written meanwhile takes longer than some connections are kept.
        self._stale, self._kept = self._kept, False
        self._connection.request(
            "GET", f"{self._base}/bundles/blob?{urlencode(query)}", headers=headers
        )
        answer = self._connection.getresponse()
        self._stale = False
        if answer.status not in {200, 206}:
            said = answer.read(_SAID_MAX).decode(errors="replace").strip()
            self._kept = answer.isclosed()
            trouble = _Broken if answer.status >= 500 else _Refused
            raise trouble(said or f"the proxy answered {answer.status}")
        left = blob.descriptor.size - at
        if answer.length != left or (at and answer.status != 206):
            self._connection.close()
            size = "an unknown number of" if answer.length is None else answer.length + at
            raise BadBundle(
                f"{blob.descriptor.digest} has {size} bytes,"
                f" but what refers to it says {blob.descriptor.size}"
            )
        while left:
            count = take(answer)
            if not count:
                raise _Broken("the transfer broke off")
            left -= count
            yield count
        self._kept = True

    def _patience(self) -> Iterator[float]:
        """How long to wait, each time; ends when all patience is used up."""
        left_s = self._patience_s
        delays_s = chain(_DELAYS_S, repeat(_DELAYS_S[-1]))
        while left_s > 0:
            delay_s = next(delays_s)
            left_s -= delay_s
            yield delay_s


class _Refused(Exception):
    """The answer is no."""


class _Broken(Exception):
    """Another try may do better."""
