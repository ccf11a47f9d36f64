"""Who vouches for a bundle, and the receipts that come back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from proxy.bundles import keys, receipts, signing
from proxy.bundles.canonical import encoded
from proxy.bundles.keys import PrivateKey
from proxy.bundles.receipts import Receipt
from proxy.errors import BadBundle
from proxy.oci.digest import Digest
from tests.support import programs

KEY, OTHER = PrivateKey.new(), PrivateKey.new()
BODY = b'{"contents":1}'


def test_a_signature_names_its_key_and_is_the_same_each_time() -> None:
    signature = signing.signed(BODY, KEY)
    assert signature == signing.signed(BODY, KEY)
    found = signing.verify(signature, BODY, [OTHER.public, KEY.public])
    assert found is not None
    assert found.id == KEY.public.id
    assert KEY.public.id != OTHER.public.id


def test_without_a_key_there_is_a_checksum_only() -> None:
    signature = signing.signed(BODY, None)
    assert signing.verify(signature, BODY, [KEY.public]) is None
    with pytest.raises(BadBundle, match="not those"):
        signing.verify(signature, BODY + b" ", [KEY.public])


def test_other_contents_an_unknown_key_and_a_forged_signature_are_told_apart() -> None:
    signature = signing.signed(BODY, KEY)
    with pytest.raises(BadBundle, match="not those"):
        signing.verify(signature, BODY + b" ", [KEY.public])
    with pytest.raises(BadBundle, match=f"signed with key {KEY.public.id}, which is not trusted"):
        signing.verify(signature, BODY, [OTHER.public])
    with pytest.raises(BadBundle, match="not trusted"):
        signing.verify(signature, BODY, [])
    document = json.loads(signing.signed(BODY, OTHER))
    forged = encoded({**document, "key": KEY.public.id})
    with pytest.raises(BadBundle, match="not one that key"):
        signing.verify(forged, BODY, [KEY.public])


def test_a_signature_of_the_bare_contents_made_elsewhere_does_not_count() -> None:
    import base64

    document = json.loads(signing.signed(BODY, KEY))
    document["signature"] = base64.b64encode(KEY.sign(BODY)).decode()
    with pytest.raises(BadBundle, match="not one that key"):
        signing.verify(encoded(document), BODY, [KEY.public])


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"key": None},
        {"signature": None},
        {"signature": "§"},
        {"signature": "AAAA"},
        {"sha256": ""},
        {"more": 1},
        {"key": "x" * 9000},
    ],
)
def test_a_signature_file_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    document = {**json.loads(signing.signed(BODY, KEY)), **change}
    with pytest.raises(BadBundle):
        signing.verify(encoded(document), BODY, [KEY.public])


def test_no_flipped_bit_in_a_signature_file_is_accepted() -> None:
    right = signing.signed(BODY, KEY)
    for at in range(len(right)):
        for bit in range(8):
            signature = bytearray(right)
            signature[at] ^= 1 << bit
            with pytest.raises(BadBundle):
                signing.verify(bytes(signature), BODY, [KEY.public])


def test_a_pair_of_files_is_read_back_the_private_one_by_its_owner_only(tmp_path: Path) -> None:
    private, public = keys.write_pair(KEY, "site", tmp_path)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert keys.load_private(private).public.id == KEY.public.id
    assert keys.load_public(public).id == keys.load_public(private).id == KEY.public.id
    assert (keys.is_private(private), keys.is_private(public)) == (True, False)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    private, public = keys.write_pair(KEY, "site", tmp_path)
    before = private.read_bytes()
    with pytest.raises(FileExistsError):
        keys.write_pair(OTHER, "site", tmp_path)
    public.unlink()
    with pytest.raises(FileExistsError):
        keys.write_pair(OTHER, "site", tmp_path)
    assert private.read_bytes() == before


def test_files_that_are_no_keys_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    path = tmp_path / "key"
    for load in (keys.load_private, keys.load_public):
        with pytest.raises(BadBundle, match="can't be read"):
            load(path)
    other = generate_private_key(SECP256R1())
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for body in (b"", b"-----BEGIN PRIVATE KEY-----", b"\xff" * 100, private, public):
        path.write_bytes(body)
        for load in (keys.load_private, keys.load_public):
            with pytest.raises(BadBundle):
                load(path)


def test_openssl_reads_the_keys(tmp_path: Path) -> None:
    openssl = programs.program("openssl")
    private, public = keys.write_pair(KEY, "site", tmp_path)
    told = programs.run(openssl, "pkey", "-in", private, "-pubout")
    assert told.stdout == public.read_text()


RECEIPT = Receipt(
    receipt="a" * 32,
    bundle="b" * 32,
    created=1_700_000_000,
    images={"docker.io/library/app:v1": Digest.of(b"1")},
    have=frozenset({Digest.of(b"1"), Digest.of(b"2", "sha512")}),
)


def test_a_receipt_is_read_back_also_after_an_editor_ended_its_line(tmp_path: Path) -> None:
    body = RECEIPT.encode()
    assert receipts.decode(body) == RECEIPT
    path = tmp_path / "receipt.json"
    path.write_bytes(body + b"\r\n")
    assert receipts.load(path) == RECEIPT
    with pytest.raises(BadBundle, match="can't be read"):
        receipts.load(tmp_path / "none")


def test_a_damaged_receipt_is_refused() -> None:
    right = RECEIPT.encode()
    for at in range(len(right)):
        for bit in range(8):
            body = bytearray(right)
            body[at] ^= 1 << bit
            with pytest.raises(BadBundle):
                receipts.decode(bytes(body))
        with pytest.raises(BadBundle):
            receipts.decode(right[:at])
