"""Contradictions in what several replicas share: S3, Redis and the peer listener."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proxy.config.problems import Loc, Origins, Problem, unreadable
from proxy.config.redis import RedisSettings
from proxy.config.settings import Settings
from proxy.config.storage import S3Settings
from proxy.config.values import host_and_port

_PEER_SECRET_LENGTH_MIN = 16


def contradictions(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Problems between the values."""
    yield from _peers(settings, origins)
    if settings.redis is not None:
        yield from _redis(settings.redis, origins)
    if settings.storage.s3 is not None:
        yield from _s3(settings.storage.s3, origins)


def _peers(settings: Settings, origins: Origins) -> Iterator[Problem]:
    secret = settings.peer_secret
    if secret is not None and len(secret.get_secret_value()) < _PEER_SECRET_LENGTH_MIN:
        yield origins.problem(
            (_given(settings, "peer_secret"),),
            f"must be at least {_PEER_SECRET_LENGTH_MIN} characters",
        )
    # By what was asked for, not by what could be read: that is told elsewhere.
    has_secret = _given(settings, "peer_secret")
    if settings.peer_listen is None:
        for key in (has_secret, "advertise_url" if settings.advertise_url else ""):
            if key:
                yield origins.problem((key,), "needs `peer_listen` too")
        return
    if not has_secret:
        yield origins.problem(
            ("peer_listen",), "needs `peer_secret`, `peer_secret_file` or `peer_secret_env` too"
        )
    if settings.redis is None:
        yield origins.problem(
            ("peer_listen",), "needs `redis` too: replicas find each other through it"
        )
    if host_and_port(settings.peer_listen)[1] != 0:
        for key in ("listen", "admin_listen"):
            if settings.peer_listen == getattr(settings, key):
                yield origins.problem(("peer_listen",), f"is the same address as `{key}`")


def _redis(redis: RedisSettings, origins: Origins) -> Iterator[Problem]:
    loc: Loc = ("redis",)
    if redis.url is None and not redis.sentinel:
        yield origins.problem(loc, "needs `url` or `sentinel`")
    if redis.url is not None and redis.sentinel:
        yield origins.problem((*loc, "sentinel"), "give only one of `url` and `sentinel`")
    if redis.sentinel and not redis.sentinel_master:
        yield origins.problem((*loc, "sentinel"), "needs `sentinel_master` too")
    if redis.sentinel_master and not redis.sentinel:
        yield origins.problem((*loc, "sentinel_master"), "needs `sentinel` too")
    if redis.cluster and redis.sentinel:
        yield origins.problem((*loc, "cluster"), "can't be together with `sentinel`")
    if redis.cluster and (redis.url or "").count("/") == 3 and not (redis.url or "").endswith("/0"):
        yield origins.problem((*loc, "url"), "a cluster has only database 0")
    yield from _redis_users(loc, redis, origins)
    yield from _redis_tls(loc, redis, origins)


def _redis_users(loc: Loc, redis: RedisSettings, origins: Origins) -> Iterator[Problem]:
    for who in ("", "sentinel_"):
        user, password = _given(redis, f"{who}username"), f"{who}password"
        if user and not _given(redis, password):
            yield origins.problem(
                (*loc, user), f"needs `{password}`, `{password}_file` or `{password}_env` too"
            )
    for key in ("sentinel_username", "sentinel_password"):
        if _given(redis, key) and not redis.sentinel:
            yield origins.problem((*loc, _given(redis, key)), "needs `sentinel` too")


def _redis_tls(loc: Loc, redis: RedisSettings, origins: Origins) -> Iterator[Problem]:
    if redis.cert_file and not redis.key_file:
        yield origins.problem((*loc, "cert_file"), "needs `key_file` too")
    if redis.key_file and not redis.cert_file:
        yield origins.problem((*loc, "key_file"), "needs `cert_file` too")
    if redis.url is not None and not redis.tls:
        for key in ("ca_file", "cert_file", "insecure"):
            if getattr(redis, key):
                yield origins.problem((*loc, key), "needs a `url` that begins with rediss://")
    yield from _trust(loc, redis, origins)
    for key in ("cert_file", "key_file"):
        yield from _file((*loc, key), getattr(redis, key), origins)


def _s3(s3: S3Settings, origins: Origins) -> Iterator[Problem]:
    loc: Loc = ("storage", "s3")
    access, secret = _given(s3, "access_key"), _given(s3, "secret_key")
    if access and not secret:
        yield origins.problem((*loc, access), "needs `secret_key` too (or its `_file` or `_env`)")
    if secret and not access:
        yield origins.problem((*loc, secret), "needs `access_key` too (or its `_file` or `_env`)")
    if (token := _given(s3, "session_token")) and not access:
        yield origins.problem((*loc, token), "needs `access_key` and `secret_key` too")
    if s3.sse_kms_key and s3.sse != "aws:kms":
        yield origins.problem((*loc, "sse_kms_key"), "needs `sse: aws:kms`")
    if s3.public_endpoint and not s3.redirect:
        yield origins.problem((*loc, "public_endpoint"), "needs `redirect: true`")
    yield from _trust(loc, s3, origins)


def _trust(loc: Loc, part: RedisSettings | S3Settings, origins: Origins) -> Iterator[Problem]:
    if part.insecure and part.ca_file:
        yield origins.problem((*loc, "insecure"), "says not to verify, but `ca_file` is given")
    yield from _file((*loc, "ca_file"), part.ca_file, origins)


def _file(loc: Loc, path: Path | None, origins: Origins) -> Iterator[Problem]:
    if path is not None and (trouble := unreadable(path)):
        yield origins.problem(loc, trouble)


def _given(part: Settings | RedisSettings | S3Settings, secret: str) -> str:
    """The key by which a secret was given; empty if it was not."""
    keys = (f"{secret}_file", f"{secret}_env", secret)
    return next((key for key in keys if getattr(part, key) is not None), "")
