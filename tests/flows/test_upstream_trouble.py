"""Nothing is held and the upstream says no, or nothing: what clients are told.

Each row is what makes some client fall back fast instead of failing its pull.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault
from tests.support.images import image

IMAGE = image(1000, 400_000)
ZEROS = f"sha256:{'0' * 64}"
MANIFESTS = ("manifests/v1", f"manifests/{IMAGE.digest}")
BLOBS = (f"blobs/{IMAGE.blobs[1].digest}", f"blobs/{IMAGE.blobs[2].digest}")
LISTS = ("tags/list", f"referrers/{IMAGE.digest}")
ALL = [(method, tail) for method in ("GET", "HEAD") for tail in (*MANIFESTS, *BLOBS, *LISTS)]
DOCKERD = "docker/24.0.7 go/go1.20.10 git-commit/311b9ff kernel/6.1 os/linux arch/amd64"


async def told(proxy: Running, method: str, tail: str, **headers: str) -> tuple[int, str]:
    """Status and code; no answer of ours ever sends a client elsewhere."""
    answer: Answer = await proxy.ask(f"/v2/lab/app/{tail}", method, **headers)
    assert "WWW-Authenticate" not in answer.headers
    if answer.status != 429:
        assert "Retry-After" not in answer.headers
    return answer.status, answer.code if method == "GET" else ""


def expected(method: str, tail: str, status: int, code: str = "") -> tuple[int, str]:
    code = code or ("BLOB_UNKNOWN" if tail.startswith("blobs") else "MANIFEST_UNKNOWN")
    return status, code if method == "GET" else ""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "tail", ["manifests/none", f"manifests/{ZEROS}", f"blobs/{ZEROS}", "tags/list"]
)
async def test_what_the_upstream_has_not_is_404(
    world: World, upstream: FakeRegistry, method: str, tail: str
) -> None:
    if tail != "tags/list":
        upstream.add("app", IMAGE, "v1")
    proxy = await world.start({"lab": upstream})
    assert await told(proxy, method, tail) == expected(method, tail, 404)


@pytest.mark.parametrize(("method", "tail"), ALL)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_to_a_stranger_is_404_as_hubs_refusals_mean_it(
    world: World, upstream: FakeRegistry, method: str, tail: str, status: int
) -> None:
    upstream.add("app", IMAGE, "v1")
    upstream.inject(Fault(status=status), times=None)
    proxy = await world.start({"lab": upstream})
    assert await told(proxy, method, tail) == expected(method, tail, 404)


@pytest.mark.parametrize(("method", "tail"), ALL)
async def test_a_private_repository_is_404_without_credentials(
    world: World, method: str, tail: str
) -> None:
    async with FakeRegistry(auth=FakeAuth(private={"app"})) as upstream:
        upstream.add("app", IMAGE, "v1")
        proxy = await world.start({"lab": upstream})
        assert await told(proxy, method, tail) == expected(method, tail, 404)


@pytest.mark.parametrize(("method", "tail"), ALL)
@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_refusal_of_our_credentials_is_403(
    world: World, method: str, tail: str, scheme: Any
) -> None:
    auth = FakeAuth(scheme=scheme, users={"me": "new"}, private={"app"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", IMAGE, "v1")
        lab = {"url": upstream.url, "username": "me", "password": "old", "expose": "all"}
        proxy = await world.start({"lab": lab})
        assert await told(proxy, method, tail) == expected(method, tail, 403, "DENIED")


@pytest.mark.parametrize(("method", "tail"), ALL)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "60"}),
        Fault(status=408),
        Fault(status=500),
        Fault(status=502),
        Fault(status=503, headers={"Retry-After": "60"}),
        Fault(hang_up=True),
    ],
    ids=["429", "408", "500", "502", "503", "hang up"],
)
async def test_trouble_is_503_without_retry_after(
    world: World, upstream: FakeRegistry, method: str, tail: str, fault: Fault
) -> None:
    upstream.add("app", IMAGE, "v1")
    upstream.inject(fault, times=None)
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask(f"/v2/lab/app/{tail}")
    assert b"lab" in answer.body
    assert (b"limit" in answer.body) == (fault.status == 429)
    assert await told(proxy, method, tail) == expected(method, tail, 503, "UNAVAILABLE")


async def test_429_is_passed_on_where_the_operator_wants_it(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGE, "v1")
    upstream.inject(Fault(status=429, headers={"Retry-After": "7"}), times=None)
    proxy = await world.start({"lab": {"url": upstream.url, "relay_429": True}})
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.headers["Retry-After"] == "7"


async def test_a_limit_on_manifests_does_not_stop_blobs(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGE, "v1")
    upstream.quirks.quota = 0
    proxy = await world.start({"lab": upstream})
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 503
    assert (await proxy.ask(f"/v2/lab/app/{BLOBS[0]}")).status == 200


async def test_an_upstream_that_refuses_connections_is_503(
    world: World, upstream: FakeRegistry
) -> None:
    await upstream.stop()
    proxy = await world.start({"lab": upstream})
    for method, tail in ALL:
        assert await told(proxy, method, tail) == expected(method, tail, 503, "UNAVAILABLE")


@pytest.mark.parametrize(("method", "tail"), ALL)
async def test_an_upstream_that_never_answers_costs_no_more_than_the_header_budget(
    world: World, upstream: FakeRegistry, method: str, tail: str
) -> None:
    upstream.inject(Fault(delay=asyncio.Event()), times=None)
    proxy = await world.start({"lab": upstream}, header_budget_s=0.3)
    began = time.monotonic()
    assert await told(proxy, method, tail) == expected(method, tail, 503, "UNAVAILABLE")
    assert 0.25 < time.monotonic() - began < 2


@pytest.mark.parametrize("tail", [*MANIFESTS, *BLOBS, *LISTS])
async def test_the_budget_covers_the_question_whether_a_repository_is_public(
    world: World, tail: str
) -> None:
    auth = FakeAuth(users={"me": "secret"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", IMAGE, "v1")
        upstream.inject(Fault(delay=asyncio.Event()), times=None)
        lab = {"url": upstream.url, "username": "me", "password": "secret"}
        proxy = await world.start({"lab": lab}, header_budget_s=0.3)
        began = time.monotonic()
        assert await told(proxy, "GET", tail) == (503, "UNAVAILABLE")
        assert time.monotonic() - began < 2


async def test_an_upstream_that_is_known_to_be_down_is_answered_for_in_milliseconds(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.inject(Fault(delay=asyncio.Event()), times=None)
    proxy = await world.start({"lab": {"url": upstream.url, "head_s": 0.1}})
    for number in range(3):
        assert (await proxy.ask(f"/v2/lab/app/manifests/{number}")).status == 503
    asked = len(upstream.seen)
    began = time.monotonic()
    for method, tail in ALL:
        assert await told(proxy, method, tail) == expected(method, tail, 503, "UNAVAILABLE")
    assert (time.monotonic() - began) / len(ALL) < 0.05
    assert len(upstream.seen) == asked


async def test_a_classic_docker_daemon_is_told_404_for_a_blob_that_cant_be_had(
    world: World, upstream: FakeRegistry
) -> None:
    await upstream.stop()
    proxy = await world.start({"lab": upstream})
    tail = BLOBS[0]
    for method in ("GET", "HEAD"):
        # It would sleep 50 s over a 503 before it goes to the registry itself.
        assert await told(proxy, method, tail, User_Agent=DOCKERD) == expected(method, tail, 404)
        # A client that says `ns` is containerd's kind, and falls back at once.
        answer = await proxy.ask(f"/v2/app/{tail}?ns=lab", method, User_Agent=DOCKERD)
        assert answer.status == 503
        assert (await told(proxy, method, tail, User_Agent="containerd/2.0"))[0] == 503
        assert (await told(proxy, method, "manifests/v1", User_Agent=DOCKERD))[0] == 503
    proxy = await world.start(
        {"lab": upstream}, data_dir=str(world.root / "b"), dockerd_blob_404=False
    )
    assert (await told(proxy, "GET", tail, User_Agent=DOCKERD))[0] == 503
