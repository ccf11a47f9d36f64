"""Who refers to a manifest: trouble must never look like "nobody signed this"."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.oci.manifests import OCI_INDEX
from tests.flows.conftest import Answer, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import artifact, image, index

SIGNATURE, SBOM = "application/example.signature", "application/example.sbom"
IMAGE = image(1000)
PATH = f"/v2/lab/app/referrers/{IMAGE.digest}"


def referrers_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    document = json.loads(answer.body)
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    found: list[dict[str, Any]] = document["manifests"]
    return found


@pytest.fixture
async def signed(upstream: FakeRegistry) -> FakeRegistry:
    """`app:v1` with a signature and a bill of materials."""
    upstream.add("app", IMAGE, "v1")
    for kind in (SIGNATURE, SBOM):
        upstream.add("app", artifact(IMAGE, kind))
    return upstream


@pytest.mark.parametrize("page_max", [1, 1000])
async def test_referrers_are_listed_whole_and_filtered_if_asked(
    world: World, signed: FakeRegistry, page_max: int
) -> None:
    signed.quirks.page_max = page_max
    proxy = await world.start({"lab": signed})
    answer = await proxy.ask(PATH)
    assert {one["artifactType"] for one in referrers_of(answer)} == {SIGNATURE, SBOM}
    assert "OCI-Filters-Applied" not in answer.headers
    for kind in (SBOM, SBOM.replace("/", "%2F"), "application/none"):
        answer = await proxy.ask(f"{PATH}?artifactType={kind}")
        expected = [SBOM] if "none" not in kind else []
        assert [one["artifactType"] for one in referrers_of(answer)] == expected
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"


async def test_a_registry_without_the_api_is_asked_for_the_fallback_tag(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.quirks.referrers = False
    upstream.add("app", IMAGE, "v1")
    signature = artifact(IMAGE, SIGNATURE)
    upstream.add("app", signature)
    root = index(image(10, seed="signature"))
    upstream.add("app", root, f"sha256-{IMAGE.digest.hex}")
    proxy = await world.start({"lab": upstream})
    assert [one["digest"] for one in referrers_of(await proxy.ask(PATH))] == [
        str(root.manifests[1].digest)
    ]


@pytest.mark.parametrize("api", [False, True])
async def test_nobody_refers_is_200_and_is_asked_anew(
    world: World, upstream: FakeRegistry, api: bool
) -> None:
    upstream.quirks.referrers = api
    upstream.add("app", IMAGE, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600, negative_s=0)
    for path in (PATH, f"/v2/lab/app/referrers/sha256:{'0' * 64}"):
        assert referrers_of(await proxy.ask(path)) == []
    if api:
        # A signature appears: it must not be missed for as long as a tag is fresh.
        upstream.add("app", artifact(IMAGE, SIGNATURE))
        assert len(referrers_of(await proxy.ask(PATH))) == 1
    kept = [path for path in (world.root / "data").rglob("_referrers/**/*") if path.is_file()]
    assert len(kept) == (1 if api else 0)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_never_looks_like_unsigned(
    world: World, signed: FakeRegistry, status: int
) -> None:
    proxy = await world.start({"lab": signed})
    signed.inject(Fault(status=status), times=None)
    answer = await proxy.ask(PATH)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    signed.heal()
    proxy.let_time_pass("lab", 61)
    assert len(referrers_of(await proxy.ask(PATH))) == 2
    signed.inject(Fault(status=status), times=None)
    answer = await proxy.ask(PATH)
    assert len(referrers_of(answer)) == 2
    assert "last seen" in answer.headers["Warning"]


async def test_referrers_are_remembered_while_tags_are_fresh_and_over_a_restart(
    world: World, signed: FakeRegistry
) -> None:
    proxy = await world.start({"lab": signed}, tag_fresh_s=3600)
    for _ in range(2):
        assert len(referrers_of(await proxy.ask(PATH))) == 2
    assert signed.count(kind="referrers") == 1
    await world.stack.aclose()
    await signed.stop()
    proxy = await world.start({"lab": signed})
    assert len(referrers_of(await proxy.ask(PATH))) == 2
