"""A bundle is an OCI image layout: the tools that know no Entrepot take images out of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.busybox_image import MARKER, Built
from tests.support.containerd import Containerd
from tests.support.containers_tools import Podman, Settings, Skopeo
from tests.support.entrepot import Entrepot

NAMES = ("docker.io/library/busybox:latest", "lab/demo/busybox:v1")


@pytest.fixture
def bundle(nook: Path, entrepot: Entrepot) -> Path:
    """An archive with both images, all platforms, as the command writes it."""
    out = nook / "bundle.tar"
    command = [sys.executable, "-m", "proxy", "export", *NAMES, "--all-platforms"]
    programs.run(*command, "-o", out, "--admin", entrepot.admin)
    return out


def test_containerd_imports_all_of_it_under_the_right_names(
    nook: Path, bundle: Path, image: Built
) -> None:
    with Containerd(nook / "c") as containerd:
        command = ("images", "import", "--all-platforms", "--no-unpack", bundle)
        programs.run(*containerd._argv(*command))
        names = programs.run(*containerd._argv("images", "ls", "--quiet")).stdout.split()
        assert sorted(names) == sorted(NAMES)
        assert {image.index, image.manifest, *image.blobs} <= containerd.digests()
    with Containerd(nook / "d") as containerd:
        programs.run(*containerd._argv("images", "import", "--snapshotter", "native", bundle))
        assert containerd.says(NAMES[0]) == MARKER


def test_skopeo_copies_an_index_out_of_it_byte_for_byte(
    nook: Path, bundle: Path, image: Built
) -> None:
    skopeo = Skopeo(Settings(nook / "tools"))
    out = nook / "out"
    place = f"oci-archive:{bundle}:{NAMES[0]}"
    skopeo.run("copy", "--all", "--preserve-digests", place, f"oci:{out}:it")
    (described,) = json.loads((out / "index.json").read_text())["manifests"]
    assert described["digest"] == image.index
    for digest in (image.manifest, *image.blobs):
        assert (out / "blobs" / digest.replace(":", "/")).exists()


def test_podman_pulls_from_it_and_runs_that(nook: Path, bundle: Path) -> None:
    podman = Podman(Settings(nook / "tools"), "p")
    podman.pull(f"oci-archive:{bundle}:{NAMES[0]}")
    assert podman.says(NAMES[0]) == MARKER
