"""What is removed between the beginning and the end of an import: it ends whole or not at all."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.bundles import receipts
from tests.flows import kept
from tests.flows.conftest import World
from tests.flows.import_side import NOWHERE, Side
from tests.support.bundles import KEY, Made, bundle
from tests.support.images import image

BASE = image(9000, 700, seed="base")
NEXT = image(9000, 700, 50, seed="base")
HAD = {one.digest for one in BASE.blobs} & {one.digest for one in NEXT.blobs}
DELTA = bundle(
    {"lab/app:v2": NEXT}, have=HAD, receipts=["a" * 32], bundle_id="2" * 32, created=1_700_000_100
)


async def asked(side: Side, method: str, target: str, body: bytes) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        address = side.proxy.entrepot.admin_address
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            kind = {"Content-Type": "application/json"} if method == "POST" else {}
            connection.request(method, f"/bundles/{target}", body=body, headers=kind)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def begun(side: Side, made: Made) -> str:
    """All of it was sent."""
    order = {
        "contents": made.body.decode(),
        "signature": made.signature.decode(),
        "keys": [KEY.public.pem()],
        "unsigned": False,
        "force": False,
    }
    status, said = await asked(side, "POST", "begin", json.dumps(order).encode())
    assert status == 200, said
    answer: dict[str, Any] = json.loads(said)
    bodies = {str(digest): body for digest, body in made.blobs.items()}
    for one in answer["lacking"]:
        query = urlencode({"import": answer["import"], **one})
        assert (await asked(side, "PUT", f"blob?{query}", bodies[one["digest"]]))[0] == 200
    return str(answer["import"])


async def committed(side: Side, token: str, *, pin: bool) -> tuple[int, str]:
    order = {"import": token, "pin": pin, "force": False}
    return await asked(side, "POST", "commit", json.dumps(order).encode())


@pytest.fixture
async def side(world: World, tmp_path: Path) -> Side:
    proxy = await world.start({"lab": NOWHERE}, offline=True)
    key = tmp_path / "low.pub"
    key.write_text(KEY.public.pem())
    side = Side(proxy, tmp_path, key)
    await side.takes(side.put(bundle({"lab/app:v1": BASE})))
    return side


@pytest.mark.parametrize("pin", [True, False], ids=["pinned", "not pinned"])
async def test_the_base_that_is_removed_meanwhile_stays_for_the_delta(
    side: Side, world: World, *, pin: bool
) -> None:
    assert HAD
    token = await begun(side, DELTA)
    assert (await kept.told(side.proxy, "rm", "lab/app:v1", "--force"))[-1]["removed"] == 1
    status, said = await committed(side, token, pin=pin)
    assert status == 200, said
    answer = json.loads(said)
    assert answer["moved"] == 1
    await side.pulls("lab/app", NEXT, "v2")
    await side.lacks("lab/app", "v1")
    # The receipt tells of nothing that went.
    have = receipts.decode(answer["receipt"].encode()).have
    assert have == kept.digests(NEXT)
    assert all(kept.file_of(world, digest).exists() for digest in have)
    assert not kept.file_of(world, BASE.digest).exists()


async def test_what_is_forgotten_is_held_no_longer(side: Side, world: World) -> None:
    token = await begun(side, DELTA)
    end = json.dumps({"import": token}).encode()
    assert (await asked(side, "POST", "forget", end))[0] == 200
    await kept.told(side.proxy, "rm", "lab/app:v1", "--force")
    assert not any(kept.file_of(world, digest).exists() for digest in kept.digests(BASE))
    assert (await committed(side, token, pin=True))[0] == 410


async def test_a_base_that_is_gone_all_the_same_makes_it_nothing(side: Side, world: World) -> None:
    token = await begun(side, DELTA)
    before = side.visible()
    kept.file_of(world, BASE.layers[0].digest).unlink()
    status, said = await committed(side, token, pin=True)
    assert (status, "import its base first" in said) == (422, True)
    assert side.visible() == before
    await side.lacks("lab/app", "v2")
