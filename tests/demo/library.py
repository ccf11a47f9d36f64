"""What the demo's registries hold: a few images each, of which new versions appear."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Image, artifact, image, index

KIB, MIB = 1024, 1024**2
TAG = "latest"


@dataclass(slots=True)
class Registry:
    """One upstream: its name for clients, what it holds, how fast it sends (bytes a second)."""

    name: str
    fake: FakeRegistry
    repositories: tuple[str, ...]
    pace_bytes_s: float
    images: dict[str, Image] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for repository in self.repositories:
            self.publish(repository)
        self.heal()

    def publish(self, repository: str) -> Image:
        """A new version under the same tag; the base layer stays."""
        number = next(self._numbers)
        base = image(2 * MIB, seed=f"{self.name}/base")
        own = image((1 + number % 4) * MIB, 40 * KIB, seed=f"{self.name}/{repository}/{number}")
        # A base for all, so that an image is never all new.
        made = index(own, image(10 * KIB, seed=f"{number}", architecture="arm64"))
        if number % 3 == 0:
            made = index(own, base)
        self.put(repository, made)
        self.fake.add(repository, artifact(made))
        return made

    def put(self, repository: str, made: Image) -> None:
        """Let the tag name this image."""
        self.fake.add(repository, made, TAG)
        self.images[repository] = made

    def heal(self) -> None:
        """No trouble: it sends at its pace."""
        self.fake.heal()
        self.fake.inject(Fault(rate_bytes_s=self.pace_bytes_s), kind="blob", times=None)

    def outage(self, fault: Fault) -> None:
        """This in place of every answer."""
        self.fake.inject(fault, times=None, early=True)

    def bad_line(self, at: int, times: int) -> None:
        """So many transfers of layers are reset there."""
        large = {
            blob.digest for made in self.images.values() for blob in made.blobs if blob.size > at
        }
        self.fake.heal()
        self.fake.inject(
            Fault(reset_at=at, rate_bytes_s=self.pace_bytes_s),
            kind="blob",
            times=times,
            match=lambda seen: seen.reference in map(str, large),
        )
        self.fake.inject(Fault(rate_bytes_s=self.pace_bytes_s), kind="blob", times=None)


def popular(registries: list[Registry], chance: random.Random) -> tuple[Registry, str]:
    """A repository, the first ones far more often than the last."""
    everything = [(one, name) for one in registries for name in one.repositories]
    weights = [1 / (1 + one.repositories.index(name)) for one, name in everything]
    return chance.choices(everything, weights)[0]
