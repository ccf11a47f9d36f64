"""One bundle brought to a running proxy: begun, sent as far as it was lacking, committed.

What is sent is verified by who keeps it, all else here: a medium that is damaged where
it did not matter this time is still told. Two connections, so that one sends while the other's blob is being forced to the disk.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, assert_never

from proxy.bundles.importing_client import FORGOTTEN, ImportRefused, Lacking, Receiver
from proxy.bundles.reader import Opened
from proxy.bundles.reader_media import chunks, size_of
from proxy.errors import BadBundle
from proxy.oci.digest import Digest

_AT_ONCE = 2
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How to import. keys: public ones in PEM."""

    keys: Sequence[str] = ()
    unsigned: bool = False
    force: bool = False
    pin: bool = True


@dataclass(slots=True)
class Progress:
    """What has been read, sent or only verified; `changed` is called whenever that grows."""

    changed: Callable[[Progress], None]
    total_bytes: int = 0
    read_bytes: int = 0


def bring(url: str, opened: Opened, wish: Wish, progress: Progress) -> dict[str, Any]:
    """Import it; what the proxy answered at the end.

    Raises `ImportRefused`, `BadBundle`; then nothing of it is visible there.
    """
    verified: set[Digest] = set()
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            return _bring(url, opened, wish, progress, verified)
        except ImportRefused as error:
            # It was restarted meanwhile; what it has kept is not sent again.
            if last or error.status != FORGOTTEN:
                raise
    raise AssertionError("unreachable")


def _bring(
    url: str, opened: Opened, wish: Wish, progress: Progress, verified: set[Digest]
) -> dict[str, Any]:
    with Receiver(url) as receiver:
        begun = receiver.post(
            "/bundles/begin",
            {
                "contents": opened.body.decode(),
                "signature": None if opened.signature is None else opened.signature.decode(),
                "keys": list(wish.keys),
                "unsigned": wish.unsigned,
                "force": wish.force,
            },
        )
        token = begun["import"]
        # A connection that is idle for as long as all is sent would be closed meanwhile.
        receiver.close()
        try:
            lacking = [
                Lacking(one["group"], one["digest"], one["size"]) for one in begun["lacking"]
            ]
            _Reading(url, token, opened, progress, verified).all(lacking)
            commit = {"import": token, "pin": wish.pin, "force": wish.force}
            return receiver.post("/bundles/commit", commit)
        except (ImportRefused, BadBundle, KeyboardInterrupt):
            with contextlib.suppress(ImportRefused):
                receiver.post("/bundles/forget", {"import": token})
            raise


def verify(opened: Opened, digest: Digest, read: Callable[[int], None] = lambda _n: None) -> None:
    """Raises `BadBundle` unless the bundle has what it says; `read` hears of bytes."""
    hasher = digest.hasher()
    for chunk in chunks(opened.blobs[digest]):
        hasher.update(chunk)
        read(len(chunk))
    if hasher.hexdigest() != digest.hex:
        raise BadBundle(f"the bundle has other bytes than {digest}")


class _Reading:
    """Sends blobs and verifies others, two at a time."""

    def __init__(
        self, url: str, token: str, opened: Opened, progress: Progress, verified: set[Digest]
    ) -> None:
        """`verified` need not be again, and grows."""
        self._url = url
        self._token = token
        self._opened = opened
        self._progress = progress
        self._verified = verified
        self._todo: queue.SimpleQueue[Lacking | Digest] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def all(self, lacking: Sequence[Lacking]) -> None:
        """Send these, verify the rest. Raises what is raised first, when nothing runs on."""
        rest = self._opened.blobs.keys() - {Digest.parse(one.digest) for one in lacking}
        rest -= self._verified
        for blob in lacking:
            self._todo.put(blob)
        for digest in sorted(rest, key=str):
            self._todo.put(digest)
        total = sum(one.size for one in lacking)
        total += sum(size_of(self._opened.blobs[digest]) for digest in rest)
        self._progress.total_bytes, self._progress.read_bytes = total, 0
        self._progress.changed(self._progress)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = [pool.submit(self._work) for _ in range(_AT_ONCE)]
            try:
                errors = [error for one in futures if (error := one.exception()) is not None]
            except KeyboardInterrupt:
                self._stop.set()
                raise
        if errors:
            raise next((one for one in errors if not isinstance(one, _GivenUp)), errors[0])

    def _work(self) -> None:
        try:
            with Receiver(self._url) as receiver:
                while (one := self._next()) is not None:
                    self._one(receiver, one)
        except BaseException:
            self._stop.set()
            raise

    def _next(self) -> Lacking | Digest | None:
        with contextlib.suppress(queue.Empty):
            return self._todo.get_nowait()
        return None

    def _one(self, receiver: Receiver, one: Lacking | Digest) -> None:
        match one:
            case Lacking():
                place = self._opened.blobs[Digest.parse(one.digest)]
                receiver.send(self._token, one, place, self._read)
            case Digest():
                verify(self._opened, one, self._read)
                self._verified.add(one)
            case _:
                assert_never(one)

    def _read(self, count: int) -> None:
        with self._lock:
            self._progress.read_bytes += count
            self._progress.changed(self._progress)
        if self._stop.is_set():
            raise _GivenUp


class _GivenUp(Exception):
    """The other connection has failed."""
