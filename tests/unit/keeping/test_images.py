"""Images as they are held: platforms, completeness."""

from __future__ import annotations

from proxy.keeping.images import Image, Kind, Part, platforms_of
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey


def part(
    word: str,
    kind: Kind = "layer",
    *,
    platform: str = "linux/amd64",
    here: bool = True,
    stored: bool = False,
    optional: bool = False,
) -> Part:
    return Part(
        kind=kind,
        key=BlobKey(PUBLIC, Digest.of(word.encode())),
        size=10,
        platform=platform,
        optional=optional,
        here=here,
        used_at=5.0,
        stored_at=1.0,
        stored=stored,
    )


def held(*parts: Part) -> Image:
    return Image(parts[0].key.digest, parts, platforms_of(parts))


ARM = {"platform": "linux/arm64"}


def test_an_image_is_complete_by_platform() -> None:
    one = held(
        part("index", "index", platform=""),
        part("m1", "manifest"),
        part("l1", here=False, stored=True),
        part("m2", "manifest", platform="linux/arm64"),
        part("l2", platform="linux/arm64", here=False),
        part("attestation", "manifest", here=False, optional=True),
    )
    assert one.platforms == {"linux/amd64": True, "linux/arm64": False}
    assert (one.state, one.usable, one.here_bytes, one.used_at) == ("partial", True, 30, 5.0)
    assert held(part("m", "manifest"), part("l")).state == "complete"
    assert held(part("m", "manifest", here=False)).state == "absent"
    assert held(part("i", "index")).state == "partial"


def test_a_new_image_takes_the_olds_place_once_nobody_is_worse_off() -> None:
    amd, arm = part("a", "manifest"), part("b", "manifest", platform="linux/arm64")
    no_arm = part("c", "manifest", platform="linux/arm64", here=False)
    old_both, old_amd = held(amd, arm), held(amd, no_arm)
    assert held(amd, arm).covers(old_both)
    assert not held(amd, no_arm).covers(old_both)
    assert held(amd, no_arm).covers(old_amd)
    # What the new one is not even made for nobody can wait for.
    assert held(amd).covers(old_both)
    assert not held(no_arm).covers(old_amd)
