"""HTTP byte ranges: what a Range header asks of a body of known size.

Pure, so that hit, miss and every replica answer alike: containerd checks only
the first of its parallel answers, and a different reading of the same header
later corrupts the layer. Several ranges are never sorted, merged or cut down
to the first: containers/image counts the parts and expects them in its order.
Where that is not wanted the answer is a refusal (400), upon which it halves
its ranges and stargz and SOCI turn to single ones; never another meaning.

Sources: RFC 9110 sections 13.1, 14; containers/image `docker_image_src.go`;
regclient resumes with a range that ends one past the last byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.errors import InvalidHeader, UnsatisfiableRange

RANGES_MAX = 1024
"""What containers/image asks for at most, with zstd:chunked layers."""

_AMPLIFICATION_MAX = 2
_BYTES_UNIT = re.compile(r"[ \t]*bytes=", re.IGNORECASE)
_SPEC = re.compile(r"[ \t]*([0-9]*)-([0-9]*)[ \t]*")
_CONTENT_RANGE = re.compile(
    r"[ \t]*bytes[ \t]+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)[ \t]*", re.IGNORECASE
)
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `[start, end)`; never empty."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipart:
    """A multipart/byteranges body, its data left out.

    Send each part's head and then its bytes, at last `tail`. `length`: bytes of
    all that together. `content_type`: of the whole answer.
    """

    parts: tuple[tuple[bytes, ByteRange], ...]
    tail: bytes
    length: int
    content_type: str


def parse_range(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """The ranges to send of a body of `size` bytes, in the order asked for.

    None: there is none to honour (no header, another unit, bad syntax), send it
    whole (RFC 9110 14.2). Ends beyond the body are clamped; ranges that start
    beyond it are left out.

    Raises `UnsatisfiableRange` when none is left, and `InvalidHeader` for more
    than `RANGES_MAX`, or for overlapping ranges that add up to over twice the
    body: a short header must not make an answer of a thousand blobs. No client
    asks for a byte twice; twice the size leaves room for those that round.
    """
    unit = _BYTES_UNIT.match(header) if header else None
    if header is None or unit is None:
        return None
    specs = [spec for spec in header[unit.end() :].split(",") if spec.strip(" \t")]
    if len(specs) > RANGES_MAX:
        raise InvalidHeader(f"more than {RANGES_MAX} ranges were asked for")
    bounds = [_bounds(spec, size) for spec in specs]
    if not bounds or None in bounds:
        return None
    ranges = tuple(ByteRange(*pair) for pair in bounds if pair is not None and pair[0] < pair[1])
    if not ranges:
        raise UnsatisfiableRange(size)
    if sum(map(len, ranges)) > size * _AMPLIFICATION_MAX:
        raise InvalidHeader(f"the ranges asked for overlap too much for {size} bytes")
    return ranges


def content_range(part: ByteRange, size: int) -> str:
    """The Content-Range of a 206, or of one part."""
    return f"bytes {part.start}-{part.end - 1}/{size}"


def unsatisfied(size: int) -> str:
    """The Content-Range of a 416."""
    return f"bytes */{size}"


def parse_content_range(value: str) -> tuple[int, int, int | None] | None:
    """Start, exclusive end and total (None: not told) of an upstream's 206.

    None if the value makes no sense, and for a 416's `*`.
    """
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    if start >= end or (total is not None and end > total):
        return None
    return start, end, total


def if_range_matches(value: str, etag: str) -> bool:
    """Whether an If-Range allows a range; if not, the body is sent whole.

    `etag`: ours, strong and quoted. A weak one never matches (RFC 9110 13.1.5),
    nor does a date: there is no Last-Modified it could have been taken from.
    """
    return value.strip() == etag


def if_none_match(values: Iterable[str], etag: str) -> bool:
    """Whether If-None-Match lines name `etag`, so that a 304 is due.

    Weak comparison (RFC 9110 13.1.2). Unquoted tags count: registry:2 in proxy
    mode hands them out, and whoever got one there will send it here.
    """
    ours = etag.strip('"')
    for value in values:
        for tag in _ENTITY_TAG.finditer(value):
            if tag[2] == "*" or ours in {tag[1], tag[2]}:
                return True
    return False


def multipart(
    ranges: Sequence[ByteRange], size: int, content_type: str, boundary: str
) -> Multipart:
    """Frame `ranges` of a body of `size` bytes, one part each, in their order.

    `boundary`: up to 70 letters and digits that do not occur in the data, which
    for data nobody has read yet means random ones.
    """
    parts: list[tuple[bytes, ByteRange]] = []
    opening = f"--{boundary}"
    for part in ranges:
        head = (
            f"{opening}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {content_range(part, size)}\r\n\r\n"
        )
        parts.append((head.encode("ascii"), part))
        opening = f"\r\n--{boundary}"
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    return Multipart(
        parts=tuple(parts),
        tail=tail,
        length=sum(len(head) + len(part) for head, part in parts) + len(tail),
        content_type=f"multipart/byteranges; boundary={boundary}",
    )


def _bounds(spec: str, size: int) -> tuple[int, int] | None:
    """`[start, end)` within the body, empty if unsatisfiable; None if no range."""
    match = _SPEC.fullmatch(spec)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - _number(match[2], size)), size
    start = _number(match[1], size)
    if not match[2]:
        return start, size
    # Compared as written: clamping first would make `9-7` of 5 bytes look valid.
    if _digits(match[2]) < _digits(match[1]):
        return None
    return start, min(_number(match[2], size) + 1, size)


def _digits(text: str) -> tuple[int, str]:
    """A number as something that compares like it, at any length."""
    bare = text.lstrip("0")
    return len(bare), bare


def _number(text: str, ceiling: int) -> int:
    """At most `ceiling`: no int of thousands of digits is ever made."""
    bare = text.lstrip("0")
    return min(int(bare or "0"), ceiling) if len(bare) <= 20 else ceiling
