"""Docker's classic store through Entrepot, as a mirror of Hub and by address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import MARKER, Built
from tests.support.docker_registry import DockerRegistry
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot


@pytest.fixture(params=["mirror of Hub", "by address"])
def name(request: pytest.FixtureRequest, entrepot: Entrepot) -> str:
    """What to call the same image: Docker asks its mirror, or Entrepot itself."""
    return "busybox" if "Hub" in request.param else f"{entrepot.address}/lab/demo/busybox"


def test_an_image_is_pulled_once_and_runs_even_when_the_upstream_is_gone(
    nook: Path, name: str, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    with Dockerd(nook / "d", mirrors=[entrepot.url]) as docker:
        docker.pull(f"{name}:latest")
        assert docker.says(f"{name}:latest") == MARKER
        assert image.index in docker.digests(f"{name}:latest")
        fetched_once(upstream, image.blobs)
        docker.forget()
        assert docker.images() == []
        with Nothing(upstream):
            docker.pull(f"{name}:latest")
        docker.forget()
        upstream.kill()
        docker.pull(f"{name}:latest")
        assert docker.says(f"{name}:latest") == MARKER


def test_a_pull_by_digest_asks_the_upstream_nothing_the_second_time(
    nook: Path, name: str, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    with Dockerd(nook / "d", mirrors=[entrepot.url]) as docker:
        docker.pull(f"{name}@{image.manifest}")
        fetched_once(upstream, image.blobs)
        docker.forget()
        asked = upstream.asked()
        docker.pull(f"{name}@{image.manifest}")
        assert docker.says(f"{name}@{image.manifest}") == MARKER
    assert upstream.asked() == asked
