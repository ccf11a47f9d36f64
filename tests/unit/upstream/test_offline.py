"""A pulled cable: no question gets through, and all do again once it is mended."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.cache.standing import Lives, ending_with_failures
from proxy.errors import UpstreamOffline
from proxy.events import CableMoved, Event
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Upstream
from proxy.upstream.offline import Severable
from tests.support.images import image
from tests.support.memory_upstream import MemoryUpstream

APP, V1 = Repository.parse("app"), Tag.parse("v1")
ONE = image(100)


async def _opened(upstream: Upstream, digest: Digest) -> object:
    async with upstream.open_blob(APP, digest) as body:
        return body


ASKED: dict[str, Callable[[Upstream], Awaitable[object]]] = {
    "resolve": lambda one: one.resolve(APP, V1),
    "get_manifest": lambda one: one.get_manifest(APP, V1),
    "stat_blob": lambda one: one.stat_blob(APP, ONE.config.digest),
    "open_blob": lambda one: _opened(one, ONE.config.digest),
    "list_tags": lambda one: one.list_tags(APP),
    "referrers": lambda one: one.referrers(APP, ONE.digest),
    "anonymous_may_read": lambda one: one.anonymous_may_read(APP, "manifests", "v1"),
}
# What dials nothing by itself.
TOLD = {"health", "spare_connections", "aclose", "name", "url", "credentialed", "offline"}


def severable(offline: bool = False) -> tuple[Severable, MemoryUpstream, list[Event]]:
    client, events = MemoryUpstream("lab"), []
    client.add("app", ONE, "v1")
    return Severable(client, observe=events.append, offline=offline), client, events


def test_every_question_of_the_port_is_known_here() -> None:
    """One that is added to the port must be refused, too."""
    asked = {name for name, _ in inspect.getmembers(Upstream) if not name.startswith("_")}
    assert asked - TOLD == set(ASKED)


@pytest.mark.parametrize("question", ASKED)
async def test_a_pulled_cable_lets_no_question_through(question: str) -> None:
    upstream, client, _ = severable()
    assert await ASKED[question](upstream) is not None
    assert client.count(question) == 1
    upstream.cut("a test")
    with pytest.raises(UpstreamOffline):
        await ASKED[question](upstream)
    assert client.count(question) == 1
    upstream.mend("a test")
    assert await ASKED[question](upstream) is not None
    assert client.count(question) == 2


async def test_it_is_mended_only_when_nobody_wants_it_cut() -> None:
    upstream, _, events = severable(offline=True)
    upstream.cut("a rehearsal")
    upstream.mend("a rehearsal")
    assert upstream.offline
    assert upstream.health().state == "offline"
    assert "the setting" in upstream.health().reason
    assert upstream.spare_connections() == 0
    upstream.mend("the setting `offline`")
    upstream.mend("the setting `offline`")
    assert not upstream.offline
    assert upstream.health().state != "offline"
    assert events == [
        CableMoved(upstream="lab", cut=True),
        CableMoved(upstream="lab", cut=False),
    ]


async def test_what_stands_on_an_upstream_ends_with_each_change() -> None:
    lives = Lives()
    heard: list[Any] = []
    upstream = Severable(MemoryUpstream("lab"), observe=ending_with_failures(lives, heard.append))
    for change in (upstream.cut, upstream.mend):
        life = lives.of("lab")
        change("a test")
        assert life.over
    assert len(heard) == 2
