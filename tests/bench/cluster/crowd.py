"""Many clients of several replicas, one blob, all at once; resumed as containerd does.

A process of its own, `python -m tests.bench.cluster.crowd JOB`, which prints an
`Outcome`. Either each byte of each client is compared with the content
(`compare_all`), or, where first bytes are timed, one client of each replica keeps
its bytes to be hashed later and the kernel discards the others' (see
`tests.bench.client`); lengths are always checked.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import mmap
import resource
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

_WINDOW_BYTES = 256 << 10
_DISCARD_BYTES = 64 << 20
_TRIES = 8
_RETRY_S = 0.1
_compare = ctypes.CDLL(None).memcmp
_compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`each` clients for every port. `resume`: go on elsewhere after a cut."""

    ports: list[int]
    each: int
    path: str
    file: str
    digest: str
    size: int
    compare_all: bool = False
    resume: bool = False
    limit_s: float = 90.0


@dataclass(slots=True)
class Outcome:
    """`first_byte_s` and `cuts` by port, in the job's order."""

    first_byte_s: list[list[float]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    cut_why: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    wall_s: float = 0.0


class Client:
    """One client; `home` is the index of its first replica."""

    def __init__(self, job: Job, home: int, keep: mmap.mmap | None) -> None:
        self.job = job
        self.home = home
        self.keep = keep
        self.view = memoryview(keep) if keep is not None else None
        self.began = time.perf_counter()
        self.first_byte_s = -1.0
        self.position = 0
        self.tries = 0
        self.in_body = False
        self.due_s = 0.0
        self.socket: socket.socket

    def connect(self) -> None:
        port = self.job.ports[(self.home + self.tries) % len(self.job.ports)]
        self.tries += 1
        self.in_body = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def ask(self) -> None:
        resumed = f"Range: bytes={self.position}-\r\n" if self.position else ""
        self.socket.sendall(
            f"GET {self.job.path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n"
            f"{resumed}Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )

    def read_head(self) -> None:
        """Up to the body, not a byte further. Raises `ConnectionError`."""
        seen = self.socket.recv(64 << 10, socket.MSG_PEEK)
        if not seen:
            raise ConnectionResetError("closed without an answer")
        end = seen.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.socket.recv(end + 4).decode("latin-1")
        lines = [line.partition(":") for line in head.split("\r\n")[1:]]
        fields = {name.lower(): value.strip() for name, _, value in lines}
        status = head.split()[1]
        if status != ("206" if self.position else "200"):
            raise ConnectionResetError(f"answered {status} {seen[end + 4 : end + 300]!r}")
        size = self.job.size
        span = f"bytes {self.position}-{size - 1}/{size}"
        if self.position and fields.get("content-range") != span:
            raise ConnectionResetError(f"{fields.get('content-range')} is not {span}")
        if fields.get("content-length") != str(size - self.position):
            raise ConnectionResetError(f"Content-Length {fields.get('content-length')}")
        self.in_body = True


class Crowd:
    """All clients in one epoll loop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        count = len(job.ports)
        self.outcome = Outcome([[] for _ in range(count)], [0] * count)
        self.poll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.waiting: list[Client] = []
        self.scratch = mmap.mmap(-1, _DISCARD_BYTES)
        self.view = memoryview(self.scratch)
        self.scratch_at = ctypes.addressof(ctypes.c_char.from_buffer(self.scratch))
        with Path(job.file).open("rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.content_at = ctypes.addressof(ctypes.c_char.from_buffer(self.content))

    def run(self) -> Outcome:
        job, flags = self.job, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        keeps = [None if job.compare_all else mmap.mmap(-1, job.size, flags) for _ in job.ports]
        kept = []
        began = time.perf_counter()
        for number in range(job.each):
            for home in range(len(job.ports)):
                client = Client(job, home, keeps[home] if number == job.each // 2 else None)
                kept += [client] if client.keep is not None else []
                self._start(client)
        while self.clients or self.waiting:
            now = time.perf_counter()
            for client in [one for one in self.waiting if one.due_s <= now]:
                self.waiting.remove(client)
                self._start(client)
            for number, event in self.poll.poll(0.05):
                self._turn(self.clients[number], event)
            if now - began > job.limit_s:
                late = [*self.clients.values(), *self.waiting]
                self.outcome.failed += [f"not done in time, at {one.position}" for one in late]
                break
        self.outcome.wall_s = time.perf_counter() - began
        for client in kept:
            assert client.keep is not None
            if client.position == job.size and client.keep[:] != self.content[:]:
                digest = hashlib.sha256(client.keep).hexdigest()
                self.outcome.wrong.append(f"client of replica {client.home}: sha256:{digest}")
        return self.outcome

    def _start(self, client: Client) -> None:
        client.connect()
        self.clients[client.socket.fileno()] = client
        self.poll.register(client.socket, select.EPOLLOUT)

    def _turn(self, client: Client, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                client.ask()
                self.poll.modify(client.socket, select.EPOLLIN)
            elif not client.in_body:
                client.read_head()
            elif self._read(client):
                self._leave(client)
                self.outcome.first_byte_s[client.home].append(client.first_byte_s)
        except BlockingIOError:
            return
        except OSError as error:
            self._leave(client)
            self._broken(client, str(error))

    def _read(self, client: Client) -> bool:
        """Take what has come; True after the last byte."""
        left = self.job.size - client.position
        if client.view is not None:
            count = client.socket.recv_into(client.view[client.position :], left)
        elif self.job.compare_all:
            count = client.socket.recv_into(self.view, min(left, _WINDOW_BYTES))
            if _compare(self.scratch_at, self.content_at + client.position, count):
                self.outcome.wrong.append(f"a byte after {client.position}, try {client.tries}")
        else:
            count = client.socket.recv_into(self.view, min(left, _DISCARD_BYTES), socket.MSG_TRUNC)
        if not count:
            raise ConnectionResetError("cut")
        if client.first_byte_s < 0:
            client.first_byte_s = time.perf_counter() - client.began
        client.position += count
        return client.position == self.job.size

    def _leave(self, client: Client) -> None:
        self.poll.unregister(client.socket)
        del self.clients[client.socket.fileno()]
        client.socket.close()

    def _broken(self, client: Client, why: str) -> None:
        self.outcome.cuts[client.home] += 1
        if len(self.outcome.cut_why) < 20:
            self.outcome.cut_why.append(f"replica {client.home} at {client.position}: {why}")
        if self.job.resume and client.tries < _TRIES:
            client.due_s = time.perf_counter() + _RETRY_S
            self.waiting.append(client)
        else:
            self.outcome.failed.append(f"replica {client.home} at {client.position}: {why}")


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    gc.disable()  # a collection would be a pause in somebody's first byte
    print(json.dumps(asdict(Crowd(Job(**json.loads(sys.argv[1]))).run())))


if __name__ == "__main__":
    main()
