"""Records: what was written is read, what a newer version added survives, and anything
else is a miss, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.records import (
    Exposure,
    Link,
    ReferrersRecord,
    TagRecord,
    decode_exposure,
    decode_link,
    decode_referrers,
    decode_tag,
    encode_exposure,
    encode_link,
    encode_referrers,
    encode_tag,
)
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor

URL = "https://registry.example"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
TIMES = st.floats(0, 4e9)
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=st.text(),
    digest=st.binary(max_size=9).map(Digest.of),
    size=st.integers(0, 2**50),
)
KNOWN = {"v", "url", "current", "previous", "fetched_at", "checked_at", "media_type", "size"}
EXTRA = st.dictionaries(st.text().filter(lambda name: name not in KNOWN), JSON, max_size=3)
TAGS = st.builds(
    TagRecord,
    url=st.just(URL),
    current=DESCRIPTORS,
    previous=st.none() | DESCRIPTORS,
    fetched_at=TIMES,
    checked_at=TIMES,
    extra=EXTRA,
)
LINKS = st.builds(
    Link,
    url=st.just(URL),
    media_type=st.text(),
    size=st.none() | st.integers(0, 2**50),
    extra=EXTRA,
)

DECODERS: list[Callable[[bytes, str], Any]] = [
    decode_tag,
    decode_link,
    decode_exposure,
    decode_referrers,
]


@given(record=TAGS)
def test_a_tag_record_is_read_as_it_was_written(record: TagRecord) -> None:
    assert decode_tag(encode_tag(record), URL) == record


@given(link=LINKS)
def test_a_link_is_read_as_it_was_written(link: Link) -> None:
    assert decode_link(encode_link(link), URL) == link


@given(checked_at=TIMES)
def test_an_exposure_is_read_as_it_was_written(checked_at: float) -> None:
    exposure = Exposure(url=URL, checked_at=checked_at)
    assert decode_exposure(encode_exposure(exposure), URL) == exposure


@given(descriptors=st.lists(st.dictionaries(st.text(), JSON), max_size=3), at=TIMES)
def test_referrers_are_read_as_they_were_written(
    descriptors: list[dict[str, object]], at: float
) -> None:
    record = ReferrersRecord(url=URL, fetched_at=at, descriptors=tuple(descriptors))
    assert decode_referrers(encode_referrers(record), URL) == record


@given(record=TAGS, link=LINKS)
def test_a_record_for_another_url_is_a_miss(record: TagRecord, link: Link) -> None:
    exposure = Exposure(url=URL, checked_at=1.0)
    listed = ReferrersRecord(url=URL, fetched_at=1.0, descriptors=())
    for other in (URL + "/", "http://registry.example", ""):
        assert decode_tag(encode_tag(record), other) is None
        assert decode_link(encode_link(link), other) is None
        assert decode_exposure(encode_exposure(exposure), other) is None
        assert decode_referrers(encode_referrers(listed), other) is None


@given(record=TAGS, extra=EXTRA)
def test_what_a_newer_version_added_survives_a_rewrite(
    record: TagRecord, extra: dict[str, object]
) -> None:
    written = encode_tag(replace(record, extra={}))
    newer = json.dumps(extra | json.loads(written)).encode()
    read = decode_tag(newer, URL)
    assert read is not None
    confirmed = encode_tag(replace(read, checked_at=read.checked_at + 1))
    assert extra.items() <= json.loads(confirmed).items()


@given(record=TAGS, at=st.integers(0, 400), garbage=st.binary(max_size=50))
def test_a_torn_or_scribbled_record_is_a_miss_or_what_it_was(
    record: TagRecord, at: int, garbage: bytes
) -> None:
    written = encode_tag(record)
    torn = written[:at]
    if torn != written:
        assert decode_tag(torn, URL) is None
    for decode in DECODERS:
        decode(garbage, URL)  # Must not raise.
        decode(torn + garbage, URL)


@given(document=JSON, version=st.sampled_from([0, 2, "1", None]))
def test_any_other_json_is_a_miss(document: object, version: object) -> None:
    for decode in DECODERS:
        assert decode(json.dumps(document).encode(), URL) is None
        assert decode(json.dumps({"v": version, "url": URL}).encode(), URL) is None


@pytest.mark.parametrize("field", ["current", "fetched_at"])
@pytest.mark.parametrize("value", [None, "x", [], {"digest": "sha256:12"}, {}])
def test_a_tag_record_without_its_core_is_a_miss(field: str, value: object) -> None:
    current = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"x"), size=1)
    whole = TagRecord(url=URL, current=current, previous=None, fetched_at=1, checked_at=2)
    document = json.loads(encode_tag(whole)) | {field: value}
    assert decode_tag(json.dumps(document).encode(), URL) is None


def test_odd_optional_fields_read_as_unsaid() -> None:
    current = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"x"), size=1)
    whole = TagRecord(url=URL, current=current, previous=current, fetched_at=1, checked_at=2)
    document = json.loads(encode_tag(whole)) | {"checked_at": "late", "previous": 5}
    read = decode_tag(json.dumps(document).encode(), URL)
    assert read == replace(whole, checked_at=0, previous=None)
    link = json.loads(encode_link(Link(url=URL, media_type="a", size=1)))
    read_link = decode_link(json.dumps(link | {"media_type": 1, "size": "x"}).encode(), URL)
    assert read_link == Link(url=URL, media_type="", size=None)
    listed = {"v": 1, "url": URL, "fetched_at": 1, "descriptors": [1]}
    assert decode_referrers(json.dumps(listed).encode(), URL) is None
