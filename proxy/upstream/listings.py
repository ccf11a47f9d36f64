"""Tag lists and referrers of an upstream: pages, and what they may not hide."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from proxy.errors import BadUpstreamAnswer
from proxy.events import BytesFetched
from proxy.oci.digest import Digest
from proxy.oci.listings import (
    page_tags,
    parse_next,
    parse_referrers,
    parse_tag_list,
    referrers_index,
)
from proxy.oci.manifests import OCI_INDEX, media_type_of
from proxy.oci.names import Repository
from proxy.ports import Observe, TagPage
from proxy.upstream.answers import Ask, absent
from proxy.upstream.authorization import Identity
from proxy.upstream.bodies import check_plain, read_whole
from proxy.upstream.exchange import Exchange
from proxy.upstream.session import UpstreamConfig
from proxy.upstream.translate import naming

PAGES_MAX = 100
"""Pages of referrers that are joined; a longer list is an endless one."""

_NO_REFERRERS = frozenset({400, 404, 405, 406})
_QUERY = re.compile(r"[\x21-\x7e]{1,4096}")


class Listings:
    """The listings of one upstream."""

    def __init__(self, config: UpstreamConfig, exchange: Exchange, observe: Observe) -> None:
        self._config = config
        self._exchange = exchange
        self._observe = observe

    async def tags(
        self, repository: Repository, *, n: int | None, last: str | None, identity: Identity
    ) -> TagPage | None:
        """One page, in the upstream's order."""
        asked = {"n": n, "last": last}
        ask = Ask(
            operation="tags",
            method="GET",
            repository=repository,
            path=f"/v2/{repository}/tags/list",
            query=urlencode({name: value for name, value in asked.items() if value is not None}),
            headers={"Accept": "application/json"},
            identity=identity,
        )
        name = self._config.name
        async with self._exchange.open(ask) as answer:
            if absent(name, ask, answer):
                return None
            check_plain(answer.response, name)
            bytes_max = self._config.manifest_bytes_max
            body = await read_whole(answer.response, name, bytes_max=bytes_max)
            more = parse_next(answer.response.headers.getall("Link", [])) is not None
        self._config.link.counted(len(body))
        self._observe(BytesFetched(upstream=name, kind="tags", count=len(body)))
        with naming(name):
            return _cut(parse_tag_list(body), more, n, last)

    async def referrers(self, repository: Repository, digest: Digest) -> bytes | None:
        """All pages, joined into one index; None where there is no such API.

        Raises rather than return part of a list: what is left out would look
        like "not signed" to whoever verifies.
        """
        found: list[dict[str, object]] = []
        bytes_left = self._config.manifest_bytes_max
        query, seen = "", {""}
        while len(seen) <= PAGES_MAX:
            page = await self._page(repository, digest, query, bytes_left)
            if page is None:
                if query:
                    raise BadUpstreamAnswer(f"{self._config.name} broke off a list of referrers")
                return None
            descriptors, following, count = page
            found += descriptors
            bytes_left -= count
            if following is None:
                with naming(self._config.name):
                    return referrers_index(found)
            if following in seen:
                break
            query = following
            seen.add(query)
        raise BadUpstreamAnswer(f"{self._config.name} sent a list of referrers without end")

    async def _page(
        self, repository: Repository, digest: Digest, query: str, bytes_max: int
    ) -> tuple[list[dict[str, object]], str | None, int] | None:
        """Descriptors, the query of the next page, and the bytes they took."""
        name = self._config.name
        ask = Ask(
            operation="referrers",
            method="GET",
            repository=repository,
            path=f"/v2/{repository}/referrers/{digest}",
            query=query,
            headers={"Accept": OCI_INDEX},
        )
        async with self._exchange.open(ask) as answer:
            response = answer.response
            unsupported = answer.status in _NO_REFERRERS and (answer.status != 404 or answer.proven)
            content_type = response.headers.get("Content-Type", "")
            if unsupported or absent(name, ask, answer) or media_type_of(content_type) != OCI_INDEX:
                return None
            check_plain(response, name)
            body = await read_whole(response, name, bytes_max=bytes_max)
            links = response.headers.getall("Link", [])
        self._config.link.counted(len(body))
        self._observe(BytesFetched(upstream=name, kind="referrers", count=len(body)))
        with naming(name):
            descriptors = parse_referrers(content_type, body)
            return None if descriptors is None else (descriptors, _next_query(links), len(body))


def _cut(tags: list[str], more: bool, n: int | None, last: str | None) -> TagPage:
    """The page asked for, also of a registry that sends all it has whatever is
    asked, in any order (distribution 2.x; registry.k8s.io loses the query).
    """
    whole = (last is not None and last in tags) or (n is not None and len(tags) > n)
    if whole:
        tags, more = page_tags(tags, n, last)
    return TagPage(tuple(tags), more)


def _next_query(links: list[str]) -> str | None:
    """Only the query of a link counts: Quay's are absolute, and behind a TLS
    terminator an absolute one leads nowhere.
    """
    following = parse_next(links)
    if following is None:
        return None
    query = following.target.partition("?")[2].partition("#")[0]
    if _QUERY.fullmatch(query) is None:
        raise BadUpstreamAnswer("a link to the next page has no usable query")
    return query
