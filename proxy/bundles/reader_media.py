"""The bytes of a bundle, wherever they are: one file, parts of one, a folder.

Nothing here trusts what is read: only regular files are opened, no link is followed,
every read is bounded by the caller. Which bytes mean what is decided elsewhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import BadBundle

_PART = re.compile(r"(.+)\.(\d{3,6})", re.ASCII)
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[offset, offset + size)` of a file."""

    path: Path
    offset: int
    size: int


Spans = tuple[Span | bytes, ...]
"""Where some content is: pieces that follow each other; bytes that are in no file."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises `BadBundle` for anything else."""
    try:
        # Without O_NONBLOCK a pipe would keep us waiting for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BadBundle(f"{path} can't be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadBundle(f"{path} is not a regular file")
        yield fd
    finally:
        os.close(fd)


def whole(path: Path) -> Span:
    """All of a regular file. Raises `BadBundle`."""
    with opened(path) as fd:
        return Span(path, 0, os.fstat(fd).st_size)


def size_of(place: Spans) -> int:
    """In bytes."""
    return sum(len(one) if isinstance(one, bytes) else one.size for one in place)


def chunks(place: Spans) -> Iterator[bytes]:
    """The bytes at a place, at most 1 MiB at once. Raises `BadBundle`."""
    for span in place:
        if isinstance(span, bytes):
            yield span
            continue
        with opened(span.path) as fd:
            at, end = span.offset, span.offset + span.size
            while at < end:
                try:
                    data = os.pread(fd, min(_COPY_BYTES, end - at), at)
                except OSError as error:
                    raise BadBundle(f"{span.path} can't be read: {error.strerror}") from error
                if not data:
                    raise BadBundle(f"{span.path} is cut short")
                at += len(data)
                yield data


def read(place: Spans, *, bytes_max: int, what: str) -> bytes:
    """All of it. Raises `BadBundle` above `bytes_max`."""
    if size_of(place) > bytes_max:
        raise BadBundle(f"{what} is longer than {bytes_max} bytes")
    return b"".join(chunks(place))


class Medium:
    """A file, or parts of one that follow each other, read at any offset.

    Open between `__enter__` and `__exit__`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises `BadBundle` if one of them can't be read."""
        self._spans = [whole(path) for path in paths]
        self.name = str(paths[0])
        self.size = size_of(tuple(self._spans))

    def place(self, offset: int, size: int) -> Spans:
        """Where bytes of the whole are. Raises `BadBundle` beyond its end."""
        if offset + size > self.size:
            raise BadBundle(f"{self.name} is cut short")
        found: list[Span] = []
        for span in self._spans:
            if size and offset < span.size:
                count = min(size, span.size - offset)
                found.append(Span(span.path, offset, count))
                size -= count
                offset = 0
            else:
                offset = max(0, offset - span.size)
        return tuple(found)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises `BadBundle`."""
        return b"".join(chunks(self.place(offset, size)))


def parts(given: Sequence[Path]) -> list[list[Path]]:
    """The files that were named, those that are parts of one together and in order.

    Of parts (`FILE.001`, `FILE.002` ...) it is enough to name the first, or `FILE`,
    where they lie in one folder. Raises `BadBundle` when one is not there.
    """
    groups: dict[str, dict[int, Path]] = {}
    single: dict[str, list[Path]] = {}
    for path in given:
        match = _PART.fullmatch(path.name)
        if match is not None:
            groups.setdefault(match[1], {})[int(match[2])] = path
        elif not path.exists() and (first := path.with_name(f"{path.name}.001")).exists():
            groups.setdefault(path.name, {})[1] = first
        else:
            single[str(path)] = [path]
    for name, numbered in groups.items():
        if set(numbered) == {1}:
            numbered.update(_beside(numbered[1], name))
        lacking = sorted(set(range(1, max(numbered) + 1)) - set(numbered))
        if lacking:
            raise BadBundle(f"part {lacking[0]:03} of {name} is not there")
    together = [[numbered[n] for n in sorted(numbered)] for numbered in groups.values()]
    return together + list(single.values())


def _beside(first: Path, name: str) -> dict[int, Path]:
    found = {}
    for path in first.parent.iterdir():
        match = _PART.fullmatch(path.name)
        if match is not None and match[1] == name:
            found[int(match[2])] = path
    return found
