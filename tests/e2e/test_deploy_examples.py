"""The ready examples: Entrepot accepts each configuration, clients pull with each file.

Files and variables that an example names are made up, so that only what it says
itself is judged.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import MARKER, Built
from tests.support.containerd import Containerd
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import ROOT, installed
from tests.support.docker_registry import DockerRegistry
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot
from tests.support.programs import attempt

EXAMPLES = ROOT / "deploy" / "examples"
CLIENTS = EXAMPLES / "clients"
SERVER = "cache.example:5000"
PATH = re.compile(r"(?<=: )/(?:run/secrets|etc/entrepot)/[\w.-]+")
_CONTENTS = {"http-proxy": "http://user:word@proxy.test:3128", "docker-config.json": "{}"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_entrepot_accepts_the_example(path: Path, nook: Path) -> None:
    def made(match: re.Match[str]) -> str:
        name = Path(match[0]).name
        (nook / name).write_text(_CONTENTS.get(name, "sixteen characters and more"))
        return str(nook / name)

    text = re.sub(r"#.*", "", path.read_text())
    copy = nook / "example.yaml"
    copy.write_text(PATH.sub(made, text))
    variables = re.findall(r"\w+_env: (\w+)", text)
    env = dict.fromkeys(variables, "sixteen characters and more")
    checked = attempt(installed(), "config", "check", "--json", "--config", copy, env=env)
    assert json.loads(checked.stdout) == {"ok": True, "problems": []}


def test_there_is_an_example_of_each_kind() -> None:
    kinds = {path.stem for path in EXAMPLES.glob("*.yaml")}
    assert kinds >= {"docker-hub", "ghcr", "private-ca", "fleet", "office", "island"}


def _client(name: str, entrepot: Entrepot, folder: Path) -> Path:
    """A copy of an example with this test's server in it."""
    text = (CLIENTS / name).read_text()
    assert SERVER in text
    copy = folder / name
    copy.write_text(text.replace(SERVER, entrepot.address))
    return copy


def test_docker_pulls_with_its_example(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    said = json.loads(_client("docker-daemon.json", entrepot, nook).read_text())
    assert said["insecure-registries"] == [entrepot.address]
    with Dockerd(nook / "d", mirrors=said["registry-mirrors"]) as docker:
        docker.pull("busybox:latest")
        assert docker.says("busybox:latest") == MARKER
    fetched_once(upstream, image.blobs)


def test_containerd_pulls_with_its_example(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    hosts = nook / "certs" / "docker.io" / "hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(_client("containerd-hosts.toml", entrepot, nook).read_text())
    with Containerd(nook / "c") as containerd:
        containerd.pull("docker.io/library/busybox:latest", nook / "certs")
        assert containerd.says("docker.io/library/busybox:latest") == MARKER
    fetched_once(upstream, image.blobs)


def test_skopeo_and_its_family_pull_with_their_example(
    nook: Path, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    settings = Settings(nook / "tools")
    settings.registries.write_text(
        _client("containers-registries.conf", entrepot, nook).read_text()
    )
    copied = Skopeo(settings).copy("docker.io/library/busybox:latest", nook / "copied")
    assert copied >= image.blobs
    fetched_once(upstream, image.blobs)


def test_k3s_and_buildkit_are_given_what_they_document() -> None:
    """Their programs are not to be had here; paths are where each adds none of its own."""
    import tomllib

    import yaml

    k3s = yaml.safe_load((CLIENTS / "k3s-registries.yaml").read_text())
    for name, mirror in k3s["mirrors"].items():
        assert mirror["endpoint"] == [f"http://{SERVER}/v2/{name}"]
    buildkit = tomllib.loads((CLIENTS / "buildkitd.toml").read_text())["registry"]
    assert buildkit["docker.io"]["mirrors"] == [f"{SERVER}/docker.io"]  # it adds /v2 before
    assert buildkit[SERVER] == {"http": True}
