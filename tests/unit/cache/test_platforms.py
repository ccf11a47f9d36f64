"""What an index lists, and which of it somebody wants."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.platforms import Platforms, index_entries
from proxy.errors import EntrepotError
from proxy.oci.digest import Digest

ONE, TWO, THREE, FOUR = (Digest.of(word) for word in (b"one", b"two", b"three", b"four"))


def entry(digest: Digest, platform: str = "", *, about: Digest | None = None) -> dict[str, object]:
    words = zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
    entry: dict[str, object] = {"digest": str(digest)}
    if platform:
        entry["platform"] = dict(words)
    if about is not None:
        entry["annotations"] = {"vnd.docker.reference.digest": str(about)}
    return entry


def index(*entries: object) -> bytes:
    return json.dumps({"manifests": entries}).encode()


MIXED = index(
    entry(FOUR, "unknown/unknown", about=TWO),
    entry(ONE, "linux/amd64"),
    "nonsense",
    {"digest": 3},
    entry(TWO, "linux/arm64/v8"),
    entry(THREE),
)


def test_images_come_first_and_attestations_have_the_platform_of_theirs() -> None:
    assert list(index_entries(MIXED)) == [
        (ONE, "linux/amd64", None),
        (TWO, "linux/arm64", None),
        (THREE, "", None),
        (FOUR, "linux/arm64", str(TWO)),
    ]
    assert list(index_entries(index(entry(FOUR, about=ONE)))) == [(FOUR, "", str(ONE))]


def test_what_is_about_an_image_goes_with_it() -> None:
    assert Platforms.all().chosen(MIXED) == {
        ONE: "linux/amd64",
        TWO: "linux/arm64",
        THREE: "",
        FOUR: "linux/arm64",
    }
    assert Platforms.of(["linux/amd64"]).chosen(MIXED) == {ONE: "linux/amd64", THREE: ""}
    # What is about an attestation is about no image.
    nested = index(entry(ONE, "a/b"), entry(TWO, about=ONE), entry(THREE, about=TWO))
    assert Platforms.all().chosen(nested) == {ONE: "a/b", TWO: "a/b"}


def test_a_platform_without_a_variant_means_any() -> None:
    body = index(entry(ONE, "linux/arm/v6"), entry(TWO, "linux/arm/v7"), entry(THREE, "linux/arm"))
    assert len(Platforms.of(["linux/arm"]).chosen(body)) == 3
    assert Platforms.of(["linux/arm/v7"]).chosen(body) == {TWO: "linux/arm/v7"}
    assert Platforms.of(["linux/s390x"]).chosen(body) == {}


def test_the_usual_variant_of_an_architecture_is_no_variant() -> None:
    body = index(entry(ONE, "linux/arm64/v8"), entry(TWO, "linux/arm64"))
    for wanted in ("linux/arm64", "linux/arm64/v8"):
        assert set(Platforms.of([wanted]).chosen(body)) == {ONE, TWO}


ENTRIES = st.lists(
    st.dictionaries(st.sampled_from(["digest", "platform", "annotations"]), st.text())
)
BODIES = st.binary(max_size=60) | ENTRIES.map(lambda made: json.dumps({"manifests": made}).encode())


@given(body=BODIES)
def test_any_bytes_are_entries_or_a_plain_error(body: bytes) -> None:
    with contextlib.suppress(EntrepotError):
        assert isinstance(list(index_entries(body)), list)
