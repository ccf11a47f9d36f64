"""A question that a warm-up asked, and somebody who waits for its answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from proxy.cache import traffic
from proxy.cache.freshness import Confirmed, Policy, Stale
from proxy.cache.records import TagRecord
from proxy.cache.tag_answers import Told
from proxy.cache.tag_questions import TagQuestions
from proxy.cache.traffic import Urgency
from proxy.errors import QuotaKept
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor
from proxy.oci.names import Repository, Tag

NOW = 1_000_000.0
CURRENT = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"one"), size=3)
RECORD = TagRecord(url="u", current=CURRENT, previous=None, fetched_at=1.0, checked_at=1.0)
UPSTREAM: Any = SimpleNamespace(name="up", url="u")


class Facts:
    """One record, and a store that takes a while to read."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def tag(self, *_where: object) -> TagRecord:
        return RECORD

    async def latest_tag(self, *_where: object) -> TagRecord:
        await self.read.wait()
        return RECORD

    async def confirm_tag(self, *_what: object) -> None:
        pass


class Answers:
    """An upstream whose quota is kept for who waits."""

    def __init__(self) -> None:
        self.asked: list[Urgency] = []
        self.go = asyncio.Event()

    async def resolve(self, *_where: object) -> Told:
        urgency = traffic.current().urgency
        self.asked.append(urgency)
        await self.go.wait()
        if urgency is not Urgency.WAITING:
            raise QuotaKept("kept for who waits")
        return Told(CURRENT, NOW)


async def test_who_waits_is_not_given_the_refusal_of_a_warm_up_as_an_answer() -> None:
    facts: Any = Facts()
    answers: Any = Answers()
    missing: Any = None
    questions = TagQuestions(
        manifests=missing,
        answers=answers,
        facts=facts,
        coordination=missing,
        observe=lambda _event: None,
        clock=lambda: NOW,
        policies={"up": Policy(fresh_s=300, stale_max_s=None)},
        negative_s=1,
        pinned=lambda _name: False,
    )

    async def ask(urgency: Urgency) -> object:
        with traffic.working_as(urgency):
            return await questions.revalidate(UPSTREAM, Repository.parse("a/b"), Tag("t"))

    warm = asyncio.create_task(ask(Urgency.WARM))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(ask(Urgency.WAITING)) for _ in range(3)]
    await asyncio.sleep(0)
    answers.go.set()
    facts.read.set()
    decision = await warm
    assert isinstance(decision, Stale)
    assert decision.reason == "limited"
    for one in waiting:
        assert isinstance(await one, Confirmed)
    assert answers.asked == [Urgency.WARM, Urgency.WAITING]
