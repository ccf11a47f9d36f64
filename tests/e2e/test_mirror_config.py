"""What `entrepot mirror-config --write` makes, given to the real clients."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import MARKER, Built
from tests.support.containerd import Containerd
from tests.support.containers_tools import Buildah, Podman, Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot
from tests.support.private_ca import PrivateCa
from tests.support.programs import program, run

LAB = "registry.test"
WISHED = ("--upstream", f"{LAB}=lab", "--upstream", "docker.io")


class Host:
    """A root folder that stands for a node's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    @property
    def beside(self) -> Path:
        """A folder for what is no part of it."""
        return self.root.parent

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, text: str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def install(self, client: str, server: Entrepot, *words: str | Path) -> dict[str, Any]:
        argv = ["mirror-config", client, "--server", server.url, *WISHED, *words]
        return self._run(*argv, "--write")

    def remove(self, client: str) -> dict[str, Any]:
        return self._run("mirror-config", client, "--remove")

    def _run(self, *words: str | Path) -> dict[str, Any]:
        env = {"HOME": "/root"}
        argv = [sys.executable, "-m", "proxy", *words, "--root", self.root, "--json"]
        return dict(json.loads(run(*argv, env=env).stdout))


@pytest.fixture
def host(nook: Path) -> Host:
    return Host(nook / "host")


@pytest.mark.parametrize("name", [f"{LAB}/demo/busybox:v1", "docker.io/library/busybox:latest"])
def test_containerd_pulls_by_the_files_it_is_given(
    name: str, host: Host, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    host.install("containerd", entrepot)
    with Containerd(host.beside / "c") as containerd:
        containerd.pull(name, host.path("/etc/containerd/certs.d"))
        assert containerd.says(name) == MARKER
    fetched_once(upstream, image.blobs)


def test_containerd_accepts_its_own_configuration_with_the_folder_named_in_it(
    host: Host, entrepot: Entrepot
) -> None:
    """All of its defaults written out, as cluster tools install it, and mirrors added."""
    containerd = program("containerd")
    path = "/etc/containerd/config.toml"
    before = run(containerd, "config", "default").stdout
    host.put(path, before)
    host.install("containerd", entrepot)
    dumped = run(containerd, "--config", host.path(path), "config", "dump").stdout
    (plugin,) = [one for name, one in tomllib.loads(dumped)["plugins"].items() if "registry" in one]
    assert plugin["registry"]["config_path"] == "/etc/containerd/certs.d"
    default, ours = tomllib.loads(before), tomllib.loads(dumped)
    assert ours.keys() == default.keys()
    host.remove("containerd")
    assert host.path(path).read_text() == before


def test_containerd_trusts_the_authority_that_is_brought_along(
    host: Host,
    secure: Entrepot,
    authority: PrivateCa,
    upstream: DockerRegistry,
    image: Built,
) -> None:
    host.install("containerd", secure, "--ca", authority.ca)
    certs = host.path("/etc/containerd/certs.d")
    # The files name it as the node sees it, and here its root is a folder.
    for path in certs.glob("*/hosts.toml"):
        path.write_text(path.read_text().replace("/etc/containerd/certs.d", str(certs)))
    with Containerd(host.beside / "c") as containerd:
        containerd.pull(f"{LAB}/demo/busybox:v1", certs)
    fetched_once(upstream, image.blobs)


def test_docker_pulls_hub_by_the_daemon_json_it_is_given(
    nook: Path, host: Host, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    host.put("/etc/docker/daemon.json", '{"log-driver": "json-file"}')
    host.install("docker", entrepot)
    with Dockerd(nook / "d", config=host.path("/etc/docker/daemon.json")) as docker:
        docker.pull("busybox:latest")
        assert docker.says("busybox:latest") == MARKER
        fetched_once(upstream, image.blobs)
        docker.forget()
        with Nothing(upstream):
            docker.pull(f"{entrepot.address}/docker.io/library/busybox:latest")


@pytest.fixture
def settings(nook: Path, host: Host, entrepot: Entrepot) -> Settings:
    """The drop-in alone is all the configuration of registries there is."""
    host.install("podman", entrepot)
    settings = Settings(nook / "tools")
    drop_in = host.path("/etc/containers/registries.conf.d/entrepot.conf")
    shutil.copyfile(drop_in, settings.registries)
    return settings


def test_podman_and_buildah_pull_by_the_drop_in_they_are_given(
    settings: Settings, upstream: DockerRegistry, image: Built
) -> None:
    podman = Podman(settings, "podman")
    podman.pull(f"{LAB}/demo/busybox:multi")
    assert podman.says(f"{LAB}/demo/busybox:multi") == MARKER
    fetched_once(upstream, image.blobs)
    with Nothing(upstream):
        Buildah(settings, "buildah").start_from("docker.io/library/busybox:latest")


def test_skopeo_copies_by_mirror_and_by_entrepots_own_name(
    nook: Path, settings: Settings, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    skopeo = Skopeo(settings)
    expected = {image.manifest, *image.blobs}
    assert skopeo.copy(f"{LAB}/demo/busybox:v1", nook / "mirrored") == expected
    fetched_once(upstream, image.blobs)
    with Nothing(upstream):
        skopeo.copy(f"{entrepot.address}/lab/demo/busybox:v1", nook / "named")


def test_regctl_copies_by_the_hosts_it_is_given(
    nook: Path, host: Host, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    regctl = shutil.which("regctl")
    if regctl is None:
        pytest.skip("needs regctl, which Debian does not package (github.com/regclient/regclient)")
    host.install("regctl", entrepot)
    env = {"HOME": str(host.path("/root"))}
    run(
        regctl, "image", "copy", f"{LAB}/demo/busybox:v1", f"ocidir://{nook / 'copied'}:v1", env=env
    )
    fetched_once(upstream, image.blobs)
