"""Questions about manifests, tags and referrers, and the lies in the answers."""

from __future__ import annotations

import pytest

from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    DigestMismatch,
    TransferBroken,
)
from proxy.events import BytesFetched, QuotaRead
from proxy.oci.digest import Digest
from proxy.oci.manifests import ACCEPT_ALL, DOCKER_SCHEMA1_SIGNED, Descriptor, Manifest
from proxy.oci.names import Repository, Tag
from tests.support.asking import EPOCH_S, asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image, schema1

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


async def test_a_tag_is_resolved_by_head_alone(up, ask):
    found = await ask.upstream.resolve(REPO, LATEST)
    manifest = IMAGE.manifest
    assert found == Descriptor(
        media_type=manifest.media_type, digest=manifest.digest, size=manifest.size
    )
    assert [(r.method, r.headers["Accept"]) for r in up.seen] == [("HEAD", ACCEPT_ALL)]


async def test_a_digest_resolves_without_any_header_of_the_upstreams(up, ask):
    up.quirks.digest_header = None
    assert (await ask.upstream.resolve(REPO, IMAGE.digest)).digest == IMAGE.digest
    assert up.count() == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Docker-Content-Digest": ""},
        {"Docker-Content-Digest": "sha256:short"},
        {"Docker-Content-Digest": "md5:d41d8cd98f00b204e9800998ecf8427e"},
        {"Content-Type": "application/json"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_a_head_that_tells_too_little_costs_a_get(up, ask, headers):
    up.inject(Fault(headers=headers), method="HEAD")
    found = await ask.upstream.resolve(REPO, LATEST)
    assert isinstance(found, Manifest)
    assert found.body == IMAGE.manifest.body


async def test_a_head_without_a_length_costs_a_get(up, ask):
    up.inject(Fault(chunked=True), method="HEAD")
    assert isinstance(await ask.upstream.resolve(REPO, LATEST), Manifest)


@pytest.mark.parametrize("status", [400, 403, 405])
async def test_a_refused_head_costs_a_get(up, ask, status):
    up.quirks.head_status = status
    assert isinstance(await ask.upstream.resolve(REPO, LATEST), Manifest)
    assert await ask.upstream.resolve(REPO, Tag.parse("none")) is None


async def test_a_head_that_contradicts_the_digest_asked_for_is_checked_by_a_get(up, ask):
    up.inject(Fault(headers={"Docker-Content-Digest": str(OTHER.digest)}), method="HEAD")
    found = await ask.upstream.resolve(REPO, IMAGE.digest)
    assert isinstance(found, Manifest)


async def test_a_manifest_asked_for_by_sha512_is_verified_by_it(up, ask):
    made = up.add(REPO, image(seed="long", algorithm="sha512"))
    sha256 = str(Digest.of(made.manifest.body))
    up.inject(Fault(headers={"Docker-Content-Digest": sha256}), times=None)
    assert (await ask.upstream.resolve(REPO, made.digest)).digest == made.digest
    assert (await ask.upstream.get_manifest(REPO, made.digest)).descriptor.digest == made.digest


async def test_a_manifest_without_a_digest_header_gets_its_own(up, ask):
    up.quirks.digest_header = None
    manifest = await ask.upstream.get_manifest(REPO, LATEST)
    assert manifest.descriptor.digest == IMAGE.digest


@pytest.mark.parametrize("reference", [LATEST, IMAGE.digest])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(flip_at=len(IMAGE.manifest.body) - 6),
        Fault(status=200, body=OTHER.manifest.body, content_type=OTHER.manifest.media_type,
              headers={"Docker-Content-Digest": str(IMAGE.digest)}),
        Fault(length=len(IMAGE.manifest.body) - 1),
    ],
)  # fmt: skip
async def test_wrong_bytes_are_never_a_manifest(up, ask, fault, reference):
    up.inject(fault)
    with pytest.raises(BadUpstreamAnswer):
        await ask.upstream.get_manifest(REPO, reference)


@pytest.mark.parametrize("reference", [LATEST, IMAGE.digest])
async def test_a_mismatch_is_called_one(up, ask, reference):
    up.inject(
        Fault(
            status=200,
            body=OTHER.manifest.body,
            content_type=OTHER.manifest.media_type,
            headers={"Docker-Content-Digest": str(IMAGE.digest)},
        )
    )
    with pytest.raises(DigestMismatch, match=r"^up"):
        await ask.upstream.get_manifest(REPO, reference)


async def test_a_claim_that_contradicts_the_digest_asked_for_is_a_mismatch(up, ask):
    up.inject(Fault(headers={"Docker-Content-Digest": str(OTHER.digest)}))
    with pytest.raises(DigestMismatch):
        await ask.upstream.get_manifest(REPO, IMAGE.digest)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(html=True),
        Fault(content_type="application/json"),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(status=206, body=b"{}"),
        Fault(status=204),
        Fault(status=400),
        Fault(status=200, body=b"", content_type=IMAGE.manifest.media_type),
        Fault(status=200, body=b'{"errors":[]}', content_type=IMAGE.manifest.media_type),
    ],
)
async def test_what_is_no_manifest_is_refused_by_name(up, ask, fault):
    up.inject(fault)
    with pytest.raises(BadUpstreamAnswer, match=r"^up"):
        await ask.upstream.get_manifest(REPO, LATEST)


async def test_a_manifest_that_breaks_off_is_trouble(up, ask):
    up.inject(Fault(end_at=10))
    with pytest.raises(TransferBroken):
        await ask.upstream.get_manifest(REPO, LATEST)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_manifest_above_the_limit_is_not_read_to_its_end(up, chunked):
    up.inject(Fault(length=20_000_000, chunked=chunked), times=None)
    async with asking(up, manifest_bytes_max=100_000) as ask:
        with pytest.raises(BadUpstreamAnswer, match="100000 bytes"):
            await ask.upstream.get_manifest(REPO, LATEST)
    assert up.bytes_sent() < 20_000_000


async def test_schema_1_comes_with_the_digest_that_is_claimed(up, ask):
    old = up.add(REPO, schema1(), "old")
    manifest = await ask.upstream.get_manifest(REPO, Tag.parse("old"))
    assert manifest.descriptor.media_type == DOCKER_SCHEMA1_SIGNED
    assert manifest.descriptor.digest == old.digest != Digest.of(manifest.body)
    assert (await ask.upstream.get_manifest(REPO, old.digest)).descriptor.digest == old.digest
    up.quirks.digest_header = None
    with pytest.raises(BadUpstreamAnswer):
        await ask.upstream.get_manifest(REPO, Tag.parse("old"))


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_is_not_absent(up, ask, status):
    up.inject(Fault(status=status), times=None)
    with pytest.raises(AccessDenied):
        await ask.upstream.get_manifest(REPO, LATEST)


async def test_gone_is_absent(up, ask):
    up.inject(Fault(status=410))
    assert await ask.upstream.get_manifest(REPO, LATEST) is None


async def test_docker_hubs_quota_is_told(up, ask):
    up.quirks.quota = 76
    await ask.upstream.resolve(REPO, LATEST)
    await ask.upstream.get_manifest(REPO, LATEST)
    assert ask.stated(QuotaRead) == [
        QuotaRead(upstream="up", limit=100, remaining=76),
        QuotaRead(upstream="up", limit=100, remaining=75),
    ]
    quota = ask.upstream.health().quota
    assert (quota.window_s, quota.source, quota.read_at) == (21600, "192.0.2.1", EPOCH_S)


async def test_fetched_bytes_are_told(up, ask):
    await ask.upstream.get_manifest(REPO, LATEST)
    await ask.upstream.list_tags(REPO)
    told = ask.stated(BytesFetched)
    assert told[0] == BytesFetched(
        upstream="up",
        kind="manifest",
        count=IMAGE.manifest.size,
        repository=REPO,
        reference=LATEST,
    )
    assert [t.kind for t in told] == ["manifest", "tags"]


async def test_manifests_that_head_refuses_may_be_read_by_strangers(up, ask):
    up.quirks.head_status = 405
    assert await ask.upstream.anonymous_may_read(REPO, "manifests", "latest")
    assert not await ask.upstream.anonymous_may_read(REPO, "manifests", "none")
