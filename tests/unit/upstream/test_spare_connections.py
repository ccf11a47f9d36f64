"""How many connections may be opened only to make others faster."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from proxy.cache.traffic import Urgency, working_as
from proxy.oci.names import Repository
from proxy.upstream.link.pacer import Limits, Link
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image

REPO = Repository.parse("library/app")
IMAGE = image(3_000_000)
BLOB = IMAGE.layers[0].digest


@pytest.fixture
async def registry():
    async with FakeRegistry() as one:
        one.add(REPO, IMAGE, "latest")
        yield one


@pytest.mark.parametrize(("most", "spare"), [(1, 0), (2, 1), (8, 4), (9, 4), (32, 16)])
async def test_half_of_the_upstreams_connections(registry, most, spare):
    async with asking(registry, connections_max=most) as ask:
        assert ask.upstream.spare_connections() == spare


async def test_each_transfer_takes_one_until_it_ends(registry):
    async with asking(registry, connections_max=8) as ask, AsyncExitStack() as stack:
        for spare in (3, 2, 1, 0, -1):
            await stack.enter_async_context(ask.upstream.open_blob(REPO, BLOB))
            assert ask.upstream.spare_connections() == spare
        await stack.aclose()
        assert ask.upstream.spare_connections() == 4


async def test_a_small_question_takes_none(registry):
    async with asking(registry, connections_max=8) as ask:
        assert await ask.upstream.get_manifest(REPO, IMAGE.digest) is not None
        assert await ask.upstream.stat_blob(REPO, BLOB) is not None
        assert ask.upstream.spare_connections() == 4


async def test_none_for_work_that_nobody_waits_for(registry):
    async with asking(registry, connections_max=8) as ask:
        with working_as(Urgency.WARM):
            assert ask.upstream.spare_connections() == 0
        assert ask.upstream.spare_connections() == 4


async def test_none_where_no_more_fetches_are_allowed(registry):
    link = Link(upstreams={"up": Limits(fetches_max=1)})
    async with asking(registry, connections_max=8, link=link.of("up")) as ask:
        assert ask.upstream.spare_connections() == 4
        async with ask.upstream.open_blob(REPO, BLOB):
            assert ask.upstream.spare_connections() == 0
    link.close()
