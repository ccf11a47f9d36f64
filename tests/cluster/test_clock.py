"""One replica's clock is half a minute off, and nothing comes of it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

from tests.cluster.clocks import clock_off
from tests.cluster.conftest import Cluster, layer, right
from tests.support.fake_registry import Fault
from tests.support.images import image
from tests.support.waiting import until

SIZE = 12_000_000
TAG = "/v2/lab/app/manifests/v1"
OFF, OTHERS = 0, (1, 2)


def told(log: str) -> list[dict[str, Any]]:
    """What was logged, as JSON."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("seconds", [30, -30])
async def test_a_replica_with_a_wrong_clock_shares_fills_and_tags_as_any_other(
    cluster: Cluster, seconds: int
) -> None:
    lab = {"tag_fresh_s": 1}
    await cluster.start(1, lab=lab, env=clock_off(seconds))
    await cluster.start(2, lab=lab)
    made = cluster.upstream.add("app", image(SIZE, SIZE + 1, seed="first"), "v1")
    # First it fetches and the others follow live; then it is the other way round.
    for number, owner in enumerate((OFF, OTHERS[0])):
        more = asyncio.Event()
        held = Fault(stall_at=SIZE // 2, stall=more)
        cluster.upstream.inject(held, kind="blob", method="GET")
        blob = made.layers[number]
        pulls = cluster.pulls(layer(number, made), owner)
        assert await cluster.owned(blob) == owner
        pulls += cluster.pulls(layer(number, made), *(n for n in range(3) if n != owner))
        await cluster.following(3, 0, 1, 2)
        more.set()
        gots = await asyncio.gather(*pulls)
        right(blob, *gots)
        assert {got.resumes for got in gots} == {0}
        asked = cluster.upstream.requests(kind="blob", method="GET")
        assert cluster.fetched(blob) == blob.size, [(one.headers, one.sent) for one in asked]
    await cluster.stored()

    for seed in ("first", "second", "third"):
        moved = cluster.upstream.add("app", image(SIZE, SIZE + 1, seed=seed), "v1")
        seen = set[str]()

        async def all_see(wanted: str = str(moved.digest), seen: set[str] = seen) -> bool:
            gots = await asyncio.gather(*cluster.pulls(TAG, 0, 1, 2))
            for number, got in enumerate(gots):
                # Who has seen the new one does not see the old one again.
                assert got.sha256 == wanted or f"{number}" not in seen
                seen |= {f"{number}"} if got.sha256 == wanted else set()
            return len(seen) == 3

        await until(all_see, f"all see the {seed} image")
    logs = [told(replica.log_text()) for replica in cluster.replicas]
    assert [line for log in logs for line in log if line["level"] == "error"] == []
    wrong, true = (datetime.fromisoformat(logs[number][-1]["timestamp"]) for number in (OFF, 1))
    assert abs((wrong - true).total_seconds() - seconds) < 20, "its clock was off"
