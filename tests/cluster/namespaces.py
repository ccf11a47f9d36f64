"""A network of its own for each replica, which a test can cut between two of them.

Each replica gets a network namespace, joined to the others and to this process
by a switch (a bridge in one more namespace). A cut is silent, as a dead line is:
what is sent to the other side has a hardware address that nobody has.

The namespaces are held by processes that die with this one, and all that was made
vanishes with them. Needs root, and a kernel that lets it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.processes import ServerProcess

_NOBODY = "02:00:5e:00:53:ff"
_RUN_S = 20.0


class Namespace:
    """A network without anything in it, as long as it is held."""

    def __init__(self, log: Path) -> None:
        self._holder = ServerProcess(
            ["unshare", "--net", "sleep", "infinity"], log=log, ready=self._apart
        )

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def words(self) -> tuple[str, ...]:
        """What to put before a command to run it there."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holder.start(deadline_s=_RUN_S)
        try:
            yield
        finally:
            self._holder.kill()

    def ip(self, *words: str) -> None:
        _run(*self.words, "ip", *words)

    def _apart(self) -> bool:
        try:
            return os.readlink(f"/proc/{self.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        except OSError:
            return False


class Network:
    """`hub` is this process's address in it, `addresses` are the replicas'."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        # For benchmarks of networks (RFC 2544), so nobody's; tests beside us have another.
        base = f"198.{18 + os.getpid() // 256 % 2}.{os.getpid() % 256}"
        self.hub = f"{base}.1"
        self.addresses = [f"{base}.{10 + number}" for number in range(count)]
        self._switch = Namespace(folder / "switch.log")
        self._spaces = [Namespace(folder / f"{number}.log") for number in range(count)]

    @contextmanager
    def up(self) -> Iterator[None]:
        """Raises `subprocess.CalledProcessError` where that is not allowed."""
        with ExitStack() as stack:
            for space in (self._switch, *self._spaces):
                stack.enter_context(space.held())
            switch, ours = self._switch, f"ent{os.getpid()}"
            switch.ip("link", "add", "bridge", "type", "bridge")
            switch.ip("link", "set", "bridge", "up")
            _run("ip", "link", "add", ours, *_veth("hub", switch))
            stack.callback(lambda: _run("ip", "link", "delete", ours))
            self._plug("hub")
            _run("ip", "address", "add", f"{self.hub}/24", "dev", ours)
            _run("ip", "link", "set", ours, "up")
            for number, space in enumerate(self._spaces):
                space.ip("link", "add", "eth0", *_veth(f"port{number}", switch))
                self._plug(f"port{number}")
                space.ip("address", "add", f"{self.addresses[number]}/24", "dev", "eth0")
                for name in ("lo", "eth0"):
                    space.ip("link", "set", name, "up")
            yield

    def within(self, number: int) -> tuple[str, ...]:
        """What to put before a command to run it where this replica is."""
        return self._spaces[number].words

    def cut(self, one: int, other: int) -> None:
        """Nothing that either sends reaches the other."""
        for here, there in ((one, other), (other, one)):
            self._spaces[here].ip(
                *("neighbour", "replace", self.addresses[there], "lladdr", _NOBODY),
                *("dev", "eth0", "nud", "permanent"),
            )

    def _plug(self, port: str) -> None:
        self._switch.ip("link", "set", port, "master", "bridge")
        self._switch.ip("link", "set", port, "up")


@functools.cache
def refusal() -> str:
    """Why there can be no networks here; empty if there can."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "needs the program ip (Debian package iproute2)"
    for words in (
        ("unshare", "--net", "ip", "link", "add", "one", "type", "bridge"),
        ("unshare", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"),
        ("unshare", "--net", "nsenter", "--net=/proc/self/ns/net", "true"),
    ):
        try:
            _run(*words)
        except subprocess.CalledProcessError as error:
            return f"this machine does not let us make networks: {error.stderr.strip()}"
    return ""


def _veth(peer: str, space: Namespace) -> tuple[str, ...]:
    return ("type", "veth", "peer", "name", peer, "netns", str(space.pid))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=_RUN_S)
