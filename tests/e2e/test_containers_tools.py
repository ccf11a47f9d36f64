"""podman, buildah and skopeo through Entrepot, by mirror and by address."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import MARKER, SAID_BY, Built
from tests.support.containers_tools import Buildah, Podman, Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot

TOGETHER = 8


@pytest.fixture
def settings(nook: Path, entrepot: Entrepot) -> Settings:
    return Settings(
        nook / "tools",
        mirrors={"registry.test": f"{entrepot.address}/lab"},
        insecure=(entrepot.address,),
    )


@pytest.fixture(params=["by mirror", "by address"])
def name(request: pytest.FixtureRequest, entrepot: Entrepot) -> str:
    host = "registry.test" if "mirror" in request.param else f"{entrepot.address}/lab"
    return f"{host}/demo/busybox"


def test_podman_pulls_once_and_runs_even_when_the_upstream_is_gone(
    settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    cold = Podman(settings, "cold")
    cold.pull(f"{name}:multi")
    assert cold.says(f"{name}:multi") == MARKER
    fetched_once(upstream, image.blobs)
    with Nothing(upstream):
        Podman(settings, "warm").pull(f"{name}:multi")
    upstream.kill()
    offline = Podman(settings, "offline")
    offline.pull(f"{name}:multi")
    assert offline.says(f"{name}:multi") == MARKER


def test_podman_by_digest_asks_the_upstream_nothing_the_second_time(
    settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    cold = Podman(settings, "cold")
    cold.pull(f"{name}@{image.manifest}")
    assert cold.digest(f"{name}@{image.manifest}") == image.manifest
    fetched_once(upstream, image.blobs)
    asked = upstream.asked()
    warm = Podman(settings, "warm")
    warm.pull(f"{name}@{image.manifest}")
    assert warm.says(f"{name}@{image.manifest}") == MARKER
    assert upstream.asked() == asked


def test_buildah_builds_on_a_base_from_the_proxy(
    settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    cold = Buildah(settings, "cold")
    assert cold.says(cold.start_from(f"{name}:v1"), SAID_BY) == MARKER
    fetched_once(upstream, image.blobs)
    upstream.kill()
    warm = Buildah(settings, "warm")
    assert warm.says(warm.start_from(f"{name}:v1"), SAID_BY) == MARKER


def test_skopeo_copies_all_platforms_once_and_again_without_the_upstream(
    nook: Path, settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(settings)
    everything = {image.index, image.manifest, image.other_manifest, *image.all_blobs}
    assert skopeo.copy(f"{name}:multi", nook / "cold", every_platform=True) == everything
    fetched_once(upstream, image.all_blobs)
    with Nothing(upstream):
        assert skopeo.copy(f"{name}:multi", nook / "warm", every_platform=True) == everything
    upstream.kill()
    skopeo.copy(f"{name}:multi", nook / "offline", every_platform=True)
    for digest in everything:
        kept = nook / "offline" / "blobs" / digest.replace(":", "/")
        assert kept.read_bytes() == image.content(digest)


def test_skopeo_by_digest_asks_the_upstream_nothing_the_second_time(
    nook: Path, settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(settings)
    skopeo.copy(f"{name}@{image.manifest}", nook / "cold")
    fetched_once(upstream, image.blobs)
    asked = upstream.asked()
    skopeo.copy(f"{name}@{image.manifest}", nook / "warm")
    assert upstream.asked() == asked


def test_clients_that_come_at_once_share_one_fetch(
    nook: Path, settings: Settings, name: str, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(settings)
    with ThreadPoolExecutor(TOGETHER) as pool:
        targets = [nook / f"copy-{number}" for number in range(TOGETHER)]
        copies = list(pool.map(lambda target: skopeo.copy(f"{name}:v1", target), targets))
    assert copies == [{image.manifest, *image.blobs}] * TOGETHER
    fetched_once(upstream, image.blobs)


def test_skopeo_lists_the_tags_of_the_upstream(settings: Settings, entrepot: Entrepot) -> None:
    tags = Skopeo(settings).tags(f"{entrepot.address}/lab/demo/busybox")
    assert sorted(tags) == ["latest", "multi", "schema2", "v1"]


def test_what_the_upstream_does_not_have_is_said_to_be_missing(
    nook: Path, settings: Settings, entrepot: Entrepot
) -> None:
    missing = f"{entrepot.address}/lab/demo/busybox:never"
    outcome = Skopeo(settings).try_copy(missing, nook / "never")
    assert outcome.code != 0
    assert "manifest unknown" in outcome.output
