"""`entrepot doctor --node`: what `mirror-config` wrote passes, and each way in which
people get it wrong has its own words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import cli
from tests.support.busybox_image import Built
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot, upstreams_of
from tests.support.private_ca import PrivateCa
from tests.support.processes import free_port

LAB = "registry.test"
CONFIG = "/etc/containerd/config.toml"
HOSTS = f"/etc/containerd/certs.d/{LAB}/hosts.toml"
DROP_IN = "/etc/containers/registries.conf.d/entrepot.conf"


class Host:
    """A folder that stands for a node's root, and the doctor on it."""

    def __init__(self, root: Path, server: Entrepot) -> None:
        self.root = root
        self.server = server
        root.mkdir()

    def install(self, client: str, *words: str) -> None:
        wished = ["--upstream", f"{LAB}=lab", "--upstream", "docker.io"]
        argv = ["mirror-config", client, "--server", self.server.url, "--root", str(self.root)]
        done = CliRunner().invoke(cli.app, [*argv, *wished, "--write", *words])
        assert done.exit_code == 0, done.output

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def change(self, path: str, old: str, new: str) -> None:
        text = self.path(path).read_text()
        assert old in text
        self.path(path).write_text(text.replace(old, new))

    def examine(self, *words: str, url: str = "") -> dict[str, dict[str, str]]:
        """Findings by name; the exit code is the worst of them."""
        argv = ["doctor", "--node", "--server", url or self.server.url, "--root", str(self.root)]
        image = ["--image", f"{LAB}/demo/busybox:v1"]
        wished = [] if "--upstream" in words else ["--upstream", f"{LAB}=lab"]
        done = CliRunner().invoke(cli.app, [*argv, *image, *wished, *words, "--json"])
        told: dict[str, Any] = json.loads(done.stdout)
        states = [one["state"] for one in told["findings"]]
        worst = 2 if "fail" in states else 1 if "warn" in states else 0
        assert done.exit_code == told["exit_code"] == worst
        return {one["name"]: one for one in told["findings"]}


@pytest.fixture(scope="module")
def upstream(session_nook: Path, stock: Path) -> Iterator[DockerRegistry]:
    """One for all tests here: they ask for little and count nothing but manifests."""
    with DockerRegistry(session_nook / "doctors-upstream", stock) as registry:
        yield registry


@pytest.fixture(scope="module")
def entrepot(session_nook: Path, upstream: DockerRegistry) -> Iterator[Entrepot]:
    folder = session_nook / "doctors-entrepot"
    with Entrepot(folder, upstreams=upstreams_of(upstream)) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, entrepot: Entrepot) -> Host:
    return Host(tmp_path / "host", entrepot)


def test_what_mirror_config_wrote_leads_here_and_is_seen_by_the_server(
    host: Host, entrepot: Entrepot, upstream: DockerRegistry, image: Built
) -> None:
    for client in ("containerd", "podman", "docker"):
        host.install(client)
    found = host.examine("--admin", entrepot.admin)
    states = {name: one["state"] for name, one in found.items()}
    assert states == {
        "server": "ok",
        f"upstream {LAB}": "ok",
        f"containerd {LAB}": "ok",
        f"pull containerd {LAB}": "ok",
        f"podman {LAB}": "ok",
        f"pull podman {LAB}": "ok",
        # That is Docker's own limit, and worth a word.
        f"docker {LAB}": "warn",
    }
    for client in ("containerd", "podman"):
        pulled = found[f"pull {client} {LAB}"]["what"]
        assert image.manifest[:19] in pulled
        assert "has counted it" in pulled
    assert upstream.blobs_sent() == {}
    hub = host.examine(
        *("--upstream", "docker.io", "--image", "docker.io/library/busybox:latest"),
        *("--admin", entrepot.admin),
    )
    assert {one["state"] for one in hub.values()} == {"ok"}
    assert image.index[:19] in hub["pull docker docker.io"]["what"]


def other_folder(host: Host) -> None:
    host.path("/etc/docker").mkdir()
    host.path("/etc/containerd/certs.d").rename(host.path("/etc/docker/certs.d"))


CONTAINERD: dict[str, tuple[Callable[[Host], object], str, str]] = {
    "no config.toml": (lambda h: h.path(CONFIG).unlink(), "fail", "no folder of mirrors"),
    "no config_path": (lambda h: h.change(CONFIG, "config_path", "x"), "fail", "sets no"),
    "two folders": (
        lambda h: h.change(CONFIG, 'certs.d"', 'certs.d:/etc/docker/certs.d"'),
        "warn",
        "taken for one folder",
    ),
    "mirrors beside it": (
        lambda h: h.path(CONFIG).write_text(
            h.path(CONFIG).read_text() + "[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.a]"
        ),
        "fail",
        "registry.mirrors",
    ),
    "plugin off": (
        lambda h: h.change(CONFIG, "version = 2", "version = 2\ndisabled_plugins = ['cri']"),
        "warn",
        "CRI plugin off",
    ),
    "hosts.toml elsewhere": (other_folder, "fail", "lies in another folder"),
    "no hosts.toml": (lambda h: h.path(HOSTS).unlink(), "fail", "there is no"),
    "not TOML": (lambda h: h.path(HOSTS).write_text("]"), "fail", "containerd drops it"),
    "another mirror": (lambda h: h.change(HOSTS, "127.0.0.1", "m.test"), "fail", "names no host"),
    "no override_path": (lambda h: h.change(HOSTS, "true", "false"), "fail", "adds /v2 once more"),
    "https": (lambda h: h.change(HOSTS, "http://127", "https://127"), "fail", "speaks https"),
    "no pull": (lambda h: h.change(HOSTS, '"pull", ', ""), "fail", "lack"),
    "no resolve": (lambda h: h.change(HOSTS, ', "resolve"', ""), "warn", "tags are asked"),
    "all rights": (lambda h: h.change(HOSTS, "capabilities", "x"), "warn", "pushes to the mirror"),
    "referrers": (lambda h: h.change(HOSTS, '"resolve"', '"resolve", "referrers"'), "warn", "2.2"),
    "no such ca": (
        lambda h: h.change(HOSTS, "override_path", 'ca = "/none"\noverride_path'),
        "fail",
        "/none, which is not there",
    ),
}


@pytest.mark.parametrize("mistake", CONTAINERD)
def test_why_containerd_goes_past_the_mirror(mistake: str, host: Host) -> None:
    make, state, said = CONTAINERD[mistake]
    host.install("containerd")
    make(host)
    found = host.examine()
    told = found[f"containerd {LAB}"]
    assert (told["state"], said in told["what"]) == (state, True), told
    # Nothing is pulled by a way that does not exist.
    assert (f"pull containerd {LAB}" in found) == (state == "warn")


PODMAN: dict[str, tuple[str, str, str, str]] = {
    "no mirror": ("127.0.0.1", "m.test", "fail", "no mirror at"),
    "not insecure": ("insecure = true", "insecure = false", "fail", "plain HTTP"),
    "blocked": (f'location = "{LAB}"', f'location = "{LAB}"\nblocked = true', "fail", "blocks"),
    "digests only": ('"all"', '"digest-only"', "warn", "digest-only"),
    "another registry": (f'prefix = "{LAB}"', 'prefix = "x.test"', "fail", "has a mirror for it"),
    "not TOML": ("[[registry]]", "[[registry", "fail", "nothing can be pulled"),
}


@pytest.mark.parametrize("mistake", PODMAN)
def test_why_podman_goes_past_the_mirror(mistake: str, host: Host) -> None:
    old, new, state, said = PODMAN[mistake]
    host.install("podman")
    host.path("/etc/containers/registries.conf").write_text("")
    host.change(DROP_IN, old, new)
    told = host.examine()[f"podman {LAB}"]
    assert (told["state"], said in told["what"]) == (state, True), told


DOCKER = {
    "none": ("{}", "fail", "but none"),
    "another": ('{"registry-mirrors": ["https://m.test"]}', "fail", "but https://m.test"),
    "https": ('{"registry-mirrors": ["https://127.0.0.1:PORT"]}', "fail", "server speaks http"),
    "second": ('{"registry-mirrors": ["https://m", "http://127.0.0.1:PORT"]}', "warn", "first"),
    "not JSON": ("{,}", "fail", "is not JSON"),
}


@pytest.mark.parametrize("mistake", DOCKER)
def test_why_docker_goes_past_the_mirror(mistake: str, host: Host, entrepot: Entrepot) -> None:
    text, state, said = DOCKER[mistake]
    host.path("/etc/docker").mkdir(parents=True)
    host.path("/etc/docker/daemon.json").write_text(text.replace("PORT", str(entrepot.port)))
    told = host.examine("--upstream", "docker.io")["docker docker.io"]
    assert (told["state"], said in told["what"]) == (state, True), told


def test_a_server_that_is_away_or_does_not_know_the_upstream(host: Host) -> None:
    gone = host.examine(url=f"http://127.0.0.1:{free_port()}")
    assert (list(gone), gone["server"]["state"]) == (["server"], "fail")
    unknown = host.examine("--upstream", "other.test")
    assert unknown["upstream other.test"]["state"] == "fail"
    assert unknown["clients"]["state"] == "skipped"


def test_an_image_that_can_not_be_had_and_a_server_that_is_another(
    host: Host, entrepot: Entrepot, nook: Path, upstream: DockerRegistry
) -> None:
    host.install("containerd")
    missing = host.examine("--image", f"{LAB}/demo/never:v1")[f"pull containerd {LAB}"]
    assert (missing["state"], "404" in missing["what"]) == ("fail", True)
    with Entrepot(nook / "other", upstreams=upstreams_of(upstream)) as other:
        seen = host.examine("--admin", other.admin)[f"pull containerd {LAB}"]
    assert (seen["state"], "saw none" in seen["what"]) == ("warn", True)
    unasked = host.examine("--admin", "http://127.0.0.1:1")[f"pull containerd {LAB}"]
    assert (unasked["state"], "no metrics" in unasked["what"]) == ("warn", True)


def test_a_private_authority_has_to_be_given_to_all(
    nook: Path, secure: Entrepot, authority: PrivateCa
) -> None:
    host = Host(nook / "host", secure)
    untrusted = host.examine()["server"]
    assert (untrusted["state"], "not trusted here" in untrusted["what"]) == ("fail", True)
    ca = ("--ca", str(authority.ca))
    host.install("podman", *ca)
    host.install("docker", *ca)
    assert host.examine(*ca)[f"podman {LAB}"]["state"] == "ok"
    for path in ("/etc/containers/certs.d", "/etc/docker/certs.d"):
        host.path(f"{path}/{secure.address}/ca.crt").unlink()
    found = host.examine(*ca, "--upstream", "docker.io")
    for client in ("podman", "docker"):
        told = found[f"{client} docker.io"]
        assert (told["state"], "authority is private" in told["what"]) == ("fail", True)
