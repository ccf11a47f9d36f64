"""An import in real processes, of which one is killed while it goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundles import KEY, bundle
from tests.support.distribution import installed
from tests.support.entrepot import Entrepot
from tests.support.images import Image, image
from tests.support.processes import wait_until

POINTS = (0, 6, 15)
BLOBS = 16


@pytest.fixture
def entrepot(tmp_path: Path) -> Iterator[Entrepot]:
    (tmp_path / "low.pub").write_text(KEY.public.pem())
    upstreams = {"lab": {"url": "http://127.0.0.1:1"}}
    high = Entrepot(tmp_path / "high", upstreams=upstreams, presets=False, offline=True)
    with high:
        yield high


def made(folder: Path, name: str) -> tuple[Path, Image]:
    """A bundle of one image of `BLOBS` blobs, unlike any other."""
    wanted = image(*[200_000] * (BLOBS - 1), seed=name)
    path = folder / f"{name}.tar"
    path.write_bytes(bundle({f"lab/{name}:v1": wanted}).tar())
    return path, wanted


def importing(high: Entrepot, path: Path) -> subprocess.Popen[bytes]:
    argv = [installed(), "import", path, "--key", path.parent / "low.pub"]
    argv += ["--config", high.config]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kept(high: Entrepot) -> int:
    return sum(1 for one in (high.data_dir / "blobs").rglob("*") if one.is_file())


def got(high: Entrepot, target: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"{high.url}/v2/lab/{target}", timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        return None


def there(high: Entrepot, name: str, wanted: Image) -> bool:
    """Whether the tag is; then all that it names is, too."""
    found = got(high, f"{name}/manifests/v1")
    if found is None:
        return False
    assert found == wanted.manifest.body
    for blob in wanted.blobs:
        assert got(high, f"{name}/blobs/{blob.digest}") == blob.body
    return True


def test_a_command_that_is_killed_is_repeated(entrepot: Entrepot, tmp_path: Path) -> None:
    for point in POINTS:
        path, wanted = made(tmp_path, f"command{point}")
        before = kept(entrepot)
        process = importing(entrepot, path)
        wait_until(
            lambda process=process, wish=before + point: (
                kept(entrepot) >= wish or process.poll() is not None
            ),
            what=f"{point} blobs",
        )
        process.kill()
        process.wait()
        there(entrepot, f"command{point}", wanted)
        assert importing(entrepot, path).wait(60) == 0
        assert there(entrepot, f"command{point}", wanted)


def test_a_proxy_that_is_killed_is_started_again(entrepot: Entrepot, tmp_path: Path) -> None:
    for point in POINTS[1:]:
        path, wanted = made(tmp_path, f"proxy{point}")
        before = kept(entrepot)
        process = importing(entrepot, path)
        wait_until(
            lambda process=process, wish=before + point: (
                kept(entrepot) >= wish or process.poll() is not None
            ),
            what=f"{point} blobs",
        )
        entrepot.kill()
        assert process.wait(60) in {0, 1}
        entrepot.start()
        there(entrepot, f"proxy{point}", wanted)
        assert importing(entrepot, path).wait(60) == 0
        assert there(entrepot, f"proxy{point}", wanted)


def test_on_a_terminal_it_shows_how_far_it_is(entrepot: Entrepot, tmp_path: Path) -> None:
    path, wanted = made(tmp_path, "watched")
    leader, follower = os.openpty()
    argv = [installed(), "import", path, "--key", path.parent / "low.pub"]
    argv += ["--config", entrepot.config]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=follower, env=env)
    os.close(follower)
    shown = bytearray()
    # (A terminal that nobody has any more is an error on Linux, not an end.)
    with contextlib.suppress(OSError), os.fdopen(leader, "rb", buffering=0) as terminal:
        while data := terminal.read(4096):
            shown += data
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.decode() == f"lab/watched:v1  {wanted.digest}\n"
    assert b"watched.tar" in shown
    assert b"MB" in shown
