"""What a `FakeRegistry` holds and what it answers: no sockets here.

Written from the distribution specification and from what real registries do
(each oddity names whose it is), not from what our client expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote

from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_INDEX, accepts
from tests.support.fake_auth import FakeAuth
from tests.support.faults import Fault
from tests.support.images import Content, Image

Kind = Literal["ping", "manifest", "blob", "tags", "referrers", "token", "other"]
_KINDS: Mapping[str, Kind] = {"manifests": "manifest", "blobs": "blob", "referrers": "referrers"}


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request and what became of it. `sent` counts body bytes."""

    method: str
    kind: Kind
    repository: str
    reference: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    at_cdn: bool
    user: str = ""
    """Whose request it is; empty: a stranger's."""
    status: int = 0
    sent: int = 0


@dataclass(slots=True)
class Repo:
    """What one repository holds, by digest; `tags` in ASCII order when listed."""

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[str, Content] = field(default_factory=dict)
    blobs: dict[str, Content] = field(default_factory=dict)
    referrers: dict[str, list[Content]] = field(default_factory=dict)

    def add(self, image: Image, *tags: str) -> Image:
        """Hold `image` under `tags`; an artifact becomes a referrer, too."""
        self.manifests.update({str(m.digest): m for m in image.manifests})
        self.blobs.update({str(b.digest): b for b in image.blobs})
        self.tags.update(dict.fromkeys(tags, image.digest))
        if image.subject is not None:
            self.referrers.setdefault(str(image.subject), []).append(image.manifest)
        return image


@dataclass(slots=True, kw_only=True)
class Quirks:
    """Oddities of the whole registry; mutable."""

    quota: int | None = None
    """Docker Hub: manifest GETs left; at 0 they are answered 429. HEAD is free."""
    quotas: dict[str, int] = field(default_factory=dict)
    """The same for each user by name (empty: strangers), instead of `quota`; the
    source is then the user's name. Who is not in it is not counted (paid)."""
    quota_limit: str = "100;w=21600"
    """Docker Hub: the `ratelimit-limit` header; `;w=21600` was seen, too."""
    blobs_at_cdn: bool = False
    """Quay, GHCR, ECR: GET of a blob is a 307 to a signed URL, good once, at a
    host that answers 400 to a request with Authorization (S3)."""
    cdn_head_status: int | None = None
    """GHCR: HEAD is redirected as well and answered 403 there; None: HEAD is
    answered locally (Quay)."""
    moved_to: str = ""
    """registry.k8s.io: manifests are a 307 to another host, under this prefix."""
    cdn_auth: FakeAuth | None = None
    """The host that manifests moved to wants tokens of its own."""
    digest_header: str | None = ""
    """`Docker-Content-Digest` of manifests: "" the truth, None absent."""
    head_status: int | None = None
    """HEAD of manifests and blobs is refused with this (ECR Public 403; 405)."""
    referrers: bool = True
    """False: GHCR, Docker Hub of old; 404."""
    absolute_links: bool = False
    """Quay: `Link` names the registry's own host."""
    page_max: int = 1000
    """Quay 100, ECR 1000: entries in a page of tags; also of referrers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def problem(status: int, code: str, headers: Mapping[str, str] | None = None) -> Reply:
    """The error envelope of the specification."""
    body = json.dumps({"errors": [{"code": code, "message": f"fake {code.lower()}"}]}).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)


def place(path: str) -> tuple[Kind, str, str]:
    """Kind, repository and reference (or digest) that a path means."""
    if path in {"/v2/", "/v2"}:
        return "ping", "", ""
    if path == "/token":
        return "token", "", ""
    name, _, reference = path.removeprefix("/v2/").rpartition("/")
    repository, _, keyword = name.rpartition("/")
    if path.startswith("/v2/") and repository:
        if keyword == "tags" and reference == "list":
            return "tags", repository, ""
        if keyword in _KINDS:
            return _KINDS[keyword], repository, unquote(reference)
    return "other", "", ""


def read(method: str, raw_path: str, headers: Mapping[str, str], *, at_cdn: bool) -> Seen:
    """A request as the rest of the fake sees it."""
    path, _, query = raw_path.partition("?")
    kind, repository, reference = place(path)
    return Seen(
        method=method,
        kind=kind,
        repository=repository,
        reference=reference,
        query=parse_qs(query, keep_blank_values=True),
        headers=headers,
        at_cdn=at_cdn,
    )


def answer(repo: Repo, seen: Seen, quirks: Quirks, fault: Fault, *, url: str) -> Reply:
    """What a registry that holds `repo` says to an admitted request."""
    match seen.kind:
        case "manifest":
            return _manifest(repo, seen, quirks)
        case "blob":
            return _blob(repo, seen, quirks, fault)
        case "tags":
            return _tags(repo, seen, quirks, url)
        case "referrers" if quirks.referrers:
            return _referrers(repo, seen, quirks, url)
        case "ping":
            return Reply(200, {"Content-Type": "application/json"}, b"{}")
        case _:
            return problem(404, "UNSUPPORTED")


def faulty(fault: Fault) -> Reply | None:
    """The answer that a fault puts in place of the true one, if it does."""
    if fault.html:
        return Reply(200, {"Content-Type": "text/html"}, b"<html>please log in</html>")
    if fault.status is None:
        return None
    if fault.body is None:
        return problem(fault.status, "FAULT")
    return Reply(fault.status, {"Content-Type": "application/json"}, fault.body)


def _manifest(repo: Repo, seen: Seen, quirks: Quirks) -> Reply:
    if seen.method == "HEAD" and quirks.head_status is not None:
        return problem(quirks.head_status, "UNSUPPORTED")
    quota, over = _quota(seen, quirks)
    if over:
        return problem(429, "TOOMANYREQUESTS", quota)
    digest = str(repo.tags.get(seen.reference, seen.reference))
    content = repo.manifests.get(digest)
    accept = seen.headers.get("Accept")
    if content is None or not accepts([accept] if accept else [], content.media_type):
        return problem(404, "MANIFEST_UNKNOWN", quota)
    headers = {"Content-Type": content.media_type, **quota}
    if quirks.digest_header is not None:
        headers["Docker-Content-Digest"] = quirks.digest_header or digest
    return Reply(200, headers, content.body)


def _quota(seen: Seen, quirks: Quirks) -> tuple[dict[str, str], bool]:
    """The headers, and whether this one is too many."""
    left = quirks.quotas.get(seen.user) if quirks.quotas else quirks.quota
    if left is None:
        return {}, False
    over = left < 1 and seen.method == "GET"
    if seen.method == "GET":
        left = max(0, left - 1)
    if quirks.quotas:
        quirks.quotas[seen.user] = left
    else:
        quirks.quota = left
    window = quirks.quota_limit.partition(";")[2]
    headers = {
        "ratelimit-limit": quirks.quota_limit,
        "ratelimit-remaining": f"{left};{window}",
        "docker-ratelimit-source": seen.user if quirks.quotas else "192.0.2.1",
    }
    return headers, over


def _blob(repo: Repo, seen: Seen, quirks: Quirks, fault: Fault) -> Reply:
    if seen.method == "HEAD" and quirks.head_status is not None and not seen.at_cdn:
        return problem(quirks.head_status, "UNSUPPORTED")
    content = repo.blobs.get(seen.reference)
    if content is None:
        return problem(404, "BLOB_UNKNOWN")
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": seen.reference,
        "Accept-Ranges": "bytes",
    }
    body = content.body if fault.body is None else fault.body
    asked = seen.headers.get("Range", "")
    if not asked.startswith("bytes=") or "," in asked or fault.ignore_range:
        return Reply(200, headers, body)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last) + 1 if last else len(body), len(body))
    if start >= len(body):
        return problem(416, "RANGE_INVALID", {"Content-Range": f"bytes */{len(body)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
    return Reply(206, headers, body[start:end])


def _tags(repo: Repo, seen: Seen, quirks: Quirks, url: str) -> Reply:
    asked = seen.query.get("n", [""])[0]
    n = min(int(asked) if asked else quirks.page_max, quirks.page_max)
    last = seen.query.get("last", [""])[0]
    rest = [tag for tag in sorted(repo.tags) if tag > last]
    headers = {"Content-Type": "application/json"}
    if len(rest) > n > 0:
        headers["Link"] = _link(seen, quirks, url, f"tags/list?n={n}&last={rest[n - 1]}")
    listed = {"name": seen.repository, "tags": rest[:n]}
    return Reply(200, headers, json.dumps(listed).encode())


def _referrers(repo: Repo, seen: Seen, quirks: Quirks, url: str) -> Reply:
    start = int(seen.query.get("after", ["0"])[0])
    found = repo.referrers.get(seen.reference, [])
    headers = {"Content-Type": OCI_INDEX}
    end = start + quirks.page_max
    if len(found) > end:
        headers["Link"] = _link(seen, quirks, url, f"referrers/{seen.reference}?after={end}")
    listed = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            content.descriptor(artifactType=json.loads(content.body).get("artifactType"))
            for content in found[start:end]
        ],
    }
    return Reply(200, headers, json.dumps(listed).encode())


def _link(seen: Seen, quirks: Quirks, url: str, rest: str) -> str:
    origin = url if quirks.absolute_links else ""
    return f'<{origin}/v2/{seen.repository}/{rest}>; rel="next"'
