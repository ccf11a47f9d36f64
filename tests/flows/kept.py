"""What tests of keeping share: commands as people give them, and images on the disk."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import cli
from proxy.keeping.background import Background
from proxy.oci.digest import Digest
from tests.flows.conftest import Running, World
from tests.support.images import Image


def still(monkeypatch: pytest.MonkeyPatch) -> list[Background]:
    """From now on nothing goes on in the background of keeping but by the test."""
    made: list[Background] = []

    def start(self: Background) -> None:
        made.append(self)

    monkeypatch.setattr(Background, "start", start)
    return made


async def noted(proxy: Running, background: Background) -> None:
    """Until all uses so far are written, as far as keeping does that."""
    assert proxy.entrepot.status is not None
    touches = proxy.entrepot.status._backing.local.blobs._touches
    await background.note_uses()
    await asyncio.to_thread(touches._thread.submit(lambda: None).result)


async def run(proxy: Running, *words: str) -> Any:
    """A command of the command line, asked of this proxy."""
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, [*words, *admin])


async def told(proxy: Running, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """What it answers as JSON."""
    result = await run(proxy, *words, "--json")
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def listed(proxy: Running, *words: str) -> dict[str, dict[str, Any]]:
    return {one["image"]: one for one in (await told(proxy, "ls", *words))[:-1]}


def file_of(world: World, digest: Digest, folder: str = "data") -> Path:
    return world.root / folder / "blobs" / "public" / "sha256" / digest.hex[:2] / digest.hex


def digests(one: Image) -> set[Digest]:
    return {content.digest for content in (*one.manifests, *one.blobs)}


def here(world: World, *images: Image) -> list[bool]:
    """Whether all of each image is on the disk."""
    return [all(file_of(world, one).exists() for one in digests(whole)) for whole in images]


def age(world: World, whole: Image, days: float) -> None:
    """Nobody has used it for so long."""
    for digest in digests(whole):
        at = time.time() - days * 86_400
        os.utime(file_of(world, digest), (at, at))
