"""`entrepot doctor` on a server: each fault leads to the finding that names it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from proxy import cli
from proxy.config import RedisSettings, S3Settings, load
from proxy.doctor import machine, peers, redis, s3, upstreams
from proxy.doctor.finding import Finding, exit_code, skew
from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault
from tests.support.fake_s3 import FakeS3
from tests.support.fake_s3 import Fault as S3Fault
from tests.support.private_ca import issue
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer, running
from tests.support.seaweed import Seaweed


def states(findings: list[Finding]) -> dict[str, str]:
    return {one.name: one.state for one in findings}


def one(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def settings(tmp_path: Path, **more: Any) -> Any:
    overrides = {
        "listen": f"127.0.0.1:{free_port()}",
        "admin_listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(tmp_path / "data"),
        "disk_free_bytes_min": 0,
        "presets": False,
        "default_upstream": None,
        **more,
    }
    return load(None, {}, overrides)


# --- clocks and exit codes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("off_s", "state", "word"),
    [(0, "ok", "agree"), (90, "warn", "behind"), (-90, "warn", "ahead"), (-4000, "fail", "ahead")],
)
def test_a_clock_that_is_off_is_told_by_how_much(off_s: int, state: str, word: str) -> None:
    now = time.time()
    found = skew("clock", formatdate(now + off_s, usegmt=True), now=now, whose="it")
    assert (found.state, word in found.what) == (state, True)
    assert skew("clock", "soon", now=now, whose="it").state == "skipped"


def test_exit_codes_tell_failures_from_warnings() -> None:
    def code(*given: Any) -> int:
        return exit_code([Finding("x", state, "") for state in given])

    assert [code("ok", "skipped"), code("ok", "warn"), code("warn", "fail")] == [0, 1, 2]


# --- the machine -------------------------------------------------------------------------


def test_a_machine_on_which_all_is_well(tmp_path: Path) -> None:
    found = machine.examine(settings(tmp_path), running=False)
    names = {"data_dir", "disk", "lock", "listen", "admin_listen"}
    assert {states(found)[name] for name in names} == {"ok"}
    assert not (tmp_path / "data").exists()


def test_folders_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = machine.examine(settings(tmp_path, data_dir="/proc/entrepot"), running=False)
    assert "can't write to /proc" in one(nowhere, "data_dir").what
    file = machine.examine(settings(tmp_path, data_dir=str(tmp_path / "file")), running=False)
    assert "not a folder" in one(file, "data_dir").what
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "layout").write_text('{"v": 99}')
    other = machine.examine(settings(tmp_path), running=False)
    assert "layout 99" in one(other, "data_dir").what
    full = machine.examine(settings(tmp_path, disk_free_bytes_min=2**60), running=False)
    assert "nothing can be kept" in one(full, "disk").what
    greedy = machine.examine(settings(tmp_path, disk_bytes_max=2**60), running=False)
    assert one(greedy, "disk").state == "warn"


def test_a_port_or_a_folder_that_somebody_else_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = settings(tmp_path, listen=address)
        assert one(machine.examine(busy, running=False), "listen").state == "fail"
        assert one(machine.examine(busy, running=True), "listen").state == "ok"
    gone = one(machine.examine(busy, running=True), "listen")
    assert "does not listen" in gone.what
    foreign = machine.examine(settings(tmp_path, listen="192.0.2.1:1"), running=False)
    assert "does not have that address" in one(foreign, "listen").todo
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = one(machine.examine(settings(tmp_path), running=False), "lock")
        assert (found.state, "in use" in found.what) == ("fail", True)
        assert one(machine.examine(settings(tmp_path), running=True), "lock").state == "ok"


def test_a_certificate_that_its_key_does_not_fit(tmp_path: Path) -> None:
    ours, theirs = issue(tmp_path / "ours"), issue(tmp_path / "theirs")
    fitting = {"tls_cert_file": str(ours.cert), "tls_key_file": str(ours.key)}
    assert one(machine.examine(settings(tmp_path, **fitting), running=False), "tls").state == "ok"
    mixed = {**fitting, "tls_key_file": str(theirs.key)}
    assert one(machine.examine(settings(tmp_path, **mixed), running=False), "tls").state == "fail"


# --- upstreams ---------------------------------------------------------------------------


async def asked(tmp_path: Path, **lab: Any) -> Finding:
    found = await upstreams.examine(settings(tmp_path, upstreams={"lab": lab}))
    return one(found, "upstream lab")


async def test_an_upstream_that_answers_and_one_that_does_not(
    tmp_path: Path, upstream: FakeRegistry
) -> None:
    both = {"lab": {"url": upstream.url}, "gone": {"url": f"http://127.0.0.1:{free_port()}"}}
    found = await upstreams.examine(settings(tmp_path, upstreams=both))
    assert states(found) == {"upstream lab": "ok", "clock lab": "ok", "upstream gone": "fail"}
    assert "firewall" in one(found, "upstream gone").todo


async def test_a_preset_that_is_out_of_reach_is_no_failure(tmp_path: Path) -> None:
    """But one that the configuration says something about is wanted."""
    dead = f"http://127.0.0.1:{free_port()}"
    some = {"docker.io": {"proxy": dead}, **{name: {"proxy": dead} for name in ("quay.io",)}}
    found = await upstreams.examine(settings(tmp_path, presets=True, upstreams=some))
    assert one(found, "upstream docker.io").state == "fail"
    assert {one.state for one in found if "ghcr.io" in one.name} <= {"ok", "warn"}


async def test_logins_are_tried(tmp_path: Path) -> None:
    async with FakeRegistry(auth=FakeAuth(users={"me": "right"})) as registry:
        url = registry.url
        assert (await asked(tmp_path, url=url)).state == "ok"
        good = await asked(tmp_path, url=url, username="me", password="right")
        assert (good.state, "login is accepted" in good.what) == ("ok", True)
        bad = await asked(tmp_path, url=url, username="me", password="wrong")
        assert (bad.state, "refuses our credentials" in bad.what) == ("fail", True)
        assert "wrong" not in bad.what


async def test_a_private_authority_is_recognised(tmp_path: Path) -> None:
    authority = issue(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)
    async with FakeRegistry(tls=context) as registry:
        found = await asked(tmp_path, url=registry.url)
        assert (found.state, "ca_file" in found.todo) == ("fail", True)
        trusted = await asked(tmp_path, url=registry.url, ca_file=str(authority.ca))
        assert trusted.state == "ok"


@pytest.mark.parametrize(("status", "state"), [(404, "fail"), (502, "fail"), (429, "warn")])
async def test_odd_answers_are_told(
    tmp_path: Path, upstream: FakeRegistry, status: int, state: str
) -> None:
    upstream.inject(Fault(status=status), times=None)
    found = await asked(tmp_path, url=upstream.url)
    assert (found.state, str(status) in found.what or status == 429) == (state, True)


# --- Redis -------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    users = "user reader on >pw ~* +get +info", "user all on >pw ~* +@all"
    server = RedisServer(tmp_path / "redis", options=users)
    with running(server):
        yield server


async def test_redis_that_does_all_that_is_needed(server: RedisServer) -> None:
    found = await redis.examine(RedisSettings(url=server.url))
    assert set(states(found)) == {"redis", "redis rights", "redis version", "clock redis"}
    assert {one.state for one in found if one.name != "redis"} == {"ok"}
    assert server.command("DBSIZE") == 0


async def test_redis_that_forbids_or_is_away(server: RedisServer) -> None:
    limited = await redis.examine(RedisSettings(url=server.url, username="reader", password="pw"))
    rights = one(limited, "redis rights")
    assert (rights.state, "SET" in rights.what, "GET (" in rights.what) == ("fail", True, False)
    assert one(limited, "clock redis").state == "skipped"
    wrong = await redis.examine(RedisSettings(url=server.url, username="all", password="no"))
    assert [(one.state, one.todo) for one in wrong] == [("fail", "check username and password")]
    server.stop()
    gone = await redis.examine(RedisSettings(url=server.url))
    assert [(one.name, one.state) for one in gone] == [("redis", "fail")]
    assert "nothing is lost" in gone[0].todo


async def test_redis_that_takes_no_writes(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1")
    found = await redis.examine(RedisSettings(url=server.url))
    assert "maxmemory" in one(found, "redis rights").what


# --- S3 ----------------------------------------------------------------------------------


async def test_a_real_s3_passes_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    seaweed = Seaweed(tmp_path / "seaweed")
    await asyncio.to_thread(seaweed.start)
    try:
        found = await s3.examine(S3Settings(**seaweed.settings(prefix="a/b")))
        assert {one.state for one in found} == {"ok"}
        rights = {"s3 put", "s3 get", "clock s3", "s3 list", "s3 multipart", "s3 delete"}
        assert set(states(found)) == rights
        wrong = await s3.examine(S3Settings(**seaweed.settings(secret_key="no")))
        assert [(one.name, one.state) for one in wrong] == [("s3", "fail")]
        assert "secret_key" in wrong[0].todo
    finally:
        await asyncio.to_thread(seaweed.kill)
    gone = await s3.examine(S3Settings(**seaweed.settings()))
    assert [(one.name, one.state) for one in gone] == [("s3", "fail")]


@pytest.fixture
async def store() -> AsyncIterator[FakeS3]:
    async with FakeS3() as store:
        yield store


@pytest.mark.parametrize(
    ("right", "method", "query"),
    [
        ("put", "PUT", ""),
        ("get", "GET", ""),
        ("delete", "DELETE", ""),
        ("multipart", "POST", "uploads"),
    ],
)
async def test_a_right_that_is_missing_is_named(
    store: FakeS3, right: str, method: str, query: str
) -> None:
    def hit(asked: str, key: str, given: str) -> bool:
        return asked == method and "doctor/" in key and (query in given if query else not given)

    store.faults += [S3Fault(hit, "403")] * 8
    found = await s3.examine(store.settings())
    refused = one(found, f"s3 {right}")
    assert refused.state == "fail"
    assert "allow s3:" in refused.todo
    assert [one.name for one in found if one.state == "fail"] == [f"s3 {right}"]


async def test_a_bucket_that_does_not_exist_is_one_finding(store: FakeS3) -> None:
    store.fail("nobucket", times=8)
    (found,) = await s3.examine(store.settings())
    assert (found.name, found.state) == ("s3", "fail")
    assert "Entrepot makes none" in found.todo


# --- replicas ----------------------------------------------------------------------------


async def test_replicas_are_looked_for_where_they_say_they_are(
    tmp_path: Path, upstream: FakeRegistry, server: RedisServer
) -> None:
    peer = f"127.0.0.1:{free_port()}"
    fleet: dict[str, Any] = {
        "redis": {"url": server.url},
        "peer_listen": peer,
        "peer_secret": "a secret of the test",
        "presets": False,
        "default_upstream": "lab",
    }
    lab = {"lab": {"url": upstream.url}}
    replica = Entrepot(tmp_path / "replica", upstreams=lab, **fleet)
    await asyncio.to_thread(replica.start)
    try:
        ours = settings(tmp_path, upstreams=lab, **fleet)
        nowhere = f"http://127.0.0.1:{free_port()}"
        found = await peers.examine(ours, [f"http://{peer}", nowhere], running=True)
        assert states(found) == {
            "advertise_url": "warn",  # Loopback is each machine itself.
            f"peer http://{peer}": "ok",
            f"peer {nowhere}": "fail",
        }
        stranger = settings(tmp_path, upstreams=lab, **{**fleet, "peer_secret": "s" * 20})
        found = await peers.examine(stranger, [f"http://{peer}"], running=True)
        assert found[-1].state == "fail"
    finally:
        await asyncio.to_thread(replica.stop)


# --- the command -------------------------------------------------------------------------


async def test_the_command_examines_a_server_that_runs_and_one_that_does_not(
    tmp_path: Path, upstream: FakeRegistry
) -> None:
    entrepot = Entrepot(
        tmp_path / "entrepot",
        upstreams={"lab": {"url": upstream.url}},
        presets=False,
        default_upstream="lab",
        disk_free_bytes_min=0,
        connections_max=8,
    )

    async def run(*words: str) -> Any:
        argv = ["doctor", "--config", str(entrepot.config), *words]
        return await asyncio.to_thread(CliRunner().invoke, cli.app, argv)

    stopped = await run()
    assert stopped.exit_code == 0, stopped.output
    assert "no server is running" in stopped.stdout
    assert stopped.stdout.splitlines()[-1].endswith(": 0 failed, 0 to look at")
    await asyncio.to_thread(entrepot.start)
    try:
        told = json.loads((await run("--json")).stdout)
        assert told["exit_code"] == 0
        named = {one["name"]: one["state"] for one in told["findings"]}
        assert {"server", "ready", "listen", "lock", "upstream lab"} <= set(named)
        assert set(named.values()) == {"ok"}
        await upstream.stop()
        failed = await run()
        assert failed.exit_code == 2
        assert "FAIL  upstream lab" in failed.stdout
    finally:
        await asyncio.to_thread(entrepot.stop)
    entrepot.config.write_text(yaml.safe_dump({"version": 1, "listen": 5}))
    broken = await run()
    assert broken.exit_code == 2
    assert "FAIL  config" in broken.stdout
