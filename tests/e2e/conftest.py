"""What the end-to-end tests share: a runnable image in a real registry, and an
Entrepot in front of it.

The registry's content is made once; each test starts its own registry process on
it and its own empty Entrepot, so that "cold" is cold and each access log tells of
one test only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.busybox_image import Built, build
from tests.support.containers_tools import Settings, Skopeo
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import Entrepot, upstreams_of
from tests.support.private_ca import PrivateCa, issue
from tests.support.programs import static_busybox

HERE = Path(__file__).parent

REPOSITORIES = ("demo/busybox", "library/busybox", "open/busybox", "closed/busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an end-to-end test, marked or not."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def _short_folder() -> Iterator[Path]:
    # A unix socket's path must be below 108 bytes; pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="entrepot-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_nook() -> Iterator[Path]:
    yield from _short_folder()


@pytest.fixture
def nook() -> Iterator[Path]:
    """A folder of this test with a short path."""
    yield from _short_folder()


@pytest.fixture(scope="session")
def image(session_nook: Path) -> Built:
    return build(session_nook / "layout", static_busybox())


@pytest.fixture(scope="session")
def stock(session_nook: Path, image: Built) -> Path:
    """A docker-registry's content: in each of `REPOSITORIES` the tags `v1` (one
    platform), `latest` and `multi` (the index) and `schema2` (Docker's media types).
    """
    content = session_nook / "content"
    with DockerRegistry(session_nook / "stocking", content) as registry:
        settings = Settings(session_nook / "tools", insecure=(registry.address,))
        skopeo = Skopeo(settings)
        for name in REPOSITORIES:
            target = f"docker://{registry.address}/{name}"
            single, multi = f"oci:{image.layout}:single", f"oci:{image.layout}:multi"
            skopeo.run("copy", "--preserve-digests", single, f"{target}:v1")
            skopeo.run("copy", "--format=v2s2", single, f"{target}:schema2")
            for tag in ("multi", "latest"):
                skopeo.run("copy", "--preserve-digests", "--all", multi, f"{target}:{tag}")
    return content


@pytest.fixture
def upstream(nook: Path, stock: Path) -> Iterator[DockerRegistry]:
    """The registry that Entrepot pulls from, without authentication."""
    with DockerRegistry(nook / "upstream", stock) as registry:
        yield registry


@pytest.fixture
def entrepot(nook: Path, upstream: DockerRegistry) -> Iterator[Entrepot]:
    """A running Entrepot with nothing cached."""
    with Entrepot(nook / "entrepot", upstreams=upstreams_of(upstream)) as running:
        yield running


@pytest.fixture
def authority(nook: Path) -> PrivateCa:
    """One that nobody knows, and a certificate of it for 127.0.0.1."""
    return issue(nook / "authority")


@pytest.fixture
def secure(nook: Path, upstream: DockerRegistry, authority: PrivateCa) -> Iterator[Entrepot]:
    """One that speaks TLS with a certificate of `authority`."""
    with Entrepot(
        nook / "secure",
        upstreams=upstreams_of(upstream),
        tls_cert_file=str(authority.cert),
        tls_key_file=str(authority.key),
    ) as running:
        yield running
