"""How the library is set up to speak to one bucket.

- No payload is signed, and none gets a checksum that nobody asked for: clones
  refuse such bodies, and what is read is verified against its digest anyway.
- No retries of its own: `client.py` has a deadline and a breaker to mind.
- No `Expect: 100-continue`: aiohttp would wait for ever for a store that never
  answers it.
- Credentials are those of the settings, else AWS's chain, as is the region.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.handlers import add_expect_header
from pydantic import SecretStr

from proxy.config import S3Settings
from proxy.storage.s3.trouble import S3Unreachable

_CONNECT_S = 2.0
# Above the most flights there can be by default, so that bodies never starve small calls.
_CONNECTIONS_MAX = 512
_KEEPALIVE_S = 15.0
_REGION_DEFAULT = "us-east-1"
# Without dots: AWS's certificate covers one label.
_HOST_PART = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)


async def connect(
    settings: S3Settings, stack: AsyncExitStack, *, stall_s: float
) -> tuple[Any, Any]:
    """Clients of the library for asking and for signing public URLs, closed by `stack`.

    The second never connects anywhere. Raises `S3Unreachable` without
    credentials, and what the library does (`trouble.EXPECTED`).
    """
    session = AioSession()
    if settings.access_key is not None:
        session.set_credentials(
            settings.access_key.get_secret_value(),
            _text(settings.secret_key),
            _text(settings.session_token),
        )
    # The chain may have to ask an instance's metadata. Found wanting once, the
    # library would stay without credentials for ever; our caller comes again.
    if await session.get_credentials() is None:
        raise S3Unreachable("S3 can't be asked: no credentials found")
    client = await stack.enter_async_context(
        _client(session, settings, settings.endpoint, stall_s=stall_s)
    )
    client.meta.events.unregister("before-call.s3", add_expect_header)
    if settings.public_endpoint is None:
        return client, client
    signer = await stack.enter_async_context(
        _client(session, settings, settings.public_endpoint, stall_s=stall_s)
    )
    return client, signer


def _client(
    session: AioSession, settings: S3Settings, endpoint: str | None, *, stall_s: float
) -> Any:
    addressing = settings.addressing
    if addressing == "auto" and endpoint is None and _HOST_PART.fullmatch(settings.bucket):
        # What `auto` comes to on AWS; but presigned, it would name the global host,
        # which knows nothing of a new bucket for hours.
        addressing = "virtual"
    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=_CONNECT_S,
        read_timeout=stall_s,
        max_pool_connections=_CONNECTIONS_MAX,
        connector_args={"keepalive_timeout": _KEEPALIVE_S},
    )
    trust = str(settings.ca_file) if settings.ca_file else None
    return session.create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.region or session.get_config_variable("region") or _REGION_DEFAULT,
        verify=False if settings.insecure else trust,
        config=config,
    )


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
