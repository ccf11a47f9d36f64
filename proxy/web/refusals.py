"""How a request that can't be answered is refused: the table in `problems.py`, and what
depends on who asks and for what.
"""

from __future__ import annotations

from proxy.cache.manifests import Served
from proxy.errors import EntrepotError, UpstreamLimited, UpstreamOffline
from proxy.oci.endpoints import GetManifest
from proxy.ports import Upstream
from proxy.web.exchange import Exchange
from proxy.web.missing import Missing
from proxy.web.problems import Problem, problem


class Refusals:
    """One for all listeners."""

    def __init__(
        self, missing: Missing, *, relay_429: frozenset[str], dockerd_blob_404: bool
    ) -> None:
        self._missing = missing
        self._relay_429 = relay_429
        self._dockerd_blob_404 = dockerd_blob_404

    def given(self, upstream: Upstream, route: GetManifest, served: Served) -> None:
        """A manifest was found; its parts may be missing."""
        if upstream.offline:
            self._missing.given(route, served)

    def problem(self, exchange: Exchange, error: EntrepotError) -> Problem:
        """What to answer."""
        blob = exchange.kind == "blob"
        if isinstance(error, UpstreamLimited) and exchange.upstream in self._relay_429:
            wait_s = error.retry_after_s
            headers = {} if wait_s is None else {"Retry-After": str(round(wait_s))}
            return Problem(429, "TOOMANYREQUESTS", str(error), headers)
        answer = problem(error, blob=blob)
        if isinstance(error, UpstreamOffline):
            client = exchange.request.remote or ""
            words = self._missing.told(exchange.route, error, client)
            return Problem(answer.status, answer.code, words, answer.headers)
        if (
            blob
            and self._dockerd_blob_404
            and answer.status == 503
            and exchange.namespace is None
            and exchange.request.headers.get("User-Agent", "").startswith("docker/")
        ):
            # Classic dockerd sleeps 50 s over a 503 for a blob and moves on at a 404.
            return Problem(404, "BLOB_UNKNOWN", answer.message, {})
        return answer
