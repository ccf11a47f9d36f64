"""Real server processes for tests: started, awaited, stopped, never leaked.

Each process leads its own session, so that `stop` reaches whatever it has
spawned into its group and nothing else. It is always addressed by its own id.
Waiting means asking the server itself, again and again, until a deadline: there
is no other way to learn that somebody else's program is ready. Output goes to
a log file that stays readable after the process has gone and is quoted in full
in the error when it does not come up.

A test run that is killed takes its servers with it: the kernel kills them when
the *thread* that started them ends, so one thread that lives as long as this
process starts them all.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

POLL_S = 0.02
READY_S = 30.0
STOP_S = 15.0
LOG_TAIL_BYTES = 8_000


class NotReadyError(AssertionError):
    """A server exited, or did not answer before its deadline."""


_FIRST_PORT = 12_000
_PORTS = 10_000
# Other test runs on this machine begin elsewhere, and who runs beside us far away.
_neighbour = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.count((os.getpid() * 37 + _neighbour * _PORTS // 4) % _PORTS)


def free_port() -> int:
    """A loopback TCP port nobody listens on at this moment.

    Below those that the kernel gives to outgoing connections: one of these could take
    it before the server that it is meant for. Each is given out once in a long while.
    """
    while True:
        port = _FIRST_PORT + next(_ports) % _PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(fact: Callable[[], bool], *, what: str, deadline_s: float = READY_S) -> None:
    """Ask until `fact()` holds; `AssertionError` naming `what` after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(POLL_S)


def answers_http(port: int, path: str = "/v2/", *, host: str = "127.0.0.1") -> bool:
    """Whether something answers plain HTTP there, whatever the status."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def accepts(address: int | Path) -> bool:
    """Whether a loopback port (int) or a unix socket (path) accepts connections."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(2)
        try:
            probe.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        except OSError:
            return False
    return True


class ServerProcess:
    """One server; `start` it as often as needed, its log goes on in one file.

    `ready()` is asked until it is true. `env` is added to this process's own.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        self._ready = ready
        self._env = dict(env or {})
        self._cwd = cwd
        self._stop_s = stop_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.argv[0]} is not started"
        return self._process.pid

    def start(self, *, deadline_s: float = READY_S) -> None:
        """Start and wait until it answers; `NotReadyError` with its log otherwise."""
        assert not self.running, f"{self.argv[0]} is running already"
        self._process = _starter.submit(self._spawned).result()
        _alive.add(self)
        try:
            wait_until(self._up_or_dead, what=f"{self.argv[0]} answers", deadline_s=deadline_s)
        except BaseException as error:
            self.kill()
            if isinstance(error, AssertionError):
                raise NotReadyError(f"{error}\n{self.log_tail()}") from error
            raise
        if not self.running:
            code = self._process.returncode
            self.kill()
            raise NotReadyError(f"{self.argv[0]} exited with {code}\n{self.log_tail()}")

    def stop(self) -> int | None:
        """SIGTERM, a bounded wait, then SIGKILL for what is left of its group.

        Returns the exit status; None if it was not running.
        """
        if self._process is None:
            return None
        if self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_s)
        return self.kill()

    def kill(self) -> int | None:
        """SIGKILL to the whole group, as a crash would; reaps the process."""
        if self._process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait(STOP_S)
        self._process = None
        _alive.discard(self)
        return code

    def log_text(self) -> str:
        """All it has written so far, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        return self.log_text()[-LOG_TAIL_BYTES:]

    def _spawned(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                [*_dies_with_us(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                start_new_session=True,
            )

    def _up_or_dead(self) -> bool:
        return not self.running or self._ready()


class Running:
    """A server that is there inside of a `with` and gone behind it; `_process` is its
    process, which can also be ended and started again inside.
    """

    _process: ServerProcess

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        """Returns once it answers."""
        self._process.start()

    def kill(self) -> None:
        """Gone from the network at once: connections are refused from now on."""
        self._process.kill()


def _dies_with_us() -> list[str]:
    """What to put before a command; of util-linux, it replaces itself by the command."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--"]


_starter = ThreadPoolExecutor(1, "starter")
_alive: set[ServerProcess] = set()


@atexit.register
def _stop_forgotten() -> None:
    """The net below the fixtures: a test run that is interrupted leaves nobody."""
    for server in list(_alive):
        server.kill()
