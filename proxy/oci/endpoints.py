"""What can be asked of a pull registry: one frozen value per endpoint.

Made by `routes.py` alone, from parsed parts: a handler that gets one of these
has nothing left to check. Methods are not told apart, a HEAD asks for the same
thing as a GET. Endpoints: distribution-spec, "Endpoints" (the pull half).
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.oci.digest import Digest
from proxy.oci.names import Reference, Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """`/v2/`. `upstream` is None where the request singles none out: clients of
    shape B ping here as well, so the default would be a guess.
    """

    upstream: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """`_catalog`; `upstream` as in `Ping`, the rest as in `Addressed`, `ListTags`."""

    upstream: str | None
    client_path: str
    namespace: str | None
    n: int | None
    last: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """What every request for something inside a repository says.

    upstream: canonical name. repository: as that upstream knows it, `library/`
    included. client_name: as the client wrote it after `/v2/` (with the
    upstream in shape B), hence what it expects back as `name`. client_path:
    the path as it came, without query, for relative Links. namespace: `ns` as
    given, to echo and to repeat; None where it was absent or had no say.
    """

    upstream: str
    repository: Repository
    client_name: str
    client_path: str
    namespace: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetManifest(Addressed):
    """`manifests/<tag or digest>`."""

    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlob(Addressed):
    """`blobs/<digest>`."""

    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTags(Addressed):
    """`tags/list`. `n` of any size; `last` is printable ASCII, not always a tag."""

    n: int | None
    last: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReferrers(Addressed):
    """`referrers/<digest>`, of one artifact type or of all (None)."""

    digest: Digest
    artifact_type: str | None


Route = Ping | Catalog | GetManifest | GetBlob | ListTags | GetReferrers
