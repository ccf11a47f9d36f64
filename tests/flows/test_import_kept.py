"""What an import holds while it goes on, where its content goes, and who is shown it."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.flows.conftest import World
from tests.flows.import_side import NOWHERE, Side
from tests.support.bundles import KEY, bundle
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import image
from tests.support.waiting import until

MIB = 1 << 20
APP = image(MIB, 2000, seed="app")


async def side_of(world: World, tmp_path: Path, *upstreams: Any, **settings: Any) -> Side:
    (upstream,) = upstreams or (NOWHERE,)
    proxy = await world.start({"lab": upstream}, **settings)
    key = tmp_path / "low.pub"
    key.write_text(KEY.public.pem())
    return Side(proxy, tmp_path, key)


def ask(side: Side, method: str, target: str, body: bytes) -> tuple[int, Any]:
    """One request to the admin listener."""
    connection = http.client.HTTPConnection(side.proxy.entrepot.admin_address, timeout=30)
    try:
        kind = {"Content-Type": "application/json"} if method == "POST" else {}
        connection.request(method, target, body=body, headers=kind)
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if answer.status == 200 else said.decode()
    finally:
        connection.close()


async def asked(side: Side, method: str, target: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await asyncio.to_thread(ask, side, method, target, data)


def beginning(made: Any, **more: object) -> dict[str, object]:
    return {
        "contents": made.body.decode(),
        "signature": made.signature.decode(),
        "keys": [KEY.public.pem()],
        "unsigned": False,
        "force": False,
        **more,
    }


async def test_what_has_come_stays_until_it_is_committed(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    side = await side_of(world, tmp_path, upstream, disk_bytes_max="3MiB", tag_fresh_s=3600)
    made = bundle({"lab/app:v1": APP})
    status, begun = await asked(side, "POST", "/bundles/begin", beginning(made))
    assert status == 200
    for one in begun["lacking"]:
        query = urlencode({"import": begun["import"], **one})
        body = next(b for d, b in made.blobs.items() if str(d) == one["digest"])
        assert (await asked(side, "PUT", f"/bundles/blob?{query}", body))[0] == 200
    # Others want more room than there is.
    for number in range(4):
        other = image(MIB, seed=f"other{number}")
        upstream.add(f"other{number}", other, "v1")
        await side.proxy.pull(f"/v2/lab/other{number}", other, "v1")
    commit = {"import": begun["import"], "pin": False, "force": False}
    status, done = await asked(side, "POST", "/bundles/commit", commit)
    assert (status, done["images"]) == (200, {"lab/app:v1": str(APP.digest)})
    assert (await asked(side, "POST", "/bundles/commit", commit))[0] == 410


async def test_nothing_is_committed_before_all_has_come(world: World, tmp_path: Path) -> None:
    side = await side_of(world, tmp_path, offline=True)
    made = bundle({"lab/app:v1": APP})
    _, begun = await asked(side, "POST", "/bundles/begin", beginning(made))
    commit = {"import": begun["import"], "pin": True, "force": False}
    status, said = await asked(side, "POST", "/bundles/commit", commit)
    assert (status, said) == (422, f"{len(made.blobs)} blobs of the bundle have not come yet\n")
    assert side.visible() == {}
    assert (await asked(side, "POST", "/bundles/forget", {"import": begun["import"]}))[0] == 200
    assert (await asked(side, "POST", "/bundles/commit", commit))[0] == 410


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "begin", b"[", 400),
        ("POST", "begin", b"{}", 400),
        ("POST", "begin", b'{"contents": 1}', 400),
        ("POST", "commit", b"{}", 400),
        ("POST", "forget", b"[]", 400),
        ("PUT", "blob?import=x&group=public&digest=sha256:1", b"1", 400),
        ("PUT", "blob?import=x&group=public&digest=sha256:" + "1" * 64, b"1", 410),
        ("GET", "name?image=UPPER", b"", 400),
        ("GET", "name?image=nowhere.example:1/a", b"", 404),
    ],
)
async def test_what_makes_no_sense_is_told(  # noqa: PLR0917 - a request and its answer
    world: World, tmp_path: Path, method: str, target: str, body: bytes, status: int
) -> None:
    side = await side_of(world, tmp_path, offline=True)
    assert (await asked(side, method, f"/bundles/{target}", body))[0] == status


async def test_only_blobs_that_were_announced_are_taken(world: World, tmp_path: Path) -> None:
    side = await side_of(world, tmp_path, offline=True)
    _, begun = await asked(side, "POST", "/bundles/begin", beginning(bundle({"lab/app:v1": APP})))
    known = begun["lacking"][0]
    for change, body in (
        ({"digest": "sha256:" + "1" * 64}, b"1"),
        ({"group": "../escaped"}, b"1"),
        ({}, bytes(known["size"] + 1)),
        ({}, bytes(known["size"])),
        ({}, b""),
    ):
        query = urlencode({"import": begun["import"], **known, **change})
        assert (await asked(side, "PUT", f"/bundles/blob?{query}", body))[0] == 422
    assert [one for one in (tmp_path / "data" / "blobs").rglob("*") if one.is_file()] == []
    assert list((tmp_path / "data" / "spool").iterdir()) == []


async def test_an_upstream_with_credentials_has_content_of_its_own(
    world: World, tmp_path: Path
) -> None:
    private = {**NOWHERE, "username": "u", "password": "p", "expose": "all"}
    side = await side_of(world, tmp_path, private, offline=True)
    await side.takes(side.put(bundle({"lab/app:v1": APP})))
    await side.pulls("lab/app", APP, "v1")
    assert (tmp_path / "data" / "blobs" / "lab").is_dir()
    assert not (tmp_path / "data" / "blobs" / "public").exists()


async def test_what_nobody_will_be_shown_is_told(world: World, tmp_path: Path) -> None:
    private = {**NOWHERE, "username": "u", "password": "p"}
    side = await side_of(world, tmp_path, private, offline=True)
    result = await side.takes(side.put(bundle({"lab/app:v1": APP})))
    assert "see its `expose`" in result.stderr


async def test_imported_content_goes_to_the_store_that_replicas_share(
    world: World, tmp_path: Path
) -> None:
    async with FakeS3() as store:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        side = await side_of(world, tmp_path, offline=True, storage={"s3": s3})
        await side.takes(side.put(bundle({"lab/app:v1": APP})))
        digests = [one.digest for one in (*APP.manifests, *APP.blobs)]
        wanted = {f"blobs/public/sha256/{one.hex[:2]}/{one.hex}" for one in digests}
        wanted |= {f"repos/lab/app/_links/sha256/{one.hex}" for one in digests}
        wanted.add("repos/lab/app/_tags/v1")
        await until(lambda: wanted <= set(store.objects), "all is in the store")
        other = await world.start(
            {"lab": NOWHERE}, offline=True, storage={"s3": s3}, data_dir=str(tmp_path / "second")
        )
        await other.pull("/v2/lab/app", APP, "v1")
        # The disk of a third one is empty, and it lacks nothing.
        third = await world.start(
            {"lab": NOWHERE}, offline=True, storage={"s3": s3}, data_dir=str(tmp_path / "third")
        )
        again = Side(third, tmp_path, side.key)
        status, begun = await asked(
            again, "POST", "/bundles/begin", beginning(bundle({"lab/app:v1": APP}))
        )
        assert (status, begun["lacking"]) == (200, [])
