"""The load: N pulls at once, checked, and hardly any work per byte.

A process of its own, `python -m tests.bench.client JOB` (JOB is a `Job` as
JSON), which prints an `Outcome` as JSON. On two cores a client that copied and
hashed every byte would be what is measured. So all pulls but one let the
kernel throw the middle of the body away (`recv` with `MSG_TRUNC`: tcp(7)) and
compare the last 64 KiB; one keeps all its bytes and hashes them once the clock
has stopped. Lengths are checked for all.
"""

from __future__ import annotations

import gc
import hashlib
import json
import mmap
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.content import MANIFEST_TYPE

_TAIL_BYTES = 64 << 10
_DISCARD_BYTES = 64 << 20
_HEAD_BYTES_MAX = 64 << 10
_SAID_BYTES_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One blob: `path` is the whole URL path, `file` the content it must be, `size` in bytes.

    `before`: the URL path of a manifest to ask for first, on the same
    connection, for a system that fetches whole images only; empty for none.
    """

    path: str
    file: str
    digest: str
    size: int
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`pulls` downloads of the `targets` in turn, `at_once` of them together.

    All `at_once` start together; each that ends starts the next.
    Past `limit_s` all is given up.
    """

    port: int
    targets: list[Target]
    at_once: int
    pulls: int
    limit_s: float = 120.0


@dataclass(slots=True)
class Outcome:
    """Per pull that ended well: `target` (its number), `first_byte_s` of the body since
    the pull asked, `done_s` since it was started.

    `wall_s` is from the first start to the last byte. `failed`: pulls that
    were refused or cut, why. `late`: pulls given up. `wrong`: pulls that ended
    well with wrong bytes. `cpu_s` is what this process used.
    """

    target: list[int] = field(default_factory=list)
    first_byte_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    failed: list[str] = field(default_factory=list)
    late: int = 0
    wrong: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


class Pull:
    """One GET on a connection of its own."""

    def __init__(self, job: Job, number: int, keep: mmap.mmap | None, scratch: mmap.mmap) -> None:
        self.target = job.targets[number % len(job.targets)]
        self.number = number % len(job.targets)
        self.keep = memoryview(keep)[: self.target.size] if keep is not None else None
        self.scratch = memoryview(scratch)
        self.tail = bytearray()
        self.before = self.target.before
        self.skip = 0  # bytes of the manifest's body that are to come
        self.position = -1  # of the body; -1 while the head is not complete
        self.first_byte_s = 0.0
        self.began = self.asked = time.perf_counter()
        self.host = f"127.0.0.1:{job.port}"
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", job.port))

    def ask(self) -> None:
        self.asked = time.perf_counter()
        self._get(self.before or self.target.path)

    def _get(self, path: str) -> None:
        closing = "" if path == self.before else "Connection: close\r\n"
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n"
            f"Accept: {MANIFEST_TYPE}, */*\r\nUser-Agent: bench\r\n{closing}\r\n".encode()
        )

    def read(self) -> bool:
        """Take what has come; True once the body is complete. Raises `ConnectionError`."""
        if self.skip:
            self._skip()
            return False
        if self.position < 0:
            return self._read_head()
        left = self.target.size - self.position
        if self.keep is not None:
            count = self.socket.recv_into(self.keep[self.position :], left)
        elif left > _TAIL_BYTES:
            count = self.socket.recv_into(
                self.scratch, min(left - _TAIL_BYTES, _DISCARD_BYTES), socket.MSG_TRUNC
            )
        else:
            data = self.socket.recv(left)
            self.tail += data
            count = len(data)
        if not count:
            raise ConnectionResetError(f"cut at {self.position} of {self.target.size} bytes")
        self._advance(count)
        return self.position == self.target.size

    def _read_head(self) -> bool:
        """Read up to the end of the head, and not a byte further."""
        seen = self.socket.recv(_HEAD_BYTES_MAX, socket.MSG_PEEK)
        if not seen:
            raise ConnectionResetError("closed without an answer")
        end = seen.find(b"\r\n\r\n")
        if end < 0 and len(seen) < _HEAD_BYTES_MAX:
            return False
        head = self.socket.recv(end + 4).decode("latin-1")
        status_line, *fields = head.split("\r\n")
        if status_line.split()[1] != "200":
            said = seen[end + 4 :][:_SAID_BYTES_MAX].decode(errors="replace")
            raise ConnectionResetError(f"answered {status_line!r} {said}")
        lengths = [
            line.split(":")[1].strip() for line in fields if line[:15].lower() == "content-length:"
        ]
        if self.before:
            self.skip = int(lengths[0])
            return False
        if lengths != [str(self.target.size)]:
            raise ConnectionResetError(f"Content-Length {lengths} is not {self.target.size}")
        self.position = 0
        return False

    def _skip(self) -> None:
        self.skip -= len(self.socket.recv(self.skip))
        if not self.skip:
            self._get(self.target.path)
            self.before = ""

    def _advance(self, count: int) -> None:
        if self.position == 0:
            self.first_byte_s = time.perf_counter() - self.asked
        self.position += count

    def fault(self, tails: list[bytes]) -> str | None:
        """What is wrong with the bytes that came."""
        if self.keep is not None:
            digest = f"sha256:{hashlib.sha256(self.keep).hexdigest()}"
            return None if digest == self.target.digest else f"sha256 of the whole body is {digest}"
        return None if self.tail == tails[self.number] else "the last 64 KiB differ"


def run(job: Job) -> Outcome:
    """Do the job; every pull ends in exactly one of the outcome's lists."""
    outcome = Outcome()
    most = max(target.size for target in job.targets)
    keep = mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    scratch = mmap.mmap(-1, _DISCARD_BYTES)  # never written to, so it takes no memory
    tails = [_tail(target) for target in job.targets]
    poll = select.epoll()
    pulls: dict[int, Pull] = {}
    finished: list[Pull] = []
    started = 0
    cpu_before_s = time.process_time()
    began = time.perf_counter()

    def start() -> None:
        nonlocal started
        # The middle one of those that start together keeps its bytes: not the leader.
        pull = Pull(job, started, keep if started == job.at_once // 2 else None, scratch)
        pulls[pull.socket.fileno()] = pull
        poll.register(pull.socket, select.EPOLLOUT)
        started += 1

    def end(pull: Pull, failure: str | None) -> None:
        poll.unregister(pull.socket)
        del pulls[pull.socket.fileno()]
        pull.socket.close()
        if failure is None:
            outcome.target.append(pull.number)
            outcome.first_byte_s.append(pull.first_byte_s)
            outcome.done_s.append(time.perf_counter() - pull.began)
            finished.append(pull)
        else:
            outcome.failed.append(failure)
        if started < job.pulls:
            start()

    for _ in range(min(job.at_once, job.pulls)):
        start()
    while pulls:
        for number, event in poll.poll(1.0):
            pull = pulls[number]
            try:
                if event & select.EPOLLOUT:
                    pull.ask()
                    poll.modify(number, select.EPOLLIN)
                elif pull.read():
                    end(pull, None)
            except BlockingIOError:
                continue
            except OSError as error:
                end(pull, str(error))
        if time.perf_counter() - began > job.limit_s:
            outcome.late = job.pulls - len(outcome.done_s) - len(outcome.failed)
            break
    outcome.wall_s = time.perf_counter() - began
    outcome.cpu_s = time.process_time() - cpu_before_s
    outcome.wrong = [fault for pull in finished if (fault := pull.fault(tails))]
    return outcome


def _tail(target: Target) -> bytes:
    with Path(target.file).open("rb") as file:
        file.seek(max(0, target.size - _TAIL_BYTES))
        return file.read()


def main() -> None:
    fields = json.loads(sys.argv[1])
    targets = [Target(**target) for target in fields.pop("targets")]
    gc.disable()  # a collection would be a pause in somebody's first byte
    print(json.dumps(asdict(run(Job(targets=targets, **fields)))))


if __name__ == "__main__":
    main()
