"""What stands behind the cache, made from settings: storage, coordination, peers.

Alone: the local disk and nothing else. With S3: the disk becomes a tier in front
of it, records are mirrored, verified blobs uploaded. With Redis: claims and
short-lived answers are shared. With a peer listener: fills are followed live.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from proxy.cache.fleet import Fleet
from proxy.cache.shared import Shared
from proxy.cache.told_links import ToldLinks
from proxy.config import RedisSettings, Settings, host_and_port
from proxy.coordination.local import LocalCoordination
from proxy.errors import StartupError, StorageUnavailable
from proxy.ports import BlobKey, Coordination, Observe, Records
from proxy.storage.local import LocalStorage
from proxy.storage.mirror import MirroredRecords
from proxy.storage.owed import OwedRecords
from proxy.storage.uploads import Uploads
from proxy.upstream.peer import HttpPeers

if TYPE_CHECKING:
    from proxy.coordination.redis_client import RedisConfig

log = structlog.get_logger("entrepot")


@dataclass(slots=True)
class Backing:
    """All of it, open. `advertise_url` is empty without a peer listener."""

    local: LocalStorage
    records: Records
    coordination: Coordination
    fleet: Fleet
    shared: Shared
    peers: HttpPeers | None = None
    peer_socket: socket.socket | None = None
    advertise_url: str = ""
    uploads: Uploads | None = None
    presigned: Callable[[BlobKey], Awaitable[str]] | None = None


@asynccontextmanager
async def open_backing(settings: Settings, observe: Observe) -> AsyncIterator[Backing]:
    """Open everything, close it in reverse. Raises `StartupError`."""
    async with AsyncExitStack() as stack:
        local = LocalStorage(
            settings.data_dir,
            bytes_max=settings.disk_bytes_max,
            free_bytes_min=settings.disk_free_bytes_min,
            observe=observe,
        )
        await stack.enter_async_context(local)
        coordination = LocalCoordination()
        shared = Shared(coordination, alone=True)
        backing = Backing(local, local.records, coordination, Fleet(), shared)
        await _open_peers(settings, backing, stack)
        if settings.redis is not None:
            backing.coordination = await _redis(settings, backing.advertise_url, observe, stack)
        together = settings.redis is not None
        backing.shared = Shared(backing.coordination, alone=not together)
        if settings.storage.s3 is not None:
            await _open_s3(settings, backing, observe, stack)
        else:
            backing.fleet = Fleet(peers=backing.peers, together=together)
        yield backing


async def _open_peers(settings: Settings, backing: Backing, stack: AsyncExitStack) -> None:
    if settings.peer_listen is None or settings.peer_secret is None:
        return
    host, port = host_and_port(settings.peer_listen)
    try:
        # Bound now, served later: the port must be known before claims carry it.
        backing.peer_socket = listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise StartupError(f"can't listen at {settings.peer_listen}: {error.strerror}") from error
    stack.callback(listener.close)
    try:
        backing.advertise_url = settings.advertise_url or _found_url(settings, listener)
    except OSError as error:
        raise StartupError(
            f"no address of this machine found, set advertise_url: {error.strerror}"
        ) from error
    backing.peers = HttpPeers(settings.peer_secret.get_secret_value().encode())
    stack.push_async_callback(backing.peers.aclose)


def _found_url(settings: Settings, listener: socket.socket) -> str:
    """Where others reach us: the address bound, or the one that leads to Redis."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = _address_towards(settings) or socket.gethostbyname(socket.gethostname())
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address_towards(settings: Settings) -> str | None:
    redis = settings.redis
    target = urlsplit(redis.url) if redis is not None and redis.url is not None else None
    if target is None or target.hostname is None:
        return None
    try:
        # Connecting a datagram socket sends nothing; it only picks our address.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target.hostname, target.port or 6379))
            return str(probe.getsockname()[0])
    except OSError:
        return None


async def _redis(
    settings: Settings, advertise_url: str, observe: Observe, stack: AsyncExitStack
) -> Coordination:
    # The library is only loaded where it is used.
    from proxy.coordination.redis import RedisCoordination  # noqa: PLC0415

    one = settings.redis
    if one is None:
        return LocalCoordination()
    try:
        coordination = RedisCoordination(
            redis_config(one),
            advertise_url=advertise_url,
            observe=observe,
        )
    except ValueError as error:
        raise StartupError(f"redis: {error}") from error
    return await stack.enter_async_context(coordination)


def redis_config(one: RedisSettings) -> RedisConfig:
    """Where Redis is, in the words of its client."""
    from proxy.coordination.redis_client import RedisConfig  # noqa: PLC0415 - see above

    return RedisConfig(
        url=one.url or ("rediss://sentinel" if one.tls else "redis://sentinel"),
        username=one.username,
        password=None if one.password is None else one.password.get_secret_value(),
        sentinels=one.sentinel,
        sentinel_master=one.sentinel_master or "mymaster",
        sentinel_username=one.sentinel_username,
        sentinel_password=(
            None if one.sentinel_password is None else one.sentinel_password.get_secret_value()
        ),
        cluster=one.cluster,
        ca_file=None if one.ca_file is None else str(one.ca_file),
        cert_file=None if one.cert_file is None else str(one.cert_file),
        key_file=None if one.key_file is None else str(one.key_file),
        insecure=one.insecure,
        prefix=one.prefix,
    )


async def _open_s3(
    settings: Settings, backing: Backing, observe: Observe, stack: AsyncExitStack
) -> None:
    from proxy.storage.s3.store import S3Storage  # noqa: PLC0415 - heavy, and only used here

    if settings.storage.s3 is None:
        return
    s3 = await stack.enter_async_context(S3Storage(settings.storage.s3, observe=observe))
    try:
        await s3.check_layout()
    except StorageUnavailable as error:
        log.warning("S3 can't be reached; going on without until it can", reason=str(error))
    blobs = backing.local.blobs
    uploads = Uploads(
        durable=s3.blobs,
        path_of=blobs.path,
        pending=settings.data_dir / "pending",
        observe=observe,
    )
    owed = OwedRecords(
        s3.records, backing.local.records, pending=settings.data_dir / "pending", observe=observe
    )
    try:
        await uploads.start()
        await owed.start()
    except OSError as error:
        raise StartupError(f"{settings.data_dir}/pending: {error.strerror}") from error
    stack.push_async_callback(uploads.aclose)
    stack.push_async_callback(owed.aclose)
    blobs.pinned = uploads.__contains__
    backing.uploads = uploads
    durable: Records = s3.records
    if settings.redis is not None:
        durable = ToldLinks(durable, backing.coordination)
    backing.records = records = MirroredRecords(durable, backing.local.records, owed, observe)
    stack.push_async_callback(records.aclose)
    backing.fleet = Fleet(
        durable=s3.blobs,
        uploader=uploads,
        peers=backing.peers,
        together=settings.redis is not None,
    )
    if settings.storage.s3.redirect:
        backing.presigned = s3.presigner.presigned


async def check_advertised(backing: Backing, identity: str) -> None:
    """Say so if other replicas will not find us."""
    if backing.peers is None:
        return
    answered = await backing.peers.ping(backing.advertise_url)
    if answered == identity:
        log.info("other replicas reach this one", advertise_url=backing.advertise_url)
    else:
        log.warning(
            "advertise_url does not lead to this replica; others will fetch for themselves",
            advertise_url=backing.advertise_url,
            answered=answered is not None,
        )
