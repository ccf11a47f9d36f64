"""What a service manager is told, and that nobody else needs one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.notify import Manager


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening manager; its address is the relative path `notify`."""
    monkeypatch.chdir(tmp_path)  # or the address could be too long
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("notify")
        listening.settimeout(20)
        yield listening


def test_ready_and_stopping_are_told_in_turn(sink: socket.socket) -> None:
    manager = Manager({"NOTIFY_SOCKET": "notify"})
    manager.ready()
    manager.stopping()
    assert [sink.recv(100), sink.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_address_in_the_abstract_namespace_is_found() -> None:
    name = f"entrepot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(20)
        Manager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listening.recv(100) == b"READY=1"


async def test_the_watchdog_hears_again_and_again_until_the_end(sink: socket.socket) -> None:
    import asyncio

    sink.setblocking(False)
    loop = asyncio.get_running_loop()
    manager = Manager(
        {"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    )
    async with asyncio.timeout(30), manager.watching():
        for _ in range(3):
            assert await loop.sock_recv(sink, 100) == b"WATCHDOG=1"
    assert len(asyncio.all_tasks()) <= 2  # this one, and a cancelled one on its way out


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "notify"},
        {"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000"},
    ],
    ids=["no manager", "no watchdog", "another's watchdog", "no number", "no address"],
)
async def test_a_watchdog_that_is_not_ours_hears_nothing(
    environ: dict[str, str], sink: socket.socket
) -> None:
    import asyncio

    async with Manager(environ).watching():
        assert len(asyncio.all_tasks()) == 1
    sink.setblocking(False)
    with pytest.raises(BlockingIOError):
        sink.recv(100)


def test_a_manager_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    manager.ready()
    manager.stopping()
