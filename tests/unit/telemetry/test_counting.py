"""What is rare is counted rightly: from 0, and only when it is that."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from proxy.app import Entrepot
from proxy.config import load
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image


def _settings(tmp_path: Path, upstream: FakeRegistry):
    return load(
        None,
        {},
        {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_dir": str(tmp_path / "data"),
            "drain_s": 0,
            "presets": False,
            "upstreams": {"lab": {"url": upstream.url}},
            "default_upstream": "lab",
            "tag_fresh_s": 0,
        },
    )


async def test_a_tag_that_goes_back_is_told_from_one_that_moves_on(tmp_path: Path) -> None:
    first, second, third = (image(1000, seed=name) for name in "abc")
    async with (
        FakeRegistry() as upstream,
        Entrepot(_settings(tmp_path, upstream)) as entrepot,
        aiohttp.ClientSession() as client,
    ):
        value = entrepot.telemetry.registry.get_sample_value
        counts = []
        for made in (first, second, first, third):
            upstream.add("app", made, "v1")
            url = f"http://{entrepot.address}/v2/app/manifests/v1"
            async with client.get(url) as response:
                assert response.headers["Docker-Content-Digest"] == str(made.digest)
            counts.append(value("entrepot_tag_reversals_total", {"upstream": "lab"}))
        assert counts == [0, 0, 1, 1]
        assert value("entrepot_tag_moves_total", {"upstream": "lab"}) == 4


async def test_what_is_rare_is_there_before_it_happens(tmp_path: Path) -> None:
    rare = [
        ("entrepot_upstream_state", {"upstream": "lab", "state": "failing"}),
        ("entrepot_stale_answers_total", {"upstream": "lab", "reason": "unreachable"}),
        ("entrepot_flights_total", {"upstream": "lab", "outcome": "unkept"}),
        ("entrepot_cut_responses_total", {"upstream": "lab", "kind": "blob"}),
        ("entrepot_tokens_total", {"upstream": "lab", "granted": "false"}),
        ("entrepot_resumes_total", {"upstream": "lab"}),
        ("entrepot_fast_lane_answers_total", {"upstream": "lab"}),
        ("entrepot_fetch_parts_total", {"upstream": "lab", "part": "piece"}),
        ("entrepot_saved_seconds_total", {"upstream": "lab"}),
        ("entrepot_scrub_bad_blobs_total", {"where": "local"}),
        ("entrepot_warm_failures_total", {"trigger": "schedule"}),
        ("entrepot_warm_failures_total", {"trigger": "learned"}),
        ("entrepot_leases_total", {"outcome": "lost"}),
        ("entrepot_coordination_failures_total", {"operation": "claim"}),
    ]
    async with (
        FakeRegistry() as upstream,
        Entrepot(_settings(tmp_path, upstream)) as entrepot,
    ):
        value = entrepot.telemetry.registry.get_sample_value
        assert {name: value(name, labels) for name, labels in rare} == {name: 0 for name, _ in rare}
        assert value("entrepot_upstream_state", {"upstream": "lab", "state": "ok"}) == 1
        assert value("entrepot_disk_limit_bytes") > 0
