"""Questions to an upstream and the heads of its answers, as values.

`absent` holds the one rule about "no": a 404 counts only when the upstream knew
who was asking, for registries hide what is private behind 404.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from proxy.errors import AccessDenied, BadUpstreamAnswer
from proxy.oci.digest import Digest
from proxy.oci.manifests import ACCEPT_ALL
from proxy.oci.names import Reference, Repository
from proxy.upstream.authorization import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question. `path` starts with `/v2/`; `query` is ready to be sent.

    `streams`: the body will be a blob's, and may hold its connection for long.
    """

    operation: Literal["manifest", "blob", "tags", "referrers", "ping"]
    method: Literal["GET", "HEAD"]
    repository: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    identity: Identity = "ours"
    streams: bool = False


PING = Ask(operation="ping", method="GET", repository="", path="/v2/")
"""Whether it is a registry, and lets us in."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of the final answer.

    `with_credentials`: our credentials, or a token given for them, were shown.
    `proven`: they were, or we have none (or asked as a stranger on purpose), so
    that "there is no such thing" counts. `elsewhere`: another origin answered,
    after a redirect.
    """

    response: aiohttp.ClientResponse
    with_credentials: bool
    proven: bool
    elsewhere: bool

    @property
    def status(self) -> int:
        return self.response.status


def manifest_ask(
    method: Literal["GET", "HEAD"],
    repository: Repository,
    reference: Reference,
    identity: Identity = "ours",
) -> Ask:
    """For a manifest, in whatever type it is kept there."""
    return Ask(
        operation="manifest",
        method=method,
        repository=repository,
        path=f"/v2/{repository}/manifests/{reference}",
        headers={"Accept": ACCEPT_ALL},
        identity=identity,
    )


def blob_ask(
    method: Literal["GET", "HEAD"],
    repository: Repository,
    digest: Digest,
    *,
    span: str = "",
    identity: Identity = "ours",
    streams: bool = False,
) -> Ask:
    """For a blob, or for the `span` of it (a Range header's value)."""
    return Ask(
        operation="blob",
        method=method,
        repository=repository,
        path=f"/v2/{repository}/blobs/{digest}",
        headers={"Range": span} if span else {},
        identity=identity,
        streams=streams,
    )


def absent(name: str, ask: Ask, answer: Answer) -> bool:
    """True: the upstream has no such thing. False: here it is (200, 206).

    Raises `AccessDenied` when it refuses, or says "no such thing" to somebody
    it does not know; `BadUpstreamAnswer` for any other status.
    """
    match answer.status:
        case 200 | 206:
            return False
        case 401 | 403:
            raise AccessDenied(
                f"{name} refuses access to {ask.repository} ({answer.status})",
                authenticated=answer.with_credentials,
            )
        case 404 | 410 if answer.proven:
            return True
        case 404 | 410:
            raise AccessDenied(
                f"{name} shows no {ask.repository} to strangers, and our credentials could not "
                "be presented (is the host of its token endpoint listed?)"
            )
        case status:
            raise BadUpstreamAnswer(
                f"{name} answered {status} to {ask.method} of a {ask.operation}"
            )
