"""Doing nothing: memory, and from the start of the process to the first answer.

Entrepot once more with S3 and Redis, where this machine has servers of both.
The time is that of a start whose files are in the page cache.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench.cluster.fleet import ACCESS_KEY, BUCKET, SECRET_KEY, Redis, Weed
from tests.bench.measured import Measured
from tests.bench.processes import free_port
from tests.bench.row import Line, Row
from tests.bench.stage import Stage
from tests.bench.systems import (
    ENTREPOT,
    NotHere,
    Place,
    System,
    entrepot_command,
    entrepot_settings,
)


def turn(stage: Stage, system: System, result: Measured) -> None:
    _once(stage, system, result, "idle")
    if system is not ENTREPOT:
        return
    folder = Path(tempfile.mkdtemp(prefix="services-", dir=stage.folder))
    try:
        redis = Redis(folder / "redis")
        with redis.tree:
            weed = Weed(folder / "weed")
            try:
                _once(stage, _fleet(weed.port, redis.port), result, "fleet")
            finally:
                weed.stop()
    except NotHere as error:
        result.failed.append(f"not with S3 and Redis: {error}")


def _once(stage: Stage, system: System, result: Measured, key: str) -> None:
    with stage.running(system):
        pass  # its files are in the page cache now
    began = time.perf_counter()
    with stage.running(system) as running:
        result.values[f"{key}_start_s"] = time.perf_counter() - began
        running.tree.settle()
        result.values[f"{key}_rss_mb"] = running.tree.rss_bytes() / 1e6


def _fleet(s3: int, redis: int) -> System:
    def plan(place: Place) -> list[str]:
        keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        endpoint = f"http://127.0.0.1:{s3}"
        more: dict[str, object] = {
            "storage": {"s3": {"endpoint": endpoint, "bucket": BUCKET, **keys}},
            "redis": {"url": f"redis://127.0.0.1:{redis}"},
            "peer_listen": f"127.0.0.1:{free_port()}",
            "peer_secret": "a secret of the bench's replicas",
        }
        return entrepot_command(place, entrepot_settings(place) | more)

    return System(name="Entrepot with S3 and Redis", plan=plan)


ROW = Row(
    name="idle",
    images={},
    turn=turn,
    lines=(
        Line(key="idle_rss_mb", title="Idle: memory (MB)", form="{:.0f}", limits=((70, None),)),
        Line(key="idle_start_s", title="Idle: start (s)", limits=((1.0, None),)),
        Line(
            key="fleet_rss_mb",
            title="Idle with S3 and Redis: memory (MB)",
            form="{:.0f}",
            limits=((110, None),),
        ),
        Line(key="fleet_start_s", title="Idle with S3 and Redis: start (s)", limits=((1.0, None),)),
    ),
)
