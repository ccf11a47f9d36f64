"""Secrets in the configuration: where they come from, and that nobody tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Settings, load, shown


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str, environ: dict[str, str] | None = None, **flags: object) -> Settings:
        path = tmp_path / "entrepot.yaml"
        path.write_text(text)
        return load(path, environ or {}, flags)

    return read_text


@pytest.fixture
def mistakes(read):
    """The problems of a configuration, as (key, line, message)."""

    def of(text: str, environ: dict[str, str] | None = None, **flags: object):
        with pytest.raises(ConfigError) as caught:
            read(text, environ, **flags)
        return [(one.key, one.line, one.message) for one in caught.value.problems]

    return of


def test_a_secret_comes_from_its_file_without_the_trailing_newline(read, tmp_path):
    (tmp_path / "user").write_text("me\n")
    (tmp_path / "pw").write_text(" s p \r\n")
    (tmp_path / "proxy").write_text("http://u:hunter2@proxy.lan:3128\n")
    hub = read(
        f"upstreams: {{docker.io: {{username_file: {tmp_path}/user, password_file: {tmp_path}/pw,"
        f" proxy_file: {tmp_path}/proxy}}}}"
    ).upstreams["docker.io"]
    assert hub.username == "me"
    assert hub.password is not None
    assert hub.password.get_secret_value() == " s p "
    assert hub.proxy is not None
    assert hub.proxy.get_secret_value() == "http://u:hunter2@proxy.lan:3128"


def test_a_password_can_come_from_a_variable_even_one_of_our_prefix(read, mistakes):
    text = "upstreams: {docker.io: {username: me, password_env: ENTREPOT_HUB_PW}}"
    hub = read(text, {"ENTREPOT_HUB_PW": "pw"}).upstreams["docker.io"]
    assert hub.password is not None
    assert hub.password.get_secret_value() == "pw"
    assert mistakes(text) == [
        (
            "upstreams.docker.io.password_env",
            1,
            "the environment variable ENTREPOT_HUB_PW is not set",
        )
    ]


def test_secrets_are_masked_wherever_settings_are_shown(read):
    settings = read(
        "upstreams: {docker.io: {username: me, password: hunter2,"
        " proxy: 'http://u:hunter2@proxy.lan'}}"
    )
    entry = shown(settings)["upstreams"]["docker.io"]
    assert (entry["username"], entry["password"], entry["proxy"]) == ("me", "***", "***")
    for text in (repr(settings), str(settings), str(shown(settings)), settings.model_dump_json()):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "line",
    [
        "password: [hunter2]",
        "password: *hunter2",
        "password: !hunter2 x",
        "pasword: hunter2",
        "proxy: 'ftp://u:hunter2@x'",
        "password: {hunter2: 1}",
    ],
)
def test_a_mistake_beside_a_secret_does_not_tell_it(mistakes, line):
    found = mistakes(f"upstreams:\n  docker.io:\n    username: me\n    {line}\n")
    assert found
    assert "hunter2" not in str(found)


def test_a_secret_that_yaml_takes_for_a_number_must_be_quoted(mistakes):
    [(key, line, message)] = mistakes(
        "upstreams:\n  docker.io:\n    username: me\n    password: 0123\n"
    )
    assert (key, line) == ("upstreams.docker.io.password", 4)
    assert message == "must be text; put it in quotes"
