"""The load, seen from the bench: processes that are started, awaited and read."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from tests.bench.cluster import asker, crowd
from tests.bench.rounds import Measured
from tests.bench.systems import ROOT

_ASK_S = 150.0
_SAID_MAX = 3


class _Stage(Protocol):
    folder: Path
    number: int
    result: Measured


class Crowd:
    """A crowd that is running."""

    def __init__(self, job: crowd.Job) -> None:
        self._limit_s = job.limit_s + 30
        argv = [sys.executable, "-m", "tests.bench.cluster.crowd", json.dumps(asdict(job))]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> crowd.Outcome:
        """Raises `SubprocessError` if it does not end or ends badly."""
        try:
            said, _ = self._process.communicate(timeout=self._limit_s)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if self._process.returncode:
            raise subprocess.CalledProcessError(self._process.returncode, "crowd")
        return crowd.Outcome(**json.loads(said))


class SlowReader:
    """Takes a body at `bytes_s`, in a thread, until it is stopped."""

    def __init__(self, port: int, path: str, bytes_s: int) -> None:
        self._socket = socket.socket()
        # Small, or the kernel would take megabytes for it at once.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._pause_s = 1024 / bytes_s
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._fault = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_begun(self) -> None:
        """Until something has come; bounded."""
        self._begun.wait(10)

    def fault(self) -> str:
        """Why it was not served; empty while it is."""
        return self._fault

    def stop(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._ended.wait(self._pause_s):
            try:
                came = self._socket.recv(1024)
            except OSError as error:
                came, why = b"", str(error)
            else:
                why = "the connection was closed"
            self._begun.set()
            if not came:
                if not self._ended.is_set():
                    self._fault = f"the slow reader was cut: {why}"
                return


def ask(
    stage: _Stage,
    questions: Sequence[tuple[str, str]],
    lists: Sequence[tuple[int, list[int]]],
    *,
    once: bool = False,
    seconds: float = 0.0,
) -> asker.Outcome:
    """Let workers ask; failures and wrong bytes become the round's."""
    job = asker.Job(
        questions=list(questions),
        lists=list(lists),
        once=once,
        seconds=seconds,
        seed=stage.number,
    )
    path = stage.folder / f"ask-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(asdict(job)))
    said = subprocess.run(
        [sys.executable, "-m", "tests.bench.cluster.asker", str(path)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_ASK_S,
    ).stdout
    outcome = asker.Outcome(**json.loads(said))
    if outcome.failures:
        first = outcome.failed[:_SAID_MAX]
        stage.result.failed.append(f"{outcome.failures} answers were not good: {first}")
    stage.result.wrong += outcome.wrong
    return outcome


def ask_for(
    stage: _Stage, questions: Sequence[tuple[str, str]], ports: Sequence[int], seconds: float
) -> asker.Outcome:
    """A worker for each of `ports` asks by chance for `seconds`."""
    everything = list(range(len(questions)))
    return ask(stage, questions, [(port, everything) for port in ports], seconds=seconds)
