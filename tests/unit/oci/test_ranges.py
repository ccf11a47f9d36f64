"""Byte ranges against a model that looks at every single byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import EntrepotError, InvalidHeader, UnsatisfiableRange
from proxy.oci.ranges import (
    RANGES_MAX,
    ByteRange,
    content_range,
    if_none_match,
    if_range_matches,
    multipart,
    parse_content_range,
    parse_range,
    unsatisfied,
)

ETAG = '"sha256:' + "a" * 64 + '"'

specs = st.one_of(
    st.tuples(st.integers(0, 12), st.integers(0, 14)).filter(lambda pair: pair[0] <= pair[1]),
    st.tuples(st.integers(0, 12), st.none()),
    st.tuples(st.none(), st.integers(0, 14)),
)


def written(first: int | None, last: int | None) -> str:
    return f"{'' if first is None else first}-{'' if last is None else last}"


def bytes_meant(first: int | None, last: int | None, size: int) -> list[int]:
    """Every position of the body that one range names."""
    if first is None:
        return [at for at in range(size) if size - at <= (last or 0)]
    return [at for at in range(size) if at >= first and (last is None or at <= last)]


@given(st.lists(specs, min_size=1, max_size=5), st.integers(0, 10), st.sampled_from([",", " ,\t"]))
def test_ranges_name_the_bytes_that_a_slow_reading_names(
    asked: list[tuple[int | None, int | None]], size: int, comma: str
) -> None:
    header = "bytes=" + comma.join(written(*spec) for spec in asked)
    wanted = [positions for spec in asked if (positions := bytes_meant(*spec, size))]
    if not wanted:
        with pytest.raises(UnsatisfiableRange) as refusal:
            parse_range(header, size)
        assert refusal.value.size == size
    elif len(wanted) > 1 and sum(map(len, wanted)) > 2 * size:
        with pytest.raises(InvalidHeader):
            parse_range(header, size)
    else:
        found = parse_range(header, size)
        assert found is not None
        assert [list(range(part.start, part.end)) for part in found] == wanted


@given(st.text() | st.text("bytes=0123456789-, \t*").map(lambda text: f"bytes={text}"))
def test_any_header_means_something_or_nothing(header: str) -> None:
    try:
        found = parse_range(header, 100)
    except EntrepotError:
        return
    assert found is None or all(0 <= part.start < part.end <= 100 for part in found)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-1", [(0, 2)]),  # the probe of stargz and SOCI
        ("bytes=0-", [(0, 100)]),
        ("bytes=90-", [(90, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-500", [(0, 100)]),
        ("bytes=40-100", [(40, 100)]),  # regclient resumes with one past the end
        ("bytes=99-99", [(99, 100)]),
        ("BYTES=1-2", [(1, 3)]),
        (" bytes=1-2", [(1, 3)]),
        ("bytes= 1-2 ", [(1, 3)]),
        ("bytes=,1-2,,", [(1, 3)]),
        ("bytes=0001-0002", [(1, 3)]),
        ("bytes=5-" + "9" * 60_000, [(5, 100)]),
        ("bytes=-" + "9" * 60_000, [(0, 100)]),
        ("bytes=" + "0" * 60_000 + "-0", [(0, 1)]),
        # containers/image: neither sorted, nor merged where they touch or overlap
        ("bytes=50-59,0-9,10-19,5-14", [(50, 60), (0, 10), (10, 20), (5, 15)]),
        ("bytes=0-0,0-0,500-600", [(0, 1), (0, 1)]),
        ("bytes=0-,0-", [(0, 100), (0, 100)]),
    ],
)
def test_ranges_as_clients_send_them(header: str, found: list[tuple[int, int]]) -> None:
    assert parse_range(header, 100) == tuple(ByteRange(*pair) for pair in found)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5",
        "bytes=9-7",
        "bytes=900-700",
        "bytes=" + "9" * 5000 + "-" + "9" * 4999,
        "bytes=0-1,9-7",
        "bytes=0-1;2-3",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=\u0661-\u0662",
        "bytes=0-1\n",
        "items=0-1",
        "bytes 0-1",
    ],
)
def test_what_is_no_range_of_bytes_is_as_good_as_no_header(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=200-,-0"])
def test_ranges_beyond_the_end_are_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRange) as refusal:
        parse_range(header, 100)
    assert unsatisfied(refusal.value.size) == "bytes */100"


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_no_range_of_an_empty_body_is_satisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 0)


def test_as_many_ranges_as_containers_image_sends_are_served_and_one_more_is_refused() -> None:
    header = "bytes=" + ",".join(f"{at * 10}-{at * 10 + 4}" for at in range(RANGES_MAX))
    found = parse_range(header, 1_000_000)
    assert found is not None
    assert len(found) == RANGES_MAX
    with pytest.raises(InvalidHeader):
        parse_range(header + ",9-9", 1_000_000)


def test_a_short_header_cannot_ask_for_a_thousand_bodies() -> None:
    with pytest.raises(InvalidHeader):
        parse_range("bytes=" + ",".join(["0-"] * 1000), 10**9)


@given(st.integers(0, 10**12), st.integers(1, 10**12), st.integers(0, 10**6))
def test_a_content_range_is_read_back_as_it_was_written(start: int, length: int, more: int) -> None:
    end, size = start + length, start + length + more
    text = content_range(ByteRange(start, end), size)
    assert text == f"bytes {start}-{end - 1}/{size}"
    assert parse_content_range(text) == (start, end, size)
    assert parse_content_range(f"BYTES  {start}-{end - 1}/* ") == (start, end, None)


@given(st.text() | st.text("bytes 0123456789-/*"))
def test_a_content_range_that_is_believed_makes_sense(value: str) -> None:
    found = parse_content_range(value)
    if found is not None:
        start, end, total = found
        assert 0 <= start < end
        assert total is None or end <= total


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes */100",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes 0-9/10\n",
        "bytes=0-9/10",
        "bytes 0-9",
        "items 0-9/10",
        "bytes 0-" + "9" * 5000 + "/*",
        "bytes \u0660-9/10",
    ],
)
def test_a_content_range_that_contradicts_itself_is_none(value: str) -> None:
    assert parse_content_range(value) is None


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        (ETAG, True),
        (f" {ETAG} ", True),
        (f"W/{ETAG}", False),
        (ETAG.strip('"'), False),
        ('"other"', False),
        ("*", False),
        ("", False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_only_the_very_same_strong_etag_keeps_a_range(value: str, matches: bool) -> None:
    assert if_range_matches(value, ETAG) is matches


@pytest.mark.parametrize(
    ("values", "matches"),
    [
        ([], False),
        ([""], False),
        ([ETAG], True),
        ([f"W/{ETAG}"], True),
        ([ETAG.strip('"')], True),
        ([f'"other", "and, more",{ETAG}'], True),
        (['"other"', ETAG], True),
        (["*"], True),
        (['"*"'], False),
        (['"other"'], False),
        ([ETAG[:-3] + '"'], False),
        (['"sha256:' + "a" * 64 + "b"], False),
    ],
)
def test_if_none_match_compares_weakly_and_knows_bare_tags(
    values: list[str], matches: bool
) -> None:
    assert if_none_match(values, ETAG) is matches


@given(st.lists(st.text()), st.text('"W/ *,ab').map(lambda text: [text]))
def test_any_if_none_match_is_read(values: list[str], more: list[str]) -> None:
    assert if_none_match([*values, *more, ETAG], ETAG)


def read_multipart(body: bytes, boundary: bytes) -> list[tuple[dict[bytes, bytes], bytes]]:
    """The parts of a multipart body, by the letter of RFC 2046 5.1.1."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    parts = []
    for piece in pieces[1:-1]:
        assert piece.startswith(b"\r\n")
        head, _, content = piece[2:].partition(b"\r\n\r\n")
        lines = (line.partition(b": ") for line in head.split(b"\r\n"))
        parts.append(({name.lower(): value for name, _, value in lines}, content))
    return parts


@given(
    st.binary(min_size=1, max_size=50).flatmap(
        lambda data: st.tuples(
            st.just(data),
            st.lists(
                st.integers(0, len(data) - 1).flatmap(
                    lambda start: st.integers(start + 1, len(data)).map(
                        lambda end: ByteRange(start, end)
                    )
                ),
                min_size=1,
                max_size=6,
            ),
        )
    )
)
def test_a_multipart_body_is_as_long_as_it_says_and_holds_each_range_in_order(
    drawn: tuple[bytes, list[ByteRange]],
) -> None:
    data, ranges = drawn
    boundary = "b0b1b2b3b4b5b6b7"
    framed = multipart(ranges, len(data), "application/octet-stream", boundary)
    body = b"".join(head + data[part.start : part.end] for head, part in framed.parts)
    body += framed.tail
    assert len(body) == framed.length
    assert framed.content_type == f"multipart/byteranges; boundary={boundary}"
    parts = read_multipart(body, boundary.encode())
    assert [content for _, content in parts] == [data[part.start : part.end] for part in ranges]
    for (headers, _), part in zip(parts, ranges, strict=True):
        assert headers == {
            b"content-type": b"application/octet-stream",
            b"content-range": content_range(part, len(data)).encode(),
        }
