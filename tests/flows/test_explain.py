"""`explain`: where an image comes from, what of it is here, what a pull would cost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import cli
from proxy.oci.digest import Digest
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import Image, image, index
from tests.support.waiting import until

AMD64, ARM64 = image(3_000_000, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)


async def explained(proxy: Running, name: str, **query: str) -> dict[str, Any]:
    url = f"http://{proxy.entrepot.admin_address}/explain"
    async with proxy.client.get(url, params={"image": name, **query}) as response:
        assert response.status == 200, await response.text()
        return dict(await response.json())


def digests(image: Image) -> list[Digest]:
    return [one.digest for one in (*image.manifests, *image.blobs)]


def places(told: dict[str, Any]) -> list[tuple[str, bool, bool]]:
    return [(one["what"], one["memory"], one["disk"]) for one in told["contents"]]


async def test_an_image_that_nobody_pulled_is_a_route_and_a_question(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    told = await explained(proxy, "lab/app:v1")
    assert told["route"] == {
        "upstream": "lab",
        "repository": "app",
        "reference": "v1",
        "read_by": "registry",
        "name": "lab",
    }
    assert (told["upstream"]["url"], told["upstream"]["credentials"]) == (upstream.url, None)
    assert told["tag"] == {"tag": "v1", "known": False, "rule": None, "served": "asked"}
    assert told["contents"] == []
    assert told["pull"]["certain"] is False
    assert upstream.seen == []


async def test_what_was_pulled_is_found_where_it_is_and_the_upstream_is_not_asked(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", AMD64, str(AMD64.digest))
    await proxy.ask("/v2/lab/app/manifests/v1")
    asked = len(upstream.seen)
    told = await explained(proxy, "lab/app:v1", platform="linux/amd64")
    assert places(told) == [
        ("index", True, True),
        ("manifest", True, True),
        ("config", True, True),
        ("layer", False, True),
    ]
    below = [str(one) for one in (BOTH.digest, *digests(AMD64))]
    assert [one["digest"] for one in told["contents"]] == below
    assert told["tag"]["fresh"] is True
    assert told["tag"]["next_check_at"] == pytest.approx(told["tag"]["checked_at"] + 3600)
    assert told["pull"] == {
        "asks": [],
        "upstream_bytes": 0,
        "s3_bytes": 0,
        "joined_bytes": 0,
        "certain": True,
        "trouble": None,
    }
    other = await explained(proxy, "lab/app:v1", platform="linux/arm64")
    assert [one["what"] for one in other["contents"]] == ["index", "manifest"]
    assert other["pull"]["upstream_bytes"] == ARM64.manifest.size
    assert other["pull"]["certain"] is False
    none = await explained(proxy, f"lab/app@{BOTH.digest}", platform="plan9/mips")
    assert none["tag"] is None
    assert "nothing for plan9/mips" in none["pull"]["asks"][-1]
    assert len(upstream.seen) == asked


async def test_a_stale_tag_and_a_foreign_repository_cost_a_question_each(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.add("copy", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    told = await explained(proxy, "lab/app:v1")
    assert told["tag"]["fresh"] is False
    assert ["HEAD" in one for one in told["pull"]["asks"]] == [True]
    copied = await explained(proxy, f"lab/copy@{AMD64.digest}")
    assert copied["contents"][0]["linked"] is False
    assert len(copied["pull"]["asks"]) == len(copied["contents"])


async def test_a_fill_in_progress_is_joined(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", AMD64, "v1")
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    await proxy.ask("/v2/lab/app/manifests/v1")
    layer = AMD64.layers[0]
    async with proxy.client.get(f"{proxy.url}/v2/lab/app/blobs/{layer.digest}") as response:
        await response.content.readexactly(700_000)
        told = await explained(proxy, "lab/app:v1")
        flight = told["contents"][-1]["flight"]
        assert (flight["size"], flight["followers"]) == (layer.size, 1)
        assert 700_000 <= flight["written"] <= 1_000_000
        assert told["pull"]["joined_bytes"] == layer.size
        held.set()
        await response.read()
    await proxy.settled()


async def test_credentials_are_named_and_never_shown(world: World, upstream: FakeRegistry) -> None:
    lab = {"url": upstream.url, "username": "me", "password": "hunter2", "expose": ["team/*"]}
    proxy = await world.start({"lab": lab})
    told = await explained(proxy, "lab/team/app")
    assert told["upstream"]["credentials"] == "user me"
    assert (told["upstream"]["group"], told["upstream"]["shown"]) == ("lab", True)
    assert "hunter2" not in json.dumps(told)
    assert (await explained(proxy, "lab/other/app"))["upstream"]["shown"] is False


@pytest.mark.parametrize(
    ("name", "repository", "read_by", "called"),
    [
        ("app", "library/app", "default", None),
        ("team/app:v1", "team/app", "default", None),
        ("docker.io/app", "library/app", "registry", "docker.io"),
        ("index.docker.io/team/app", "team/app", "registry", "index.docker.io"),
        ("registry.test:5000/team/app", "team/app", "registry", "registry.test:5000"),
        ("cache.example:5000/docker.io/app", "library/app", "own address", "docker.io"),
    ],
)
async def test_names_are_read_as_they_are_pulled(
    world: World, name: str, repository: str, read_by: str, called: str | None
) -> None:
    aliases = ["index.docker.io", "registry.test:5000"]
    hub = {"url": "http://127.0.0.1:1", "library": True, "aliases": aliases}
    route = (await explained(await world.start({"docker.io": hub}), name))["route"]
    assert (route["upstream"], route["repository"]) == ("docker.io", repository)
    assert (route["read_by"], route["name"]) == (read_by, called)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", 400),
        ("UPPER", 400),
        ("lab/app:b@d", 400),
        ("lab/app@sha256:1", 400),
        ("other.example:1/app/x", 404),
    ],
)
async def test_what_is_no_image_of_ours_is_told(
    world: World, upstream: FakeRegistry, name: str, status: int
) -> None:
    proxy = await world.start({"lab": upstream})
    url = f"http://{proxy.entrepot.admin_address}/explain"
    async with proxy.client.get(url, params={"image": name}) as response:
        assert response.status == status, await response.text()


async def test_the_command_prints_it_for_people_and_for_programs(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]

    async def run(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, cli.app, ["explain", *words, *admin])

    shown = await run("lab/app:v1")
    assert shown.exit_code == 0, shown.output
    assert "repository app (by the registry's name lab)" in shown.stdout
    assert str(AMD64.digest) in shown.stdout
    assert "fetches 0 B from the upstream" in shown.stdout
    told = json.loads((await run("lab/app:v1", "--json")).stdout)
    assert told["tag"]["digest"] == str(AMD64.digest)
    refused = await run("UPPER")
    assert (refused.exit_code, refused.stdout) == (1, "")


async def test_what_only_s3_has_is_told_and_left_there(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    async with FakeS3() as store:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        storage = {"s3": s3}
        first = await world.start({"lab": upstream}, storage=storage, tag_fresh_s=3600)
        await first.pull("/v2/lab/app", AMD64, "v1")
        wanted = {f"blobs/public/sha256/{one.hex[:2]}/{one.hex}" for one in digests(AMD64)}
        wanted |= {f"repos/lab/app/_links/sha256/{one.hex}" for one in digests(AMD64)}
        wanted.add("repos/lab/app/_tags/v1")
        await until(lambda: wanted <= set(store.objects), "all is in the store")
        asked = len(upstream.seen)
        other = {"storage": storage, "tag_fresh_s": 3600, "data_dir": str(tmp_path / "other")}
        second = await world.start({"lab": upstream}, **other)
        for _ in range(2):
            told = await explained(second, "lab/app:v1")
            assert {(one["disk"], one["s3"]) for one in told["contents"]} == {(False, True)}
            size = AMD64.manifest.size + sum(blob.size for blob in AMD64.blobs)
            pull = told["pull"]
            assert (pull["s3_bytes"], pull["upstream_bytes"]) == (size, 0)
            assert (pull["certain"], pull["asks"]) == (True, [])
        assert len(upstream.seen) == asked
        store.fail("403", times=100, method="HEAD")
        told = await explained(second, "lab/app:v1")
        assert told["pull"]["certain"] is False
        assert told["pull"]["trouble"]


@pytest.mark.parametrize(
    ("settings", "upstream_settings", "served", "words"),
    [
        ({"tag_fresh_s": 3600}, {}, "fresh", "at the earliest"),
        ({}, {}, "asked", "asked again with the next pull"),
        (
            {"tag_rules": [{"match": "app:v*", "immutable": True}]},
            {},
            "immutable",
            "never asked again (rule app:v*)",
        ),
        (
            {"tag_rules": [{"match": "*:v1", "cache": False}]},
            {},
            "uncached",
            "asked for with each pull, never kept (rule *:v1)",
        ),
        ({"offline": True}, {}, "offline", "not asked again: its upstream is offline"),
        ({}, {"as_of": "2999-01-01"}, "as_of", "as of 2999-01-01T00:00:00Z"),
        ({}, {"as_of": "2001-01-01"}, "as_of", "not known as of 2001-01-01T00:00:00Z"),
    ],
)
async def test_the_rules_that_a_tag_is_served_by_are_told(
    world: World,
    upstream: FakeRegistry,
    *,
    settings: dict[str, Any],
    upstream_settings: dict[str, Any],
    served: str,
    words: str,
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    await world.stack.aclose()
    proxy = await world.start({"lab": {"url": upstream.url, **upstream_settings}}, **settings)
    assert (await explained(proxy, "lab/app:v1"))["tag"]["served"] == served
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, ["explain", "lab/app:v1", *admin])
    assert done.exit_code == 0, done.output
    assert words in done.output
