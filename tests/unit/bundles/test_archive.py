"""The tar archive: other programs read it, and every byte of it is known beforehand."""

from __future__ import annotations

import io
import json
import tarfile

from hypothesis import HealthCheck, given, settings

from proxy.bundles import archive, signing
from proxy.bundles.contents import Contents
from tests.support.bundle_contents import any_contents, contents


def _sparse(some: Contents) -> tuple[io.BytesIO, int]:
    """The archive without the blobs' bytes; None of them is as long as it says."""
    body = some.encode()
    signature = signing.signed(body, None)
    out = io.BytesIO()
    for member in archive.members(some, body, signature):
        assert out.tell() == member.at
        out.write(member.header)
        assert member.body_at == out.tell()
        out.write(member.body if member.body is not None else bytes(member.size))
        out.write(bytes(member.end - member.body_end))
    out.write(archive.END)
    return out, archive.length(some, body, signature)


def test_tarfile_reads_it_and_nothing_tells_of_this_machine() -> None:
    some = contents()
    out, length = _sparse(some)
    assert len(out.getvalue()) == length
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = tar.getmembers()
    assert [one.name for one in found] == [
        "oci-layout",
        "entrepot/contents.json",
        "entrepot/contents.sig",
        "index.json",
        *(f"blobs/sha256/{one.descriptor.digest.hex}" for one in some.blobs),
    ]
    for one in found:
        assert one.isreg()
        assert (one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 0)
        assert one.mode == 0o644


# A busy machine is slow to think of examples.
THOROUGH = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@given(any_contents())
@THOROUGH
def test_the_offsets_are_those_that_tarfile_finds_long_names_and_great_sizes_included(
    some: Contents,
) -> None:
    body = some.encode()
    signature = signing.signed(body, None)
    members = list(archive.members(some, body, signature))
    for member in members:
        info = tarfile.TarInfo.frombuf(member.header[-512:], "utf-8", "strict")
        out = io.BytesIO(member.header)
        with tarfile.open(fileobj=out, mode="r:") as tar:
            info = tar.getmembers()[0] if not member.size else tar.next()
            assert info is not None
            assert (info.name, info.size) == (member.name, member.size)
            assert info.offset_data == len(member.header)
        assert (member.at % 512, member.end % 512) == (0, 0)
        assert member.end - member.body_end < 512
    assert archive.length(some, body, signature) == members[-1].end + 1024


def test_the_index_names_each_image_as_other_tools_look_for_it() -> None:
    some = contents()
    index = json.loads(archive.index_body(some.images))
    assert [one["annotations"] for one in index["manifests"]] == [
        {
            "org.opencontainers.image.ref.name": image.name,
            "io.containerd.image.name": image.name,
        }
        for image in some.images
    ]
    assert [one["digest"] for one in index["manifests"]] == [
        str(image.descriptor.digest) for image in some.images
    ]
