"""Contents of bundles for tests: any that make sense, and one small real one."""

from __future__ import annotations

from hypothesis import strategies as st

from proxy.bundles import archive
from proxy.bundles.contents import Blob, Contents, Image, Kind, LeftOut, Place, Referrer
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor
from proxy.oci.names import Repository, Tag

APP = Place("docker.io", Repository.parse("library/app"))
OTHER = Place("127.0.0.1:5000", Repository.parse("team/other"))


def described(body: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(body), size=len(body))


def contents(
    bodies: dict[Kind, bytes] | None = None,
    *,
    left_out: tuple[LeftOut, ...] = (),
    receipts: tuple[str, ...] = (),
    bundle: str = "0" * 32,
) -> Contents:
    """A bundle of one image whose pieces are `bodies`; a manifest is among them."""
    bodies = bodies or {"manifest": b"the manifest", "config": b"{}", "layer": b"layer" * 500}
    top = described(bodies["manifest"], OCI_MANIFEST)
    images = (
        Image(name=f"{APP}:v1", place=APP, tag=Tag.parse("v1"), descriptor=top),
        Image(name=f"{OTHER}@{top.digest}", place=OTHER, tag=None, descriptor=top),
    )
    return Contents(
        bundle=bundle,
        created=1_700_000_000,
        receipts=receipts,
        bundles=(),
        platforms=("linux/amd64",),
        images=images,
        referrers=(),
        blobs=tuple(
            Blob(
                descriptor=top if kind == "manifest" else described(body),
                kind=kind,
                places=(OTHER, APP),
            )
            for kind, body in bodies.items()
        ),
        left_out=left_out,
        index_sha256=archive.sha256_of(archive.index_body(images)),
        layout_sha256=archive.sha256_of(archive.LAYOUT_BODY),
    )


_digests = st.builds(
    Digest.of,
    st.binary(min_size=1, max_size=12),
    st.sampled_from(["sha256", "sha256", "sha512"]),
)
_media_types = st.sampled_from([OCI_MANIFEST, "application/x", "text/ünusual; a=b"])
_sizes = st.one_of(st.integers(0, 5000), st.integers(2**33, 2**45))
_places = st.sampled_from([APP, OTHER, Place("quay.io", Repository.parse("a"))])
_some_places = st.lists(_places, min_size=1, max_size=3, unique=True).map(
    lambda many: tuple(sorted(many))
)
_tags = st.one_of(st.none(), st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True))
_ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)


@st.composite
def any_contents(draw: st.DrawFn) -> Contents:
    """Everything that `contents.json` can tell."""
    descriptors = [
        Descriptor(media_type=draw(_media_types), digest=digest, size=draw(_sizes))
        for digest in draw(st.lists(_digests, min_size=1, max_size=8, unique=True))
    ]
    here = draw(st.integers(0, len(descriptors)))
    images = {}
    for at in draw(st.sets(st.integers(0, len(descriptors) - 1), min_size=1)):
        place, tag = draw(_places), draw(_tags)
        name = f"{place}@{descriptors[at].digest}" if tag is None else f"{place}:{tag}"
        images[name] = Image(
            name=name,
            place=place,
            tag=None if tag is None else Tag.parse(tag),
            descriptor=descriptors[at],
        )
    referrers = tuple(
        Referrer(
            subject=draw(_digests),
            place=APP,
            tag=None,
            descriptor=descriptors[at],
            artifact_type=draw(st.sampled_from([None, "application/spdx+json"])),
        )
        for at in draw(st.sets(st.integers(0, len(descriptors) - 1)))
    )
    kinds: list[Kind] = ["index", "manifest", "config", "layer"]
    return Contents(
        bundle=draw(_ids),
        created=draw(st.integers(0, 2**40)),
        receipts=tuple(draw(st.lists(_ids, min_size=1, max_size=2))),
        bundles=tuple(draw(st.lists(_ids, max_size=2))),
        platforms=draw(st.sampled_from([None, (), ("linux/amd64", "linux/arm/v7")])),
        images=tuple(images.values()),
        referrers=referrers,
        blobs=tuple(
            Blob(descriptor=one, kind=draw(st.sampled_from(kinds)), places=draw(_some_places))
            for one in descriptors[:here]
        ),
        left_out=tuple(
            LeftOut(digest=one.digest, size=one.size, places=draw(_some_places))
            for one in descriptors[here:]
        ),
        index_sha256=archive.sha256_of(archive.index_body(images.values())),
        layout_sha256=archive.sha256_of(archive.LAYOUT_BODY),
    )
