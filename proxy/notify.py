"""Telling a service manager how we are: systemd's notification socket.

Does nothing where `NOTIFY_SOCKET` is not set. The datagrams are what
sd_notify(3) documents. What can't be sent is dropped: a manager that doesn't
listen is no reason to stop serving, and one that waits will say so itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping


class Manager:
    """Who started us, if it wants to hear of it. Read from `environ`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@name" is one in the abstract namespace, which the kernel spells with a NUL.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        period_us = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._watchdog_s = int(period_us) / 1e6 if period_us.isdecimal() and meant else 0.0

    def ready(self) -> None:
        """Everything is open; clients may be sent."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """We were asked to end, and let what runs finish first."""
        self._tell("STOPPING=1")

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Meanwhile, say twice in each period of its watchdog that the loop turns."""
        if not self._address or not self._watchdog_s:
            yield
            return
        barking = asyncio.create_task(self._bark())
        try:
            yield
        finally:
            barking.cancel()

    async def _bark(self) -> None:
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _tell(self, line: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sink,
        ):
            sink.setblocking(False)
            sink.sendto(line.encode(), self._address)
