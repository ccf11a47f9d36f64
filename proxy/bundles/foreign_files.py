"""The files of somebody else's archive, by name: in a folder or in a tar.

A name that an archive holds is looked up among its own entries and nowhere else, so
there is nothing that a path or a link could lead to.
"""

from __future__ import annotations

import json
import posixpath
import stat
from pathlib import Path
from typing import Protocol

from proxy.bundles.reader_media import Medium, Spans, read, whole
from proxy.bundles.reader_tar import Entry, entries
from proxy.errors import BadBundle

_HOPS_MAX = 8
JSON_MAX = 8 * 1024 * 1024


class Files(Protocol):
    """Raises `BadBundle`."""

    def place(self, name: str) -> Spans | None:
        """Where a file is; None if there is none of that name."""


class FolderFiles:
    """Below a folder. Neither it nor what leads to its files may be a link."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, name: str) -> Spans | None:
        """See `Files`."""
        path = self._root
        for part in name.split("/"):
            if part in {"", ".", ".."}:
                raise BadBundle(f"{name[:100]!r} leads elsewhere")
            path /= part
            try:
                kind = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise BadBundle(f"{path} can't be read: {error.strerror}") from error
            if stat.S_ISLNK(kind):
                raise BadBundle(f"{path} is a link")
        return (whole(path),)


class TarFiles:
    """Of a tar archive. `docker save` has links among its layers; those are followed,
    inside the archive.
    """

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._entries: dict[str, Entry] = {one.name: one for one in entries(medium, links=True)}

    def place(self, name: str) -> Spans | None:
        """See `Files`."""
        for _ in range(_HOPS_MAX):
            entry = self._entries.get(name)
            match entry:
                case None | Entry(kind="folder"):
                    return None
                case Entry(kind="file"):
                    return self._medium.place(entry.offset, entry.size)
                case Entry(target=target):
                    # Symbolic links count from their own folder, hard ones from the top.
                    beside = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
                    name = beside if beside in self._entries else posixpath.normpath(target)
        raise BadBundle(f"the archive has links that lead in circles at {name[:100]!r}")


def json_of(files: Files, name: str) -> object:
    """A small file as JSON; None if there is none. Raises `BadBundle`."""
    place = files.place(name)
    return None if place is None else parsed(read(place, bytes_max=JSON_MAX, what=name), name)


def parsed(body: bytes, name: str) -> object:
    """JSON. Raises `BadBundle`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"{name} is not JSON") from error
