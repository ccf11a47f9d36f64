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
    """None: the upstream is used anonymously and shares the group `public`.

    Runs no credential helper.
    """
    if upstream.username is not None and upstream.password is not None:
        password = upstream.password.get_secret_value()
        return StaticCredentials(Credentials(upstream.username, password))
    if docker_config is None:
        return None
    return docker_config.source_for([urlsplit(upstream.url).netloc])
