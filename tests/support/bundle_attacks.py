"""Bundles that somebody has tampered with: one mutation for each seed.

Four kinds: bytes changed at random; the archive rebuilt with other members, headers or
order; signatures and contents exchanged; and contents that lie, under a good signature.
All are refused by whoever looks closely; which sentence they get is not told here.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.bundles import archive, signing
from proxy.bundles.canonical import encoded
from proxy.bundles.contents import LeftOut
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from tests.support.bundles import KEY, OTHER_KEY, bundle, sealed
from tests.support.images import Content, artifact, image, index

Body = tuple[bytes, bytes]
"""A member: its header, and its bytes with padding."""

APP = index(image(3_000, 900, seed="a"), image(500, seed="b", architecture="arm64"))
OTHER = image(2_000, seed="c")
GOOD = bundle(
    {"lab/app:v1": APP, "lab/other:v2": OTHER}, referrers=[("lab/app", artifact(APP), None)]
)
ANOTHER = bundle({"lab/app:v1": OTHER}, bundle_id="f" * 32)


@dataclass(frozen=True, slots=True)
class Attack:
    """`kind` for messages, and the archive."""

    kind: str
    data: bytes


def attack(seed: int) -> Attack:
    """The mutation of that number, always the same."""
    random_ = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    while (data := kind(random_)) == GOOD.tar():
        pass
    return Attack(kind.__name__, data)


def _members() -> list[Body]:
    data = GOOD.tar()
    return [
        (one.header, data[one.body_at : one.end])
        for one in archive.members(GOOD.contents, GOOD.body, GOOD.signature)
    ]


def _joined(members: list[Body]) -> bytes:
    return b"".join(header + body for header, body in members) + archive.END


def _header(name: str, size: int, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8")


# --- bytes ---------------------------------------------------------------------------


def flipped_bits(random_: random.Random) -> bytes:
    data = bytearray(GOOD.tar())
    for _ in range(random_.randint(1, 8)):
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return bytes(data)


def one_flipped_bit(random_: random.Random) -> bytes:
    data = bytearray(GOOD.tar())
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return bytes(data)


def one_flipped_bit_of_a_blob(random_: random.Random) -> bytes:
    *_, last = archive.members(GOOD.contents, GOOD.body, GOOD.signature)
    first = last.end - sum(len(h) + len(b) for h, b in _members()[4:])
    data = bytearray(GOOD.tar())
    data[random_.randrange(first, last.end)] ^= 1 << random_.randrange(8)
    return bytes(data)


def truncated(random_: random.Random) -> bytes:
    data = GOOD.tar()
    return data[: random_.randrange(len(data))]


def grown(random_: random.Random) -> bytes:
    more = random_.choice([b"\0", bytes(512), b"x" * 700, bytes(10_240), archive.END])
    return GOOD.tar() + more


def spliced(random_: random.Random) -> bytes:
    data = GOOD.tar()
    at, size = random_.randrange(len(data)), random_.choice([1, 511, 512, 1024])
    if random_.random() < 0.5:
        return data[:at] + random_.randbytes(size) + data[at:]
    return data[:at] + data[at + size :]


def zeroed(random_: random.Random) -> bytes:
    data = bytearray(GOOD.tar())
    at = random_.randrange(len(data))
    end = min(len(data), at + random_.randint(1, 4096))
    data[at:end] = bytes(end - at)
    return bytes(data)


# --- members -------------------------------------------------------------------------


def swapped_members(random_: random.Random) -> bytes:
    members = _members()
    one, other = random_.sample(range(len(members)), 2)
    members[one], members[other] = members[other], members[one]
    return _joined(members)


def swapped_bytes(random_: random.Random) -> bytes:
    """Under the right names and sizes; of the same length where there is such a pair."""
    members = _members()
    one, other = random_.sample(range(4, len(members)), 2)
    (head, body), (head2, body2) = members[one], members[other]
    members[one] = head, (body2 + bytes(len(body)))[: len(body)]
    members[other] = head2, (body + bytes(len(body2)))[: len(body2)]
    return _joined(members)


def lost_member(random_: random.Random) -> bytes:
    members = _members()
    del members[random_.randrange(len(members))]
    return _joined(members)


def doubled_member(random_: random.Random) -> bytes:
    members = _members()
    members.insert(random_.randrange(len(members)), random_.choice(members))
    return _joined(members)


def path_trick(random_: random.Random) -> bytes:
    members = _members()
    at = random_.randrange(len(members))
    name = random_.choice(
        [
            "../escaped",
            "../../../../../../tmp/escaped",
            "/escaped",
            "blobs/sha256/../../../escaped",
            "blobs/./sha256/x",
            "a" * 5000,
            "blobs\\..\\escaped",
            "oci-layout/x",
            ".",
            "blobs/sha256/" + "0" * 64,
        ]
    )
    body = members[at][1]
    made = (_header(name, len(body)), body)
    if random_.random() < 0.5:
        members.insert(at, made)
    else:
        members[at] = made
    return _joined(members)


def other_kind_of_member(random_: random.Random) -> bytes:
    members = _members()
    at = random_.randrange(len(members))
    kind = random_.choice(
        [
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
            tarfile.DIRTYPE,
            tarfile.GNUTYPE_SPARSE,
            tarfile.CONTTYPE,
        ]
    )
    target = random_.choice(["/etc/passwd", "../../etc/passwd", "oci-layout", ""])
    made = (_header(f"member{at}", 0, type=kind, linkname=target), b"")
    if random_.random() < 0.5:
        members.insert(at, made)
    else:
        members[at] = made
    return _joined(members)


def bomb(random_: random.Random) -> bytes:
    """Sizes that nothing has, headers without end, little that unpacks to much."""
    members = _members()
    at = random_.randrange(len(members))
    info = tarfile.TarInfo("blobs/sha256/" + "1" * 64)
    info.size = random_.choice([1 << 33, 1 << 50, 1 << 62])
    huge = info.tobuf(tarfile.GNU_FORMAT)
    info.size = 0
    info.pax_headers = {"comment": "x" * 300_000}
    pax = info.tobuf(tarfile.PAX_FORMAT)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 15}
    sparse = info.tobuf(tarfile.PAX_FORMAT)
    match random_.randrange(5):
        case 0:
            members.insert(at, (huge, b""))
        case 1:
            members.insert(at, (pax, b""))
        case 2:
            members.insert(at, (sparse, b""))
        case 3:
            members[1] = (archive.header(archive.CONTENTS, 1 << 32), members[1][1])
        case _:
            return gzip.compress(bytes(4_000_000)) + GOOD.tar()[random_.randrange(100) :]
    return _joined(members)


# --- contents and signatures -----------------------------------------------------------


def other_signature(random_: random.Random) -> bytes:
    signature = random_.choice(
        [
            ANOTHER.signature,
            signing.signed(GOOD.body, OTHER_KEY),
            signing.signed(GOOD.body, None),
            encoded({**json.loads(GOOD.signature), "key": OTHER_KEY.public.id}),
            encoded({**json.loads(signing.signed(GOOD.body, OTHER_KEY)), "key": KEY.public.id}),
            encoded({**json.loads(GOOD.signature), "v": 2}),
            GOOD.signature[:-3],
            b"",
            b"{}",
            b"[" * 3000,
        ]
    )
    return replace(GOOD, signature=signature).tar()


def other_contents(random_: random.Random) -> bytes:
    """Changed a little, not signed anew; the archive fits to them."""
    said = GOOD.contents
    changed = random_.choice(
        [
            replace(said, bundle="e" * 32),
            replace(said, created=said.created + 1),
            replace(said, images=said.images[:1]),
            replace(said, referrers=()),
            replace(said, blobs=said.blobs[:-1]),
            replace(said, platforms=("linux/amd64",)),
        ]
    )
    return replace(GOOD, contents=changed, body=changed.encode()).tar()


def exchanged(_random: random.Random) -> bytes:
    """The signed contents of one bundle before the blobs of another."""
    members = _members()
    front = archive.front(ANOTHER.contents, ANOTHER.body, ANOTHER.signature)
    head = [(archive.header(n, len(b)), b + bytes(-len(b) % archive.BLOCK)) for n, b in front]
    return _joined([*head, *members[4:]])


# --- lies, well signed -----------------------------------------------------------------


def a_lie(random_: random.Random) -> bytes:
    """Signed by the right key, and yet not what it says."""
    said = GOOD.contents
    at = random_.randrange(len(said.blobs))
    victim = said.blobs[at]
    digest, size = victim.descriptor.digest, victim.descriptor.size
    manifest = next(one for one in said.blobs if one.kind == "manifest")
    layer = next(one for one in said.blobs if one.kind == "layer")
    blobs = list(said.blobs)
    bodies = dict(GOOD.blobs)
    match random_.randrange(8):
        case 0:  # other bytes
            bodies[digest] = bytes(size)
        case 1:  # a size that its bytes don't have
            blobs[at] = replace(victim, descriptor=replace(victim.descriptor, size=size + 1))
            bodies[digest] += b"\0"
        case 2:  # left out, on a receipt that nobody wrote
            del blobs[at]
            gone = LeftOut(digest=Digest.of(b"gone"), size=size, places=victim.places)
            said = replace(said, left_out=(gone,), receipts=("a" * 32,))
        case 3:  # a layer in a manifest's place
            image_ = replace(said.images[0], descriptor=layer.descriptor)
            said = replace(said, images=(image_, *said.images[1:]))
        case 4:  # a manifest of another type
            descriptor = replace(
                manifest.descriptor, media_type="application/vnd.oci.image.index.v1+json"
            )
            image_ = replace(said.images[1], descriptor=descriptor)
            said = replace(said, images=(said.images[0], image_))
            said = replace(said, index_sha256=archive.sha256_of(archive.index_body(said.images)))
        case 5:  # incomplete
            needed = [one for one in blobs if one.kind in {"layer", "config"}]
            blobs.remove(random_.choice(needed))
        case 6:  # a nest of indexes without an end
            said, blobs, bodies = _nest(said, blobs, bodies)
        case _:  # a manifest that is none
            body = random_.choice([b"", b"[", b"[" * 100_000, b"{}", b'{"errors": []}', b"\xff"])
            content = Content.of("application/vnd.oci.image.manifest.v1+json", body)
            described = Descriptor(
                media_type=content.media_type, digest=content.digest, size=content.size
            )
            blobs.append(replace(manifest, descriptor=described))
            bodies[content.digest] = body
            image_ = replace(said.images[1], descriptor=described)
            said = replace(said, images=(said.images[0], image_))
    said = replace(said, blobs=tuple(blobs))
    said = replace(said, index_sha256=archive.sha256_of(archive.index_body(said.images)))
    return sealed(said, bodies, KEY).tar()


def _nest(said, blobs, bodies):  # type: ignore[no-untyped-def] # three values of `a_lie`
    below = image(10, seed="deep")
    for _ in range(12):
        below = index(below)
        content = below.manifest
        described = Descriptor(
            media_type=content.media_type, digest=content.digest, size=content.size
        )
        blobs.append(replace(blobs[0], descriptor=described, kind="index"))
        bodies[content.digest] = content.body
    image_ = replace(said.images[0], descriptor=blobs[-1].descriptor)
    return replace(said, images=(image_, *said.images[1:])), blobs, bodies


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    flipped_bits,
    one_flipped_bit,
    one_flipped_bit_of_a_blob,
    truncated,
    grown,
    spliced,
    zeroed,
    swapped_members,
    swapped_bytes,
    lost_member,
    doubled_member,
    path_trick,
    other_kind_of_member,
    bomb,
    other_signature,
    other_contents,
    exchanged,
    a_lie,
    a_lie,
    a_lie,
)


def repacked(random_: random.Random) -> bytes:
    """By another tar program: all is right, and it is another archive."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(GOOD.tar())) as tar,
        tarfile.open(fileobj=out, mode="w") as new,
    ):
        for info in tar:
            info.mtime = random_.randrange(1 << 30)
            new.addfile(info, tar.extractfile(info))
    return out.getvalue()
