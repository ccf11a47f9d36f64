"""A disk that hangs when told to: ext4 on a loop device on a file that is ours.

Nothing is simulated above the device, so what is seen here is what a proxy meets on a
network disk that lost its network or a hard disk with a bad day: reads of what is not
in the page cache wait, and write-back waits. How it is made, and why nothing of it
outlives a test run that is killed: `tests.support.held_disk`.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from proxy.web.residency import resident
from tests.support.processes import wait_until

# Its server never waits for anything: this is for a machine that does not run it.
_ANSWER_S = 60.0
_ROOT = Path(__file__).parents[2]


class NoSlowDisk(Exception):
    """This machine has no FUSE or no loop devices for us."""


class SlowDisk:
    """There while entered, at `folder`; `overlay`: under an overlay, as in a container
    without a volume. Needs root.

    Entering raises `NoSlowDisk` where the kernel does not let us.
    """

    def __init__(self, *, size: int, overlay: bool = False) -> None:
        self._argv = [str(size), *(["overlay"] if overlay else [])]
        self._server: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NoSlowDisk("only root may mount")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.held_disk", *self._argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=_ROOT,
        )
        try:
            line = self._line()
            if not line.startswith("/proc/"):
                raise NoSlowDisk(line)
            self.folder = Path(line)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Whatever happens, the server goes, and with it all that it made."""
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        with server.stdout, server:
            server.stdin.close()
            try:
                server.wait(_ANSWER_S)
            except subprocess.TimeoutExpired:
                server.kill()

    # --- slowness ----------------------------------------------------------------------

    @contextlib.contextmanager
    def hanging(self, *kinds: Literal["read", "write"]) -> Iterator[None]:
        """Requests of these kinds wait until the block is left (`write`: syncs, too).

        A loop device serves one at a time, so others may wait behind them.
        """
        for kind in kinds:
            self._say(f"hold {kind}")
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let go of what is held."""
        self._say("release")

    @property
    def held(self) -> int:
        """How many requests wait just now."""
        return int(self._say("held"))

    def _say(self, command: str) -> str:
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(command.encode() + b"\n")
        return self._line()

    def _line(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._server.stdout], [], [], _ANSWER_S)[0]:
                raise NoSlowDisk(f"no answer within {_ANSWER_S:g} s")
            if not (read := self._server.stdout.read(4096)):
                raise NoSlowDisk("its server ended")
            line += read
        return line.decode().strip()


def forget_cached(path: Path, start: int, size: int) -> None:
    """Drop what the page cache has of `size` bytes of a file, at least in part."""
    fd = os.open(path, os.O_RDONLY)

    def forgotten() -> bool:
        os.fdatasync(fd)  # Only clean pages can be dropped,
        os.posix_fadvise(fd, start, size, os.POSIX_FADV_DONTNEED)
        # and none that are still in a socket.
        return not resident(fd, start, size)

    try:
        wait_until(forgotten, what=f"{path} is not in memory")
    finally:
        os.close(fd)
