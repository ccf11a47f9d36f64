"""Configuration of what replicas share: S3, Redis, the peer listener."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Settings, load, settings_table, shown

S3 = "storage: {s3: {bucket: entrepot, %s}}"
REDIS = "redis: {url: 'redis://r', %s}"


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "entrepot.yaml"
        path.write_text(text)
        return load(path, environ or {}, {})

    return read_text


@pytest.fixture
def mistakes(read):
    """The problems of a configuration, as (key, line, message)."""

    def of(text: str, environ: dict[str, str] | None = None):
        with pytest.raises(ConfigError) as caught:
            read(text, environ)
        return [(one.key, one.line, one.message) for one in caught.value.problems]

    return of


def test_without_them_there_is_neither_s3_nor_redis(read):
    settings = read("")
    assert (settings.storage.s3, settings.redis, settings.peer_listen) == (None, None, None)
    assert not {"storage", "redis"} & shown(settings).keys()


def test_a_bucket_is_enough_for_s3(read):
    s3 = read("storage: {s3: {bucket: entrepot}}").storage.s3
    assert s3 is not None
    assert (s3.endpoint, s3.prefix, s3.access_key, s3.sse) == (None, "", None, "none")
    assert s3.redirect_bytes_min == 8 << 20


@pytest.mark.parametrize("prefix", ["a/b", "/a/b", "a/b/"])
def test_a_prefix_may_have_slashes_around_it(read, prefix):
    s3 = read(S3 % f"prefix: {prefix}").storage.s3
    assert s3 is not None
    assert s3.prefix == "a/b"


def test_the_secrets_of_s3_come_from_files_and_variables(read, tmp_path):
    (tmp_path / "sk").write_text("SECRET\n")
    s3 = read(
        S3 % f"access_key: AK, secret_key_file: {tmp_path}/sk, session_token_env: ENTREPOT_TOKEN",
        {"ENTREPOT_TOKEN": "TOKEN"},
    ).storage.s3
    assert s3 is not None
    given = [s3.access_key, s3.secret_key, s3.session_token]
    assert [one.get_secret_value() for one in given if one] == ["AK", "SECRET", "TOKEN"]


def test_no_secret_of_the_fleet_is_ever_shown(read):
    settings = read(
        "storage: {s3: {bucket: entrepot, access_key: hunter2, secret_key: hunter2,"
        " session_token: hunter2}}\n"
        "redis: {url: 'redis://r', username: me, password: hunter2}\n"
        "peer_listen: h:1\npeer_secret: hunter2hunter2hunter2\n"
    )
    whole = shown(settings)
    assert whole["storage"]["s3"]["secret_key"] == whole["redis"]["password"] == "***"
    assert (whole["redis"]["username"], whole["peer_secret"]) == ("me", "***")
    for text in (repr(settings), str(settings), str(whole), settings.model_dump_json()):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "line",
    [
        "storage: {s3: {bucket: b, access_key: [hunter2]}}",
        "storage: {s3: {bucket: bbb, secret_key: 1hunter2, secrte_key: hunter2}}",
        "redis: {url: 'redis://me:hunter2@r'}",
        "peer_secret: hunter2",
    ],
)
def test_a_mistake_beside_a_secret_of_the_fleet_does_not_tell_it(mistakes, line):
    found = mistakes(line)
    assert found
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("url", "tls"), [("redis://R:6379/0", False), ("rediss://r", True), ("redis://[::1]/3", False)]
)
def test_redis_has_a_url_that_says_whether_to_speak_tls(read, url, tls):
    redis = read(f"redis: {{url: '{url}'}}").redis
    assert redis is not None
    assert (redis.url, redis.tls) == (url.lower(), tls)


def test_sentinels_speak_tls_when_any_setting_of_it_is_given(read):
    text = "redis: {sentinel: ['s1:26379'], sentinel_master: m, %s}"
    plain, tls = read(text % "").redis, read(text % "insecure: true").redis
    assert plain is not None
    assert tls is not None
    assert (plain.tls, tls.tls) == (False, True)
    assert plain.sentinel == ("s1:26379",)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("storage: {s3: {}}", "storage.s3.bucket"),
        ("storage: {s3: {bucket: ab}}", "storage.s3.bucket"),
        ("storage: {s3: yes}", "storage.s3"),
        ("storage: s3", "storage"),
        ("storage: {s4: {}}", "storage.s4"),
        (S3 % "prefix: a/../b", "storage.s3.prefix"),
        (S3 % "prefix: a//b", "storage.s3.prefix"),
        (S3 % "endpoint: s3.lan", "storage.s3.endpoint"),
        (S3 % "access_key: x", "storage.s3.access_key"),
        (S3 % "secret_key_env: X", "storage.s3.secret_key_env"),
        (S3 % "session_token: x", "storage.s3.session_token"),
        (S3 % "access_key: x, access_key_env: X, secret_key: y", "storage.s3.access_key_env"),
        (S3 % "sse_kms_key: x", "storage.s3.sse_kms_key"),
        (S3 % "sse: aws", "storage.s3.sse"),
        (S3 % "addressing: host", "storage.s3.addressing"),
        (S3 % "public_endpoint: 'http://x'", "storage.s3.public_endpoint"),
        (S3 % "ca_file: /nonexistent", "storage.s3.ca_file"),
        (S3 % "ca_file: {file}, insecure: true", "storage.s3.insecure"),
        (S3 % "expire_s: 1s", "storage.s3.expire_s"),
        (S3 % "bucke: x", "storage.s3.bucke"),
        ("redis: {}", "redis"),
        ("redis: redis://r", "redis"),
        ("redis: {url: 'http://r'}", "redis.url"),
        ("redis: {url: 'redis://r/zero'}", "redis.url"),
        (REDIS % "sentinel: ['s:1'], sentinel_master: m", "redis.sentinel"),
        ("redis: {sentinel: ['s:1']}", "redis.sentinel"),
        ("redis: {sentinel: ['s:1'], sentinel_master: m, cluster: true}", "redis.cluster"),
        (REDIS % "sentinel_master: m", "redis.sentinel_master"),
        (REDIS % "sentinel_password: p", "redis.sentinel_password"),
        (
            "redis: {sentinel: ['s:1'], sentinel_master: m, sentinel_username: u}",
            "redis.sentinel_username",
        ),
        ("redis: {url: 'redis://r/1', cluster: true}", "redis.url"),
        (REDIS % "username: me", "redis.username"),
        (REDIS % "password_file: /nonexistent", "redis.password_file"),
        (REDIS % "insecure: true", "redis.insecure"),
        ("redis: {url: 'rediss://r', cert_file: {file}}", "redis.cert_file"),
        ("redis: {url: 'rediss://r', key_file: {file}}", "redis.key_file"),
        ("redis: {url: 'rediss://r', ca_file: {file}, insecure: true}", "redis.insecure"),
        (REDIS % "prefix: 'a b'", "redis.prefix"),
        ("peer_listen: h:1", "peer_listen"),
        ("peer_listen: h:1\npeer_secret: sixteen letters!", "peer_listen"),
        (REDIS % "" + "\npeer_listen: h:1", "peer_listen"),
        (
            REDIS % "" + "\nlisten: h:1\npeer_listen: h:1\npeer_secret: sixteen letters!",
            "peer_listen",
        ),
        (REDIS % "" + "\npeer_listen: h:1\npeer_secret: fifteen letters", "peer_secret"),
        ("peer_secret: sixteen letters!", "peer_secret"),
        ("advertise_url: http://10.0.0.7:5002", "advertise_url"),
        ("scrub_every_s: 0", "scrub_every_s"),
    ],
)
def test_each_contradiction_of_the_fleet_is_told_where_it_stands(mistakes, tmp_path, text, key):
    file = tmp_path / "file"
    file.write_text("")
    found = mistakes(text.replace("{file}", str(file)))
    assert key in [found_key for found_key, _, _ in found]
    assert all(line for _, line, _ in found)


@pytest.mark.parametrize("url", ["http://r", "redis://me:pw@r"])
def test_a_wrong_redis_url_is_one_mistake_and_not_also_a_missing_redis(mistakes, url):
    text = f"redis: {{url: '{url}'}}\npeer_listen: h:1\npeer_secret: sixteen letters!"
    assert [key for key, _, _ in mistakes(text)] == ["redis.url"]


def test_an_unknown_key_suggests_one_of_its_own_section(mistakes):
    [(_, _, s3)] = mistakes(S3 % "regio: x")
    [(_, _, redis)] = mistakes(REDIS % "sentinal: [x]")
    assert "did you mean region?" in s3
    assert "did you mean sentinel?" in redis


def test_the_settings_table_has_s3_and_redis():
    table = settings_table()
    assert "| `redirect_bytes_min` | `8MiB` |" in table
    assert "| `sentinel_master` | unset |" in table
