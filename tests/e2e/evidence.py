"""What the upstream's access log has to say about a pull."""

from __future__ import annotations

from collections import Counter

from tests.support.docker_registry import DockerRegistry


def fetched_once(upstream: DockerRegistry, blobs: frozenset[str]) -> None:
    """Exactly these blobs were sent, each once, and nobody came past the proxy."""
    upstream.wait_for_blobs(blobs)
    assert upstream.blobs_sent() == Counter(blobs)
    assert upstream.clients_seen() == set()


class Nothing:
    """`with Nothing(upstream):` no blob leaves the upstream meanwhile.

    Tags may still be asked for; that is what revalidation is.
    """

    def __init__(self, upstream: DockerRegistry) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        self._before = self._upstream.blobs_sent()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            assert self._upstream.blobs_sent() == self._before
            assert self._upstream.clients_seen() == set()
