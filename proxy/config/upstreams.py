"""The settings of one upstream. Declarative only; `contradictions.py` compares fields."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from proxy.config.link import UpstreamLinkSettings
from proxy.config.moments import MomentOrNone
from proxy.config.quota import CredentialList, QuotaReserve
from proxy.config.tag_rules import TagRules
from proxy.config.units import Seconds, SecondsOrNone
from proxy.config.values import Expose, HostPorts, ProxyUrl, Secret, Text, Url

SECRETS = ("username", "password", "proxy")
"""Each can be given as `<name>_file` too, and masks itself except `username`."""


class UpstreamSettings(BaseModel):
    """A registry that content is fetched from, by its name under `upstreams`.

    After `load`, `username`, `password` and `proxy` hold what their `_file` or
    `_env` named.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    url: Url = Field(description="Where the registry is: `http://` or `https://`, host, path.")
    aliases: HostPorts = Field(
        default=(), description="Further names that clients use for it (in `ns=` and paths)."
    )
    hosts: HostPorts = Field(
        default=(), description="`Host` headers under which clients reach this upstream directly."
    )
    library: bool = Field(
        default=False, description="Names of one part are below `library/`, as on Docker Hub."
    )
    username: Text | None = Field(default=None, description="The user to log in as.")
    username_file: Path | None = Field(default=None, description="A file with the user name.")
    password: Secret | None = Field(default=None, description="The password or access token.")
    password_file: Path | None = Field(default=None, description="A file with the password.")
    password_env: Text | None = Field(
        default=None, description="An environment variable with the password."
    )
    credentials: CredentialList = Field(
        default=(),
        description="Further logins, used in turn with `username`: whoever has most pulls left. "
        "All must be able to see the same things; clients may be shown what any of them may see, "
        "as `expose` says. See the table below.",
    )
    quota_reserve: QuotaReserve = Field(
        default="10%",
        description="Where the registry counts pulls and tells how many are left (Docker Hub): so "
        "many (`10`), or this share of its limit (`10%`), of each login are kept for what nobody "
        "has here. Below it, a tag that moved is answered with the image that is held, for "
        "`tag_stale_max_s` at most, and marked with a `Warning`. `0`: none.",
    )
    quota_warm_reserve: QuotaReserve = Field(
        default="30%",
        description="The same for warm-up and refresh, which spend nothing at all below it; "
        "never less than `quota_reserve`.",
    )
    expose: Expose = Field(
        default="public",
        description="With credentials, what anyone who reaches Entrepot may pull: `public` (what "
        "the registry shows without login too), `all`, or a list of patterns such as `team/*`.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities to trust instead of the system's."
    )
    insecure: bool = Field(default=False, description="Don't verify the TLS certificate.")
    proxy: ProxyUrl | None = Field(
        default=None, description="URL of an HTTP proxy to go through; may hold `user:password@`."
    )
    proxy_file: Path | None = Field(default=None, description="A file with the proxy's URL.")
    token_realms: HostPorts = Field(
        default=(), description="Other hosts that may be sent the credentials to get a token."
    )
    tag_fresh_s: SecondsOrNone = Field(
        default=None, description="`tag_fresh_s` for this upstream.", ge=0
    )
    tag_stale_max_s: SecondsOrNone = Field(
        default=None, description="`tag_stale_max_s` for this upstream.", ge=0
    )
    tag_rules: TagRules = Field(
        default=(), description="Rules for its tags by pattern; see the table below."
    )
    offline: bool | None = Field(
        default=None, description="`offline` for this upstream: `false` for one inside the gap."
    )
    as_of: MomentOrNone = Field(
        default=None,
        description="Serve its tags as they stood at this date (its beginning, UTC) or time, by "
        "their history here; it is then asked for content by digest only.",
    )
    connect_s: Seconds = Field(default=5, gt=0, description="Longest wait for a connection.")
    head_s: Seconds = Field(default=10, gt=0, description="Longest wait for a response head.")
    stall_s: Seconds = Field(
        default=30, gt=0, description="A body that does not move for this long is given up."
    )
    connections_max: int = Field(default=32, ge=1, description="Most connections at once.")
    link: UpstreamLinkSettings = Field(
        default=UpstreamLinkSettings(), description="How much of the link it may fill, when."
    )
    relay_429: bool = Field(
        default=False,
        description="Tell clients 429 when the registry limits us, instead of 503 (from which "
        "they fall back faster).",
    )
