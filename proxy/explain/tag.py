"""What is known of a tag, and by what rules a pull of it would be answered now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from proxy.cache.facts import Facts
from proxy.cache.freshness import Fresh, Policy, before
from proxy.cache.records import TagRecord
from proxy.cache.tag_rules import rule_for
from proxy.explain.pieces import Look
from proxy.oci.digest import Digest
from proxy.oci.names import Tag
from proxy.ports import Clock


class TagExplainer:
    """Reads records; asks no upstream. May raise `StorageUnavailable`."""

    def __init__(self, facts: Facts, policies: Mapping[str, Policy], *, clock: Clock) -> None:
        self._facts = facts
        self._policies = policies
        self._clock = clock

    async def document(self, look: Look, tag: Tag) -> tuple[dict[str, Any], Digest | None]:
        """What is told of it, and what it would name.

        `rule`: the pattern that holds. `served`: in which way it is answered.
        """
        upstream, repository = look.upstream, look.route.repository
        general = self._policies[upstream.name]
        rule = rule_for(general.rules, upstream.name, repository, tag)
        record = await self._facts.tag(upstream, repository, tag)
        told = {"tag": str(tag), "rule": None if rule is None else rule.match}
        if general.as_of is not None:
            return await self._as_of(look, tag, told, record, general.as_of)
        policy = general.of(repository, tag)
        offline = upstream.offline
        if not policy.cached and not offline:
            look.asks.append(f"{upstream.name} is asked what the tag names (HEAD)")
            look.certain = False
            return {**told, "served": "uncached", "known": False}, None
        if record is None:
            self._unknown(look, offline=offline)
            return {**told, "served": "offline" if offline else "asked", "known": False}, None
        return self._known(look, told, record, policy, offline=offline), record.current.digest

    def _known(
        self,
        look: Look,
        told: dict[str, Any],
        record: TagRecord,
        policy: Policy,
        *,
        offline: bool,
    ) -> dict[str, Any]:
        now, ever = self._clock(), offline or policy.fresh_s == math.inf
        fresh = ever or isinstance(before(record, now=now, policy=policy), Fresh)
        if not fresh:
            name = look.upstream.name
            look.asks.append(f"{name} is asked whether the tag still names this (HEAD)")
        served = "offline" if offline else "immutable" if ever else "fresh" if fresh else "asked"
        due = record.checked_at + policy.fresh_s if fresh else now
        return {
            **told,
            "served": served,
            "known": True,
            "digest": str(record.current.digest),
            "previous": None if record.previous is None else str(record.previous.digest),
            "since": record.fetched_at,
            "checked_at": record.checked_at,
            "fresh": fresh,
            "fresh_s": None if ever else policy.fresh_s,
            # Not before; and then only when somebody asks for it. None: never.
            "next_check_at": None if ever else due,
        }

    async def _as_of(
        self,
        look: Look,
        tag: Tag,
        told: dict[str, Any],
        record: TagRecord | None,
        when: float,
    ) -> tuple[dict[str, Any], Digest | None]:
        upstream = look.upstream
        then = await self._facts.history.at(
            upstream.name, upstream.url, look.route.repository, tag, when, known=record
        )
        told = {**told, "served": "as_of", "as_of": when, "known": then.named is not None}
        if then.named is None:
            return told, None
        digest = then.named.digest
        return {**told, "digest": str(digest), "since": then.since}, digest

    def _unknown(self, look: Look, *, offline: bool) -> None:
        look.certain = False
        if offline:
            look.trouble = f"{look.upstream.name} is offline, and the tag is not here"
        else:
            look.asks.append(f"{look.upstream.name} is asked what the tag names (GET)")
