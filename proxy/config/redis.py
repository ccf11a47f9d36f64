"""The settings of Redis, which replicas coordinate through. Declarative only;
`fleet.py` compares fields.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from proxy.config.values import HostPorts, RedisPrefix, RedisUrl, Secret, Text

REDIS_SECRETS = ("username", "password", "sentinel_username", "sentinel_password")
"""Each can be given as `<name>_file` or `<name>_env` too; user names are shown."""


class RedisSettings(BaseModel):
    """One server, or a Sentinel group, or a cluster; exactly one of `url` and
    `sentinel` is set. After `load`, secrets hold what their `_file` or `_env` named.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    url: RedisUrl | None = Field(
        default=None,
        description="`redis://host:6379/0`, or `rediss://` for TLS; of a cluster, any node.",
    )
    username: Text | None = Field(default=None, description="The user to log in as.")
    username_file: Path | None = Field(default=None, description="A file with the user name.")
    username_env: Text | None = Field(
        default=None, description="An environment variable with the user name."
    )
    password: Secret | None = Field(default=None, description="The password.")
    password_file: Path | None = Field(default=None, description="A file with the password.")
    password_env: Text | None = Field(
        default=None, description="An environment variable with the password."
    )
    sentinel: HostPorts = Field(
        default=(), description="Sentinels, as `host:port`, instead of `url`."
    )
    sentinel_master: Text | None = Field(
        default=None, description="The name under which the Sentinels know the server."
    )
    sentinel_username: Text | None = Field(
        default=None, description="The user to log in as at the Sentinels."
    )
    sentinel_username_file: Path | None = Field(
        default=None, description="A file with that user name."
    )
    sentinel_username_env: Text | None = Field(
        default=None, description="An environment variable with that user name."
    )
    sentinel_password: Secret | None = Field(
        default=None, description="The password at the Sentinels; unset: they ask for none."
    )
    sentinel_password_file: Path | None = Field(
        default=None, description="A file with that password."
    )
    sentinel_password_env: Text | None = Field(
        default=None, description="An environment variable with that password."
    )
    cluster: bool = Field(default=False, description="`url` is a node of a Redis Cluster.")
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities to trust instead of the system's."
    )
    cert_file: Path | None = Field(
        default=None, description="PEM certificate chain to present to the server."
    )
    key_file: Path | None = Field(default=None, description="PEM key of the certificate.")
    insecure: bool = Field(default=False, description="Don't verify the TLS certificate.")
    prefix: RedisPrefix = Field(default="entrepot", description="What all keys begin with.")

    @property
    def tls(self) -> bool:
        """Whether to speak TLS. Sentinels have no scheme: any TLS setting says it."""
        if self.url is not None:
            return self.url.startswith("rediss:")
        return bool(self.ca_file or self.cert_file or self.insecure)
