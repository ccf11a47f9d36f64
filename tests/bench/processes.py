"""Starts one process tree, measures what it used, and ends it by pid.

Nothing here knows what runs. A tree is a process and all its descendants, as
nginx is a master and its worker.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

_GRACE_S = 5.0
_READY_S = 20.0
_SETTLE_S = 5.0
_IDLE_STEP_S = 0.2
_IDLE_SHARE = 0.02  # of a core


class DidNotStart(Exception):
    """A system ended, or said nothing, before it was ready; the message has its last words."""


class Tree:
    """A running process tree. Use as a context manager; leaving it ends the tree."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        cpus: Sequence[int] = (),
    ) -> None:
        """`cpus`: where it may run from its first instruction on (it may count them); all if empty."""
        self._log = log
        if cpus:
            argv = ["taskset", "-c", ",".join(map(str, cpus)), *argv]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, ready: Callable[[], bool], *, every_s: float = 0.05) -> None:
        """Poll `ready` until it is true. Raises `DidNotStart`."""
        until = time.monotonic() + _READY_S
        while not ready():
            if self.process.poll() is not None or time.monotonic() > until:
                words = self._log.read_text(errors="replace")[-600:]
                raise DidNotStart(f"exit status {self.process.poll()}: {words}")
            time.sleep(every_s)

    def pids(self) -> list[int]:
        """The tree's processes, its root first."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in _read(task).split()]
        return found

    def cpu_s(self) -> float:
        """User and system time of the tree since it began, in seconds.

        Read from each process's CPU clock (clock_getcpuclockid(3)): the same
        sum as utime+stime in /proc, but in nanoseconds where those are ticks
        of 10 ms, too coarse for the little that sendfile needs.
        """
        total = 0.0
        for pid in self.pids():
            try:
                total += time.clock_gettime((~pid << 3) | 2)
            except OSError:
                continue  # it ended since it was listed
        return total

    def settle(self) -> None:
        """Wait, bounded, until the tree is idle: what it does after an answer is not the next one's."""
        until = time.monotonic() + _SETTLE_S
        before_s = self.cpu_s()
        while time.monotonic() < until:
            time.sleep(_IDLE_STEP_S)
            now_s = self.cpu_s()
            if now_s - before_s < _IDLE_SHARE * _IDLE_STEP_S:
                return
            before_s = now_s

    def peak_rss_bytes(self) -> int:
        """VmHWM, summed over the tree (pages that its processes share count for each)."""
        return self._memory("VmHWM:")

    def rss_bytes(self) -> int:
        """VmRSS now, summed likewise."""
        return self._memory("VmRSS:")

    def _memory(self, field: str) -> int:
        return 1024 * sum(
            int(line.split()[1])
            for pid in self.pids()
            for line in _read(Path(f"/proc/{pid}/status")).splitlines()
            if line.startswith(field)
        )

    def pin(self, cpus: set[int]) -> None:
        """Let all threads of the tree, and those they start, run on `cpus` only."""
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                try:
                    os.sched_setaffinity(int(task), cpus)
                except ProcessLookupError:
                    continue  # a thread that ended since it was listed

    def stop(self) -> None:
        """End the tree by pid: asked first, then forced."""
        workers = {pid: _start_time(pid) for pid in self.pids()[1:]}
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid, started in workers.items():
            # One that outlived its master; never a pid that is somebody else's by now.
            if started and _start_time(pid) == started:
                os.kill(pid, signal.SIGKILL)
                until = time.monotonic() + _GRACE_S
                while _start_time(pid) == started and time.monotonic() < until:
                    time.sleep(0.01)


def free_port() -> int:
    """A loopback port that is free now; raced for by nobody but this bench."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str, ca: Path | None = None) -> bool:
    """Whether a GET gives 200. `ca`: the PEM file of the authority to trust, for https."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the process ended since it was listed


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which it started (proc(5), field 22); empty if it is gone."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if fields and fields[0] != "Z" else ""
