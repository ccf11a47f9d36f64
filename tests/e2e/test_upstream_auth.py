"""Upstreams that want to know who asks: tokens and basic authentication.

Clients know no credentials here; Entrepot does, or does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot
from tests.support.programs import program, run
from tests.support.token_server import PASSWORD, USER, TokenServer

LOGIN = {"username": USER, "password": PASSWORD}


@pytest.fixture
def tokens(nook: Path) -> Iterator[TokenServer]:
    with TokenServer(nook) as server:
        yield server


@pytest.fixture
def token_registry(nook: Path, stock: Path, tokens: TokenServer) -> Iterator[DockerRegistry]:
    with DockerRegistry(nook / "tokens", stock, auth=tokens.auth) as registry:
        yield registry


@pytest.fixture
def basic_registry(nook: Path, stock: Path) -> Iterator[DockerRegistry]:
    hashed = run(program("htpasswd", package="apache2-utils"), "-nbB", USER, PASSWORD).stdout
    (nook / "htpasswd").write_text(hashed)
    auth = {"htpasswd": {"realm": "tests", "path": str(nook / "htpasswd")}}
    with DockerRegistry(nook / "basic", stock, auth=auth) as registry:
        yield registry


class Pulls:
    """Entrepot with one upstream `lab`, and skopeo in front of it."""

    def __init__(self, nook: Path, registry: DockerRegistry, **lab: Any) -> None:
        self._nook = nook
        upstream = {"url": registry.url, "tag_fresh_s": 0, **lab}
        self.entrepot = Entrepot(nook / "entrepot", upstreams={"lab": upstream})
        self._skopeo = Skopeo(Settings(nook / "tools", insecure=(self.entrepot.address,)))

    def pull(self, name: str, target: str) -> set[str]:
        return self._skopeo.copy(f"{self.entrepot.address}/lab/{name}", self._nook / target)

    def refusal(self, name: str) -> str:
        image = f"{self.entrepot.address}/lab/{name}"
        outcome = self._skopeo.try_copy(image, self._nook / "refused")
        assert outcome.code != 0
        return outcome.output


@pytest.mark.parametrize("kind", ["token_registry", "basic_registry"])
def test_the_upstreams_are_really_closed_to_those_without_a_login(
    kind: str, nook: Path, request: pytest.FixtureRequest
) -> None:
    """The other tests here mean nothing unless this holds."""
    registry: DockerRegistry = request.getfixturevalue(kind)
    skopeo = Skopeo(Settings(nook / "tools", insecure=(registry.address,)))
    words = ["inspect", "--raw", f"docker://{registry.address}/closed/busybox:v1"]
    assert "unauthorized" in skopeo.attempt(*words).output
    assert skopeo.attempt(*words, f"--creds={USER}:{PASSWORD}").code == 0


def test_an_anonymous_token_is_fetched_for_what_is_public(
    nook: Path, token_registry: DockerRegistry, tokens: TokenServer, image: Built
) -> None:
    pulls = Pulls(nook, token_registry)
    with pulls.entrepot:
        pulls.pull("open/busybox:v1", "cold")
    fetched_once(token_registry, image.blobs)
    assert {account for account, _, _ in tokens.granted} == {""}


def test_one_token_serves_many_pulls(
    nook: Path, token_registry: DockerRegistry, tokens: TokenServer
) -> None:
    pulls = Pulls(nook, token_registry)
    with pulls.entrepot:
        pulls.pull("open/busybox:v1", "first")
        spent = len(tokens.granted)
        pulls.pull("open/busybox:multi", "second")
    assert len(tokens.granted) == spent


def test_credentials_open_what_they_may_and_callers_need_none(
    nook: Path, token_registry: DockerRegistry, tokens: TokenServer, image: Built
) -> None:
    pulls = Pulls(nook, token_registry, expose="all", **LOGIN)
    with pulls.entrepot:
        pulls.pull("closed/busybox:v1", "cold")
        fetched_once(token_registry, image.blobs)
        token_registry.kill()
        assert pulls.pull("closed/busybox:v1", "offline") == {image.manifest, *image.blobs}
    assert USER in {account for account, _, _ in tokens.granted}


def test_a_private_repository_is_not_shown_unless_it_is_exposed(
    nook: Path, token_registry: DockerRegistry, tokens: TokenServer
) -> None:
    """By default only what an anonymous token reads, too, is shown to everybody."""
    pulls = Pulls(nook, token_registry, **LOGIN)
    with pulls.entrepot:
        pulls.refusal("closed/busybox:v1")
        pulls.pull("open/busybox:v1", "open")


def test_what_credentials_cached_stays_hidden_from_an_upstream_without(
    nook: Path, token_registry: DockerRegistry, tokens: TokenServer, image: Built
) -> None:
    """The same blobs lie in the cache; the right to them does not come with them."""
    registry = {"url": token_registry.url, "tag_fresh_s": 0}
    both = {"inside": {**registry, "expose": "all", **LOGIN}, "outside": registry}
    with Entrepot(nook / "entrepot", upstreams=both) as entrepot:
        skopeo = Skopeo(Settings(nook / "tools", insecure=(entrepot.address,)))
        skopeo.copy(f"{entrepot.address}/inside/closed/busybox:v1", nook / "inside")
        name = f"{entrepot.address}/outside/closed/busybox@{image.manifest}"
        outcome = skopeo.try_copy(name, nook / "outside")
    assert outcome.code != 0


def test_wrong_credentials_are_the_proxys_trouble_and_no_challenge_to_clients(
    nook: Path, token_registry: DockerRegistry
) -> None:
    pulls = Pulls(nook, token_registry, expose="all", username=USER, password="wrong")
    with pulls.entrepot:
        said = pulls.refusal("closed/busybox:v1")
    assert "authentication required" not in said
    assert "unauthorized" not in said.lower()


def test_basic_authentication_is_sent_by_the_proxy(
    nook: Path, basic_registry: DockerRegistry, image: Built
) -> None:
    pulls = Pulls(nook, basic_registry, expose="all", **LOGIN)
    with pulls.entrepot:
        pulls.pull("demo/busybox:v1", "cold")
        fetched_once(basic_registry, image.blobs)
        basic_registry.kill()
        assert pulls.pull("demo/busybox:v1", "offline") == {image.manifest, *image.blobs}


def test_without_credentials_a_basic_registry_stays_closed(
    nook: Path, basic_registry: DockerRegistry
) -> None:
    pulls = Pulls(nook, basic_registry)
    with pulls.entrepot:
        pulls.refusal("demo/busybox:v1")
    assert basic_registry.blobs_sent() == {}
