"""All that sends from files in one loop: whose socket takes bytes again, whose turn it is.

Waiting: asyncio tells who is writable with two system calls and a dozen Python calls for
each wait. Here all sockets that wait share one `epoll`, which stays armed (edge-triggered:
epoll(7)), and the loop only watches that one.

Turns: 256 clients that can all be sent to keep a core busy for 200 ms. In that time
nothing would be read from the upstream they wait for, and nobody else answered; such a
crowd then got its layer no faster than one read in each round. So a turn of the loop
sends for a few milliseconds, and goes on in the next one.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

TURN_S = 0.004
_AT_ONCE = 256
_EVENTS = select.EPOLLOUT | select.EPOLLET

Go = Callable[[], None]


class Outlets:
    """One for each loop: `of_this_loop`. Holds a descriptor while anybody watches."""

    # The loop is not kept: it would be in its own entry of a table with weak keys.
    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watching: dict[int, Go] = {}
        self._queue: deque[Go] = deque()
        self._running = False

    def soon(self, go: Go) -> None:
        """Call `go`, which must not raise, when it is its turn."""
        self._queue.append(go)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._turn)

    def watch(self, fd: int, go: Go) -> None:
        """Call `go`, when it is its turn, once `fd` takes bytes, and again each time that
        it was found full (`EAGAIN`) and then took some. Raises OSError.
        """
        try:
            if self._epoll is None:
                self._epoll = select.epoll()
                asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._told)
            self._epoll.register(fd, _EVENTS)
            self._watching[fd] = go
        finally:
            self._close_if_idle()

    def leave(self, fd: int) -> None:
        """No more, before `fd` is closed: a duplicate would keep it registered."""
        if self._epoll is None or self._watching.pop(fd, None) is None:
            return
        self._epoll.unregister(fd)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._epoll is not None and not self._watching:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _told(self) -> None:
        if self._epoll is None:
            return
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            self._queue.append(self._watching[fd])
        if not self._running:
            self._turn()

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time
        until = now() + TURN_S
        queue, self._running = self._queue, True
        try:
            while queue:
                queue.popleft()()
                if now() >= until:
                    break
        finally:
            # Whatever one of them did, the others are not forgotten.
            self._running = bool(queue)
            if queue:
                loop.call_soon(self._turn)


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Outlets] = WeakKeyDictionary()


def of_this_loop() -> Outlets:
    """The one of the running loop."""
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        found = _loops[loop] = Outlets()
    return found
