"""Entrepot's own TLS, with a certificate of a private authority."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import MARKER, Built
from tests.support.containerd import Containerd, write_mirror
from tests.support.containers_tools import Podman, Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot
from tests.support.private_ca import PrivateCa


def test_skopeo_pulls_over_tls_when_it_trusts_the_authority(
    nook: Path, secure: Entrepot, authority: PrivateCa, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(Settings(nook / "tools"))
    name = f"{secure.address}/lab/demo/busybox:v1"
    refused = skopeo.try_copy(name, nook / "untrusted")
    assert refused.code != 0
    assert "x509" in refused.output
    copied = skopeo.try_copy(name, nook / "copied", certs=authority.folder)
    assert copied.code == 0, copied.output
    for digest in image.blobs:
        kept = nook / "copied" / "blobs" / digest.replace(":", "/")
        assert kept.read_bytes() == image.content(digest)
    fetched_once(upstream, image.blobs)


def test_podman_pulls_over_tls_and_runs(
    nook: Path, secure: Entrepot, authority: PrivateCa, upstream: DockerRegistry, image: Built
) -> None:
    podman = Podman(Settings(nook / "tools"), "store")
    name = f"{secure.address}/lab/demo/busybox:multi"
    podman.pull(name, certs=authority.folder)
    assert podman.says(name) == MARKER
    fetched_once(upstream, image.blobs)


def test_containerd_pulls_over_tls_and_runs(
    nook: Path, secure: Entrepot, authority: PrivateCa, upstream: DockerRegistry, image: Built
) -> None:
    url = f"{secure.url}/v2/lab"
    write_mirror(nook / "certs", "registry.test", url, override_path=True, ca=authority.ca)
    name = "registry.test/demo/busybox:multi"
    with Containerd(nook / "c") as containerd:
        containerd.pull(name, nook / "certs")
        assert containerd.says(name) == MARKER
    fetched_once(upstream, image.blobs)
