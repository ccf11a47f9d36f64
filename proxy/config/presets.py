"""The public registries that are known without being configured.

Only facts that have held for years: the API's address and, where the token
service is another host, that host (credentials may go there). A user's
`upstreams` are laid over these field by field.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "docker.io": {
        "url": "https://registry-1.docker.io",
        "aliases": ["index.docker.io", "registry-1.docker.io"],
        "library": True,
        "token_realms": ["auth.docker.io"],
    },
    "ghcr.io": {"url": "https://ghcr.io"},
    "quay.io": {"url": "https://quay.io"},
    # k8s.gcr.io has been a redirect to it, with the same repositories, since 2023.
    "registry.k8s.io": {"url": "https://registry.k8s.io", "aliases": ["k8s.gcr.io"]},
    "gcr.io": {"url": "https://gcr.io"},
    "us-docker.pkg.dev": {"url": "https://us-docker.pkg.dev"},
    "europe-docker.pkg.dev": {"url": "https://europe-docker.pkg.dev"},
    "asia-docker.pkg.dev": {"url": "https://asia-docker.pkg.dev"},
    "public.ecr.aws": {"url": "https://public.ecr.aws"},
    "mcr.microsoft.com": {"url": "https://mcr.microsoft.com"},
    "registry.gitlab.com": {"url": "https://registry.gitlab.com", "token_realms": ["gitlab.com"]},
    # Refers to a second token service once a token of its own has expired.
    "nvcr.io": {"url": "https://nvcr.io", "token_realms": ["authn.nvidia.com"]},
    "docker.elastic.co": {
        "url": "https://docker.elastic.co",
        "token_realms": ["docker-auth.elastic.co"],
    },
    # A front of ghcr.io, whose tokens it wants.
    "lscr.io": {"url": "https://lscr.io", "token_realms": ["ghcr.io"]},
    "cgr.dev": {"url": "https://cgr.dev"},
    "registry.access.redhat.com": {"url": "https://registry.access.redhat.com"},
    "registry.redhat.io": {"url": "https://registry.redhat.io"},
}
