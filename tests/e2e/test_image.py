"""The container image: built from its Dockerfile, run as hardened as it can be, pulled
through.

The wheel is the release's, the base is made of this machine's own Debian packages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import __version__
from tests.e2e.evidence import Nothing, fetched_once
from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import ROOT, distribution
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import upstreams_of
from tests.support.image_store import ImageStore
from tests.support.processes import answers_http, free_port

NAME = f"docker.io/library/entrepot:{__version__}"
BASE = "docker.io/library/python:3.11-slim-bookworm"
USER = "65532:65532"
# Of what the image adds to its base; 62 MB when this was written.
ADDED_BYTES_MAX = 90_000_000
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=all"),
    *("--security-opt=no-new-privileges", "--memory=512m"),
)
# Run in the image, where it prints what it finds as JSON.
_LOOK = """
import importlib.util, json, pathlib
import botocore.session, proxy, yaml

session = botocore.session.Session()
services = ("s3", "sts", "sso", "sso-oidc")
clients = (session.create_client(name, region_name="eu-west-1") for name in services)
sources = [
    source for one in (proxy, yaml) for source in pathlib.Path(one.__file__).parent.rglob("*.py")
]
compiled = (pathlib.Path(importlib.util.cache_from_source(str(one))) for one in sources)
print(json.dumps({
    "pip": importlib.util.find_spec("pip") is not None,
    "urls": [client.meta.endpoint_url for client in clients],
    "flags": sorted({int.from_bytes(one.read_bytes()[4:8], "little") for one in compiled}),
    "sources": len(sources),
}))
"""
# PEP 552: bit 0: checked by hash instead of time, bit 1: checked at all.
_BY_HASH_UNCHECKED = 0b01


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, session_nook: Path) -> Iterator[ImageStore]:
    """A store with the image in it, loaded from the archive that a release has."""
    made = distribution(tmp_path_factory.getbasetemp())
    home = session_nook / "image"
    context = home / "context"
    shutil.copytree(made.wheels, context / "dist" / "wheels")
    shutil.copy(made.wheel, context / "dist")
    shutil.copy(ROOT / "constraints.txt", context)
    shutil.copy(ROOT / ".dockerignore", context)
    shutil.copytree(ROOT / "deploy", context / "deploy")
    store = ImageStore(home / "store")
    try:
        store.make_base(BASE)
        archive = home / "image.tar"
        store.build_archive(context, archive)
        store.podman("rmi", f"localhost/entrepot:{__version__}")
        store.podman("load", "--input", archive)
        yield store
    finally:
        store.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def inspected(store: ImageStore) -> dict[str, Any]:
    return store.inspect(NAME)


def test_it_is_served_by_nobody_special_from_a_read_only_root(
    nook: Path, store: ImageStore, upstream: DockerRegistry, image: Built
) -> None:
    port, admin_port = free_port(), free_port()
    config = nook / "entrepot.yaml"
    listeners = {"listen": f"127.0.0.1:{port}", "admin_listen": f"127.0.0.1:{admin_port}"}
    config.write_text(yaml.safe_dump({**listeners, "upstreams": upstreams_of(upstream)}))
    words = (
        *(*HARDENED, "--volume=entrepot-data:/var/lib/entrepot"),
        *(f"--volume={config}:/etc/entrepot/entrepot.yaml:ro", NAME),
    )
    skopeo = Skopeo(Settings(nook / "tools", insecure=(f"127.0.0.1:{port}",)))
    pulled = f"127.0.0.1:{port}/lab/demo/busybox:v1"
    log = nook / "log"

    with store.running("first", *words, log=log, ready=lambda: answers_http(port)) as first:
        skopeo.copy(pulled, nook / "cold")
        fetched_once(upstream, image.blobs)
        (state,) = json.loads(store.podman("inspect", "first").stdout)
        status = Path(f"/proc/{state['State']['Pid']}/status").read_text()
        assert "Uid:\t65532\t65532\t65532\t65532" in status
        assert "CapEff:\t0000000000000000" in status
        assert store.try_podman("healthcheck", "run", "first").code == 0
        assert first.stop() == 0, first.log_tail()

    # A new container on the same volume, and nobody to fetch from.
    with (
        store.running("second", *words, log=log, ready=lambda: answers_http(port)),
        Nothing(upstream),
    ):
        upstream.kill()
        skopeo.copy(pulled, nook / "offline")


def test_its_health_check_fails_when_nobody_answers(store: ImageStore) -> None:
    words = ("--network=none", NAME, "healthcheck", "--json")
    outcome = store.try_podman("run", "--rm", *HARDENED, *words)
    assert outcome.code == 1, outcome.output
    assert json.loads(outcome.stdout)["ok"] is False


def test_unconfigured_it_accepts_pulls_from_outside_and_keeps_the_rest_to_itself(
    store: ImageStore,
) -> None:
    words = ("--network=none", NAME, "config", "show", "--json")
    shown = json.loads(store.podman("run", "--rm", *HARDENED, *words).stdout)
    assert shown["listen"] == "0.0.0.0:5000"
    assert shown["admin_listen"] == "127.0.0.1:5001"
    assert shown["data_dir"] == "/var/lib/entrepot"


def test_it_says_what_it_is(inspected: dict[str, Any]) -> None:
    config = inspected["Config"]
    assert config["User"] == USER
    assert config["Entrypoint"] == ["/opt/entrepot/bin/entrepot"]
    assert config["Cmd"] == ["serve"]
    assert set(config["ExposedPorts"]) == {"5000/tcp", "5001/tcp", "5002/tcp"}
    assert list(config["Volumes"]) == ["/var/lib/entrepot"]
    assert inspected["Healthcheck"]["Test"] == ["CMD", "/opt/entrepot/bin/entrepot", "healthcheck"]
    labels = {name.rsplit(".", 1)[1]: text for name, text in inspected["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert BASE in inspected["Labels"].values()


def test_it_is_small(store: ImageStore, inspected: dict[str, Any]) -> None:
    assert inspected["Size"] - store.inspect(BASE)["Size"] < ADDED_BYTES_MAX


def test_what_was_left_out_is_not_missed_and_what_is_in_is_compiled_for_good(
    store: ImageStore,
) -> None:
    """Of botocore, those who hand out keys are needed as much as S3 itself. What is not
    compiled would be at each start, since a read-only root can't keep it.
    """
    words = ("--network=none", "--entrypoint=python", NAME, "-c", _LOOK)
    found = json.loads(store.podman("run", "--rm", *HARDENED, *words).stdout)
    assert found["pip"] is False
    assert found["urls"] == [
        "https://s3.eu-west-1.amazonaws.com",
        "https://sts.eu-west-1.amazonaws.com",
        "https://portal.sso.eu-west-1.amazonaws.com",
        "https://oidc.eu-west-1.amazonaws.com",
    ]
    assert found["flags"] == [_BY_HASH_UNCHECKED]
    assert found["sources"] > 50
