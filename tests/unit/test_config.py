"""Configuration: what is accepted, what wins over what, and every mistake at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from proxy.config import SCALARS, Settings, host_and_port, load
from proxy.config.presets import PRESETS

NOWHERE = Path("/nonexistent/entrepot.yaml")
SAMPLE = Path(__file__).parents[2] / "deploy" / "entrepot.yaml"


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str, environ: dict[str, str] | None = None, **flags: object) -> Settings:
        path = tmp_path / "entrepot.yaml"
        path.write_text(text)
        return load(path, environ or {}, flags)

    return read_text


def from_environment(environ: dict[str, str]) -> Settings:
    return load(None, environ, {}, default_file=NOWHERE)


# --- what is accepted ----------------------------------------------------------


def test_without_any_file_the_defaults_and_presets_are_in_force():
    settings = from_environment({})
    assert settings.listen == "127.0.0.1:5000"
    assert settings.default_upstream == "docker.io"
    assert set(settings.upstreams) == set(PRESETS)
    hub = settings.upstreams["docker.io"]
    assert hub.url == "https://registry-1.docker.io"
    assert hub.library
    assert hub.token_realms == ("auth.docker.io",)


def test_an_empty_file_is_no_mistake(read):
    assert read("") == from_environment({})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1048576", 1 << 20),
        ("50GiB", 50 << 30),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 << 29),
        ("2k", 2000),
        ("2Ki", 2048),
    ],
)
def test_sizes_are_read_as_people_write_them(read, text, count):
    assert read(f"disk_free_bytes_min: {text}").disk_free_bytes_min == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("2.5", 2.5), ("500ms", 0.5), ("10s", 10), ("5m", 300), ("7d", 604800)],
)
def test_durations_are_read_as_people_write_them(read, text, seconds):
    assert read(f"tag_fresh_s: {text}").tag_fresh_s == seconds


def test_urls_and_hosts_are_normalised(read):
    lab = read(
        "upstreams: {lab: {url: 'https://Registry.LAN:5000/team/', aliases: ['Lab.LAN:5000']}}"
    ).upstreams["lab"]
    assert lab.url == "https://registry.lan:5000/team"
    assert lab.aliases == ("lab.lan:5000",)


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("0.0.0.0:5000", ("0.0.0.0", 5000)), ("[::1]:0", ("::1", 0)), ("box:80", ("box", 80))],
)
def test_listeners_are_host_and_port(read, listen, parts):
    assert host_and_port(read(f"listen: '{listen}'").listen) == parts


@pytest.mark.parametrize("value", ["public", "all", "[team/*, 'library/?']"])
def test_expose_is_a_word_or_patterns(read, value):
    expose = read(f"upstreams: {{docker.io: {{expose: {value}}}}}").upstreams["docker.io"].expose
    expected = yaml.safe_load(value)
    assert expose == (tuple(expected) if isinstance(expected, list) else expected)


# --- what wins over what -------------------------------------------------------


# A value of each scalar that is not its default, as the environment would say it.
OTHER_VALUES = {
    "version": "1",
    "listen": "0.0.0.0:1",
    "admin_listen": "0.0.0.0:2",
    "admin_hosts": "entrepot.corp.example, cache.corp.example:5001",
    "data_dir": "/data",
    "default_upstream": "quay.io",
    "presets": "true",
    "docker_config_file": "{file}",
    "tls_cert_file": "{file}",
    "tls_key_file": "{file}",
    "tls_client_ca_file": "{file}",
    "log_format": "json",
    "log_level": "debug",
    "dockerd_blob_404": "false",
    "access_log": "false",
    "offline": "true",
    "reuse_port": "true",
    "savings_clients": "false",
    "otlp_url": "http://127.0.0.1:4318/v1/traces",
    "otlp_ratio": "0.5",
    "peer_listen": "0.0.0.0:3",
    "advertise_url": "http://10.0.0.7:3",
    "peer_secret": "sixteen letters!",
    "peer_secret_file": "{secret}",
    "peer_secret_env": "A_SECRET",
}


@pytest.mark.parametrize("key", SCALARS)
def test_every_scalar_can_be_set_by_the_environment(key, tmp_path, read):
    file, secret = tmp_path / "file", tmp_path / "secret"
    file.write_text("{}")
    secret.write_text("sixteen letters!")
    default = getattr(Settings(), key)
    text = OTHER_VALUES.get(key, "2MiB" if "_bytes_" in key else "77")
    text = text.replace("{file}", str(file)).replace("{secret}", str(secret))
    environ = {f"ENTREPOT_{key.upper()}": text}
    if key.startswith("tls_"):  # they need each other
        environ |= {"ENTREPOT_TLS_CERT_FILE": str(file), "ENTREPOT_TLS_KEY_FILE": str(file)}
    yaml_text = ""
    if key.startswith(("peer_", "advertise_")):  # they too, and what peers meet in
        yaml_text = (
            "redis: {url: 'redis://r'}\npeer_listen: h:1\npeer_secret: from the file, long\n"
        )
        environ["A_SECRET"] = "sixteen letters!"
    value = getattr(read(yaml_text, environ), key)
    assert type(value) is type(default) or default is None or isinstance(value, Path)
    if key not in {"version", "presets"}:  # the one has one value, the other is tested below
        assert value != default


def test_a_secret_by_one_way_in_the_environment_beats_another_way_in_the_file(read):
    text = "redis: {url: 'redis://r'}\npeer_listen: h:1\npeer_secret_file: /nonexistent\n"
    settings = read(text, {"ENTREPOT_PEER_SECRET": "sixteen letters!"})
    assert settings.peer_secret is not None
    assert settings.peer_secret.get_secret_value() == "sixteen letters!"
    assert settings.peer_secret_file is None


def test_flags_win_over_variables_and_variables_over_the_file(read):
    text = "listen: h:1\nadmin_listen: h:2\nlog_level: error\n"
    environ = {"ENTREPOT_LISTEN": "h:3", "ENTREPOT_ADMIN_LISTEN": "h:4"}
    settings = read(text, environ, listen="h:5", data_dir=None)
    assert (settings.listen, settings.admin_listen) == ("h:5", "h:4")
    assert settings.log_level == "error"
    assert settings.data_dir == Settings().data_dir


def test_the_file_is_the_asked_one_else_the_variables_else_the_default(tmp_path):
    paths = []
    for number in (1, 2, 3):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(f"flights_max: {number}")
    asked, named, default = paths
    environ = {"ENTREPOT_CONFIG": str(named)}
    assert load(asked, environ, {}, default_file=default).flights_max == 1
    assert load(None, environ, {}, default_file=default).flights_max == 2
    assert load(None, {"ENTREPOT_CONFIG": ""}, {}, default_file=default).flights_max == 3


def test_what_kubernetes_sets_for_a_service_of_our_name_is_ignored():
    links = {
        "ENTREPOT_SERVICE_HOST": "10.0.0.1",
        "ENTREPOT_SERVICE_PORT_REGISTRY": "5000",
        "ENTREPOT_PORT": "tcp://10.0.0.1:5000",
        "ENTREPOT_PORT_5000_TCP_ADDR": "10.0.0.1",
        "ENTREPOT_PEERS_PORT_5002_TCP": "tcp://10.0.0.1:5002",
        "ENTREPOT_PEERS_SERVICE_HOST": "10.0.0.1",
    }
    assert from_environment(links) == from_environment({})


# --- presets -------------------------------------------------------------------


def test_an_upstream_is_laid_over_its_preset_field_by_field(read):
    hub = read("upstreams: {docker.io: {username: me, password: pw, head_s: 3}}").upstreams[
        "docker.io"
    ]
    assert hub.url == "https://registry-1.docker.io"
    assert hub.token_realms == ("auth.docker.io",)
    assert (hub.username, hub.head_s) == ("me", 3)
    assert hub.password is not None
    assert hub.password.get_secret_value() == "pw"


def test_a_preset_moved_to_another_registry_does_not_trust_the_old_token_service(read):
    hub = read("upstreams: {docker.io: {url: 'http://mirror.lan'}}").upstreams["docker.io"]
    assert hub.token_realms == ()
    assert hub.library
    same = read("upstreams: {docker.io: {url: 'https://registry-1.docker.io/'}}")
    assert same.upstreams["docker.io"].token_realms == ("auth.docker.io",)


def test_presets_can_be_turned_off_and_then_there_is_no_default_upstream(read):
    settings = read("presets: false\nupstreams: {lab: {url: 'http://lab'}}")
    assert list(settings.upstreams) == ["lab"]
    assert settings.default_upstream is None
    assert not from_environment({"ENTREPOT_PRESETS": "false"}).upstreams


def test_each_preset_stands_on_its_own_as_configuration(read):
    text = yaml.safe_dump({"presets": False, "upstreams": PRESETS})
    assert read(text).upstreams == from_environment({}).upstreams


def test_merge_keys_and_anchors_work(read):
    text = "upstreams:\n  a: &a {url: 'http://a', head_s: 3}\n  b: {<<: *a, url: 'http://b'}\n"
    b = read(text).upstreams["b"]
    assert (b.url, b.head_s) == ("http://b", 3)


# --- the sample file -----------------------------------------------------------


def test_the_sample_file_loads_as_it_is():
    assert load(SAMPLE, {}, {}) == from_environment({})


def test_the_sample_file_documents_every_scalar_with_its_real_default(read):
    lines = SAMPLE.read_text().splitlines()
    found = [re.match(r"(?:# )?([a-z0-9_]+: \S+)", line) for line in lines]
    settings_text = [match[1] for match in found if match]
    assert sorted(line.partition(":")[0] for line in settings_text) == sorted(SCALARS)
    assert read("\n".join(settings_text)) == from_environment({})


def test_the_sample_files_upstreams_are_valid_once_uncommented(read):
    text = SAMPLE.read_text()
    block = text[text.index("# upstreams:") : text.index("# --- freshness")]
    uncommented = re.sub(r"^# ", "", block, flags=re.MULTILINE).replace(
        "password_file: /run/secrets/hub", "password: x"
    )
    settings = read(uncommented)
    assert settings.upstreams["lab"].hosts == ("lab-mirror.lan",)
    assert settings.upstreams["docker.io"].username == "me"


def test_the_sample_files_s3_and_redis_are_valid_once_uncommented(read, tmp_path):
    text = SAMPLE.read_text()
    block = text[text.index("# storage:") : text.index("# peer_listen:")]
    uncommented = re.sub(r"^# ", "", block, flags=re.MULTILINE)
    (tmp_path / "secret").write_text("x")
    settings = read(re.sub(r"_file: /run/\S+", f"_file: {tmp_path}/secret", uncommented))
    assert settings.storage.s3 is not None
    assert settings.storage.s3.bucket == "entrepot"
    assert settings.redis is not None
    assert settings.redis.url == "redis://redis.lan:6379/0"


def test_the_sample_files_sections_for_thin_links_are_valid_once_uncommented(read):
    text = SAMPLE.read_text()
    block = text[text.index("\n# tag_rules:") : text.index("# --- limits")]
    sections = re.sub(r"^# ---.*", "", block, flags=re.MULTILINE)
    settings = read(re.sub(r"^# ", "", sections, flags=re.MULTILINE))
    assert [rule.match for rule in settings.tag_rules] == ["*/base:v*", "*:nightly", "*:ci-*"]
    assert settings.listeners[0].as_of is not None
    assert settings.link.hours[0].rate == "20Mbit/s"
    assert len(settings.warm.schedule) == 2
    assert settings.warm.learned is not None
    assert settings.keep.retention[0].newest == 3
    assert settings.bundles.keys == (Path("/etc/entrepot/staging.pub"),)


def test_the_sample_files_further_settings_of_upstreams_are_valid_once_uncommented(read):
    text = SAMPLE.read_text()
    block = text[text.index("# upstreams:") : text.index("# --- freshness")]
    fields = re.findall(r"^#     # ((?!password_env).*)", block, flags=re.MULTILINE)
    of_one = ["url: http://lab", "username: me", "password: x", *fields]
    lines = "".join(f"    {line}\n" for line in of_one)
    lab = read(
        f"upstreams:\n  lab:\n{lines}".replace("password_file: /run/secrets/robot", "password: y")
    ).upstreams["lab"]
    assert lab.credentials[0].username == "robot"
    assert (lab.quota_reserve, lab.quota_warm_reserve) == ("10%", "30%")
    assert lab.as_of is not None
    assert lab.link.fetches_max == 4
    assert lab.tag_rules[0].immutable
