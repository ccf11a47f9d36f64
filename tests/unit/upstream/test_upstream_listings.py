"""Tags and referrers: pages, and the lies in them."""

from __future__ import annotations

import json

import pytest

from proxy.errors import (
    BadUpstreamAnswer,
    UpstreamUnavailable,
)
from proxy.oci.names import Repository, Tag
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import artifact, image

REPO = Repository.parse("library/app")
LATEST = Tag.parse("latest")
IMAGE = image(seed="manifests")
OTHER = image(seed="other")


@pytest.fixture
async def up():
    async with FakeRegistry() as registry:
        registry.add(REPO, IMAGE, "latest")
        yield registry


@pytest.fixture
async def ask(up):
    async with asking(up) as made:
        yield made


async def test_tags_are_asked_for_page_by_page(up, ask):
    up.quirks.page_max = 2
    up.quirks.absolute_links = True
    up.add(REPO, IMAGE, "a", "b", "c")
    page = await ask.upstream.list_tags(REPO, n=100)
    assert (page.tags, page.more) == (("a", "b"), True)
    page = await ask.upstream.list_tags(REPO, n=100, last="b")
    assert (page.tags, page.more) == (("c", "latest"), False)
    assert up.seen[-1].query == {"n": ["100"], "last": ["b"]}


async def test_no_tags_asked_for_are_no_tags(up, ask):
    page = await ask.upstream.list_tags(REPO, n=0)
    assert (page.tags, page.more) == ((), False)


@pytest.mark.parametrize("fault", [Fault(html=True), Fault(status=200, body=b"[]")])
async def test_what_is_no_tag_list_is_refused_by_name(up, ask, fault):
    up.inject(fault)
    with pytest.raises(BadUpstreamAnswer, match=r"^up"):
        await ask.upstream.list_tags(REPO)


@pytest.mark.parametrize("absolute", [False, True])
async def test_all_pages_of_referrers_are_joined(up, ask, absolute):
    up.quirks.page_max = 2
    up.quirks.absolute_links = absolute
    made = [up.add(REPO, artifact(IMAGE, f"application/example.{n}")) for n in range(5)]
    found = json.loads(await ask.upstream.referrers(REPO, IMAGE.digest))
    assert [m["digest"] for m in found["manifests"]] == [str(m.digest) for m in made]
    assert up.count(kind="referrers") == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=404),
        Fault(status=400),
        Fault(status=405),
        Fault(status=406),
        Fault(html=True),
        Fault(content_type="application/json"),
    ],
)
async def test_an_upstream_without_referrers_says_so_in_many_ways(up, ask, fault):
    up.inject(fault)
    assert await ask.upstream.referrers(REPO, IMAGE.digest) is None


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_is_never_no_referrers(up, ask, status):
    up.inject(Fault(status=status))
    with pytest.raises(UpstreamUnavailable):
        await ask.upstream.referrers(REPO, IMAGE.digest)


@pytest.mark.parametrize("fault", [Fault(status=404), Fault(html=True), Fault(status=502)])
async def test_half_a_list_of_referrers_is_never_the_whole(up, ask, fault):
    up.quirks.page_max = 1
    for n in range(3):
        up.add(REPO, artifact(IMAGE, f"application/example.{n}"))
    up.inject(fault, match=lambda seen: "after" in seen.query)
    with pytest.raises(UpstreamUnavailable):
        await ask.upstream.referrers(REPO, IMAGE.digest)


@pytest.mark.parametrize("link", ["<?page=2>", "<?>", "</v2/x>", "<?q=%0d\u00e9>"])
async def test_a_list_of_referrers_without_end_is_refused(up, ask, link):
    up.inject(Fault(headers={"Link": f'{link}; rel="next"'}), times=None)
    with pytest.raises(BadUpstreamAnswer):
        await ask.upstream.referrers(REPO, IMAGE.digest)
    assert up.count() <= 2


@pytest.mark.parametrize(("count", "bytes_max"), [(101, 8_000_000), (10, 1000)])
async def test_a_list_of_referrers_that_is_too_long_is_refused(up, count, bytes_max):
    up.quirks.page_max = 1
    for n in range(count):
        up.add(REPO, artifact(IMAGE, f"application/example.{n}"))
    async with asking(up, manifest_bytes_max=bytes_max) as ask:
        with pytest.raises(BadUpstreamAnswer):
            await ask.upstream.referrers(REPO, IMAGE.digest)
    assert up.count() <= 100
