"""Digests: only what can be verified becomes a value."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidDigest
from proxy.oci.digest import Digest

HEX = "0123456789abcdef"


def plainly_a_digest(text: str) -> bool:
    """The grammar once more, without regular expressions."""
    algorithm, colon, value = text.partition(":")
    length = {"sha256": 64, "sha512": 128}.get(algorithm)
    return bool(colon) and len(value) == length and all(letter in HEX for letter in value)


nearly = st.builds(
    lambda algorithm, colon, value, end: algorithm + colon + value + end,
    st.sampled_from(["sha256", "sha512", "sha384", "SHA256", "blake3", ""]),
    st.sampled_from([":", "", "::", "-"]),
    st.sampled_from([64, 128, 63, 65, 127, 0]).flatmap(
        lambda n: st.text(HEX, min_size=n, max_size=n)
    ),
    st.sampled_from(["", "", "\n", "A", "\u0661"]),
)


@given(st.text() | nearly)
def test_exactly_the_grammar_is_accepted_and_round_trips(text: str) -> None:
    if plainly_a_digest(text):
        assert str(Digest.parse(text)) == text
    else:
        with pytest.raises(InvalidDigest):
            Digest.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "sha256:baddigeststring",
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 128,
        "sha384:" + "a" * 96,
        "blake3:" + "a" * 64,
        "sha256:" + "\u0661" * 64,
        "sha256:" + "a" * 1_000_000,
    ],
)
def test_known_bad_digests_are_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(InvalidDigest) as refusal:
        Digest.parse(text)
    assert len(str(refusal.value)) < 1000


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_content_matches_its_own_digest_and_no_other(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.matches(data)
    assert not digest.matches(data + b"\0")
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.hex == hashlib.new(algorithm, data).hexdigest()
