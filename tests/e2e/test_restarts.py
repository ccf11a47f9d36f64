"""What is cached survives the process that cached it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_cached_image_is_served_after_a_restart_without_the_upstream(
    end: str, nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(Settings(nook / "tools", insecure=(entrepot.address,)))
    name = f"{entrepot.address}/lab/demo/busybox:v1"
    first = skopeo.copy(name, nook / "cold")
    fetched_once(upstream, image.blobs)
    if end == "killed":
        entrepot.kill()
    else:
        assert entrepot.stop() == 0
    upstream.kill()
    entrepot.start()
    assert skopeo.copy(name, nook / "offline") == first
