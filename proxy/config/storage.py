"""The settings of durable storage. Declarative only; `fleet.py` compares fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proxy.config.units import SecondsOrNone, Size, SizeOrNone
from proxy.config.values import Secret, Text, Url, bucket_name, key_prefix

_MIB = 1024**2

S3_SECRETS = ("access_key", "secret_key", "session_token")
"""Each can be given as `<name>_file` or `<name>_env` too."""


class S3Settings(BaseModel):
    """An S3-compatible store. After `load`, secrets hold what their `_file` or
    `_env` named; without `access_key` the AWS credential chain is asked.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    endpoint: Url | None = Field(default=None, description="Where it is; unset: AWS.")
    bucket: Annotated[Text, AfterValidator(bucket_name)] = Field(
        description="The bucket; it must exist."
    )
    prefix: Annotated[Text, AfterValidator(key_prefix)] = Field(
        default="", description="What all keys begin with, such as `cache/eu`."
    )
    region: Text | None = Field(
        default=None, description="The region; unset: what the AWS chain says, else `us-east-1`."
    )
    access_key: Secret | None = Field(
        default=None,
        description="Access key id; unset: the AWS credential chain (environment, files, web "
        "identity, container or instance role).",
    )
    access_key_file: Path | None = Field(default=None, description="A file with the access key.")
    access_key_env: Text | None = Field(
        default=None, description="An environment variable with the access key."
    )
    secret_key: Secret | None = Field(default=None, description="Secret access key.")
    secret_key_file: Path | None = Field(default=None, description="A file with the secret key.")
    secret_key_env: Text | None = Field(
        default=None, description="An environment variable with the secret key."
    )
    session_token: Secret | None = Field(
        default=None, description="Session token of temporary keys."
    )
    session_token_file: Path | None = Field(
        default=None, description="A file with the session token."
    )
    session_token_env: Text | None = Field(
        default=None, description="An environment variable with the session token."
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="Where the bucket's name goes: `path`, `virtual` (into the host name), or "
        "`auto` (`virtual` on AWS, else `path`).",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities to trust instead of the known ones."
    )
    insecure: bool = Field(default=False, description="Don't verify the TLS certificate.")
    sse: Literal["none", "AES256", "aws:kms"] = Field(
        default="none",
        description="Server-side encryption to ask for; `none`: the bucket's default.",
    )
    sse_kms_key: Text | None = Field(
        default=None, description="The KMS key for `aws:kms`; unset: the account's own."
    )
    redirect: bool = Field(
        default=False,
        description="Send clients to presigned URLs for large blobs, so that bytes don't pass "
        "through here. Clients must reach the store.",
    )
    redirect_bytes_min: Size = Field(
        default=8 * _MIB, description="Smallest blob that is redirected."
    )
    public_endpoint: Url | None = Field(
        default=None, description="Where clients reach the store; unset: `endpoint`."
    )
    bytes_max: SizeOrNone = Field(
        default=None,
        ge=_MIB,
        description="Most bytes of blobs to keep in the store; unset: no bound.",
    )
    expire_s: SecondsOrNone = Field(
        default=None,
        ge=3600,
        description="Remove blobs from the store that nobody used for this long; unset: never.",
    )


class StorageSettings(BaseModel):
    """Where content is kept, beside `data_dir`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    s3: S3Settings | None = Field(
        default=None, description="An S3-compatible store, shared by replicas."
    )
