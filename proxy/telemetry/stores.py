"""The tiers: what was dropped, read, uploaded, and what failed."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.events import BlobUploaded, BytesRead, Evicted, ScrubFound, StorageAsked, StorageFailed
from proxy.telemetry.buckets import SECONDS


class StoreMetrics:
    """Disk and S3."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._evicted = Counter(
            "entrepot_evicted_blobs", "Files removed to make room.", registry=registry
        )
        self._evicted_bytes = Counter(
            "entrepot_evicted_bytes", "Bytes removed to make room.", registry=registry
        )
        self._read = Counter(
            "entrepot_read_bytes",
            "Blob bytes that came from S3 (storage) or from another replica (peer).",
            ("origin",),
            registry=registry,
        )
        self._scrub_found = Counter(
            "entrepot_scrub_bad_blobs",
            "Stored blobs that did not match their digest and were removed.",
            ("where",),
            registry=registry,
        )
        self._uploaded = Counter(
            "entrepot_uploaded_bytes", "Bytes stored in S3.", registry=registry
        )
        self._failures = Counter(
            "entrepot_storage_failures",
            "Reads and writes of storage that failed; the requests went on without.",
            ("operation",),
            registry=registry,
        )
        self._s3_seconds = Histogram(
            "entrepot_s3_seconds",
            "From a call to S3 to its answer, over all its tries.",
            ("operation",),
            buckets=SECONDS,
            registry=registry,
        )
        self._s3_failures = Counter(
            "entrepot_s3_failures",
            "Calls that S3 did not answer, however often it was tried.",
            ("operation",),
            registry=registry,
        )

        for where in ("local", "storage"):
            self._scrub_found.labels(where)
        for origin in ("storage", "peer"):
            self._read.labels(origin)

    def evicted(self, event: Evicted) -> None:
        """Room was made."""
        self._evicted.inc(event.count)
        self._evicted_bytes.inc(event.size)

    def read(self, event: BytesRead) -> None:
        """Bytes from elsewhere in the fleet."""
        self._read.labels(event.origin).inc(event.count)

    def scrub_found(self, event: ScrubFound) -> None:
        """Wrong bytes."""
        self._scrub_found.labels(event.where).inc()

    def uploaded(self, event: BlobUploaded) -> None:
        """A blob is in S3."""
        self._uploaded.inc(event.size)

    def failed(self, event: StorageFailed) -> None:
        """Something was not kept, or not read."""
        self._failures.labels(event.operation).inc()

    def asked(self, event: StorageAsked) -> None:
        """A call to S3 is over."""
        if event.answered:
            self._s3_seconds.labels(event.operation).observe(event.duration_s)
        else:
            self._s3_failures.labels(event.operation).inc()
