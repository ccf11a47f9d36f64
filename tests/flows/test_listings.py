"""Tag lists and the catalog, with the upstream there and without it."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import pytest

from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

IMAGE = image(1000)
TAGS = ["10", "2", "A", "Z", "_x", "a", "a-1", "a.1", "b", "latest"]
NEXT = re.compile(r'<([^>]+)>; rel="next"')


def tags_of(answer: Answer) -> list[str]:
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    found: list[str] = json.loads(answer.body)["tags"]
    return found


async def walk(proxy: Running, path: str) -> list[list[str]]:
    """All pages, going where the links lead, as clients do: relative ones only."""
    pages = []
    while path:
        answer = await proxy.ask(path)
        body = json.loads(answer.body)
        pages.append(body.get("tags", body.get("repositories")))
        match = NEXT.fullmatch(answer.headers.get("Link", ""))
        assert match or "Link" not in answer.headers
        assert match is None or match[1].startswith("/")
        path = urljoin(path, match[1]) if match else ""
    return pages


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v2/app/tags/list?n=3", "app"),
        ("/v2/app/tags/list?n=3&ns=lab", "app"),
        ("/v2/app/tags/list?n=3&ns=lab.example:5000", "app"),
        ("/v2/lab/app/tags/list?n=3", "lab/app"),
        ("/v2/lab/app/tags/list?n=3&ns=lab", "lab/app"),
        ("/lab/v2/app/tags/list?n=3", "app"),
    ],
)
async def test_pages_follow_each_other_in_the_clients_own_terms(
    world: World, upstream: FakeRegistry, absolute: bool, path: str, name: str
) -> None:
    upstream.quirks.absolute_links = absolute
    upstream.add("app", IMAGE, *TAGS)
    lab = {"url": upstream.url, "aliases": ["lab.example:5000"]}
    proxy = await world.start({"lab": lab})
    assert await walk(proxy, path) == [TAGS[:3], TAGS[3:6], TAGS[6:9], TAGS[9:]]
    answer = await proxy.ask(path)
    assert json.loads(answer.body)["name"] == name
    ns = re.search(r"ns=[^&]+", path)
    assert ("ns=" in answer.headers["Link"]) == (ns is not None)


@pytest.mark.parametrize("outage", [False, True])
async def test_n_and_last_mean_what_the_specification_says(
    world: World, upstream: FakeRegistry, outage: bool
) -> None:
    upstream.add("app", IMAGE, *TAGS)
    proxy = await world.start({"lab": upstream})
    if outage:
        for tag in TAGS:
            await proxy.pull("/v2/lab/app", IMAGE, tag)
        upstream.inject(Fault(status=502), times=None)
    for query, expected, more in (
        ("", TAGS, False),
        ("?n=0", [], False),
        ("?n=1", TAGS[:1], True),
        (f"?n={len(TAGS)}", TAGS, False),
        ("?n=10000", TAGS, False),
        ("?last=A", TAGS[3:], False),
        ("?n=2&last=A", TAGS[3:5], True),
        ("?last=B", TAGS[3:], False),  # need not exist
        ("?last=zzz", [], False),
        ("?n=0&last=A", [], False),
    ):
        answer = await proxy.ask(f"/v2/lab/app/tags/list{query}")
        assert tags_of(answer) == expected, query
        assert ("Link" in answer.headers) == more, query
        stale = outage and "n=0" not in query
        assert ("Warning" in answer.headers) == stale, query
    asked = [s.query.get("n") for s in upstream.requests(kind="tags")]
    assert ["10000"] not in asked


async def test_an_upstreams_shorter_pages_are_passed_on_as_pages(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.quirks.page_max = 4  # as Quay's 100
    upstream.add("app", IMAGE, *TAGS)
    proxy = await world.start({"lab": upstream})
    for query in ("", "?n=1000"):
        pages = await walk(proxy, f"/v2/lab/app/tags/list{query}")
        assert [tag for page in pages for tag in page] == TAGS


async def test_no_tags_is_an_empty_list_and_no_repository_is_404(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGE)
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask("/v2/lab/app/tags/list")
    assert answer.body == b'{"name":"lab/app","tags":[]}'
    assert (await proxy.ask("/v2/lab/none/tags/list")).status == 404


async def test_tags_can_be_listed_without_the_upstream_only_where_some_are_held(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGE, "v1", "v2")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", IMAGE, "v1")
    await upstream.stop()
    answer = await proxy.ask("/v2/lab/app/tags/list")
    assert tags_of(answer) == ["v1"]
    assert "held here" in answer.headers["Warning"]
    assert (await proxy.ask("/v2/lab/other/tags/list")).status == 503


async def test_the_catalog_lists_what_was_pulled_page_by_page(
    world: World, upstream: FakeRegistry
) -> None:
    names = ["a", "a-b", "a.b", "a/0", "a/b", "a/b/c", "ab"]
    for name in names:
        upstream.add(name, IMAGE, "v1")
    proxy = await world.start({"lab": upstream, "lab-2": upstream})
    assert (await proxy.ask("/v2/_catalog")).body == b'{"repositories":[]}'
    for name in names:
        assert (await proxy.ask(f"/v2/lab/{name}/manifests/v1")).status == 200
    assert (await proxy.ask("/v2/lab-2/a/manifests/v1")).status == 200
    both = sorted([*(f"lab/{name}" for name in names), "lab-2/a"])
    assert await walk(proxy, "/v2/_catalog") == [both]
    assert [one for page in await walk(proxy, "/v2/_catalog?n=1") for one in page] == both
    for path in ("/lab/v2/_catalog?n=3", "/v2/_catalog?n=3&ns=lab", "/v2/lab/_catalog?n=3"):
        assert await walk(proxy, path) == [names[:3], names[3:6], names[6:]]
    assert json.loads((await proxy.ask("/v2/_catalog?last=lab/a/b")).body) == {
        "repositories": ["lab/a/b/c", "lab/ab"]
    }
    empty = await proxy.ask("/v2/_catalog?n=0")
    assert (empty.body, "Link" in empty.headers) == (b'{"repositories":[]}', False)
