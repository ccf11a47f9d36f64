"""Thousands of answers from an upstream that corrupts at random: not one wrong
byte is completed to a client, and not one is kept.

`ENTREPOT_FUZZ` is how many requests are made; `ENTREPOT_FUZZ_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache.spool import WITHHELD_BYTES
from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeRegistry, Fault, Seen
from tests.support.images import Content, Image, image

COUNT = int(os.environ.get("ENTREPOT_FUZZ", "10000"))
SEED = os.environ.get("ENTREPOT_FUZZ_SEED", "entrepot")
PARALLEL = 32
REQUESTS_AN_IMAGE = 10


class RandomFaults:
    """Spoils the first answers about each digest or tag, two of three on average.

    Stands in for the plans of a `FakeRegistry`.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._spoiled: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}

    def take(self, seen: Seen, *, early: bool) -> Fault | None:
        size = self.sizes.get(seen.reference)
        if early or size is None or seen.method != "GET":
            return None
        # Sooner or later the truth, so that there is something to serve and to keep.
        if self._spoiled[seen.reference] >= 4 or self._dice.random() < 1 / 3:
            return None
        first = seen.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        if int(first) >= size:
            return None
        self._spoiled[seen.reference] += 1
        return self._fault(size - int(first))

    def _fault(self, size: int) -> Fault:
        """One for an answer whose body would be of `size` bytes."""
        at = self._dice.randrange(size)
        match self._dice.randrange(10):
            case 0 | 1 | 2:
                return Fault(flip_at=at)
            case 3:
                return Fault(length=at)
            case 4:
                return Fault(length=size + 1 + at)
            case 5:
                return Fault(end_at=at)
            case 6:
                return Fault(reset_at=at)
            case 7:
                return Fault(html=True)
            case 8:
                return Fault(body=self._dice.randbytes(size))
            case _:
                return Fault(ignore_range=True, chunked=True, end_at=at)


def images(dice: random.Random) -> Iterator[Image]:
    for number in range(max(1, COUNT // REQUESTS_AN_IMAGE)):
        sizes = [dice.randrange(1, 4000), dice.randrange(1, 4000)]
        if number % 10 == 0:
            sizes.append(dice.choice([50_000, 250_000, WITHHELD_BYTES + 1, 700_000, 2_000_000]))
        yield image(*sizes, seed=f"{SEED}/{number}")


class Fuzz:
    """Asks for everything in every way and judges the answers."""

    def __init__(self, proxy: Running, dice: random.Random) -> None:
        self._proxy = proxy
        self._dice = dice
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def targets(self, number: int, img: Image) -> Iterator[tuple[str, Content]]:
        for _ in range(2):
            yield f"/v2/lab/app/manifests/t{number}", img.manifest
            yield f"/v2/lab/app/manifests/{img.digest}", img.manifest
        for blob in img.blobs:
            for _ in range(2):
                yield f"/v2/lab/app/blobs/{blob.digest}", blob

    async def ask(self, path: str, content: Content) -> None:
        start = end = None
        headers = {}
        if "/blobs/" in path and self._dice.random() < 0.3:
            start = self._dice.randrange(content.size)
            end = self._dice.randrange(start, content.size) + 1
            headers = {"Range": f"bytes={start}-{end - 1}"}
        answer = await self._proxy.ask(path, **headers)
        if answer.status == 206:
            self._judge(path, answer, content.body[start:end], content.size)
        elif answer.status == 200:
            self._judge(path, answer, content.body, content.size)
        else:
            self.outcomes[f"error {answer.status}"] += 1

    def _judge(self, path: str, answer: Answer, right: bytes, size: int) -> None:
        if answer.cut:
            self.outcomes["cut"] += 1
            # The upstream may have lied about the length, too.
            declared = int(answer.headers["Content-Length"])
            if answer.status == 200 and len(answer.body) > max(0, declared - WITHHELD_BYTES):
                # More than may be shown before it is verified.
                self.wrong.append(f"{path}: cut after {len(answer.body)} of {declared} bytes")
        elif answer.status == 206 and size > WITHHELD_BYTES:
            # A range may be sent while the fill goes on and can't be verified.
            self.outcomes["range of a large blob"] += 1
        else:
            self.outcomes["right"] += 1
            self._compare(path, answer, right)

    def _compare(self, path: str, answer: Answer, right: bytes) -> None:
        if answer.body != right:
            self.wrong.append(f"{answer.status} {path}: {len(answer.body)} of {len(right)} bytes")


def wrong_files(root: Path) -> list[Path]:
    return [
        path
        for path in (root / "data" / "blobs").rglob("*")
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != path.name
    ]


async def test_random_corruption_is_never_completed_and_never_kept(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patience is tested elsewhere; here it would only cost time.
    monkeypatch.setattr("proxy.cache.sources._DELAYS_BEFORE_S", (0.001, 0.002))
    monkeypatch.setattr("proxy.cache.sources._DELAYS_WITHIN_S", (0.001, 0.002, 0.004))
    monkeypatch.setattr("proxy.cache.sources._PATIENCE_S", 0)
    dice = random.Random(SEED)
    spoiler = RandomFaults(dice)
    upstream._faults = spoiler
    proxy = await world.start({"lab": upstream}, negative_s=0, log_level="error")
    fuzz = Fuzz(proxy, dice)
    questions: list[tuple[str, Content]] = []
    for number, img in enumerate(images(dice)):
        upstream.add("app", img, f"t{number}")
        spoiler.sizes[f"t{number}"] = img.manifest.size
        for content in (img.manifest, *img.blobs):
            spoiler.sizes[str(content.digest)] = content.size
        about_it = list(fuzz.targets(number, img))
        # One image after the other, so that doubles of a question meet.
        questions += dice.sample(about_it, len(about_it))
    waiting = iter(questions)

    async def client() -> None:
        for path, content in waiting:
            await fuzz.ask(path, content)

    await asyncio.gather(*(client() for _ in range(PARALLEL)))
    assert fuzz.wrong == []
    assert wrong_files(world.root) == []
    assert sum(fuzz.outcomes.values()) >= COUNT
    # It was no walk-over: much was spoiled, and much came through all the same.
    assert sum(spoiler._spoiled.values()) > COUNT / 20
    assert fuzz.outcomes["right"] > COUNT / 4, fuzz.outcomes
