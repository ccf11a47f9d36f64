"""What is done with three replicas, once per round; every number is measured here.

The order matters: what harms the fleet comes last. All of a round's content is
cold when it is first asked for, because S3, Redis and every disk begin empty.
"""

from __future__ import annotations

from statistics import mean, quantiles

from tests.bench.cluster.crowd import Outcome as CrowdOutcome
from tests.bench.cluster.faults import killed, outages
from tests.bench.cluster.fleet import DockerRegistry, Replica
from tests.bench.cluster.library import Blob, zipf
from tests.bench.cluster.runs import Crowd, SlowReader, ask
from tests.bench.cluster.stage import RATE_BYTES_S, REPLICAS, Stage

STREAMS = 1000
STREAM_BLOBS = ("streams-a", "streams-b", "streams-c", "streams-d")
_IMAGE_CLIENTS = 8
_TRACE_GETS = 1_200
_TRACE_CLIENTS = 4
_TRACE_DISK_SHARE = 0.2
_SLOW_BYTES_S = 10_000


def crowd(stage: Stage) -> None:
    """96 clients of three replicas, one cold blob."""
    # A replica that is still busy with its start is not what is measured.
    stage.settle(*stage.replicas)
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
    """MB/s of all but the slow one, who comes first. Without it somebody else comes
    first and leaves, or the crowd would begin at an earlier moment of the fetch.
    """
    reader = SlowReader(replica.port, f"/v2/lab/{blob.path}", _SLOW_BYTES_S)
    try:
        reader.wait_begun()
        if not slow:
            reader.stop()
        outcome = stage.crowd(stage.crowd_job([replica.port], blob, each=STREAMS - 1))
        if slow and (cut := reader.fault()):
            stage.result.failed.append(cut)
    finally:
        reader.stop()
    return (STREAMS - 1) * blob.size / outcome.wall_s / 1e6


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
