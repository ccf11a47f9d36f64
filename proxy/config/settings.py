"""All settings, their defaults and what they mean. Declarative only.

The descriptions are the documentation: the README's table and the checks of the
sample file are made from them. What one field can't know alone is compared in
`contradictions.py`; build settings from outside input with `load`, nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.config.bundles import BundleSettings
from proxy.config.keep import KeepSettings
from proxy.config.link import LinkSettings
from proxy.config.pull_listeners import PullListeners
from proxy.config.redis import RedisSettings
from proxy.config.storage import StorageSettings
from proxy.config.tag_rules import TagRules
from proxy.config.units import Seconds, SecondsOrNone, Size, SizeOrNone
from proxy.config.upstreams import UpstreamSettings
from proxy.config.values import HostPortsOrText, Listen, Secret, Text, Url
from proxy.config.warm import WarmSettings

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


def _number(value: Any) -> Any:
    """The environment knows only text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _share(value: Any) -> Any:
    """The same for fractions."""
    return (
        float(value) if isinstance(value, str) and value.replace(".", "", 1).isdecimal() else value
    )


class Settings(BaseModel):
    """One process's settings; see the fields' descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    version: Annotated[Literal[1], BeforeValidator(_number)] = Field(
        default=1, description="Version of this file's format."
    )
    listen: Listen = Field(default="127.0.0.1:5000", description="Address for pulls.")
    listeners: PullListeners = Field(
        default=(), description="Further addresses for pulls; see the table below."
    )
    admin_listen: Listen = Field(
        default="127.0.0.1:5001",
        description="Address for health, metrics and the admin API; not for the public.",
    )
    admin_hosts: HostPortsOrText = Field(
        default=(),
        description="Names in public DNS by which the admin API is reached; it answers to "
        "addresses and to private names (`entrepot`, `*.svc`, `*.internal`) anyway.",
    )
    data_dir: Path = Field(
        default=Path("/var/lib/entrepot"),
        description="Folder for everything kept; one process owns it.",
    )
    default_upstream: Text | None = Field(
        default="docker.io", description="The upstream of a request that names none."
    )
    presets: bool = Field(
        default=True,
        description="Know the public registries; what stands under `upstreams` goes on top.",
    )
    docker_config_file: Path | None = Field(
        default=None, description="A Docker `config.json` to take credentials from."
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM certificate chain; turns TLS on for `listen`."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate.")
    tls_client_ca_file: Path | None = Field(
        default=None, description="PEM authorities; clients must then present a certificate."
    )
    disk_bytes_max: SizeOrNone = Field(
        default=None,
        ge=_MIB,
        description="Most disk to use for content; unset: all but `disk_free_bytes_min`.",
    )
    disk_free_bytes_min: Size = Field(
        default=_GIB, description="Leave at least this much of the file system free."
    )
    memory_bytes_max: Size = Field(
        default=32 * _MIB, description="Memory for small objects; 0: none."
    )
    memory_object_bytes_max: Size = Field(
        default=_MIB,
        description="Largest object that is held in memory; blobs above 128 KiB are sent from files.",
    )
    manifest_bytes_max: Size = Field(
        default=8 * _MIB, ge=64 * _KIB, description="Largest manifest that is accepted."
    )
    flights_max: int = Field(
        default=256, ge=1, description="Most downloads at once; more are asked to come back."
    )
    blob_connections_max: int = Field(
        4,
        ge=1,
        description="Most upstream connections for one blob, where more are faster; 1: never more.",
    )
    connections_max: int = Field(
        default=8192, ge=1, description="Most client connections at once; more are shed."
    )
    header_bytes_max: Size = Field(
        default=64 * _KIB, ge=8 * _KIB, description="Longest header field of a request."
    )
    tag_fresh_s: Seconds = Field(
        default=60, description="How long a tag is served without asking its upstream."
    )
    tag_stale_max_s: Seconds = Field(
        default=7 * 86400,
        description="How long a tag is still served after its upstream began to refuse us.",
    )
    tag_rules: TagRules = Field(
        default=(),
        description="Rules for tags by pattern, after those of their upstream: of all the first "
        "that matches holds; see the table below.",
    )
    offline: bool = Field(
        default=False,
        description="Never dial any upstream, for anything. Tags are served whatever their age; "
        "what is not here is told by name, with how to bring it in. Of an upstream with "
        "credentials, only what was seen to be public or `expose` opens is shown.",
    )
    negative_s: Seconds = Field(
        default=10, description='How long "there is no such thing" is remembered.'
    )
    expose_recheck_s: Seconds = Field(
        default=86400, description="How long a repository counts as public before it is rechecked."
    )
    header_budget_s: Seconds = Field(
        default=12, gt=0, description="A request is answered, if with 503, within this time."
    )
    revalidate_budget_s: Seconds = Field(
        default=2.5,
        gt=0,
        description="Longest wait for an upstream when there is a stale tag to serve instead.",
    )
    send_stall_s: Seconds = Field(
        default=60, gt=0, description="A client that takes nothing for this long is cut off."
    )
    drain_delay_s: Seconds = Field(
        default=0, description="On SIGTERM, how long to go on accepting while not ready."
    )
    drain_s: Seconds = Field(
        default=30, description="On SIGTERM, how long running transfers may take to finish."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: `console` on a terminal, `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged."
    )
    dockerd_blob_404: bool = Field(
        default=True,
        description="Answer 404 instead of 503 for a layer that can't be had to a classic Docker "
        "daemon, which else retries for 50 s before it goes to the registry itself.",
    )
    reuse_port: bool = Field(
        default=False,
        description="Let several processes on this machine listen on the same port, each with "
        "its own `data_dir`.",
    )
    scrub_every_s: SecondsOrNone = Field(
        default=None,
        gt=0,
        description="How often to read all kept content and verify it; unset: never.",
    )
    peer_listen: Listen | None = Field(
        default=None,
        description="Address for other replicas, which must reach it; needs `redis`.",
    )
    advertise_url: Url | None = Field(
        default=None,
        description="Where other replicas reach `peer_listen`; unset: found out.",
    )
    peer_secret: Secret | None = Field(
        default=None,
        description="What replicas prove to each other that they know; at least 16 characters.",
    )
    peer_secret_file: Path | None = Field(default=None, description="A file with the peer secret.")
    peer_secret_env: Text | None = Field(
        default=None, description="An environment variable with the peer secret."
    )
    access_log: bool = Field(default=True, description="Log one line for each request.")
    savings_clients: bool = Field(
        default=True,
        description="Tell savings by client subnet (/24, for IPv6 /56), too; `false`: never look "
        "at addresses for them.",
    )
    otlp_url: Url | None = Field(
        default=None,
        description="Where to send traces by OTLP over HTTP (`http://HOST:4318/v1/traces`); "
        "needs the extra `otel`; unset: none.",
    )
    otlp_ratio: Annotated[float, BeforeValidator(_share)] = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of requests to trace, of those whose client does not say.",
    )
    upstreams: dict[str, UpstreamSettings] = Field(
        default_factory=dict, description="The registries, by name; see the next table."
    )
    link: LinkSettings = Field(
        default=LinkSettings(), description="How much of the link upstreams may fill, when."
    )
    warm: WarmSettings = Field(
        default=WarmSettings(), description="What is brought before anybody asks for it, when."
    )
    storage: StorageSettings = Field(
        default_factory=StorageSettings, description="S3, beside the local disk."
    )
    redis: RedisSettings | None = Field(
        default=None, description="What replicas coordinate through."
    )
    keep: KeepSettings = Field(
        default=KeepSettings(), description="What stays, and how long the rest."
    )
    bundles: BundleSettings = Field(
        default_factory=BundleSettings, description="Whose bundles are believed."
    )


SECTIONS = frozenset(
    {"upstreams", "keep", "warm", "link", "storage", "redis", "bundles", "listeners", "tag_rules"}
)
SCALARS: tuple[str, ...] = tuple(name for name in Settings.model_fields if name not in SECTIONS)
"""The keys that are also `ENTREPOT_<KEY>` in the environment."""
TOP_SECRETS = ("peer_secret",)
"""Each can be given as `<name>_file` or `<name>_env` too."""
