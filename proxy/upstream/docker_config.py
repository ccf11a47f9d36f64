"""The credentials in a Docker `config.json`, the form people already have.

Whether an upstream is credentialed decides its sharing group, so that question
is answered once, at start, from the file alone: no helper program is run for
it. What the credentials *are* is asked when a token is needed, and the file is
read again when it has changed, because `docker login` and secret mounts rewrite
it under us. An entry that vanishes later makes requests anonymous but leaves
the upstream in its own group: that errs on the side of sharing less.

Formats: docker/cli `cli/config/configfile` (auths, credHelpers, credsStore)
and docker/docker-credential-helpers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from proxy.errors import UpstreamUnavailable
from proxy.upstream.credential_helpers import HelperCall, HelperSource
from proxy.upstream.credentials import Credentials, CredentialSource

_log = logging.getLogger(__name__)

_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one version of the file from another."""

    mtime_ns: int
    size: int
    inode: int


class DockerConfig:
    """A Docker `config.json`, read at construction and whenever it changes.

    `search_path` is where credential helpers are looked for (None: `PATH`).
    Raises `UpstreamUnavailable` at construction if the file can't be used.
    """

    def __init__(self, path: Path, *, search_path: str | None = None) -> None:
        self._path = path
        self._search_path = search_path
        self._helpers: dict[HelperCall, HelperSource] = {}
        self._stamp = _stamp(path)
        self._entries = _read(path)

    def source_for(self, hosts: Sequence[str]) -> CredentialSource | None:
        """The source for a registry known by any of `hosts` (`host[:port]`,
        the first that is found wins); None if the file names none of them.

        Decided from the file as last read; runs no helper.
        """
        wanted = tuple(dict.fromkeys(_host(host) for host in hosts))
        if not any(host in self._entries for host in wanted):
            return None
        return _FileSource(self, wanted)

    async def look_up(self, wanted: Sequence[str], *, refresh: bool) -> Credentials | None:
        """The credentials of the first of `wanted` that the file names now."""
        await self._reread()
        entry = next((self._entries[host] for host in wanted if host in self._entries), None)
        if not isinstance(entry, HelperCall):
            return entry
        if entry not in self._helpers:
            self._helpers[entry] = HelperSource(entry, search_path=self._search_path)
        return await self._helpers[entry].get(refresh=refresh)

    async def _reread(self) -> None:
        """Take in a changed file; keep to what we know while it is unusable."""
        try:
            stamp = await asyncio.to_thread(_stamp, self._path)
            if stamp == self._stamp:
                return
            entries = await asyncio.to_thread(_read, self._path)
        except UpstreamUnavailable as error:
            _log.warning("still using the Docker config as last read: %s", error)
            return
        self._stamp, self._entries = stamp, entries


@dataclass(frozen=True, slots=True)
class _FileSource:
    config: DockerConfig
    wanted: tuple[str, ...]

    async def get(self, *, refresh: bool = False) -> Credentials | None:
        return await self.config.look_up(self.wanted, refresh=refresh)


_Entries = Mapping[str, Credentials | HelperCall]
"""By normalised host."""


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except OSError as error:
        raise UpstreamUnavailable(f"the Docker config can't be read: {error.strerror}") from error
    return _Stamp(stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _read(path: Path) -> _Entries:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UpstreamUnavailable(f"the Docker config can't be read: {error.strerror}") from error
    except ValueError as error:  # its text may quote the file, so it stays out of ours
        raise UpstreamUnavailable("the Docker config is not valid JSON") from error
    if not isinstance(document, dict):
        raise UpstreamUnavailable("the Docker config is not a JSON object")
    return _entries(cast("dict[str, Any]", document))


def _entries(document: Mapping[str, Any]) -> _Entries:
    """A helper named for the host comes first, then what stands in the file,
    then the general store (for hosts that are listed, even if emptily: that is
    how `docker login` notes that the store knows them).
    """
    auths = _mapping(document.get("auths"))
    store = document.get("credsStore")
    found: dict[str, Credentials | HelperCall] = {}
    for key, helper in _by_exactness(_mapping(document.get("credHelpers"))):
        if isinstance(helper, str) and helper:
            found.setdefault(_host(key), HelperCall(helper, key))
    for key, auth in _by_exactness(auths):
        inline = _inline(_mapping(auth), key)
        if inline is not None:
            found.setdefault(_host(key), inline)
        elif isinstance(store, str) and store:
            found.setdefault(_host(key), HelperCall(store, key))
    return found


def _by_exactness(entries: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Plain hosts before keys with a path: `quay.io` speaks for the host
    sooner than `quay.io/team` does.
    """
    return sorted(entries.items(), key=lambda item: item[0] != _host(item[0]))


def _inline(auth: Mapping[str, Any], key: str) -> Credentials | None:
    username, password = auth.get("username"), auth.get("password")
    if encoded := auth.get("auth"):
        try:
            # Docker pads the decoded text with NULs in some old files.
            text = base64.b64decode(encoded, validate=True).decode().strip("\0")
        except (binascii.Error, ValueError, TypeError) as error:
            raise UpstreamUnavailable(f"the Docker config has a bad `auth` for {key}") from error
        username, colon, password = text.partition(":")
        if not colon:
            raise UpstreamUnavailable(f"the Docker config has a bad `auth` for {key}")
    token = auth.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(username if isinstance(username, str) else "", "", token)
    if isinstance(username, str) and username and isinstance(password, str) and password:
        return Credentials(username, password)
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _host(key: str) -> str:
    """`https://index.docker.io/v1/` → `docker.io`; Hub's three names are one."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower()
    return "docker.io" if host in _HUB_HOSTS else host
