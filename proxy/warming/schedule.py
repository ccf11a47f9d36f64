"""Warm-ups at their times, each done by one replica for all.

Nothing here may end the process or delay a request: it all goes on behind everybody's
pulls, and what fails is logged and tried again at its next time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Self

import structlog

from proxy.config.cron import last_time, next_time
from proxy.config.warm import WarmSettings
from proxy.errors import EntrepotError, StorageUnavailable
from proxy.events import WarmTrigger, WarmUpFailed
from proxy.ports import Clock, Coordination, Held, Observe, Records
from proxy.warming.plans import Note, Notes, Plan, Pulled, plans
from proxy.warming.warming import Warming

# Clocks are put right and machines sleep: look again, however long it is to the next time.
_LOOK_EVERY_S = 60.0
# Another replica is at it, or the store can't be asked.
_TRY_AGAIN_S = 60.0
_TOLD_MAX = 20

log = structlog.get_logger("entrepot")

Sleep = Callable[[float], Awaitable[None]]


class Schedule:
    """Owns a background task for each plan; `async with` starts and stops them."""

    def __init__(
        self,
        settings: WarmSettings,
        warming: Warming,
        records: Records,
        coordination: Coordination,
        *,
        pulled: Pulled,
        observe: Observe,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._warming = warming
        self._notes = Notes(records)
        self._coordination = coordination
        self._pulled = pulled
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self._plans = plans(settings)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep(plan)) for plan in self._plans]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def document(self) -> list[dict[str, object]]:
        """Each plan: when it is due next, and how it went last (None: not yet).

        Times in seconds since the epoch.
        """
        now = self._clock()
        found: list[dict[str, object]] = []
        for plan in self._plans:
            note = None
            with contextlib.suppress(StorageUnavailable):
                note = await self._notes.latest(plan)
            done = note is not None and note.sums is not None
            found.append(
                {
                    "plan": plan.name,
                    "cron": plan.cron,
                    "next": next_time(plan.cron, now, self._settings.time_zone),
                    "last": note.due if note is not None and done else None,
                    "went": None if note is None else note.sums,
                }
            )
        return found

    async def _keep(self, plan: Plan) -> None:
        settled = -1.0
        while True:
            now, zone = self._clock(), self._settings.time_zone
            due = last_time(plan.cron, now, zone)
            if due > settled:
                try:
                    done = await self._settle(plan, due)
                except (EntrepotError, OSError) as error:
                    log.warning("warm-up failed", plan=plan.name, reason=str(error))
                    done = not isinstance(error, StorageUnavailable)
                    if done:
                        self._observe(WarmUpFailed(trigger=_trigger(plan)))
                if not done:
                    await self._sleep(_TRY_AGAIN_S)
                    continue
                settled = due
            until = next_time(plan.cron, now, zone) - self._clock()
            await self._sleep(min(max(until, 0.0), _LOOK_EVERY_S))

    async def _settle(self, plan: Plan, due: float) -> bool:
        """Whether what was due at `due` is done, by anyone."""
        note = await self._notes.latest(plan)
        if note is None:
            # A plan that is new begins with its next time, not with a missed one.
            await self._notes.write(plan, Note(due))
            return True
        if note.due >= due:
            return True
        async with self._coordination.try_hold(f"warm/{plan.identity}") as claim:
            if isinstance(claim, Held):
                return False
            note = await self._notes.latest(plan)
            if note is not None and note.due >= due:
                return True
            sums = await self._run(plan, claim.progress)
            await self._notes.write(plan, Note(due, sums))
            return True

    async def _run(self, plan: Plan, progress: Callable[[], None]) -> dict[str, object]:
        wish = await plan.wish(self._settings, self._pulled)
        sums: dict[str, object] = {}
        told = 0
        async with aclosing(self._warming.lines(wish, _trigger(plan))) as lines:
            async for line in lines:
                progress()
                if line.get("state") == "incomplete" and told < _TOLD_MAX:
                    told += 1
                    log.warning("image not warm", plan=plan.name, **_why(line))
                if line.get("done"):
                    sums = {key: value for key, value in line.items() if key != "done"}
        log.info("warmed up", plan=plan.name, **sums)
        return sums


def _trigger(plan: Plan) -> WarmTrigger:
    return "learned" if plan.learned else "schedule"


def _why(line: dict[str, object]) -> dict[str, object]:
    missing = line.get("missing")
    reason = line.get("reason")
    if reason is None and isinstance(missing, list) and missing:
        reason = missing[0]["reason"]
    count = len(missing) if isinstance(missing, list) else 0
    return {"image": line["image"], "reason": reason, "missing": count}
