"""Entrepot is for pulling: every client that pushes is told so, and at once."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from tests.support.busybox_image import Built
from tests.support.containerd import Containerd, write_mirror
from tests.support.containers_tools import Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot

REFUSAL = "unsupported: this registry is for pulling only"


def _written(upstream: DockerRegistry) -> list[str]:
    return [one.path for one in upstream.asked() if one.method not in {"GET", "HEAD"}]


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


def test_skopeo_is_told_why_it_may_not_push(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(Settings(nook / "tools", insecure=(entrepot.address,)))
    target = f"docker://{entrepot.address}/lab/demo/own:v1"
    pushed = skopeo.attempt("copy", f"oci:{image.layout}:single", target)
    assert pushed.code != 0
    assert REFUSAL in pushed.output
    assert _written(upstream) == []


def test_containerd_may_not_push(nook: Path, entrepot: Entrepot, upstream: DockerRegistry) -> None:
    write_mirror(nook / "certs", "registry.test", f"{entrepot.url}/lab")
    own = f"{entrepot.address}/lab/demo/own:v1"
    with Containerd(nook / "c") as containerd:
        containerd.pull("registry.test/demo/busybox:v1", nook / "certs")
        containerd.tag("registry.test/demo/busybox:v1", own)
        pushed = containerd.try_push(own)
    assert pushed.code != 0
    assert "405 Method Not Allowed" in pushed.output
    assert _written(upstream) == []


def test_docker_is_told_why_it_may_not_push(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry
) -> None:
    own = f"{entrepot.address}/lab/demo/own:v1"
    with Dockerd(nook / "d", mirrors=[entrepot.url]) as docker:
        docker.pull("busybox:latest")
        docker.tag("busybox:latest", own)
        pushed = docker.try_push(own)
    assert pushed.code != 0
    assert REFUSAL in pushed.output
    assert _written(upstream) == []
