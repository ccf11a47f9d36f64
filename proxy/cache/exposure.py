"""What an upstream with credentials may show to callers that have none.

Our credentials must not open private images to everyone who can reach us.
`public`: only repositories that an anonymous token can read too; asked once,
remembered, asked again now and then. A pattern list or `all` is the operator's
own decision. Upstreams without credentials show what they show to anyone.
"""

from __future__ import annotations

from typing import Literal

from proxy.cache.facts import Facts
from proxy.cache.globs import matches
from proxy.cache.lru import Lru
from proxy.cache.records import Exposure
from proxy.cache.single import SingleFlight
from proxy.cache.standing import Standing
from proxy.errors import NotExposed, UpstreamUnavailable
from proxy.oci.names import Repository
from proxy.ports import Clock, Upstream

Expose = Literal["public", "all"] | tuple[str, ...]
_REFUSAL_REMEMBERED_S = 60.0


class ExposureGuard:
    """Asks and remembers, per repository."""

    def __init__(
        self, rules: dict[str, Expose], *, facts: Facts, clock: Clock, recheck_s: float
    ) -> None:
        self._rules = rules
        self._facts = facts
        self._clock = clock
        self._recheck_s = recheck_s
        self._flights = SingleFlight()
        # By reference: that one tag is missing must not hide its repository.
        self._refused: Lru[tuple[str, Repository, str, str], float] = Lru(10_000)

    async def check(
        self,
        upstream: Upstream,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> None:
        """Return if the repository may be shown to anyone.

        Raises `NotExposed` if not, `UpstreamUnavailable` if that can't be found
        out now and was never known.
        """
        if not upstream.credentialed:
            return
        rule = self._rules.get(upstream.name, "public")
        match rule:
            case "all":
                return
            case "public":
                await self._check_public(upstream, repository, kind, reference)
            case patterns:
                if not any(matches(pattern, repository) for pattern in patterns):
                    raise NotExposed(
                        f"{upstream.name}/{repository} is not in `expose` of this upstream"
                    )

    def standing(self, upstream: Upstream, repository: Repository) -> Standing | None:
        """For how long `check` would return at once; None if it would not now."""
        if not upstream.credentialed:
            return Standing()
        match self._rules.get(upstream.name, "public"):
            case "all":
                return Standing()
            case "public":
                known = self._facts.exposure_life(upstream, repository)
                if known is None:
                    return None
                exposure, life = known
                return Standing((life,), exposure.checked_at, exposure.checked_at + self._recheck_s)
            case patterns:
                allowed = any(matches(pattern, repository) for pattern in patterns)
                return Standing() if allowed else None

    async def known(self, upstream: Upstream, repository: Repository) -> bool:
        """Whether the repository may be named to anyone, as far as is known; asks nobody."""
        if not upstream.credentialed:
            return True
        match self._rules.get(upstream.name, "public"):
            case "all":
                return True
            case "public":
                return await self._facts.exposure(upstream, repository) is not None
            case patterns:
                return any(matches(pattern, repository) for pattern in patterns)

    async def _check_public(
        self,
        upstream: Upstream,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> None:
        known = await self._facts.exposure(upstream, repository)
        now = self._clock()
        if known is not None and 0 <= now - known.checked_at < self._recheck_s:
            return
        question = (upstream.name, repository, kind, reference)
        refused_at = self._refused.get(question)
        if refused_at is not None and 0 <= now - refused_at < _REFUSAL_REMEMBERED_S:
            raise self._refusal(upstream, repository)
        try:
            readable = await self._flights.join(
                question,
                lambda: upstream.anonymous_may_read(repository, kind, reference),
            )
        except UpstreamUnavailable:
            # It was public when last asked; an outage does not take that away.
            if known is None:
                raise
            return
        if readable:
            exposure = Exposure(url=upstream.url, checked_at=now)
            await self._facts.put_exposure(upstream, repository, exposure)
            return
        if known is not None:
            await self._facts.put_exposure(upstream, repository, None)
        self._refused.put(question, now)
        raise self._refusal(upstream, repository)

    def _refusal(self, upstream: Upstream, repository: Repository) -> NotExposed:
        # The same words whether it is private or does not exist: names leak nothing.
        return NotExposed(f"{upstream.name}/{repository} can't be read anonymously; see `expose`")

    async def aclose(self) -> None:
        """Stop asking."""
        await self._flights.aclose()
