"""Every query of every dashboard, asked of a real Prometheus that scrapes real replicas.

Two replicas with Redis and S3, a crowd of clients, and everything that makes a
panel of trouble other than empty: an upstream that fails, one with no pulls left,
breaks, evictions, a warm-up, a rehearsal, a pause of Redis, a restart of S3, a blob
that rots on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from pathlib import Path

from tests.demo.boards import BOARDS, filled, panels
from tests.demo.crowd import Crowd
from tests.demo.prometheus import Prometheus
from tests.demo.stage import Stage, staged, weed
from tests.demo.troubles import Troubles
from tests.support.programs import missing, program
from tests.support.waiting import until

RATE, WHOLE = "10s", "20s"
DEADLINE_S = 180.0


def rot(stage: Stage) -> None:
    """A kept blob that is not what its name says; nobody will ever ask for it."""
    name = hashlib.sha256(b"what it was").hexdigest()
    folder = stage.replicas[0].data_dir / "blobs" / "public" / "sha256" / name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"what it became")


async def scrub(stage: Stage) -> None:
    """Again and again: what is rotten may be evicted before it is found."""
    while True:
        rot(stage)
        async with stage.client.post(stage.replicas[0].admin + "/scrub") as response:
            # 503: it has read what is here, and can't read S3, of which the demo robs it.
            assert response.status in {200, 503}, await response.text()
        await asyncio.sleep(1)


async def seen(prometheus: Prometheus, replicas: int) -> None:
    """Until Prometheus has samples of all: what it has not seen at 0 does not rise."""

    async def sampled() -> bool:
        return len(await asyncio.to_thread(prometheus.now, "entrepot_build_info")) >= replicas

    await until(sampled, "all replicas are sampled", deadline_s=DEADLINE_S)


KEPT = 'sum(rate(entrepot_upstream_quota_pulls_total{upstream="docker.io",outcome="kept"}[10s]))'


def queries() -> dict[tuple[str, str, str], str]:
    """By dashboard, panel and legend; and that with no pulls left none are asked for."""
    return {
        (panel.board, panel.title, legend): filled(expr, rate=RATE, whole=WHOLE)
        for board in BOARDS
        for panel in panels(board)
        for expr, legend in panel.queries
    } | {("", "the reserve at work", "kept"): KEPT}


def shows(prometheus: Prometheus, expr: str, since: float) -> bool:
    """Whether the panel had something to show at some moment: a number other than 0."""
    series = prometheus.range(expr, since=since, until=time.time())
    values = [float(value) for one in series for _, value in one["values"]]
    return any(math.isfinite(value) and value != 0 for value in values)


async def test_every_panel_shows_data_under_load_and_trouble(tmp_path: Path) -> None:
    program("prometheus")
    program("redis-server")
    if weed() is None:
        missing("needs the program weed (pip install -e '.[dev]')")
    async with staged(tmp_path) as stage:
        assert stage.prometheus is not None
        assert stage.redis is not None
        await seen(stage.prometheus, len(stage.replicas))
        crowd = Crowd(stage.urls, stage.registries, stage.client)
        troubles = Troubles(stage, crowd, print, last_s=3)
        since, began = time.time(), asyncio.get_running_loop().time()
        working = asyncio.create_task(crowd.work(6))
        scrubbing = asyncio.create_task(scrub(stage))
        try:
            await _until_shown(stage, troubles, since, began)
            await _rules_are_evaluated(stage.prometheus)
        finally:
            scrubbing.cancel()
            working.cancel()
            ends = await asyncio.gather(working, scrubbing, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError), ends  # not: wrong bytes
        assert crowd.pulled["ok"] > 20


async def _until_shown(stage: Stage, troubles: Troubles, since: float, began: float) -> None:
    left = queries()
    assert len(left) > 60
    prometheus, loop = stage.prometheus, asyncio.get_running_loop()
    assert prometheus is not None
    episodes = troubles.episodes()
    while True:
        episode = next(episodes)
        await episode()
        for key, expr in list(left.items()):
            if await asyncio.to_thread(shows, prometheus, expr, since):
                del left[key]
        print(f"{loop.time() - began:.0f} s: {len(left)} to go: {sorted(left)[:20]}")
        if not left:
            return
        assert loop.time() - began < DEADLINE_S, f"never showed anything: {sorted(left)}"


async def _rules_are_evaluated(prometheus: Prometheus) -> None:
    found = await asyncio.to_thread(prometheus.ask, "rules")
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    assert [(one["name"], one["lastError"]) for one in rules if one["health"] != "ok"] == []
