"""The parts of the bench that harm the fleet: a replica killed, its servers away."""

from __future__ import annotations

import time
from statistics import quantiles

from tests.bench.cluster.runs import Crowd, ask, ask_for
from tests.bench.cluster.stage import RATE_BYTES_S, Stage

_OUTAGE_S = 3.0
_OUTAGE_CLIENTS = 2
_OUTAGE_IMAGES = 30
_OUTAGE_BLOBS = 12


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
