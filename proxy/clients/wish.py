"""What is wanted of a client, and the files that bring it about. Values only."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

Version = tuple[int, ...]
Reader = Callable[[str], str | None]
"""A path on the node -> the text that is there now, None if there is nothing."""

MARK = "Written by `entrepot mirror-config`; `--remove` takes it back."

# A registry as clients call it: a host, perhaps with a port.
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_HUB = "https://registry-1.docker.io"


class Mistake(Exception):
    """What was asked for makes no sense; the message says why."""


class Conflict(Exception):
    """Somebody's settings stand in the way; nothing was changed.

    `path`: the file they are in.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Server:
    """Where Entrepot is, as its clients reach it."""

    scheme: str
    netloc: str

    @classmethod
    def parse(cls, url: str) -> Server:
        """From `http(s)://host[:port]`. Raises `Mistake`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Mistake(f"--server {url}: {error}") from error
        host = parts.hostname
        if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
            raise Mistake(f"--server {url}: must be http://host[:port] or https://host[:port]")
        if parts.path.rstrip("/") or parts.query or parts.fragment:
            raise Mistake(f"--server {url}: nothing may follow the host; paths are added here")
        shown = f"[{host}]" if ":" in host else host
        return cls(parts.scheme, shown if port is None else f"{shown}:{port}")

    @property
    def url(self) -> str:
        """Without a path and a final slash."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def plain(self) -> bool:
        """Whether it speaks HTTP without TLS."""
        return self.scheme == "http"

    @property
    def host(self) -> str:
        """As the first part of an image's name: with a port where it would else be
        taken for a namespace of Docker Hub's.
        """
        if any(mark in self.netloc for mark in ".:") or self.netloc == "localhost":
            return self.netloc
        return f"{self.netloc}:{80 if self.plain else 443}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine, and nothing in a container on it, gets there."""
        host = self.netloc.rpartition(":")[0] or self.netloc
        return host in {"localhost", "[::1]"} or host.startswith("127.")

    def unseen(self) -> tuple[str, ...]:
        """What to know where nodes are machines of their own, if they can't get there."""
        if not self.loopback:
            return ()
        return (f"{self.url} is the node itself when seen from a node; name this machine",)


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that is to come through Entrepot.

    `name`: as in the names of its images. `at`: what Entrepot calls it.
    `origin`: its own URL, for clients that want to know where to fall back to.
    """

    name: str
    at: str
    origin: str

    @classmethod
    def parse(cls, text: str, *, url: str | None = None) -> Registry:
        """From `name` or `name=name-at-entrepot`. Raises `Mistake`."""
        name, equals, at = text.partition("=")
        name = name.lower()
        if _REGISTRY.fullmatch(name) is None:
            raise Mistake(f"--upstream {text}: not the name of a registry")
        at = at.lower() if equals else name
        if _COMPONENT.fullmatch(at) is None:
            raise Mistake(
                f"--upstream {text}: a path can't hold {at!r}; write {name}=NAME, where NAME "
                "(or an alias) is what Entrepot calls this upstream"
            )
        return cls(name, at, url or (_HUB if name == "docker.io" else f"https://{name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`registries` through `server`, on a node where `now` tells what is there.

    ca: PEM text of the authority that signed the server's certificate. version:
    the client's, None if unknown: what is made then suits all versions. home:
    the user's folder, for clients whose settings are there.
    """

    server: Server
    registries: tuple[Registry, ...]
    ca: str | None = None
    version: Version | None = None
    home: str = "/root"
    now: Reader = lambda _path: None

    def at_least(self, *version: int) -> bool:
        """Whether the client is known to be that new."""
        return self.version is not None and self.version >= version

    def older_than(self, *version: int) -> bool:
        """Whether the client is known to be older."""
        return self.version is not None and self.version < version


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it is to be. `shared`: others' settings belong in it as well."""

    path: str
    content: str
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write, what to do then, what to know.

    ledger: where to note what was there before. then: in order, for a person.
    """

    ledger: str
    files: tuple[File, ...]
    then: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parse_version(text: str) -> Version:
    """The leading numbers of `v1.7.2-k3s1`. Raises `Mistake`."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    if match is None:
        raise Mistake(f"--client-version {text}: not a version")
    return tuple(int(part) for part in match[1].split("."))
