"""Two Entrepots that share no network, and a file that is carried from one to the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.oci.digest import Digest
from tests.support.busybox_image import MARKER, Built
from tests.support.containers_tools import Podman, Settings, Skopeo
from tests.support.distribution import installed
from tests.support.docker_registry import DockerRegistry
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot
from tests.support.images import Content, Image, artifact
from tests.support.programs import attempt, missing, needs_containers, program, run

ROOT = Path(__file__).parents[2]
CLIENTS = {"docker": "docker", "containerd": "ctr", "podman": "podman"}


@pytest.fixture
def apart() -> tuple[str, ...]:
    """What to put before a command to run it where there is no network but loopback."""
    needs_containers()
    words = (program("unshare", package="util-linux"), "--net", "--")
    tried = attempt(*words, "ip", "link", "set", "lo", "up")
    if tried.code:
        missing(f"needs a network namespace of its own: {tried.output.strip()}")
    return (*words, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture
def upstream(nook: Path, stock: Path) -> Iterator[DockerRegistry]:
    """One that can be written to."""
    shutil.copytree(stock, nook / "content")
    with DockerRegistry(nook / "upstream", nook / "content") as registry:
        yield registry


def put(url: str, body: bytes, kind: str) -> None:
    asked = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": kind})
    urllib.request.urlopen(asked, timeout=20).close()


def signed(registry: DockerRegistry, repository: str, index: str) -> Image:
    """As cosign does it: under a tag that is made of the digest."""
    signature = artifact(sign_this(index), "application/vnd.dev.cosign.simplesigning.v1+json")
    base = f"{registry.url}/v2/{repository}"
    for blob in signature.blobs:
        begin = urllib.request.Request(f"{base}/blobs/uploads/", data=b"", method="POST")
        with urllib.request.urlopen(begin, timeout=20) as answer:
            place = answer.headers["Location"]
        put(f"{place}&digest={blob.digest}", blob.body, "application/octet-stream")
    tag = f"{index.replace(':', '-')}.sig"
    put(f"{base}/manifests/{tag}", signature.manifest.body, signature.manifest.media_type)
    return signature


def sign_this(index: str) -> Image:
    """Something with that digest."""
    content = Content("application/vnd.oci.image.index.v1+json", b"", Digest.parse(index))
    return Image(manifests=(content,), blobs=())


def exported(entrepot: Entrepot, folder: Path, *images: str) -> None:
    """`bundle`, signed, with its public key, in `folder`."""
    run(installed(), "keys", "new", "low", "--out", folder)
    words = ["export", *images, "--output", folder / "bundle", "--key", folder / "low.key"]
    run(installed(), *words, "--all-platforms", "--config", entrepot.config)


def on_the_high_side(folder: Path, apart: tuple[str, ...], **asked: Any) -> dict[str, Any]:
    (folder / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [*apart, sys.executable, "-m", "tests.support.high_side", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "cut off"])
def test_images_pull_and_run_where_only_the_bundle_has_come(
    nook: Path,
    apart: tuple[str, ...],
    entrepot: Entrepot,
    upstream: DockerRegistry,
    image: Built,
    *,
    offline: bool,
) -> None:
    media = nook / "media"
    media.mkdir()
    signature = signed(upstream, "demo/busybox", image.index)
    exported(entrepot, media, "registry.test/demo/busybox:multi", "docker.io/busybox:multi")
    # Nothing of the low side is left to ask, wherever it may listen.
    entrepot.stop()
    upstream.kill()
    clients = [name for name, command in CLIENTS.items() if shutil.which(command)]
    if not clients:
        missing("needs docker, containerd or podman")
    digests = [image.index, image.manifest, image.other_manifest]
    paths = [f"demo/busybox/manifests/{one}" for one in ("multi", *digests)]
    paths += [f"demo/busybox/blobs/{one}" for one in image.all_blobs]
    paths += [f"demo/busybox/manifests/{signature.digest}"]
    paths += [f"demo/busybox/blobs/{one.digest}" for one in signature.blobs]
    by_tag = f"demo/busybox/manifests/{image.index.replace(':', '-')}.sig"
    seen = on_the_high_side(
        media,
        apart,
        offline=offline,
        bundle="bundle",
        repository="demo/busybox",
        hub="busybox",
        references=[":multi", f"@{image.index}"] if offline else [":multi"],
        clients=clients if offline else ["podman"],
        paths=[*paths, by_tag],
    )
    assert seen["interfaces"] == ["lo"]
    assert seen["before"] in {404, 503}
    assert seen["code"] == 0, seen["import"]
    expected = {path: path.rpartition(":")[2] for path in paths}
    expected["demo/busybox/manifests/multi"] = image.index.partition(":")[2]
    expected[by_tag] = signature.digest.hex
    assert seen["sha256"] == expected
    assert set(seen["says"].values()) == {MARKER}
    assert {one.partition(" ")[0] for one in seen["says"]} == set(
        clients if offline else ["podman"]
    )


def test_what_skopeo_and_docker_wrote_comes_in_too(
    nook: Path, entrepot: Entrepot, image: Built
) -> None:
    upstreams = {"lab": {"url": "http://127.0.0.1:1", "aliases": ["registry.test"]}}
    high = Entrepot(nook / "high", upstreams=upstreams, presets=False, offline=True)
    tools = Settings(nook / "tools", insecure=(high.address,))
    skopeo, name = Skopeo(tools), "registry.test/carried/busybox"
    multi, single = f"oci:{image.layout}:multi", f"oci:{image.layout}:single"
    skopeo.run("copy", "--all", multi, f"oci-archive:{nook}/one.tar:{name}:one")
    skopeo.run("copy", single, f"docker-archive:{nook}/two.tar:{name}:two")
    skopeo.run("copy", "--all", multi, f"oci:{nook}/three:three")
    with Dockerd(nook / "d", mirrors=[entrepot.url]) as docker:
        docker.pull("busybox:multi")
        docker.tag("busybox:multi", f"{name}:four")
        docker.save(f"{name}:four", nook / "four.tar")
    take = [installed(), "import", "--unsigned", "--config", high.config]
    with high:
        assert attempt(*take[:2], nook / "one.tar", *take[3:]).code == 2
        run(*take, *(nook / f"{one}.tar" for one in ("one", "two", "four")))
        run(*take, nook / "three", "--name", name)
        podman = Podman(tools, "store")
        for tag in ("one", "two", "three", "four"):
            here = f"{high.address}/lab/carried/busybox:{tag}"
            podman.pull(here)
            assert podman.says(here) == MARKER
            assert podman.digest(here) == image.index or tag in {"two", "four"}
