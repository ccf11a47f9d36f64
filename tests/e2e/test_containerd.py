"""containerd through Entrepot: all shapes its hosts.toml can give a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import MARKER, Built
from tests.support.containerd import Containerd, write_mirror
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot

SHAPES = {
    "path after v2": ("/v2/lab", True),
    "path before v2": ("/lab", False),
    "ns alone": ("", False),
}


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def certs(request: pytest.FixtureRequest, nook: Path, entrepot: Entrepot) -> Path:
    path, override_path = request.param
    url = f"{entrepot.url}{path}"
    write_mirror(nook / "certs", "registry.test", url, override_path=override_path)
    return nook / "certs"


def test_an_image_is_pulled_once_and_runs_even_when_the_upstream_is_gone(
    nook: Path, certs: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    name = "registry.test/demo/busybox:v1"
    with Containerd(nook / "c1") as cold:
        cold.pull(name, certs)
        assert {image.manifest, *image.blobs} <= cold.digests()
        assert cold.says(name) == MARKER
    fetched_once(upstream, image.blobs)
    with Containerd(nook / "c2") as warm, Nothing(upstream):
        warm.pull(name, certs)
    upstream.kill()
    with Containerd(nook / "c3") as offline:
        offline.pull(name, certs)
        assert {image.manifest, *image.blobs} <= offline.digests()
        assert offline.says(name) == MARKER


def test_of_an_index_only_the_own_platform_is_fetched(
    nook: Path, certs: Path, upstream: DockerRegistry, image: Built
) -> None:
    with Containerd(nook / "c1") as containerd:
        containerd.pull("registry.test/demo/busybox:multi", certs)
        assert {image.index, image.manifest, *image.blobs} <= containerd.digests()
        assert containerd.says("registry.test/demo/busybox:multi") == MARKER
    fetched_once(upstream, image.blobs)


def test_a_pull_by_digest_asks_the_upstream_nothing_the_second_time(
    nook: Path, certs: Path, upstream: DockerRegistry, image: Built
) -> None:
    name = f"registry.test/demo/busybox@{image.index}"
    with Containerd(nook / "c1") as cold:
        cold.pull(name, certs)
    fetched_once(upstream, image.blobs)
    asked = upstream.asked()
    with Containerd(nook / "c2") as warm:
        warm.pull(name, certs)
        assert warm.says(name) == MARKER
    assert upstream.asked() == asked


def test_a_registry_with_a_port_is_mirrored_under_its_alias(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    """`ns` names host and port here, the path the upstream's short name."""
    write_mirror(nook / "certs", upstream.address, f"{entrepot.url}/v2/lab", override_path=True)
    with Containerd(nook / "c1") as containerd:
        containerd.pull(f"{upstream.address}/demo/busybox:v1", nook / "certs")
    fetched_once(upstream, image.blobs)


def test_hub_is_mirrored_at_the_root_where_it_is_the_default(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    write_mirror(nook / "certs", "docker.io", entrepot.url)
    with Containerd(nook / "c1") as containerd:
        containerd.pull("docker.io/library/busybox:latest", nook / "certs")
        assert containerd.says("docker.io/library/busybox:latest") == MARKER
    fetched_once(upstream, image.blobs)


def test_an_image_with_dockers_media_types_arrives_too(
    nook: Path, certs: Path, upstream: DockerRegistry
) -> None:
    with Containerd(nook / "c1") as containerd:
        containerd.pull("registry.test/demo/busybox:schema2", certs)
        assert containerd.says("registry.test/demo/busybox:schema2") == MARKER
    assert upstream.clients_seen() == set()


def test_what_the_upstream_does_not_have_is_said_to_be_missing(
    nook: Path, certs: Path, entrepot: Entrepot
) -> None:
    with Containerd(nook / "c1") as containerd:
        outcome = containerd.try_pull("registry.test/demo/busybox:never", certs)
    assert outcome.code != 0
    assert "not found" in outcome.output
