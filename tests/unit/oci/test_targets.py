"""Raw request targets: what two parties could read differently is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidName, InvalidPage, UnknownRoute
from proxy.oci.targets import (
    LAST_LENGTH_MAX,
    PATH_LENGTH_MAX,
    absolute_form,
    after_v2,
    page,
    plain,
    query_values,
)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/a%2Fb/manifests/x",
        "/v2/a/manifests/%2e%2e",
        "/v2/a/manifests/x%00",
        "/v2/a%3Ab/manifests/x",  # a colon belongs into the last component only
        "/v2/a/manifests/sha256%253Ax",
        "/v2/a/manifests/100%",
        "/v2/../metrics",
        "/v2/..",
        "/v2/./a/manifests/x",
        "/v2/a/.",
        "//v2/",
        "/v2//a/manifests/x",
        "/v2/a//",
        "/v2/a\\b/manifests/x",
        "/v2/a/manifests/x\n",
        "/v2/a/manifests/\x00",
        "/v2/a/manifests/\x7f",
        "/v2/\u212aube/manifests/x",
        "/v2/\udcff/manifests/x",
        "/" + "a" * PATH_LENGTH_MAX,
    ],
)
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        plain(path)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v2/a/blobs/sha256%3Aab", "/v2/a/blobs/sha256:ab"),
        ("/v2/a/blobs/sha256%3aab", "/v2/a/blobs/sha256:ab"),
        ("/v2/a.b/manifests/1..2", "/v2/a.b/manifests/1..2"),
        ("/v2/.a/..b/...", "/v2/.a/..b/..."),
        ("/" + "a" * (PATH_LENGTH_MAX - 1), "/" + "a" * (PATH_LENGTH_MAX - 1)),
    ],
)
def test_a_plain_path_stays_as_it_is_but_for_the_colon(path: str, read: str) -> None:
    assert plain(path) == read


@given(st.text() | st.text("/v2.%3aA\\\n"))
def test_a_path_that_passes_is_one_that_cannot_be_misread(path: str) -> None:
    try:
        read = plain(path)
    except InvalidName:
        return
    assert all("!" <= letter <= "~" or letter == " " for letter in read)
    assert not set(read) & set("%\\")
    assert not {".", ".."} & set(read.split("/")[1:])
    assert "//" not in read


@pytest.mark.parametrize(
    ("target", "split"),
    [
        ("http://proxy.example:5000/v2/", ("/v2/", "proxy.example:5000")),
        ("HTTPS://user:secret@h/v2/a", ("/v2/a", "h")),
        ("http://h", ("", "h")),
        ("ftp://h/v2/", ("ftp://h/v2/", "header")),
        ("*", ("*", "header")),
        ("h:443", ("h:443", "header")),
    ],
)
def test_the_host_of_an_absolute_target_beats_the_header(
    target: str, split: tuple[str, str]
) -> None:
    assert absolute_form(target, "header") == split


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/v2", (None, "")),
        ("/v2/", (None, "")),
        ("/v2/a/b", (None, "a/b")),
        ("/v2/v2/b", (None, "v2/b")),
        ("/lab/v2", ("lab", "")),
        ("/lab/v2/", ("lab", "")),
        ("/lab/v2/v2/x", ("lab", "v2/x")),
    ],
)
def test_v2_is_the_first_component_or_the_second(path: str, parts: tuple[str | None, str]) -> None:
    assert after_v2(path) == parts


@pytest.mark.parametrize("path", ["", "/", "*", "v2", "/v1/", "/v22", "/a/b/v2/", "/lab/v22", "/v"])
def test_a_path_without_v2_is_no_route(path: str) -> None:
    with pytest.raises(UnknownRoute):
        after_v2(path)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("&&=&x", {}),
        ("ns=docker.io&tracking=1", {"ns": "docker.io"}),
        ("ns=first&ns=second", {"ns": "first"}),
        ("ns=localhost%3A5005", {"ns": "localhost:5005"}),
        ("NS=docker.io", {}),
        ("n", {"n": ""}),
        ("last=a=b", {"last": "a=b"}),
        ("artifactType=application/spdx+json", {"artifactType": "application/spdx+json"}),
        ("artifactType=application%2Fspdx%2Bjson", {"artifactType": "application/spdx+json"}),
    ],
)
def test_query_values_are_those_that_mean_something(query: str, values: dict[str, str]) -> None:
    assert query_values(query) == values


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({}, (None, None)),
        ({"n": "0"}, (0, None)),
        ({"n": "9999999999", "last": "v1"}, (9999999999, "v1")),
        ({"n": "007"}, (7, None)),
        ({"last": ""}, (None, None)),
        ({"last": "~" * LAST_LENGTH_MAX}, (None, "~" * LAST_LENGTH_MAX)),
    ],
)
def test_pages_that_can_be_asked_for(
    query: dict[str, str], asked: tuple[int | None, str | None]
) -> None:
    assert page(query) == asked


@pytest.mark.parametrize(
    "query",
    [
        {"n": ""},
        {"n": "-1"},
        {"n": "+1"},
        {"n": "1.0"},
        {"n": "ten"},
        {"n": "\u0663"},
        {"n": "\u00b2"},
        {"n": "1" * 11},
        {"last": "a\r\nSet-Cookie: x"},
        {"last": "\u00e9"},
        {"last": "a" * (LAST_LENGTH_MAX + 1)},
    ],
)
def test_pages_that_cannot(query: dict[str, str]) -> None:
    with pytest.raises(InvalidPage):
        page(query)


@given(st.text() | st.text("ns=%41&\udcff"))
def test_any_query_is_read(text: str) -> None:
    try:
        n, last = page(query_values(text))
    except InvalidPage:
        return
    assert n is None or n >= 0
    assert last is None or last.isascii()
