"""`helm test` and nodes pull for real: wrong bytes, short bytes and refusals are failures."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.helm.scripts import FILES, IMAGE, mirror, running
from tests.support.faults import Fault
from tests.support.private_ca import issue


async def pulled(server: str, image: str = IMAGE, *more: str) -> tuple[int, str]:
    async with running(FILES / "pull.py", server, image, *more) as script:
        code = await script.over()
        return code, "\n".join(script.lines)


async def test_the_whole_image_comes():
    async with mirror() as registry:
        code, said = await pulled(registry.url)
        assert (code, registry.count(kind="manifest"), registry.count(kind="blob")) == (0, 2, 3)
        assert {one.query["ns"][0] for one in registry.seen} == {"docker.io"}
        assert "bytes verified" in said


async def test_an_image_by_digest_comes():
    async with mirror() as registry:
        (digest,) = {
            str(one.digest)
            for one in registry.repositories["docker.io/library/tiny"].manifests.values()
            if b"manifests" in one.body
        }
        code, _ = await pulled(registry.url, f"docker.io/library/tiny@{digest}")
        assert code == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=503), "503"),
        (Fault(flip_at=50), "don't match the digest"),
        (Fault(reset_at=50), ""),
        (Fault(end_at=50), ""),
        (Fault(length=50), "don't match the digest"),
    ],
    ids=["refused", "wrong bytes", "reset", "cut", "short"],
)
async def test_a_blob_that_is_not_right_fails_the_pull(fault: Fault, words: str):
    async with mirror() as registry:
        registry.inject(fault, kind="blob", times=None)
        code, said = await pulled(registry.url)
        assert code == 1
        assert words in said


async def test_a_mirror_that_never_answers_fails_the_pull():
    async with mirror() as registry:
        url = registry.url
    code, said = await pulled(url)
    assert code == 1
    assert "refused" in said


async def test_the_server_is_verified_unless_told_not_to(tmp_path: Path):
    authority = issue(tmp_path / "ca")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority.cert, authority.key)
    async with mirror(tls=tls) as registry:
        assert registry.url.startswith("https://")
        code, said = await pulled(registry.url)
        assert (code, "CERTIFICATE_VERIFY_FAILED" in said) == (1, True)
        assert (await pulled(registry.url, IMAGE, "--ca", str(authority.ca)))[0] == 0
        assert (await pulled(registry.url, IMAGE, "--insecure"))[0] == 0


async def test_an_image_without_a_registry_is_asked_wrongly():
    code, said = await pulled("http://127.0.0.1:1", "Busybox")
    assert code == 2
    assert "must be like" in said
