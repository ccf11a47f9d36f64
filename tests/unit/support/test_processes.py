"""The process helper itself: the end-to-end tests lean on it to leave nobody behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.processes import (
    NotReadyError,
    ServerProcess,
    accepts,
    answers_http,
    free_port,
    wait_until,
)

SERVE = "import sys; from http.server import *; HTTPServer(('127.0.0.1', int(sys.argv[1])), BaseHTTPRequestHandler).serve_forever()"
STUBBORN = """
import os, signal, sys, pathlib, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    while True: time.sleep(60)
pathlib.Path(sys.argv[1]).write_text(str(child))
while True: time.sleep(60)
"""


def _gone(pid: int) -> bool:
    """Dead, or dead and waiting for whoever adopts orphans here to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_server_comes_up_and_goes_and_comes_again(tmp_path: Path) -> None:
    port = free_port()
    server = ServerProcess(
        [sys.executable, "-c", SERVE, str(port)],
        log=tmp_path / "log",
        ready=lambda: answers_http(port),
    )
    for _ in range(2):
        server.start()
        assert accepts(port)
        server.stop()
        assert not server.running
        assert not accepts(port)


def test_one_that_exits_at_once_is_reported_with_its_own_words(tmp_path: Path) -> None:
    server = ServerProcess(
        [sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"],
        log=tmp_path / "log",
        ready=lambda: False,
    )
    with pytest.raises(NotReadyError, match=r"exited with 3\n.*no such luck"):
        server.start()


def test_one_that_never_answers_is_ended_at_its_deadline(tmp_path: Path) -> None:
    server = ServerProcess(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        log=tmp_path / "log",
        ready=lambda: False,
    )
    with pytest.raises(NotReadyError, match="not within"):
        server.start(deadline_s=0.3)
    assert not server.running


def test_what_a_server_has_spawned_dies_with_it(tmp_path: Path) -> None:
    written = tmp_path / "child"
    server = ServerProcess(
        [sys.executable, "-c", STUBBORN, str(written)],
        log=tmp_path / "log",
        ready=lambda: written.exists() and written.read_text() != "",
        stop_s=0.2,
    )
    server.start()
    leader, child = server.pid, int(written.read_text())
    assert os.getsid(child) == leader
    server.stop()
    wait_until(lambda: _gone(child), what="the child is gone", deadline_s=5)
