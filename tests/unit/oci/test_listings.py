"""Listings: pages that end, links a client will follow, answers that can be trusted."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadUpstreamAnswer
from proxy.oci.digest import Digest
from proxy.oci.listings import (
    NextPage,
    catalog_body,
    fallback_tag,
    filter_referrers,
    next_link,
    page_tags,
    parse_next,
    parse_referrers,
    parse_tag_list,
    referrer_of,
    referrers_index,
    signature_tags,
    subject_of,
    tag_list_body,
)
from proxy.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor

tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,5}", fullmatch=True)


@given(st.lists(tags), st.integers(1, 5))
def test_following_pages_gives_every_tag_once_in_ascii_order(all_tags: list[str], n: int) -> None:
    seen: list[str] = []
    last, more = None, True
    while more:
        page, more = page_tags(all_tags, n, last)
        assert len(page) <= n
        assert page or not more
        seen += page
        last = page[-1] if page else None
    assert seen == sorted(set(all_tags))


@given(st.lists(tags), st.none() | st.integers(0, 10**10), tags)
def test_last_is_exclusive_and_need_not_exist(
    all_tags: list[str], n: int | None, last: str
) -> None:
    page, more = page_tags(all_tags, n, last)
    beyond = [tag for tag in sorted(set(all_tags)) if tag > last]
    assert page == beyond[:n]
    assert more is (n is not None and 0 < n < len(beyond))


def test_a_page_of_nothing_has_no_next_page() -> None:
    assert page_tags(["a", "b"], 0, None) == ([], False)


def test_order_is_that_of_ascii_and_not_of_a_dictionary() -> None:
    assert page_tags(["b", "B", "a", "_", "1", "10", "2"], None, None)[0] == [
        "1", "10", "2", "B", "_", "a", "b",
    ]  # fmt: skip


@given(st.integers(0, 10**10), st.text(st.characters(codec="utf-8"), min_size=1), st.none() | tags)
def test_a_next_link_is_read_back_as_it_was_written(n: int, last: str, ns: str | None) -> None:
    link = next_link("/v2/lab/app/tags/list", n=n, last=last, namespace=ns)
    assert link.isascii()
    assert link.isprintable()
    target = link.partition("<")[2].partition(">")[0]
    assert urlsplit(target).path == "/v2/lab/app/tags/list"
    assert not urlsplit(target).netloc
    expected = {"n": [str(n)], "last": [last]} | ({} if ns is None else {"ns": [ns]})
    assert parse_qs(urlsplit(target).query) == expected
    assert parse_next([link]) == NextPage(target=target, n=n if n < 10**10 else None, last=last)


def test_a_next_link_is_relative_and_keeps_the_namespace() -> None:
    link = next_link("/v2/app/tags/list", n=2, last="v1", namespace="localhost:5005")
    assert link == '</v2/app/tags/list?n=2&last=v1&ns=localhost%3A5005>; rel="next"'


@pytest.mark.parametrize(
    ("values", "target", "n", "last"),
    [
        (['</v2/a/tags/list?n=2&last=b>; rel="next"'], "/v2/a/tags/list?n=2&last=b", 2, "b"),
        (["<https://quay.io/v2/a?next_page=x>; rel=next"], "https://quay.io/v2/a?next_page=x", None, None),
        (['</p>; rel="prev", </q?last=a,b>; REL="Next"'], "/q?last=a,b", None, "a,b"),
        (['</p>; rel="prev"', '</q>; rel="first next"'], "/q", None, None),
        (['</q>;title="a, <b>; rel=prev\\"" ; rel=next'], "/q", None, None),
        (["</q>; crossorigin; rel=next"], "/q", None, None),
        (["</q?n=many>; rel=next"], "/q?n=many", None, None),
        (["</q?n=12345678901>; rel=next"], "/q?n=12345678901", None, None),
        (["</q?last=a%2Bb+c&n=3#top>; rel=next"], "/q?last=a%2Bb+c&n=3#top", 3, "a+b+c"),
    ],
)  # fmt: skip
def test_next_links_as_registries_send_them(
    values: list[str], target: str, n: int | None, last: str | None
) -> None:
    assert parse_next(values) == NextPage(target=target, n=n, last=last)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["/v2/a?n=1"],
        ["</p>"],
        ["</p>; rel"],
        ['</p>; rel=""'],
        ['</p>; rel="prev"; rel="next"'],
        ['</p>; title="; rel=next"'],
        ["</p; rel=next"],
        ["<" * 100_000],
        ["<a>; " * 20_000],
        ['<a>; x="\\' * 10_000],
    ],
)
def test_what_links_to_no_next_page_is_none(values: list[str]) -> None:
    assert parse_next(values) is None


@given(st.lists(st.text('<>;="\\ ,relnxt\n?&n0%') | st.text()))
def test_any_link_header_is_read(values: list[str]) -> None:
    found = parse_next(values)
    assert found is None or isinstance(found, NextPage)


@given(st.text(), st.lists(tags))
def test_a_tag_list_is_read_back_as_it_was_written(name: str, listed: list[str]) -> None:
    body = tag_list_body(name, listed)
    assert json.loads(body) == {"name": name, "tags": listed}
    assert parse_tag_list(body) == listed


def test_empty_lists_are_lists() -> None:
    assert tag_list_body("lab/app", []) == b'{"name":"lab/app","tags":[]}'
    assert catalog_body([]) == b'{"repositories":[]}'
    assert catalog_body(["a", "b/c"]) == b'{"repositories":["a","b/c"]}'


def test_no_tags_may_be_said_with_null_or_silence() -> None:
    assert parse_tag_list(b'{"name":"app","tags":null}') == []
    assert parse_tag_list(b'{"name":"app"}') == []
    assert parse_tag_list(b'{"tags":["a"]}') == ["a"]


def test_tags_that_nobody_could_ask_for_are_left_out() -> None:
    assert parse_tag_list(b'{"name":"a","tags":["ok","not ok","\\ud800","-x",""]}') == ["ok"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"errors":[{"code":"DENIED"}]}',
        b'{"name":"a","tags":{}}',
        b'{"name":"a","tags":"latest"}',
        b'{"name":"a","tags":[1]}',
        b"[" * 200_000,
    ],
)
def test_what_is_no_tag_list_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadUpstreamAnswer):
        parse_tag_list(body)


SIGNATURE = {"mediaType": OCI_MANIFEST, "size": 1, "artifactType": "a/sig"}
SBOM = {"mediaType": OCI_MANIFEST, "size": 2, "artifactType": "a/sbom", "annotations": {"k": "v"}}
BARE = {"mediaType": OCI_MANIFEST, "size": 3}


def test_an_index_of_referrers_is_read_back_as_it_was_written() -> None:
    for descriptors in ([], [SIGNATURE, SBOM, BARE]):
        body = referrers_index(descriptors)
        assert json.loads(body) == {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": descriptors,
        }
        assert parse_referrers(OCI_INDEX, body) == descriptors


def test_referrers_are_chosen_by_artifact_type() -> None:
    everything: list[dict[str, object]] = [SIGNATURE, SBOM, BARE]
    assert filter_referrers(everything, "a/sbom") == [SBOM]
    assert filter_referrers(everything, "a/other") == []
    assert filter_referrers(everything, None) == everything


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>Sign in</html>"),
        ("text/html; charset=utf-8", referrers_index([])),
        ("application/json", b"{}"),
        ("", b""),
        (OCI_MANIFEST, b"{}"),
        (OCI_INDEX, json.dumps({"mediaType": OCI_MANIFEST, "manifests": []}).encode()),
    ],
)
def test_a_200_that_is_no_index_means_that_referrers_are_unsupported(
    content_type: str, body: bytes
) -> None:
    assert parse_referrers(content_type, body) is None


def test_an_index_may_come_with_a_charset_without_its_type_or_with_null() -> None:
    assert parse_referrers(f"{OCI_INDEX}; charset=utf-8", b'{"manifests":null}') == []
    assert parse_referrers(OCI_INDEX.upper(), b'{"schemaVersion":2,"manifests":[]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"schemaVersion":2,"manifests":[{"medi',
        b"[]",
        b"{}",
        b'{"manifests":"none"}',
        b'{"manifests":["sha256:x"]}',
    ],
)
def test_a_broken_index_never_looks_like_no_signatures(body: bytes) -> None:
    with pytest.raises(BadUpstreamAnswer):
        parse_referrers(OCI_INDEX, body)


def test_referrers_too_deep_to_write_are_a_bad_answer() -> None:
    nested: dict[str, object] = {}
    for _ in range(100_000):
        nested = {"data": nested}
    with pytest.raises(BadUpstreamAnswer):
        referrers_index([nested])


@given(st.binary(), st.text() | st.just(OCI_INDEX))
def test_any_referrers_answer_is_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        found = parse_referrers(content_type, body)
    except BadUpstreamAnswer:
        return
    assert found is None or isinstance(found, list)


def test_a_referrer_is_a_manifest_or_left_out() -> None:
    digest = Digest.of(b"x")
    entry: dict[str, object] = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 5}
    assert referrer_of(entry) == Descriptor(media_type=OCI_MANIFEST, digest=digest, size=5)
    for wrong in ({"mediaType": "text/html"}, {"digest": "sha256:0"}, {"size": "5"}):
        assert referrer_of({**entry, **wrong}) is None


def test_the_fallback_tag_is_cut_to_what_a_tag_may_hold() -> None:
    short = Digest.of(b"x")
    assert fallback_tag(short) == f"sha256-{short.hex}"
    long = Digest.of(b"x", "sha512")
    assert fallback_tag(long) == f"sha512-{long.hex[:64]}"


def test_signatures_have_tags_that_say_what_is_signed() -> None:
    short = Digest.of(b"x")
    assert signature_tags(short) == tuple(
        f"sha256-{short.hex}.{kind}" for kind in ("sig", "att", "sbom")
    )
    assert {subject_of(tag) for tag in (fallback_tag(short), *signature_tags(short))} == {short}
    long = Digest.of(b"x", "sha512")
    assert signature_tags(long) == ()
    assert subject_of(fallback_tag(long)) is None


@pytest.mark.parametrize(
    ("tag", "about"),
    [
        ("sha256-" + "a" * 64, True),
        ("sha256-" + "a" * 64 + ".sig", True),
        ("sha256-" + "a" * 64 + "." + "x" * 56, True),
        ("sha256-" + "a" * 64 + "." + "x" * 57, False),
        ("sha256-" + "a" * 64 + ".", False),
        ("sha256-" + "a" * 64 + ".sig/x:y", False),
        ("sha256-" + "a" * 63, False),
        ("sha256-" + "a" * 128, False),
        ("sha512-" + "a" * 64 + ".sig", False),
        ("v1", False),
        ("sha256-" + "A" * 64, False),
    ],
)
def test_some_tags_only_say_what_they_are_about(tag: str, about: bool) -> None:
    assert subject_of(tag) == (Digest("sha256", "a" * 64) if about else None)
