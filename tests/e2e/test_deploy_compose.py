"""The compose files: valid, bounded and closed as they stand, and their services
serve together when each is started with exactly what the file gives it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import Built
from tests.support.compose import DEPLOY, REPLICAS, Here, services
from tests.support.compose_fleet import Fleet, check_redis, fleet, pending, served
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import ROOT, installed
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import upstreams_of
from tests.support.processes import ServerProcess, answers_http, free_port, wait_until
from tests.support.programs import program, run

FILES = ("compose.yaml", "compose.office.yaml")
ONE_SHOT = "secrets"


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_compose_understands_it(file: str, nook: Path) -> None:
    document = yaml.safe_load((DEPLOY / file).read_text())
    # Debian's compose reads the specification as it was before projects had names.
    assert document.pop("name")
    plain = nook / file
    plain.write_text(yaml.safe_dump(document))
    words = ("--project-directory", DEPLOY, "--file", plain, "config", "--quiet")
    said = run(program("docker-compose"), *words)
    assert said.output == ""


def test_every_file_it_mounts_is_there(file: str) -> None:
    for name, service in services(file).items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)


def test_every_service_is_bounded_and_says_whether_it_is_well(file: str) -> None:
    for name, service in services(file).items():
        assert "mem_limit" in service, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != ONE_SHOT:
            assert "healthcheck" in service, name
            assert service["restart"] == "unless-stopped", name
            assert "cpus" in service, name
            assert "pids_limit" in service, name


def test_only_pulls_can_be_reached_from_other_machines() -> None:
    published = {
        port for service in services("compose.yaml").values() for port in service.get("ports", ())
    }
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"5000:5000"}


def test_what_others_make_is_taken_in_a_version(file: str) -> None:
    for name, service in services(file).items():
        if not service["image"].startswith("entrepot:"):
            assert re.search(r":v?\d+\.?\d*", service["image"]), name


def test_a_replica_is_given_the_time_that_it_takes_to_drain() -> None:
    settings = yaml.safe_load((DEPLOY / "compose" / "entrepot.yaml").read_text())
    drain_s = sum(int(settings[key].removesuffix("s")) for key in ("drain_delay_s", "drain_s"))
    for name in REPLICAS:
        grace = services("compose.yaml")[name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > drain_s


def test_the_secrets_are_made_once_and_stay(nook: Path) -> None:
    script = DEPLOY / "compose" / "make_secrets.py"
    for _ in range(2):
        before = {path.name: path.read_bytes() for path in nook.iterdir()}
        run(sys.executable, script, nook)
        after = {path.name: path.read_bytes() for path in nook.iterdir()}
        assert not before or before == after
    assert set(after) == {"peer", "redis", "redis.conf", "s3-id", "s3-key", "s3.json"}
    assert len({after[name] for name in ("peer", "redis", "s3-id", "s3-key")}) == 4


def test_prometheus_can_read_what_it_is_given(nook: Path) -> None:
    places = {"/etc/prometheus/rules": ROOT / "grafana" / "alerts"}
    config = Here(nook, moved=places).file(DEPLOY / "compose" / "prometheus.yml", "prometheus.yml")
    said = run(program("promtool", package="prometheus"), "check", "config", config)
    assert re.search(r"SUCCESS: \d+ rules found", said.output), said.output


def test_grafana_finds_its_dashboards_where_it_looks() -> None:
    grafana = services("compose.yaml")["grafana"]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    providers = DEPLOY / "grafana-provisioning" / "dashboards" / "entrepot.yaml"
    (provider,) = yaml.safe_load(providers.read_text())["providers"]
    folder = DEPLOY / mounts[provider["options"]["path"]]
    titles = [json.loads(path.read_text())["title"] for path in folder.glob("*.json")]
    assert len(titles) == 2
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (DEPLOY / mounts[str(home.parent)] / home.name).exists()


@pytest.fixture
def running(nook: Path, upstream: DockerRegistry) -> Iterator[Fleet]:
    with fleet(nook / "fleet", upstream) as whole:
        yield whole


def test_the_whole_fleet_serves_a_pull_and_survives_a_replica(
    nook: Path, running: Fleet, upstream: DockerRegistry, image: Built
) -> None:
    check_redis(running)
    skopeo = Skopeo(Settings(nook / "tools", insecure=(running.address,)))
    name = f"{running.address}/lab/demo/busybox:v1"
    everything = {image.manifest, *image.blobs}
    assert skopeo.copy(name, nook / "cold") == everything
    fetched_once(upstream, image.blobs)
    stored = running.here.folder / "objects"
    wait_until(
        lambda: all(pending(running, name) == 0 for name in REPLICAS),
        what=f"all blobs are in S3, at {stored}",
    )

    first, second = REPLICAS
    assert running.replicas[first].stop() == 0
    with Nothing(upstream):
        assert skopeo.copy(name, nook / "second") == everything
    # One with an empty disk finds everything in S3.
    running.replicas[first].start()
    assert running.replicas[second].stop() == 0
    upstream.kill()
    wait_until(lambda: served(running), what="the balancer has seen that the first is back")
    assert skopeo.copy(name, nook / "first") == everything


def test_the_office_serves_a_pull(nook: Path, upstream: DockerRegistry, image: Built) -> None:
    service: dict[str, Any] = services("compose.office.yaml")["entrepot"]
    settings = yaml.safe_load((DEPLOY / "compose" / "office.yaml").read_text())
    port, admin_port = free_port(), free_port()
    settings["listen"] = f"127.0.0.1:{port}"
    settings["upstreams"] = upstreams_of(upstream)
    settings["disk_free_bytes_min"] = "1MiB"
    config = nook / "office.yaml"
    config.write_text(yaml.safe_dump(settings))
    env = {
        "ENTREPOT_CONFIG": str(config),
        "ENTREPOT_DATA_DIR": str(nook / "content"),
        "ENTREPOT_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
    }
    office = ServerProcess(
        [installed(), *service["command"]],
        env=env,
        log=nook / "log",
        ready=lambda: answers_http(port),
        cwd=nook,
    )
    office.start()
    try:
        skopeo = Skopeo(Settings(nook / "tools", insecure=(f"127.0.0.1:{port}",)))
        skopeo.copy(f"127.0.0.1:{port}/lab/demo/busybox:v1", nook / "copied")
        fetched_once(upstream, image.blobs)
        kind, *check = service["healthcheck"]["test"]
        assert (kind, check[0]) == ("CMD", "entrepot")
        run(installed(), *check[1:], env=env)
        assert office.stop() == 0
    finally:
        office.kill()
