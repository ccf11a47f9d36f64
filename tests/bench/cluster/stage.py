"""One round's servers, and what every part of the bench does with them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.bench.cluster.crowd import Job as CrowdJob
from tests.bench.cluster.crowd import Outcome as CrowdOutcome
from tests.bench.cluster.fleet import Redis, Replica, Weed
from tests.bench.cluster.library import Blob, Library
from tests.bench.cluster.relay import Relay
from tests.bench.cluster.runs import Crowd
from tests.bench.cluster.upstream import Upstream
from tests.bench.processes import free_port
from tests.bench.rounds import Measured

REPLICAS = 3
RATE_BYTES_S = 100_000_000
EACH = 32
_STORED_S = 60.0


class Stage:
    """One round: S3 behind its relay, Redis, the upstream; replicas as they are needed."""

    def __init__(
        self, folder: Path, content: Path, library: Library, number: int, measured: Measured
    ) -> None:
        self.folder = folder
        self.content = content
        self.library = library
        self.chance = random.Random(number)
        self.number = number
        self.result = measured
        self._ends: list[Callable[[], None]] = []
        self.replicas: list[Replica] = []

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir()
            self.upstream = Upstream(self.content, self.folder / "upstream.log", free_port())
            self._ends.append(self.upstream.tree.stop)
            self.redis = Redis(self.folder / "redis")
            self._ends.append(self.redis.stop)
            self.weed = Weed(self.folder / "weed")
            self._ends.append(self.weed.stop)
            self.relay = Relay(self.weed.port, free_port())
            self.relay.start()
            self._ends.append(self.relay.stop)
            self.replicas = self.start("main", REPLICAS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for end in reversed(self._ends):
            end()

    def start(
        self, name: str, count: int, *, shared: bool = True, disk_bytes_max: int | None = None
    ) -> list[Replica]:
        """`count` new replicas. `shared`: with S3 and Redis."""
        found = [
            Replica(
                self.folder / f"{name}-{n}",
                self.upstream.port,
                s3=self.relay.port if shared else None,
                redis=self.redis.port if shared else None,
                disk_bytes_max=disk_bytes_max,
            )
            for n in range(count)
        ]
        self._ends += [one.stop for one in found]
        for one in found:
            one.wait()
        return found

    def settle(self, *replicas: Replica) -> None:
        """Until S3 has what it is to have and the replicas are idle; bounded."""
        until = time.monotonic() + _STORED_S
        while any(one.unstored() for one in replicas) and time.monotonic() < until:
            time.sleep(0.1)
        left = sum(one.unstored() for one in replicas)
        if left:
            self.result.failed.append(f"{left} blobs are not in S3 after {_STORED_S:.0f} s")
        for one in replicas:
            one.tree.settle()

    def crowd_job(
        self, ports: Sequence[int], blob: Blob, prefix: str = "/v2/lab/", **more: object
    ) -> CrowdJob:
        job = {"ports": list(ports), "each": EACH, "path": prefix + blob.path, "file": blob.file}
        job |= {"digest": blob.digest, "size": blob.size}
        return CrowdJob(**(job | more))  # type: ignore[arg-type]  # plain keywords, by name

    def crowd(self, job: CrowdJob) -> CrowdOutcome:
        """Run it to its end; what went wrong is the round's."""
        outcome = Crowd(job).wait()
        self.result.failed += outcome.failed
        self.result.wrong += outcome.wrong
        return outcome
