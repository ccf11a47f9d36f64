"""Configuration: every mistake is told at once, where it stands, without its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Settings, load

NOWHERE = Path("/nonexistent/entrepot.yaml")


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


def test_a_file_with_many_mistakes_reports_all_of_them_with_keys_and_lines(mistakes, tmp_path):
    text = f"""\
version: 2
listen: "5000"
tag_fresh: 10
tls_cert_file: {tmp_path}/none.pem
default_upstream: labb
flights_max: many
upstreams:
  lab:
    url: http://lab
    usrname: me
    aliases: [quay.io]
  Bad_Name!:
    url: http://bad
  nourl: {{}}
  hub:
    url: http://hub
    username: me
    password: a
    password_file: {tmp_path}/none
    connections_max: 0
flights_max: 3
"""
    found = mistakes(text, {"ENTREPOT_LOG_LEVEL": "loud", "ENTREPOT_NONSENSE": "1"})
    assert {(key, line) for key, line, _ in found} == {
        ("version", 1),
        ("listen", 2),
        ("tag_fresh", 3),
        ("tls_cert_file", 4),
        ("default_upstream", 5),
        ("upstreams.lab.usrname", 10),
        ("upstreams.lab.aliases[0]", 11),
        ("upstreams.Bad_Name!", 12),
        ("upstreams.nourl.url", 14),
        ("upstreams.hub.password_file", 19),
        ("upstreams.hub.connections_max", 20),
        ("flights_max", 21),
        ("ENTREPOT_LOG_LEVEL", None),
        ("ENTREPOT_NONSENSE", None),
    }
    told = {key: message for key, _, message in found}
    assert "did you mean tag_fresh_s?" in told["tag_fresh"]
    assert "did you mean username?" in told["upstreams.lab.usrname"]
    assert "did you mean lab?" in told["default_upstream"]
    assert "already a name of upstream quay.io (a preset" in told["upstreams.lab.aliases[0]"]
    assert told["upstreams.nourl.url"] == "is required"
    assert told["flights_max"] == "is given twice (before in line 6)"
    assert told["ENTREPOT_LOG_LEVEL"].endswith("not 'loud'")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("listen: [", 1, "not valid YAML"),
        ("a: 1\nb:\n\t- x", 3, "not valid YAML"),
        ("- a", 1, "pairs"),
        ("listen: h:1\n---\nlisten: h:2", 2, "not valid YAML"),
        ("a: \x07", 1, "not valid YAML"),
    ],
)
def test_text_that_is_no_configuration_is_told_with_its_line(mistakes, text, line, message):
    [(key, found_line, told)] = mistakes(text)
    assert (key, found_line) == ("", line)
    assert message in told


def test_a_broken_file_does_not_hide_mistakes_of_the_environment(mistakes):
    found = mistakes(
        "listen: [", {"ENTREPOT_LISTEN": "5000", "ENTREPOT_DEFAULT_UPSTREAM": "in-the-file"}
    )
    assert [key for key, _, _ in found] == ["ENTREPOT_LISTEN", ""]


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("tls_key_file: {file}", "tls_key_file", 1),
        ("tls_cert_file: {file}", "tls_cert_file", 1),
        ("tls_client_ca_file: {file}", "tls_client_ca_file", 1),
        ("docker_config_file: {file}", "docker_config_file", 1),
        ("docker_config_file: /nonexistent", "docker_config_file", 1),
        ("listen: h:1\nadmin_listen: h:1", "admin_listen", 2),
        ("{listen: h:1, listen: h:2}", "listen", 1),
        ("5000: x", "", 1),
        ("? [a]\n: x", "", 1),
        ("upstreams: []", "upstreams", 1),
        ("upstreams: {lab: http://lab}", "upstreams.lab", 1),
        ("upstreams: {v2: {url: 'http://x'}}", "upstreams.v2", 1),
        ("upstreams: {public: {url: 'http://x'}}", "upstreams.public", 1),
        ("upstreams: {a/b: {url: 'http://x'}}", "upstreams.a/b", 1),
        ("upstreams: {'lab:5000': {url: 'http://x'}}", "upstreams.lab:5000", 1),
        ("upstreams:\n  index.docker.io: {url: 'http://x'}", "upstreams.index.docker.io", 2),
        ("upstreams: {lab: {url: 'http://x', aliases: v2}}", "upstreams.lab.aliases", 1),
        ("upstreams: {lab: {url: 'http://x', aliases: [v2]}}", "upstreams.lab.aliases[0]", 1),
        ("upstreams: {lab: {url: 'http://x', aliases: [a/b]}}", "upstreams.lab.aliases[0]", 1),
        ("upstreams: {docker.io: {username: me}}", "upstreams.docker.io.username", 1),
        ("upstreams: {docker.io: {password: x}}", "upstreams.docker.io.password", 1),
        (
            "upstreams: {docker.io: {username: me, password: ''}}",
            "upstreams.docker.io.password",
            1,
        ),
        (
            "upstreams: {lab: {url: 'http://x', insecure: true, ca_file: {file}}}",
            "upstreams.lab.insecure",
            1,
        ),
        (
            "upstreams: {lab: {url: 'http://x', ca_file: /nonexistent}}",
            "upstreams.lab.ca_file",
            1,
        ),
        (
            "upstreams:\n  a: {url: 'http://x', hosts: [h]}\n  b: {url: 'http://y', hosts: [h]}",
            "upstreams.b.hosts[0]",
            3,
        ),
        ("upstreams: &u\n  lab: *u", "upstreams.lab", 2),
        ("presets: maybe", "presets", 1),
        ("log_format: xml", "log_format", 1),
        ("disk_bytes_max: 1", "disk_bytes_max", 1),
    ],
)
def test_each_contradiction_is_told_where_it_stands(mistakes, tmp_path, text, key, line):
    file = tmp_path / "file"
    file.write_text("not JSON")
    found = mistakes(text.replace("{file}", str(file)))
    assert (key, line) in [(found_key, found_line) for found_key, found_line, _ in found]


def test_a_mistake_of_a_flag_names_the_flag(mistakes):
    assert [key for key, _, _ in mistakes("", admin_listen="5001")] == ["--admin-listen"]


def test_a_missing_file_is_blamed_on_who_named_it():
    with pytest.raises(ConfigError, match=r"^--config: .* can't be read: No such file"):
        load(NOWHERE, {}, {})
    with pytest.raises(ConfigError, match=r"^ENTREPOT_CONFIG: .* can't be read: No such file"):
        load(None, {"ENTREPOT_CONFIG": str(NOWHERE)}, {})


def test_text_that_is_not_utf8_is_told(tmp_path):
    path = tmp_path / "entrepot.yaml"
    path.write_bytes(b"listen: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(path, {}, {})


def test_the_error_reads_like_a_compilers(tmp_path):
    path = tmp_path / "entrepot.yaml"
    path.write_text("\nlog_format: xml\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert caught.value.lines() == [
        f"{path}:2: log_format: must be 'auto', 'console' or 'json', not 'xml'"
    ]


@pytest.mark.parametrize("text", ["ten", "-1", "5 parsecs", "true", "1iB", ".inf", "[1]"])
def test_what_is_neither_size_nor_duration_is_a_mistake(mistakes, text):
    found = mistakes(f"disk_free_bytes_min: {text}\ntag_fresh_s: {text}\n")
    assert [key for key, _, _ in found] == ["disk_free_bytes_min", "tag_fresh_s"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "registry.lan",
        "https://",
        "https://x?y=1",
        "https://x#y",
        "https://x:99999",
        "https://me:hunter2@x",
        "https://x/a b",
    ],
)
def test_an_upstream_url_must_be_plain_http(mistakes, url):
    [(key, line, message)] = mistakes(f"upstreams:\n  lab:\n    url: '{url}'\n")
    assert (key, line) == ("upstreams.lab.url", 3)
    assert "hunter2" not in message


@pytest.mark.parametrize("listen", ["5000", ":5000", "box", "::1:5000", "box:70000", "box:5000\\n"])
def test_a_listener_without_host_or_port_is_a_mistake(mistakes, listen):
    [(key, line, message)] = mistakes(f'listen: "{listen}"')
    assert (key, line) == ("listen", 1)
    assert "0.0.0.0:5000" in message


@pytest.mark.parametrize("value", ["team/*", "[]", "[TEAM]", "[1]", "null"])
def test_expose_is_nothing_else(mistakes, value):
    [(key, _, _)] = mistakes(f"upstreams: {{docker.io: {{expose: {value}}}}}")
    assert key == "upstreams.docker.io.expose"


def test_an_empty_variable_unsets_what_may_be_unset(read, mistakes):
    settings = read("", {"ENTREPOT_DEFAULT_UPSTREAM": "", "ENTREPOT_TLS_CERT_FILE": ""})
    assert settings.default_upstream is None
    assert settings.tls_cert_file is None
    assert mistakes("", {"ENTREPOT_LISTEN": ""}) == [("ENTREPOT_LISTEN", None, "must not be empty")]
