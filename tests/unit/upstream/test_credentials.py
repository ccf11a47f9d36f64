"""Credentials: Docker's config.json, helper programs, and who may be sent what.

The helpers are real programs in a folder of the test's own.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from proxy.config import UpstreamSettings
from proxy.errors import UpstreamUnavailable
from proxy.upstream.credentials import Credentials, StaticCredentials
from proxy.upstream.docker_config import DockerConfig
from proxy.upstream.identity import credential_source

HUB = "https://index.docker.io/v1/"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def config(tmp_path: Path):
    """Writes a config.json and opens it; helpers are looked for in `tmp_path`."""

    def write(document: object) -> DockerConfig:
        (tmp_path / "config.json").write_text(json.dumps(document))
        return DockerConfig(tmp_path / "config.json", search_path=str(tmp_path))

    return write


@pytest.fixture
def helper(tmp_path: Path):
    """Installs `docker-credential-<name>`, a shell script that logs its runs."""

    def install(body: str, name: str = "x") -> Path:
        program = tmp_path / f"docker-credential-{name}"
        log = tmp_path / f"{name}.log"
        log.touch()
        # The server has no newline after it, so `read` says that it failed.
        program.write_text(f'#!/bin/sh\nread -r server\necho "$1 $server" >> {log}\n{body}\n')
        program.chmod(0o755)
        return log

    return install


GIVES = """echo '{"ServerURL":"s","Username":"me","Secret":"hunter2"}'"""


# --- what the file says --------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": encoded("me:p:w")}, Credentials("me", "p:w")),
        ({"username": "me", "password": "pw"}, Credentials("me", "pw")),
        ({"auth": encoded("me:"), "identitytoken": "tok"}, Credentials("me", "", "tok")),
        ({"identitytoken": "tok"}, Credentials("", "", "tok")),
    ],
)
async def test_an_entry_may_be_written_in_any_of_dockers_ways(config, entry, expected):
    found = config({"auths": {"reg.lan:5000": entry}}).source_for(["reg.lan:5000"])
    assert found is not None
    assert await found.get() == expected
    assert await found.get(refresh=True) == expected


@pytest.mark.parametrize(
    "key", [HUB, "docker.io", "index.docker.io", "https://registry-1.docker.io"]
)
@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io"])
async def test_docker_hub_is_one_registry_under_all_its_names(config, key, host):
    found = config({"auths": {key: {"auth": encoded("me:pw")}}}).source_for([host])
    assert found is not None
    assert await found.get() == Credentials("me", "pw")


async def test_keys_with_scheme_and_path_count_by_host_but_a_plain_host_comes_first(config):
    document = {
        "auths": {
            "https://reg.lan/team/": {"auth": encoded("team:pw")},
            "reg.lan": {"auth": encoded("host:pw")},
            "https://OTHER.lan/v2/": {"auth": encoded("other:pw")},
        }
    }
    opened = config(document)
    found = opened.source_for(["reg.lan"])
    assert found is not None
    assert await found.get() == Credentials("host", "pw")
    found = opened.source_for(["nothing.lan", "other.lan"])
    assert found is not None
    assert await found.get() == Credentials("other", "pw")


def test_a_host_that_the_file_does_not_name_has_no_source(config):
    document = {"auths": {"reg.lan": {"auth": encoded("me:pw")}, "empty.lan": {}}}
    opened = config(document)
    assert opened.source_for(["reg.lan:5000"]) is None
    assert opened.source_for(["evil-reg.lan"]) is None
    assert opened.source_for(["empty.lan"]) is None  # nobody to ask for it
    assert config({"credsStore": "x"}).source_for(["reg.lan"]) is None
    assert config({}).source_for(["reg.lan"]) is None


def test_that_a_host_is_credentialed_is_known_without_running_the_helper(config, helper):
    log = helper(GIVES)
    opened = config({"credsStore": "x", "auths": {"a.lan": {}}, "credHelpers": {"b.lan": "x"}})
    assert opened.source_for(["a.lan"]) is not None
    assert opened.source_for(["b.lan"]) is not None
    assert log.read_text() == ""


async def test_a_hosts_own_helper_comes_before_the_file_and_the_file_before_the_store(
    config, helper
):
    helper(GIVES.replace('"me"', '"own"'), "own")
    log = helper(GIVES.replace('"me"', '"store"'), "store")
    document = {
        "credsStore": "store",
        "credHelpers": {"a.lan": "own"},
        "auths": {
            "a.lan": {"auth": encoded("inline:pw")},
            "b.lan": {"auth": encoded("inline:pw")},
            HUB: {},
        },
    }
    opened = config(document)
    names = []
    for host in ("a.lan", "b.lan", "docker.io"):
        found = opened.source_for([host])
        assert found is not None
        credentials = await found.get()
        assert credentials is not None
        names.append(credentials.username)
    assert names == ["own", "inline", "store"]
    assert log.read_text() == f"get {HUB}\n"  # asked by the key as it stands in the file


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"a": {"auth": "hunter2"}}}', "\xff"])
def test_a_file_that_can_not_be_used_is_told_without_quoting_it(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UpstreamUnavailable, match="the Docker config") as caught:
        DockerConfig(path)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UpstreamUnavailable, match="No such file"):
        DockerConfig(tmp_path / "none.json")


def rewrite(path: Path, text: str) -> None:
    """As `docker login` does it: a new file takes the place of the old."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


async def test_a_rewritten_file_is_read_again(config, tmp_path):
    path = tmp_path / "config.json"
    found = config({"auths": {"reg.lan": {"auth": encoded("me:old")}}}).source_for(["reg.lan"])
    assert found is not None
    rewrite(path, json.dumps({"auths": {"reg.lan": {"auth": encoded("me:new")}}}))
    assert await found.get() == Credentials("me", "new")
    rewrite(path, json.dumps({"auths": {}}))
    assert await found.get() is None


async def test_a_file_that_breaks_under_us_leaves_the_credentials_of_before(
    config, tmp_path, caplog
):
    path = tmp_path / "config.json"
    found = config({"auths": {"reg.lan": {"auth": encoded("me:pw")}}}).source_for(["reg.lan"])
    assert found is not None
    rewrite(path, "{")
    assert await found.get() == Credentials("me", "pw")
    path.unlink()
    assert await found.get() == Credentials("me", "pw")
    assert "still using the Docker config as last read" in caplog.text


def test_secrets_do_not_show_in_a_repr():
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))


# --- who is sent what ----------------------------------------------------------


async def test_the_settings_own_credentials_come_before_dockers(config):
    upstream = UpstreamSettings.model_validate(
        {"url": "https://reg.lan", "username": "own", "password": "pw"}
    )
    opened = config({"auths": {"reg.lan": {"auth": encoded("docker:pw")}}})
    found = credential_source(upstream, opened)
    assert found == StaticCredentials(Credentials("own", "pw"))
    assert await found.get(refresh=True) == Credentials("own", "pw")


async def test_dockers_credentials_go_to_the_urls_host_only(config):
    opened = config({"auths": {HUB: {"auth": encoded("me:pw")}}})
    hub = UpstreamSettings.model_validate({"url": "https://registry-1.docker.io"})
    mirror = UpstreamSettings.model_validate({"url": "http://mirror.lan", "aliases": ["docker.io"]})
    found = credential_source(hub, opened)
    assert found is not None
    assert await found.get() == Credentials("me", "pw")
    assert credential_source(mirror, opened) is None
    assert credential_source(hub, None) is None
