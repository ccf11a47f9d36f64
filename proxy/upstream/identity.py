"""Which credentials belong to which upstream: the settings' own, else Docker's.

Docker's file is asked for the host of the upstream's URL and for nothing else.
An upstream may be *called* docker.io and be a mirror next door: that mirror has
no business seeing a Docker Hub password.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from proxy.config import UpstreamSettings
from proxy.upstream.credentials import Credentials, CredentialSource, StaticCredentials
from proxy.upstream.docker_config import DockerConfig


def credential_source(
    upstream: UpstreamSettings, docker_config: DockerConfig | None
) -> CredentialSource | None:
    """The first of `credential_sources`. None: the upstream is used anonymously
    and shares the group `public`.
    """
    return next(iter(credential_sources(upstream, docker_config)), None)


def credential_sources(
    upstream: UpstreamSettings, docker_config: DockerConfig | None
) -> tuple[CredentialSource, ...]:
    """All logins at an upstream, those of the settings in their order.

    Docker's file is asked only where the settings name none. Runs no credential helper.
    """
    found: list[CredentialSource] = []
    own = (upstream.username, upstream.password)
    for username, password in (
        own,
        *((one.username, one.password) for one in upstream.credentials),
    ):
        if username is not None and password is not None:
            found.append(StaticCredentials(Credentials(username, password.get_secret_value())))
    if not found and docker_config is not None:
        dockers = docker_config.source_for([urlsplit(upstream.url).netloc])
        return () if dockers is None else (dockers,)
    return tuple(found)
