"""The client for one Redis, a Sentinel group or a Cluster, made from settings.

Nothing here connects before the first command, and nothing here decides what a
failure means: `redis_link.py` does. redis-py's own retries are cut down to one,
for a pooled connection that the server has closed meanwhile; all commands we
send may be sent twice. RESP2, so that old servers and proxies do.

Every command names one key (Cluster). The server needs Redis 6.2 or later
(`ZMSCORE`, `ZADD GT`); a user with an ACL needs its keys and `+eval +get +set
+del +zadd +zmscore +zremrangebyrank`, in a Cluster `+cluster +command +ping` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
CONNECTIONS_MAX: Final = 32
"""To each server; `redis_link.py` never has more commands under way."""
SOCKET_S: Final = 0.3
_SENTINEL_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig:
    """Where Redis is and how it is spoken to.

    `url`: `redis[s]://[user:password@]host[:port][/db]`; `rediss` is TLS, to
    Sentinels too. `username` and `password` win over those in the URL.
    `sentinels`: `host[:port]`s; then host and port of `url` don't count.
    `prefix` is before all keys.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinels: tuple[str, ...] = ()
    sentinel_master: str = "mymaster"
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    cluster: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
    prefix: str = "entrepot"


class Client(Protocol):
    """What the link needs of a server. Everything may raise anything of redis-py."""

    async def execute(self, *words: str | bytes | float) -> Any:
        """One command on one key; its reply as redis-py turns it."""

    async def probe(self, key: str) -> None:
        """Return if all that is needed can be read and written."""

    async def drop_idle(self) -> None:
        """Close connections that nobody uses: they may lead to a server that is gone."""

    async def aclose(self) -> None: ...


def new_client(config: RedisConfig) -> Client:
    """Make a client; `ValueError` for a URL or a combination that can't be."""
    url = urlsplit(config.url)
    if url.scheme not in ("redis", "rediss"):
        raise ValueError("a Redis URL begins with redis:// or rediss://")
    database = url.path.strip("/") or "0"
    if not database.isdecimal():
        raise ValueError(f"the path of a Redis URL is a database number, not {database!r}")
    secured = _tls(config) if url.scheme == "rediss" else {}
    options: dict[str, Any] = {
        **_sockets(SOCKET_S),
        **secured,
        "username": config.username or (unquote(url.username) if url.username else None),
        "password": config.password or (unquote(url.password) if url.password else None),
        "max_connections": CONNECTIONS_MAX,
    }
    host, port = url.hostname or "localhost", url.port or PORT
    if config.cluster:
        if config.sentinels or database != "0":
            raise ValueError("a Redis Cluster has neither Sentinels nor database numbers")
        return _ClusterClient(RedisCluster(host=host, port=port, retry=_retry(), **options))
    options |= {"retry": _retry(), "db": int(database)}
    if not config.sentinels:
        return _PlainClient(Redis(host=host, port=port, **options), ())
    asked = {
        **_sockets(_SENTINEL_S),
        **secured,
        "username": config.sentinel_username,
        "password": config.sentinel_password,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": CONNECTIONS_MAX,
    }
    if secured:
        options["ssl"] = True
    addresses = [_address(one) for one in config.sentinels]
    group = Sentinel(addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call] # theirs
    return _PlainClient(group.master_for(config.sentinel_master, **options), group.sentinels)


def _sockets(limit_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": limit_s,
        "socket_connect_timeout": limit_s,
        "socket_keepalive": True,
        # A PING before a command would only double what a dead connection costs.
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,
    }


def _tls(config: RedisConfig) -> dict[str, Any]:
    return {
        "ssl": True,
        "ssl_ca_certs": config.ca_file,
        "ssl_certfile": config.cert_file,
        "ssl_keyfile": config.key_file,
        "ssl_cert_reqs": "none" if config.insecure else "required",
        "ssl_check_hostname": not config.insecure,
    }


def _retry() -> Retry:
    # Not after a time-out: that would cost the caller twice.
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def _address(text: str) -> tuple[str, int]:
    url = urlsplit(f"//{text}")
    if not url.hostname:
        raise ValueError(f"a Sentinel is given as host:port, not {text!r}")
    return url.hostname, url.port or SENTINEL_PORT


class _Commands(Protocol):
    # redis-py leaves its own without types.
    async def execute_command(self, *words: str | bytes | float) -> Any: ...


class _PlainClient:
    """One server, or the master of a Sentinel group."""

    def __init__(self, redis: Redis, sentinels: Sequence[Redis]) -> None:
        self._redis = redis
        self._commands = cast("_Commands", redis)
        self._sentinels = sentinels

    async def execute(self, *words: str | bytes | float) -> Any:
        return await self._commands.execute_command(*words)

    async def probe(self, key: str) -> None:
        await self.execute("SET", key, "", "PX", 1000)

    async def drop_idle(self) -> None:
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        await _all(one.aclose() for one in (self._redis, *self._sentinels))


class _ClusterClient:
    """A Cluster: redis-py follows its map of slots."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._commands = cast("_Commands", redis)

    async def execute(self, *words: str | bytes | float) -> Any:
        return await self._commands.execute_command(*words)

    async def probe(self, key: str) -> None:
        await self.execute("SET", key, "", "PX", 1000)
        # One that is gone without a successor would fail a third of all commands.
        await self._redis.ping(target_nodes=RedisCluster.PRIMARIES)

    async def drop_idle(self) -> None:
        """redis-py drops those of the failed node itself."""

    async def aclose(self) -> None:
        nodes = [*self._redis.startup_nodes, *self._redis.get_nodes()]
        await self._redis.aclose()
        # After a failure redis-py believes it has none open, and leaves them.
        await _all(node.disconnect() for node in nodes)


async def _all(closings: Iterable[Awaitable[None]]) -> None:
    """Close all of them, then raise what the first failure was."""
    for outcome in await asyncio.gather(*closings, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
