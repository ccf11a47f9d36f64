"""What the admin listener answers an export."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from proxy.bundles.contents_reading import decode
from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

APP = image(5000, seed="app")
LAYER = APP.layers[0]
PLACE = {"upstream": "lab", "repository": "app"}


async def blob(proxy: Running, headers: dict[str, str] | None = None, **query: str) -> Answer:
    url = f"http://{proxy.entrepot.admin_address}/bundles/blob"
    async with proxy.client.get(url, params=query, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read(), cut=False)


async def plan(proxy: Running, body: bytes) -> tuple[int, str]:
    url = f"http://{proxy.entrepot.admin_address}/bundles/plan"
    kind = {"Content-Type": "application/json"}
    async with proxy.client.post(url, data=io.BytesIO(body), headers=kind) as answer:
        return answer.status, await answer.text()


async def test_a_blob_is_brought_and_ranges_of_it_are_given(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", APP, "v1")
    proxy = await world.start({"lab": upstream})
    asked = {**PLACE, "digest": str(LAYER.digest), "kind": "layer"}
    whole = await blob(proxy, **asked)
    assert (whole.status, whole.body) == (200, LAYER.body)
    some = await blob(proxy, {"Range": "bytes=4000-"}, **asked)
    assert (some.status, some.body) == (206, LAYER.body[4000:])
    beyond = await blob(proxy, {"Range": "bytes=9000-"}, **asked)
    assert beyond.status == 416
    assert upstream.count(kind="blob", method="GET") == 1
    manifest = await blob(proxy, **PLACE, digest=str(APP.digest), kind="manifest")
    assert (manifest.status, manifest.body) == (200, APP.manifest.body)


async def test_what_cannot_be_given_is_told_as_text(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", APP, "v1")
    proxy = await world.start({"lab": upstream}, header_budget_s=1)
    digest = str(LAYER.digest)
    for query, status, said in (
        ({**PLACE, "digest": "sha256:x"}, 400, "not a sha256"),
        ({**PLACE, "digest": digest, "upstream": "other.io"}, 404, "no upstream called"),
        ({**PLACE, "digest": digest, "repository": "../x"}, 400, "not a repository name"),
        ({**PLACE, "digest": f"sha256:{'0' * 64}"}, 404, ""),
        ({**PLACE, "digest": f"sha256:{'0' * 64}", "kind": "index"}, 404, ""),
        ({"digest": digest}, 404, "no upstream called ''"),
    ):
        answer = await blob(proxy, **query)
        assert (answer.status, said in answer.body.decode()) == (status, True), answer.body
    upstream.inject(Fault(status=503), kind="blob", times=None)
    assert (await blob(proxy, **PLACE, digest=digest, kind="layer")).status == 503


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "must be JSON"),
        ("[]", "must be an object with images, platforms, referrers"),
        ('{"images": ["a"], "more": 1}', "must be an object with"),
        ('{"images": []}', "1 to 100000 names"),
        ('{"images": [1]}', "must be a list of names"),
        ('{"images": "a"}', "must be a list of names"),
        ('{"images": ["a"], "platforms": ["x"]}', "must be a platform such as"),
        ('{"images": ["a"], "referrers": 1}', "must be true or false"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(
    document: str, said: str, world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream})
    status, text = await plan(proxy, document.encode())
    assert (status, said in text) == (400, True), text


async def test_a_list_without_end_is_not_read_to_its_end(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream})
    status, text = await plan(proxy, b" " * (16 * 1024 * 1024 + 1))
    assert (status, "more than 16 MiB" in text) == (400, True)


async def test_the_plan_comes_a_line_for_each_image_and_then_the_contents(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", APP, "v1", "v2")
    proxy = await world.start(
        {"lab": upstream}, warm={"platforms": ["linux/s390x", "linux/arm64/v8"]}
    )
    wanted: dict[str, Any] = {"images": ["lab/app:v1", "lab/app:v2", "lab/app:v1"]}
    status, text = await plan(proxy, json.dumps(wanted).encode())
    assert status == 200
    lines = [json.loads(line) for line in text.splitlines()]
    size = sum(one.size for one in (*APP.manifests, *APP.blobs))
    assert lines[:2] == [
        {"image": f"lab/app:{tag}", "name": f"lab/app:{tag}", "blobs": 3, "bytes": size}
        for tag in ("v1", "v2")
    ]
    assert lines[-1] == {"done": True}
    contents = decode("".join(one["contents"] for one in lines[2:-1]).encode())
    assert [one.kind for one in contents.blobs] == ["manifest", "config", "layer"]
    # None was named; the configured ones count.
    assert contents.platforms == ("linux/arm64", "linux/s390x")
    assert (contents.left_out, contents.receipts, contents.referrers) == ((), (), ())
