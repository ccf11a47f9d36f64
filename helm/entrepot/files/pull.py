"""Pulls an image through a mirror as a container runtime would, and keeps nothing.

    python3 pull.py http://entrepot:5000 docker.io/library/busybox:latest

Runs from a ConfigMap in Entrepot's image, in `helm test` and on nodes, so it knows
the standard library alone. Every byte is compared with its digest: that something
answers is not enough.
"""
# ruff: noqa: INP001 - a script in a chart, in no package

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import ssl
import sys
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MANIFEST_BYTES_MAX = 8 * 1024 * 1024
# Without an answer, or a byte of it. Entrepot answers within 12 s unless told otherwise.
STALL_S = 20.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class PullFailedError(Exception):
    """Why the image can't be had, for people."""


@dataclass(frozen=True)
class Image:
    """`registry/repository` and a tag or digest."""

    registry: str
    repository: str
    reference: str

    @classmethod
    def parse(cls, text: str) -> Image:
        """Raises ValueError: the registry must be said, nothing is guessed."""
        name, at, reference = text.partition("@")
        if not at:
            name, colon, reference = text.rpartition(":")
            if not colon or "/" in reference:
                name, reference = text, "latest"
        registry, slash, repository = name.partition("/")
        if not (slash and repository and reference and ("." in registry or registry.islower())):
            raise ValueError(f"{text}: must be like docker.io/library/busybox:latest")
        return cls(registry, repository, reference)


def pull(
    base: str,
    image: Image,
    *,
    tls: ssl.SSLContext | None,
    limit_s: float,
    layers: bool = True,
) -> int:
    """The bytes that came. `base` is what `/<repository>/manifests/…` is appended to.

    Without `layers` only the manifests and the small blob of the config. Raises
    `PullFailedError`.
    """
    ends_at = time.monotonic() + limit_s
    source = _Source(f"{base}/{image.repository}", image.registry, tls, ends_at)
    try:
        document = source.manifest(image.reference)
        if document.get("mediaType") in INDEXES or "manifests" in document:
            document = source.manifest(_child(document))
        for part in (document["config"], *(document["layers"] if layers else ())):
            source.blob(part["digest"], part["size"])
    except (KeyError, TypeError, AttributeError) as error:
        raise PullFailedError(f"{image.reference} is not an image: {error!r}") from error
    return source.count


def _child(index: dict[str, Any]) -> str:
    """The manifest for this machine, else the first that is an image at all."""
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    images = [one for one in index["manifests"] if one.get("mediaType") in {None, *MANIFESTS}]
    for one in images:
        about = one.get("platform", {})
        if (about.get("os"), about.get("architecture")) == ("linux", here):
            return str(one["digest"])
    if not images:
        raise PullFailedError("the index holds no image")
    return str(images[0]["digest"])


class _Source:
    """One repository behind the mirror."""

    def __init__(self, url: str, registry: str, tls: ssl.SSLContext | None, ends_at: float) -> None:
        self.count = 0
        self._url, self._registry, self._ends_at = url, registry, ends_at
        # Straight to the mirror: a proxy that the environment names is for upstreams.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)

    def manifest(self, reference: str) -> dict[str, Any]:
        wanted = reference if reference.startswith("sha256:") else None
        accept = ", ".join((*INDEXES, *MANIFESTS))
        body = self._get(f"manifests/{reference}", wanted, MANIFEST_BYTES_MAX, accept, keep=True)
        try:
            document = json.loads(body)
        except ValueError as error:
            raise PullFailedError(f"manifest {reference} is not JSON") from error
        if not isinstance(document, dict):
            raise PullFailedError(f"manifest {reference} is not an object")
        return document

    def blob(self, digest: str, size: int) -> None:
        before = self.count
        self._get(f"blobs/{digest}", digest, size, "*/*", keep=False)
        if self.count - before != size:
            raise PullFailedError(f"blob {digest} has {self.count - before} bytes, not {size}")

    def _get(self, path: str, digest: str | None, most: int, accept: str, *, keep: bool) -> bytes:
        url = f"{self._url}/{path}?ns={self._registry}"
        request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 - as configured
        sha, body, count = hashlib.sha256(), bytearray(), 0
        try:
            with self._opener.open(request, timeout=min(self._left_s(), STALL_S)) as answer:
                while chunk := answer.read(1 << 16):
                    self._left_s()
                    sha.update(chunk)
                    count += len(chunk)
                    if count > most:
                        raise PullFailedError(f"{url}: more than {most} bytes")
                    if keep:
                        body += chunk
        except (OSError, HTTPException, ValueError) as error:
            raise PullFailedError(f"{url}: {error}") from error
        if digest is not None and f"sha256:{sha.hexdigest()}" != digest:
            raise PullFailedError(f"{url}: the bytes don't match the digest")
        self.count += count
        return bytes(body)

    def _left_s(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise PullFailedError("took too long")
        return left


def tls_context(ca: str | None, *, insecure: bool) -> ssl.SSLContext | None:
    """None where the system's authorities will do."""
    if insecure:
        return ssl._create_unverified_context()  # noqa: S323, SLF001 - asked for by name
    return None if ca is None else ssl.create_default_context(cafile=ca)


def main(arguments: list[str]) -> int:
    """Exit status 0: all of it came and is right; 1: not; 2: asked wrongly."""
    parser = argparse.ArgumentParser(description="Pull an image through a mirror.")
    parser.add_argument("server", help="http(s)://host[:port] of Entrepot")
    parser.add_argument("image", help="such as docker.io/library/busybox:latest")
    parser.add_argument("--ca", help="PEM file to verify the server with")
    parser.add_argument("--insecure", action="store_true", help="don't verify the server")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for all of it")
    asked = parser.parse_args(arguments)
    try:
        image = Image.parse(asked.image)
    except ValueError as error:
        parser.error(str(error))
    tls = tls_context(asked.ca, insecure=asked.insecure)
    base = f"{asked.server.rstrip('/')}/v2/{image.registry}"
    try:
        count = pull(base, image, tls=tls, limit_s=asked.limit)
    except PullFailedError as error:
        print(f"{asked.image}: {error}", file=sys.stderr)  # noqa: T201 - for people
        return 1
    print(f"{asked.image}: pulled through {asked.server}, {count} bytes verified")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
