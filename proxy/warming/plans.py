"""What is to be brought when, and the note of when that was last done.

The note is durable and shared by all replicas: a run that was missed because nothing ran
at its time is made up for once, one that another replica has done is not done again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.cache import keys
from proxy.config.warm import WarmLearned, WarmRun, WarmSettings
from proxy.images import gathered
from proxy.ports import Records
from proxy.wishes import Wish, platforms_of

_VERSION = 1

Pulled = Callable[[int], Sequence[tuple[str, float]]]
"""The so many tags that were pulled most, the most pulled first, with how often."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`name` as in the configuration: `schedule[0]`, `learned`."""

    name: str
    of: WarmRun | WarmLearned

    @property
    def cron(self) -> str:
        """When."""
        return self.of.cron

    @property
    def learned(self) -> bool:
        """Whether it is for what people pull."""
        return isinstance(self.of, WarmLearned)

    @property
    def identity(self) -> str:
        """The same for the same plan, wherever it stands in the configuration: what it
        brings may change, when it does so makes it another one.
        """
        said = self.of.model_dump_json(exclude={"platforms", "referrers", "tags_max"})
        return hashlib.sha256(f"{'learned' if self.learned else 'run'} {said}".encode()).hexdigest()

    async def wish(self, settings: WarmSettings, pulled: Pulled) -> Wish:
        """What is to be brought now. Raises `ImagesError`."""
        match self.of:
            case WarmLearned() as learned:
                tags = tuple(image for image, _ in pulled(learned.tags_max))
                return Wish(
                    images=tags, platforms=platforms_of((), settings.platforms), as_pulled=True
                )
            case WarmRun() as run:
                # It reads files, and may wait for helm.
                found = await asyncio.to_thread(_images_blocking, run)
                return Wish(
                    images=tuple(found),
                    platforms=platforms_of(run.platforms, settings.platforms),
                    referrers=run.referrers,
                )


def _images_blocking(run: WarmRun) -> list[str]:
    return gathered(
        run.images,
        file=run.file,
        manifests=run.manifests,
        charts=run.helm_charts,
        values=run.helm_values,
    )


def plans(settings: WarmSettings) -> list[Plan]:
    """All that are configured."""
    found = [Plan(f"schedule[{index}]", run) for index, run in enumerate(settings.schedule)]
    if settings.learned is not None:
        found.append(Plan("learned", settings.learned))
    return found


@dataclass(frozen=True, slots=True)
class Note:
    """`due`: the time that was last done, in seconds since the epoch. `sums`: how it went;
    None for the time at which the plan was first seen.
    """

    due: float
    sums: dict[str, object] | None = None


class Notes:
    """By plan. May raise `StorageUnavailable`."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def latest(self, plan: Plan) -> Note | None:
        """What any replica noted last."""
        record = await self._records.latest(keys.warm_up(plan.identity))
        if record is None:
            return None
        try:
            found = json.loads(record.value)
        except ValueError:
            return None
        match found:
            case {"v": int(), "due": float() | int() as due, "sums": dict() | None as sums}:
                return Note(float(due), sums)
            case _:
                return None

    async def write(self, plan: Plan, note: Note) -> None:
        """Done."""
        value = {"v": _VERSION, "due": note.due, "sums": note.sums}
        await self._records.put(keys.warm_up(plan.identity), json.dumps(value).encode())
