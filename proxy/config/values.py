"""The kinds of value that settings are made of: addresses, URLs, host names.

Each check says what would be right and never quotes the value: URLs may hold
passwords, and the message goes to logs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator, SecretStr

_HOST = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_HOST_PORT = re.compile(rf"(?:{_HOST}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", re.ASCII)
_REDIS_URL = re.compile(
    rf"rediss?://(?:{_HOST}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?(?:/[0-9]{{0,4}})?", re.ASCII
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_KEY_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9!_.*'()-]+", re.ASCII)
_PATTERN = re.compile(r"[a-z0-9._/*?\[\]!-]+", re.ASCII)


def host_and_port(listen: str) -> tuple[str, int]:
    """`[::1]:5000` → `("::1", 5000)`. Raises `ValueError`."""
    found = _LISTEN.fullmatch(listen)
    if found is None or int(found[3]) > 65535:
        raise ValueError(
            "must be host:port, such as 127.0.0.1:5000, 0.0.0.0:5000 (all IPv4) or [::]:5000 (all)"
        )
    return found[1] or found[2], int(found[3])


def _listen(value: str) -> str:
    host_and_port(value)
    return value


def _host_port(value: str) -> str:
    value = value.lower()
    if _HOST_PORT.fullmatch(value) is None:
        raise ValueError("must be a host name with an optional port, such as registry.lan:5000")
    return value


def _http_url(value: str, *, userinfo: bool) -> str:
    wish = "must be an http:// or https:// URL, such as https://registry.example"
    try:
        parts = urlsplit(value)
        port_ok = parts.port != 0
    except ValueError:
        raise ValueError(wish) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        raise ValueError(wish)
    if re.search(r"[\s\\\x00-\x1f]", value):
        raise ValueError("must not contain spaces, backslashes or control characters")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must not have a ?query or a #fragment")
    if "@" in parts.netloc and not userinfo:
        raise ValueError("must not hold a user or password; use `username` and `password_file`")
    netloc = parts.netloc if userinfo else parts.netloc.lower()
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _upstream_url(value: str) -> str:
    return _http_url(value, userinfo=False)


def _proxy_url(value: SecretStr) -> SecretStr:
    return SecretStr(_http_url(value.get_secret_value(), userinfo=True))


def _redis_url(value: str) -> str:
    if "@" in value:
        raise ValueError("must not hold a user or password; use `username` and `password_file`")
    value = value.lower().rstrip("/")
    if _REDIS_URL.fullmatch(value) is None:
        raise ValueError(
            "must be redis://host:port/database or rediss://..., such as redis://redis:6379/0"
        )
    return value


def _redis_prefix(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value, re.ASCII) is None:
        raise ValueError("must be letters, digits and . _ -")
    return value


def bucket_name(value: str) -> str:
    """The name as it is. Raises `ValueError`. Looser than AWS: old buckets and clones are."""
    if _BUCKET.fullmatch(value) is None:
        raise ValueError("must be the name of a bucket: letters, digits and . _ -, at least three")
    return value


def key_prefix(value: str) -> str:
    """`/a/b/` -> `a/b`. Raises `ValueError`."""
    value = value.strip("/")
    if value and not all(_KEY_PART.fullmatch(part) for part in value.split("/")):
        raise ValueError("must be like cache/eu: letters, digits and !_.*'()- between slashes")
    return value


def listed(what: str = "a list, such as [a, b]") -> BeforeValidator:
    """Lists as YAML makes them. A lone item is a slip worth telling: `must be {what}`."""

    def read(value: Any) -> Any:
        if value is None:
            return ()
        if isinstance(value, str | dict):
            raise ValueError(f"must be {what}")  # noqa: TRY004 - pydantic takes ValueError
        return tuple(value) if isinstance(value, list) else value

    return BeforeValidator(read)


def _split(value: Any) -> Any:
    """The environment knows only text: names with commas between them."""
    return tuple(filter(None, value.replace(",", " ").split())) if isinstance(value, str) else value


def _expose(value: Any) -> str | tuple[str, ...]:
    if value in ("public", "all"):
        return str(value)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, str) and _PATTERN.fullmatch(item) for item in value):
            return tuple(value)
        raise ValueError("patterns must be repository names with * and ?, such as team/*")
    raise ValueError("must be public, all, or a list of repository patterns such as [team/*]")


def _plain_text(value: Any) -> Any:
    """YAML reads `password: 0123` as a number and has lost the text by then."""
    if isinstance(value, bool | int | float):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic takes ValueError
    return value


Listen = Annotated[str, AfterValidator(_listen)]
"""`host:port`; see `host_and_port`."""
HostPort = Annotated[str, AfterValidator(_host_port)]
"""`host[:port]`, lower case."""
HostPorts = Annotated[tuple[HostPort, ...], listed()]
HostPortsOrText = Annotated[tuple[HostPort, ...], listed(), BeforeValidator(_split)]
"""Also `a, b`, for settings that are environment variables."""
Url = Annotated[str, BeforeValidator(_plain_text), AfterValidator(_upstream_url)]
"""No trailing slash, no query, no user."""
ProxyUrl = Annotated[SecretStr, BeforeValidator(_plain_text), AfterValidator(_proxy_url)]
RedisUrl = Annotated[str, BeforeValidator(_plain_text), AfterValidator(_redis_url)]
RedisPrefix = Annotated[str, BeforeValidator(_plain_text), AfterValidator(_redis_prefix)]
Text = Annotated[str, BeforeValidator(_plain_text)]
Secret = Annotated[SecretStr, BeforeValidator(_plain_text)]
Expose = Annotated[Literal["public", "all"] | tuple[str, ...], PlainValidator(_expose)]
