"""Clients that ask for one thing after the other, and check each answer's digest.

A process of its own, `python -m tests.bench.cluster.asker JOB_FILE`, which
prints an `Outcome`. Threads, one kept-alive connection each: bodies are small
here, and hashing lets other threads run.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.content import MANIFEST_TYPE

_TIMEOUT_S = 30
_SAID_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`questions`: URL paths and the digests of what they lead to. `lists`: for
    each worker its port and the questions it asks, by index and in order.

    `once`: pull as containerd does, a tag by HEAD and no blob twice. `seconds`:
    not in order but by chance, for that long.
    """

    questions: list[tuple[str, str]]
    lists: list[tuple[int, list[int]]]
    once: bool = False
    seconds: float = 0.0
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """`latencies_s`: to the last byte, of each answer that was good."""

    latencies_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failures: int = 0
    wall_s: float = 0.0


class Worker(threading.Thread):
    """One client."""

    def __init__(self, job: Job, number: int) -> None:
        super().__init__()
        self.job = job
        self.port, self.list = job.lists[number]
        self.chance = random.Random(job.seed * 1000 + number)
        self.outcome = Outcome()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        self.had: set[str] = set()

    def run(self) -> None:
        until = time.monotonic() + self.job.seconds
        if self.job.seconds:
            while time.monotonic() < until:
                self._ask(*self.job.questions[self.chance.choice(self.list)])
        else:
            for index in self.list:
                self._ask(*self.job.questions[index])
        self.connection.close()

    def _ask(self, path: str, digest: str) -> None:
        blob = "/blobs/" in path
        if self.job.once and blob and digest in self.had:
            return
        self.had.add(digest)
        method = "HEAD" if path.endswith("/latest") and self.job.once else "GET"
        began = time.perf_counter()
        try:
            self.connection.request(method, path, headers={"Accept": MANIFEST_TYPE})
            answer = self.connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._failed(f"{method} {path}: {error!r}")
            return
        took_s = time.perf_counter() - began
        if answer.status != 200:
            self._failed(f"{method} {path}: {answer.status} {body[:200]!r}")
            return
        found = (
            answer.headers["Docker-Content-Digest"]
            if method == "HEAD"
            else f"sha256:{hashlib.sha256(body).hexdigest()}"
        )
        if found != digest:
            self.outcome.wrong.append(f"{method} {path}: {found}")
            return
        self.outcome.latencies_s.append(took_s)

    def _failed(self, why: str) -> None:
        self.connection.close()
        self.outcome.failures += 1
        if len(self.outcome.failed) < _SAID_MAX:
            self.outcome.failed.append(why)


def run(job: Job) -> Outcome:
    """All workers at once."""
    workers = [Worker(job, number) for number in range(len(job.lists))]
    total = Outcome()
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        total.latencies_s += worker.outcome.latencies_s
        total.failed += worker.outcome.failed
        total.wrong += worker.outcome.wrong
        total.failures += worker.outcome.failures
    total.wall_s = time.perf_counter() - began
    return total


def main() -> None:
    sys.setswitchinterval(0.0005)  # or a thread waits 5 ms for another one's turn to end
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(asdict(run(job))))


if __name__ == "__main__":
    main()
