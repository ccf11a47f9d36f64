"""What would have failed, gathered: bounded, and each thing once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from proxy.events import NotHeld

IMAGES_MAX = 1000
_CLIENTS_MAX = 20


@dataclass(slots=True)
class _Miss:
    kinds: Counter[str] = field(default_factory=Counter)
    clients: dict[str, None] = field(default_factory=dict)


class Misses:
    """By image and platform. `count`: of all requests, those that found no place here, too."""

    def __init__(self) -> None:
        self._misses: dict[tuple[str, str | None], _Miss] = {}
        self.count = 0
        self.unlisted = 0

    def note(self, event: NotHeld) -> bool:
        """One request that failed; whether it is the first for that image and platform."""
        self.count += 1
        name = (event.image, event.platform)
        miss = self._misses.get(name)
        first = miss is None
        if miss is None:
            if len(self._misses) >= IMAGES_MAX:
                self.unlisted += 1
                return False
            self._misses[name] = miss = _Miss()
        miss.kinds[event.kind] += 1
        if len(miss.clients) < _CLIENTS_MAX:
            miss.clients[event.client] = None
        return first

    def document(self) -> list[dict[str, object]]:
        """All of them, those asked for most first."""
        listed = sorted(self._misses.items(), key=lambda one: (-one[1].kinds.total(), one[0][0]))
        return [
            {
                "image": image,
                "platform": platform,
                "count": miss.kinds.total(),
                "kinds": dict(miss.kinds),
                "clients": list(miss.clients),
            }
            for (image, platform), miss in listed
        ]
