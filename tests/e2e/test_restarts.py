"""What is cached survives the process that cached it."""

from __future__ import annotations

import http.client
import json
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
    upstream.stop()
    entrepot.start()
    assert skopeo.copy(name, nook / "offline") == first


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_writing_method_is_answered_405(method: str, entrepot: Entrepot) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", entrepot.port, timeout=10)
    try:
        connection.request(method, "/v2/lab/demo/busybox/blobs/uploads/")
        response = connection.getresponse()
        body = json.loads(response.read())
    finally:
        connection.close()
    assert response.status == 405
    assert {word.strip() for word in response.headers["Allow"].split(",")} == {"GET", "HEAD"}
    assert body["errors"][0]["code"] == "UNSUPPORTED"
