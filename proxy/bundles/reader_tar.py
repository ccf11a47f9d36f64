"""Tar headers of an archive that nobody vouches for: names, offsets, sizes.

The standard library's `tarfile` reads extended headers of any length into memory,
follows sparse maps and repairs what it can; here everything unusual is refused and
everything is bounded. Nothing is ever unpacked.

Sources: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header";
GNU tar manual, "Basic Tar Format" (long names, base-256 numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from proxy.bundles.reader_media import Medium
from proxy.errors import BadBundle

BLOCK = 512
_ENTRIES_MAX = 200_000
_NAME_MAX = 1024
_EXTENDED_MAX = 64 * 1024
_EXTENDED_IN_A_ROW_MAX = 4
_TRAILER_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of the archive; `offset` and `size` of its bytes, `target` of a link."""

    name: str
    kind: Literal["file", "folder", "link"]
    offset: int
    size: int
    target: str = ""


@dataclass(slots=True)
class _Said:
    """What extended headers said of the next entry."""

    count: int = 0
    path: str | None = None
    target: str | None = None
    size: int | None = None


def entries(medium: Medium, *, links: bool = False) -> Iterator[Entry]:
    """All members in order, each name once.

    `links`: symbolic and hard links are told (and never followed). Raises
    `BadBundle` for anything else that is not a file or a folder, names that lead
    out of the archive, and whatever is not as the format says.
    """
    at, said, names = 0, _Said(), set[str]()
    while True:
        header = medium.read(at, BLOCK)
        if not any(header):
            _check_end(medium, at)
            return
        _check_sum(header)
        kind = header[156:157]
        size = _number(header[124:136])
        data = at + BLOCK
        if kind in b"xgLK" and kind:
            said.count += 1
            if said.count > _EXTENDED_IN_A_ROW_MAX or size > _EXTENDED_MAX:
                raise BadBundle("the archive has a header that is far too long")
            _extend(said, kind, medium.read(data, size))
            at = data + _padded(size)
            continue
        size = size if said.size is None else said.size
        entry = _entry(header, said, Entry("", "file", data, size), links=links)
        at = data + _padded(entry.size)
        medium.place(data, _padded(entry.size))
        said = _Said()
        if entry.name:
            if entry.name in names:
                raise BadBundle(f"the archive has {entry.name!r} twice")
            names.add(entry.name)
            if len(names) > _ENTRIES_MAX:
                raise BadBundle(f"the archive has more than {_ENTRIES_MAX} entries")
            yield entry


def looks_like(medium: Medium) -> bool:
    """Whether it begins as an archive does."""
    if medium.size < BLOCK:
        return False
    try:
        _check_sum(medium.read(0, BLOCK))
    except BadBundle:
        return False
    return True


def _entry(header: bytes, said: _Said, entry: Entry, *, links: bool) -> Entry:
    name = _clean(_name(header) if said.path is None else said.path)
    match header[156:157]:
        case b"0" | b"\0" | b"7" if name:
            return replace(entry, name=name)
        case b"5" if entry.size == 0:
            return replace(entry, name=name, kind="folder")
        case b"1" | b"2" if links and entry.size == 0:
            target = _text(header[157:257]) if said.target is None else said.target
            return replace(entry, name=name, kind="link", target=target)
        case b"1" | b"2":
            raise BadBundle(f"the archive has a link, {name!r}")
        case _:
            raise BadBundle(f"the archive has {name!r}, which is neither a file nor a folder")


def _name(header: bytes) -> str:
    name = _text(header[:100])
    # In GNU's own format there are times where POSIX has the prefix.
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _clean(name: str) -> str:
    """Without `./` and a last slash. Raises `BadBundle` for names that lead elsewhere."""
    parts = name.removesuffix("/").split("/")
    while parts and parts[0] == ".":
        parts.pop(0)
    if parts and (not all(parts) or ".." in parts or "." in parts or len(name) > _NAME_MAX):
        raise BadBundle(f"the archive has a name that leads elsewhere, {name[:100]!r}")
    return "/".join(parts)


def _extend(said: _Said, kind: bytes, data: bytes) -> None:
    match kind:
        case b"L":
            said.path = _text(data)
        case b"K":
            said.target = _text(data)
        case _:
            for key, value in _records(data):
                if kind == b"g" and key in {"path", "size", "linkpath"}:
                    raise BadBundle("the archive has a header that renames everything")
                if key.startswith("GNU.sparse"):
                    raise BadBundle("the archive has a file with holes")
                if key == "path":
                    said.path = value
                elif key == "linkpath":
                    said.target = value
                elif key == "size":
                    said.size = _decimal(value)


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """`LENGTH KEY=VALUE` and a newline, the length being that of the whole record."""
    while data:
        number, space, _ = data.partition(b" ")
        length = _decimal(number.decode("ascii", "replace"))
        record = data[len(number) + 1 : length]
        if not space or length > len(data) or not record.endswith(b"\n"):
            raise BadBundle("the archive has a header that makes no sense")
        key, equals, value = record[:-1].partition(b"=")
        if not equals:
            raise BadBundle("the archive has a header that makes no sense")
        yield _decoded(key), _decoded(value)
        data = data[length:]


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << 95) - 1)
        if field[0] & 0x40 or value >= 1 << 62:
            raise BadBundle("the archive has an entry of impossible size")
        return value
    digits = field.strip(b" \0")
    if not all(b"0" <= digits[i : i + 1] <= b"7" for i in range(len(digits))):
        raise BadBundle("the archive has a header that makes no sense")
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not (0 < len(text) <= 18 and text.isascii() and text.isdecimal()):
        raise BadBundle("the archive has a header that makes no sense")
    return int(text)


def _check_sum(header: bytes) -> None:
    if sum(header) - sum(header[148:156]) + 8 * 32 != _number(header[148:156]):
        raise BadBundle("this is no tar archive, or one that was damaged")


def _check_end(medium: Medium, at: int) -> None:
    """Only zeros follow."""
    rest = medium.size - at
    if rest < 2 * BLOCK or rest > _TRAILER_MAX or any(medium.read(at, rest)):
        raise BadBundle("the archive does not end as it should")


def _text(field: bytes) -> str:
    return _decoded(field.partition(b"\0")[0])


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadBundle("the archive has a name that is not UTF-8") from error


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
