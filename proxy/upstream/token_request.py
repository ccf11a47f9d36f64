"""The dance with a token endpoint: GET or POST, with or without credentials.

Who we are is shown only to realms that `realms.py` admits; every other realm is
asked anonymously, because a challenge is written by whoever answers. Replies
are bounded, redirects are refused, messages never quote a body.

Sources: distribution `spec/auth/{token,oauth}.md`; the fall-backs from
containerd `authorizer.go` (ACR 400, Artifactory 401, GCR 404).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

from yarl import URL

from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    TransferBroken,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.events import TokenFetched, UpstreamAnswered
from proxy.oci.challenge import parse_token
from proxy.ports import Clock, Observe
from proxy.upstream.bodies import discard, read_whole
from proxy.upstream.credentials import Credentials
from proxy.upstream.quota import parse_retry_after
from proxy.upstream.realms import Origin, may_see_credentials
from proxy.upstream.session import Session, UpstreamConfig
from proxy.upstream.tokens import Granted, TokenKey
from proxy.upstream.translate import LIBRARY_ERRORS, no_answer

CLIENT_ID = "entrepot"
TOKEN_BYTES_MAX = 256 * 1024

_TRY_POST = frozenset({400, 401, 404, 405})
_REFUSED = frozenset({401, 403})


def basic(credentials: Credentials) -> str:
    """The value of an Authorization header, RFC 7617 in UTF-8."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


class TokenRequests:
    """Asks the token endpoints that an upstream names."""

    def __init__(
        self,
        config: UpstreamConfig,
        session: Session,
        *,
        observe: Observe,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._config = config
        self._session = session
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic

    async def ask(self, key: TokenKey) -> Granted:
        """A token for `key`.

        Raises `AccessDenied` when refused, `UpstreamLimited` (429),
        `UpstreamUnavailable` (no answer, 5xx), `BadUpstreamAnswer`.
        """
        granted = False
        try:
            async with asyncio.timeout(self._config.head_s):
                answer = await self._ask(key)
            granted = True
        except TimeoutError as error:
            raise no_answer(self._config.name, _host(key), error) from error
        finally:
            self._observe(TokenFetched(upstream=self._config.name, granted=granted))
        return answer

    async def _ask(self, key: TokenKey) -> Granted:
        source = self._config.credentials
        realm = Origin.of(URL(key.realm, encoded=True))
        if source is None or not key.ours or not await self._may_see_credentials(realm):
            return self._granted(await self._get(key, None), key, None)
        credentials = await source.get()
        status, body = await self._present(key, credentials)
        if status in _REFUSED:
            # Rotated under us? Then there are newer ones.
            newer = await source.get(refresh=True)
            if newer != credentials:
                credentials = newer
                status, body = await self._present(key, credentials)
        return self._granted((status, body), key, credentials)

    async def _may_see_credentials(self, realm: Origin) -> bool:
        listed = self._config.token_realms
        return await asyncio.to_thread(may_see_credentials, self._config.origin, realm, listed)

    async def _present(self, key: TokenKey, credentials: Credentials | None) -> tuple[int, bytes]:
        if credentials is None:
            return await self._get(key, None)
        if credentials.identity_token is not None:
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            return await self._post(key, grant)
        answer = await self._get(key, basic(credentials))
        if answer[0] not in _TRY_POST:
            return answer
        posted = await self._post(
            key,
            {
                "grant_type": "password",
                "username": credentials.username,
                "password": credentials.password,
            },
        )
        # An endpoint without POST leaves GET's answer standing.
        return answer if posted[0] in {404, 405} else posted

    async def _get(self, key: TokenKey, authorization: str | None) -> tuple[int, bytes]:
        asked = [("scope", entry) for entry in key.scope]
        if key.service is not None:
            asked.insert(0, ("service", key.service))
        if authorization is None:
            return await self._send("GET", _with_query(key.realm, asked), {})
        asked.append(("client_id", CLIENT_ID))
        url = _with_query(key.realm, asked)
        return await self._send("GET", url, {"Authorization": authorization})

    async def _post(self, key: TokenKey, grant: dict[str, str]) -> tuple[int, bytes]:
        form = {**grant, "client_id": CLIENT_ID, "scope": " ".join(key.scope)}
        if key.service is not None:
            form["service"] = key.service
        return await self._send("POST", URL(key.realm, encoded=True), {}, form)

    async def _send(
        self, method: str, url: URL, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        name, began, status = self._config.name, self._monotonic(), 0
        try:
            response = await self._session.request(method, url, headers=headers, form=form)
            status = response.status
        except LIBRARY_ERRORS as error:
            raise no_answer(name, url.raw_host or "", error) from error
        finally:
            self._observe(
                UpstreamAnswered(
                    upstream=name,
                    operation="token",
                    method=method,
                    status=status,
                    duration_s=self._monotonic() - began,
                )
            )
        try:
            if status == 200:
                body = await read_whole(response, name, bytes_max=TOKEN_BYTES_MAX)
                self._config.link.counted(len(body))
                return status, body
            if status == 429:
                retry_after = response.headers.get("Retry-After")
                raise UpstreamLimited(
                    f"{name}: its token endpoint limits our requests",
                    retry_after_s=parse_retry_after(retry_after, now=self._clock()),
                )
            if status == 408 or status >= 500:
                raise UpstreamUnavailable(f"{name}: its token endpoint answered {status}")
            await discard(response, name)
        except TransferBroken as error:
            raise UpstreamUnavailable(f"{name}: its token endpoint broke off") from error
        finally:
            response.close()
        return status, b""

    def _granted(
        self, answer: tuple[int, bytes], key: TokenKey, credentials: Credentials | None
    ) -> Granted:
        status, body = answer
        if status == 200:
            return Granted(parse_token(body), credentials is not None)
        where = f"{self._config.name}: the token endpoint {_host(key)}"
        if status in _REFUSED:
            raise AccessDenied(
                f"{where} refused a token ({status})", authenticated=credentials is not None
            )
        raise BadUpstreamAnswer(f"{where} answered {status}")


def _host(key: TokenKey) -> str:
    return URL(key.realm, encoded=True).raw_host or ""


def _with_query(realm: str, more: list[tuple[str, str]]) -> URL:
    """The realm may carry a query of its own: append."""
    return URL(realm, encoded=True).extend_query(more)
