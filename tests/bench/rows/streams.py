"""1,000 open streams and one reader of 10 KB/s: memory, and whether the others notice.

Twice the same crowd on a cold 8 MB blob of its own: once alone, once after
the slow reader was the first to ask, so that it is the one who began the
fetch. Two pairs in each turn, and the pair's order changes, so that a machine
that slows down does not count as a slow reader.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import geometric_mean

from tests.bench.content import Item
from tests.bench.measured import Measured
from tests.bench.row import Line, Row
from tests.bench.stage import Stage
from tests.bench.systems import System

_CLIENTS = 1000
_SLOW_BYTES_S = 10_000
_STEP_S = 0.1
_LIMIT_S = 40.0
_BLOBS = ("streams-a", "streams-b", "streams-c", "streams-d")
_PLAN = (False, True, True, False)
"""With the slow reader? By blob."""


def turn(stage: Stage, system: System, result: Measured) -> None:
    took_s: dict[bool, list[float]] = {False: [], True: []}
    stage.origin.reset()
    with stage.running(system) as running:
        for name, slow in zip(_BLOBS, _PLAN, strict=True):
            image = stage.library[name]
            if slow:
                with slow_reader(running.port, image.layers[0]) as read:
                    outcome = stage.pull(
                        result, running.port, image, clients=_CLIENTS, limit_s=_LIMIT_S
                    )
                if not read.alive:
                    result.failed.append("the slow reader was cut off")
            else:
                outcome = stage.pull(
                    result,
                    running.port,
                    image,
                    clients=_CLIENTS,
                    limit_s=_LIMIT_S,
                    by_image=system.by_image,
                )
            if outcome.failed or outcome.late:
                break
            took_s[slow].append(outcome.wall_s)
        result.values["streams_rss_mb"] = running.tree.peak_rss_bytes() / 1e6
    if len(took_s[True]) == len(took_s[False]) == 2:
        result.values["streams_slowed"] = geometric_mean(took_s[True]) / geometric_mean(
            took_s[False]
        )


class SlowReader:
    """Reads a blob at 10 KB/s until told to leave; `alive` says whether it still gets bytes."""

    def __init__(self, port: int, item: Item) -> None:
        self.alive = True
        self.answered = threading.Event()
        self._leave = threading.Event()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET /v2/{item.url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        step = int(_SLOW_BYTES_S * _STEP_S)
        while True:
            try:
                self.alive = bool(self._socket.recv(step))
            except OSError:
                self.alive = False
            self.answered.set()
            if not self.alive or self._leave.wait(_STEP_S):
                return

    def leave(self) -> None:
        self._leave.set()
        self._thread.join()
        self._socket.close()


@contextmanager
def slow_reader(port: int, item: Item) -> Iterator[SlowReader]:
    """Has had its first bytes, and reads on meanwhile."""
    reader = SlowReader(port, item)
    try:
        reader.answered.wait(60)
        yield reader
    finally:
        reader.leave()


ROW = Row(
    name="streams",
    images=dict.fromkeys(_BLOBS, (8_000_000,)),
    turn=turn,
    peers_once=True,
    lines=(
        Line(
            key="streams_rss_mb",
            title="1,000 streams and one reader of 10 KB/s: most memory (MB)",
            form="{:.0f}",
            limits=((200, None),),
        ),
        Line(
            key="streams_slowed",
            title="… the 1,000's time with the slow one ÷ without",
            limits=((1.05, None),),
        ),
    ),
)
