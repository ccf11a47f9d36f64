"""What is done with three replicas, once per round; every number is measured here.

The order matters: what harms the fleet comes last. All of a round's content is
cold when it is first asked for, because S3, Redis and every disk begin empty.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, quantiles

from tests.bench.cluster.crowd import Job as CrowdJob
from tests.bench.cluster.crowd import Outcome as CrowdOutcome
from tests.bench.cluster.fleet import DockerRegistry, Redis, Replica, Weed
from tests.bench.cluster.library import Blob, Library, zipf
from tests.bench.cluster.relay import Relay
from tests.bench.cluster.runs import Crowd, SlowReader, ask, ask_for
from tests.bench.cluster.upstream import Upstream
from tests.bench.processes import free_port
from tests.bench.rounds import Measured

RATE_BYTES_S = 100_000_000
REPLICAS = 3
EACH = 32
STREAMS = 1000
STREAM_BLOBS = ("streams-a", "streams-b", "streams-c", "streams-d")
_STORED_S = 60.0
_IMAGE_CLIENTS = 8
_OUTAGE_S = 3.0
_OUTAGE_CLIENTS = 2
_OUTAGE_IMAGES = 30
_OUTAGE_BLOBS = 12
_TRACE_GETS = 1_200
_TRACE_CLIENTS = 4
_TRACE_DISK_SHARE = 0.2
_SLOW_BYTES_S = 10_000


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

    def __enter__(self) -> Stage:
        try:
            self.folder.mkdir()
            self.upstream = Upstream(self.content, self.folder / "upstream.log", free_port())
            self._ends.append(lambda: self.upstream.tree.stop())
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


def crowd(stage: Stage) -> None:
    """96 clients of three replicas, one cold blob."""
    values = stage.result.values
    blob = stage.library.large["crowd"]
    own_s = _straight_first_byte_s(stage, blob)
    stage.upstream.reset(RATE_BYTES_S)
    outcome = stage.crowd(stage.crowd_job([one.port for one in stage.replicas], blob))
    values["crowd_upstream"] = stage.upstream.sent() / blob.size
    values["crowd_s"] = outcome.wall_s
    if all(outcome.first_byte_s):
        values["crowd_first_byte_ms"] = _worst_first_byte_ms(outcome, own_s)


def images(stage: Stage) -> None:
    """Cold images that share half their layers, by clients in any order."""
    stage.settle(*stage.replicas)
    values, library = stage.result.values, stage.library
    questions: list[tuple[str, str]] = []
    spans: list[list[int]] = []
    for image in library.images:
        first = len(questions)
        base = f"/v2/lab/{image.repository}/manifests"
        questions.append((f"{base}/latest", image.manifest.digest))
        questions.append((f"{base}/{image.manifest.digest}", image.manifest.digest))
        questions += [(f"/v2/lab/{blob.path}", blob.digest) for blob in image.blobs]
        spans.append(list(range(first, len(questions))))
    lists = []
    for replica in stage.replicas:
        for _ in range(_IMAGE_CLIENTS):
            order = stage.chance.sample(spans, len(spans))
            lists.append((replica.port, [index for span in order for index in span]))
    stage.upstream.reset(0)
    outcome = ask(stage, questions, lists, once=True)
    values["images_upstream"] = stage.upstream.sent() / library.unique_bytes()
    asked = stage.upstream.tag_questions()
    values["images_tag_questions"] = float(max(asked.values(), default=0))
    values["images_s"] = outcome.wall_s


def trace(stage: Stage) -> None:
    """S3 requests per GET; content is in S3, the disks hold a fifth of it."""
    blobs = stage.library.trace
    stage.upstream.reset(0)
    questions = [(f"/v2/lab/{blob.path}", blob.digest) for blob in blobs]
    fill = [
        (replica.port, list(range(n, len(blobs), REPLICAS)))
        for n, replica in enumerate(stage.replicas)
    ]
    ask(stage, questions, fill)
    stage.settle(*stage.replicas)
    share = int(_TRACE_DISK_SHARE * sum(blob.size for blob in blobs))
    fresh = stage.start("trace", REPLICAS, disk_bytes_max=share)
    order = zipf(len(blobs), 2 * _TRACE_GETS, stage.chance)
    clients = REPLICAS * _TRACE_CLIENTS
    stage.upstream.reset(0)
    for name, half in (("first", order[:_TRACE_GETS]), ("warm", order[_TRACE_GETS:])):
        lists = [(fresh[n % REPLICAS].port, half[n::clients]) for n in range(clients)]
        stage.relay.reset()
        outcome = ask(stage, questions, lists)
        requests = sum(stage.relay.counts.values())
        stage.result.values[f"trace_s3_{name}"] = requests / len(half)
        for kind, count in stage.relay.counts.items():
            stage.result.values[f"trace_{name} {kind}"] = float(count)
        stage.result.values[f"trace_{name}_s"] = outcome.wall_s
    stage.result.values["trace_upstream_mb"] = stage.upstream.sent() / 1e6
    for one in fresh:
        one.stop()


def cold(stage: Stage) -> None:
    """A cold pull through one replica with S3 and through one without."""
    blob = stage.library.large["cold"]
    turns = [True, False] if stage.number % 2 else [False, True]
    for shared in turns:
        (one,) = stage.start(f"cold-{'s3' if shared else 'disk'}", 1, shared=shared)
        stage.upstream.reset(RATE_BYTES_S)
        outcome = stage.crowd(stage.crowd_job([one.port], blob, each=1))
        stage.result.values["cold_s3_s" if shared else "cold_disk_s"] = outcome.wall_s
        stage.settle(one)
        one.stop()


def streams(stage: Stage) -> None:
    """1,000 clients of one replica, with and without one that reads 10 KB/s."""
    (one,) = stage.start("streams", 1)
    done: dict[bool, list[float]] = {True: [], False: []}
    # Each kind once early and once late: what warms up or tires counts for both.
    for slow, name in zip((True, False, False, True), STREAM_BLOBS, strict=True):
        stage.upstream.reset(RATE_BYTES_S)
        done[slow].append(_stream(stage, one, stage.library.large[name], slow=slow))
        stage.settle(one)
    stage.result.values["streams_mb_s"] = mean(done[False])
    stage.result.values["streams_slow_mb_s"] = mean(done[True])
    stage.result.values["streams_rss_mb"] = one.tree.peak_rss_bytes() / 1048576
    one.stop()


def _stream(stage: Stage, replica: Replica, blob: Blob, *, slow: bool) -> float:
    """MB/s of all but the slow one."""
    reader = SlowReader(replica.port, f"/v2/lab/{blob.path}", _SLOW_BYTES_S) if slow else None
    try:
        outcome = stage.crowd(stage.crowd_job([replica.port], blob, each=STREAMS - slow))
        if reader is not None and (cut := reader.fault()):
            stage.result.failed.append(cut)
    finally:
        if reader is not None:
            reader.stop()
    return (STREAMS - slow) * blob.size / outcome.wall_s / 1e6


def killed(stage: Stage) -> None:
    """The same as `crowd`, and the replica that fetches is killed in the middle."""
    blob = stage.library.large["killed"]
    stage.settle(*stage.replicas)
    stage.upstream.reset(RATE_BYTES_S)
    ports = [one.port for one in stage.replicas]
    run = Crowd(stage.crowd_job(ports, blob, compare_all=True, resume=True))
    victim = None
    while victim is None and run.running():
        time.sleep(0.01)
        if stage.upstream.sent() < blob.size * 0.4:
            continue
        senders = set(stage.upstream.ask("senders"))
        victim = next((n for n, one in enumerate(stage.replicas) if one.owns(senders)), None)
    at = stage.upstream.sent() / blob.size
    if victim is not None:
        stage.replicas[victim].kill()
    outcome = run.wait()
    values = stage.result.values
    stage.result.failed += outcome.failed
    stage.result.wrong += outcome.wrong
    values["killed_upstream"] = stage.upstream.sent() / blob.size
    values["killed_errors"] = float(len(outcome.failed))
    values["killed_s"] = outcome.wall_s
    if victim is None:
        stage.result.failed.append("nobody to kill: the fetch was over before its middle")
        return
    values["killed_at"] = at
    others = sum(cuts for n, cuts in enumerate(outcome.cuts) if n != victim)
    values["killed_cuts_others"] = float(others)
    values["killed_cuts_own"] = float(outcome.cuts[victim])
    if others:
        why = [said for said in outcome.cut_why if not said.startswith(f"replica {victim} ")]
        stage.result.failed.append(f"{others} cuts at other replicas: {why[:3]}")
    stage.replicas[victim].launch()
    stage.replicas[victim].wait()


def outages(stage: Stage) -> None:
    """Latency of what is cached, while Redis, the upstream and S3 are away in turn."""
    stage.settle(*stage.replicas)
    library, values = stage.library, stage.result.values
    stage.upstream.reset(0)
    questions: list[tuple[str, str]] = []
    for image in library.images[:_OUTAGE_IMAGES]:
        digest = image.manifest.digest
        base = f"/v2/short/{image.repository}/manifests"
        questions += [(f"{base}/latest", digest), (f"{base}/{digest}", digest)]
        questions += [(f"/v2/short/{blob.path}", blob.digest) for blob in image.blobs]
    medium = [blob for blob in library.trace if 1_000_000 < blob.size < 6_000_000]
    questions += [(f"/v2/short/{blob.path}", blob.digest) for blob in medium[:_OUTAGE_BLOBS]]
    everything = list(range(len(questions)))
    once = [(one.port, everything) for one in stage.replicas]
    for _ in range(2):
        ask(stage, questions, once)
    stage.settle(*stage.replicas)
    ports = [one.port for one in stage.replicas] * _OUTAGE_CLIENTS

    def run(name: str) -> None:
        stage.relay.reset()
        outcome = ask_for(stage, questions, ports, _OUTAGE_S)
        values[f"{name}_p99_ms"] = quantiles(outcome.latencies_s, n=100)[98] * 1000
        values[f"{name}_p50_ms"] = quantiles(outcome.latencies_s, n=100)[49] * 1000
        values[f"{name}_gets"] = float(len(outcome.latencies_s))
        values[f"{name}_errors"] = float(outcome.failures)
        values[f"{name}_s3_requests"] = float(sum(stage.relay.counts.values()))

    run("healthy")
    stage.redis.kill()
    run("redis_down")
    stage.redis.start()
    stage.relay.stop()
    run("s3_down")
    stage.relay.start()
    stage.upstream.tree.process.kill()
    run("upstream_down")


def peer(stage: Stage) -> None:
    """The first part, through three docker-registry instead."""
    blob = stage.library.large["crowd"]
    own_s = _straight_first_byte_s(stage, blob)
    peers = []
    try:
        for n in range(REPLICAS):
            folder = stage.folder / f"peer-{n}"
            one = DockerRegistry(
                folder, stage.upstream.port, s3=stage.weed.port, redis=stage.redis.port
            )
            peers.append(one)
        for one in peers:
            one.wait()
        stage.upstream.reset(RATE_BYTES_S)
        ports = [one.port for one in peers]
        outcome = Crowd(stage.crowd_job(ports, blob, prefix="/v2/", limit_s=60.0)).wait()
    finally:
        for one in peers:
            one.stop()
    stage.result.failed += outcome.failed
    stage.result.wrong += outcome.wrong
    stage.result.values["crowd_upstream"] = stage.upstream.sent() / blob.size
    stage.result.values["crowd_s"] = outcome.wall_s
    if all(outcome.first_byte_s):
        stage.result.values["crowd_first_byte_ms"] = _worst_first_byte_ms(outcome, own_s)


PARTS = {
    "crowd": crowd,
    "images": images,
    "trace": trace,
    "cold": cold,
    "streams": streams,
    "killed": killed,
    "outages": outages,
}


def _straight_first_byte_s(stage: Stage, blob: Blob) -> float:
    stage.upstream.reset(RATE_BYTES_S)
    job = stage.crowd_job([stage.upstream.port], blob, prefix="/v2/", each=1)
    return stage.crowd(job).first_byte_s[0][0]


def _worst_first_byte_ms(outcome: CrowdOutcome, own_s: float) -> float:
    """p99 of each replica's clients over the upstream's own; the worst replica's."""
    each = [quantiles(one, n=100, method="inclusive")[98] for one in outcome.first_byte_s]
    return (max(each) - own_s) * 1000
