"""Writes a bundle whose contents are settled, from its first byte or from where an earlier
try was stopped.

Nothing is believed that lies there: what is known is compared, what is a blob's is hashed
again, and from the first byte on that is not as it should be it is written anew. So a
bundle that has its name was verified whole, as it lies on the disk, whatever happened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from proxy.bundles import archive
from proxy.bundles.contents import Blob, Contents
from proxy.bundles.export_client import Readable, Take
from proxy.bundles.export_files import PARTIAL, Growing, beside
from proxy.errors import BadBundle
from proxy.storage.files import sync_folder

_PIECE = 1024 * 1024
# What is exported may be private.
_FOLDER_MODE = 0o700

Watch = Callable[[int], None]
"""Hears how many more bytes of blobs are there."""


class Gives(Protocol):
    """Where the bytes of blobs come from."""

    def give(self, blob: Blob, start: int, take: Take) -> None: ...


class WriteFailed(Exception):
    """`error` has to do with the bundle's disk, and not with whoever gives its bytes."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Writing:
    """Writes one bundle. Raises `OSError`, `WriteFailed`, and what `giver` raises."""

    def __init__(
        self, contents: Contents, body: bytes, signature: bytes, giver: Gives, watch: Watch
    ) -> None:
        """`body`, `signature`: the bytes of `contents.json` and `contents.sig`."""
        self._contents = contents
        self._body = body
        self._signature = signature
        self._giver = giver
        self._watch = watch
        self._buffer = memoryview(bytearray(_PIECE))

    def to_archive(self, path: Path, *, part_size: int | None) -> list[Path]:
        """A tar archive; the files that it is in."""
        blobs = iter(self._contents.blobs)
        with Growing(path, part_size=part_size) as out:
            end = 0
            for member in archive.members(self._contents, self._body, self._signature):
                self._known(out, member.at, member.header)
                if member.body is not None:
                    self._known(out, member.body_at, member.body)
                else:
                    self._blob(out, member.body_at, next(blobs))
                self._known(out, member.body_end, bytes(member.end - member.body_end))
                end = member.end
            self._known(out, end, archive.END)
            if out.size > end + len(archive.END):
                out.truncate(end + len(archive.END))
            return out.finish()

    def to_folder(self, path: Path) -> list[Path]:
        """A folder; which."""
        partial = beside(path, PARTIAL)
        if path.exists() and not partial.exists():
            # One that was killed when all was done but the last.
            path.rename(partial)
        partial.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for name, body in archive.front(self._contents, self._body, self._signature):
            with self._file(partial / name) as out:
                self._known(out, 0, body)
                if out.size > len(body):
                    out.truncate(len(body))
                out.finish()
        for blob in self._contents.blobs:
            size = blob.descriptor.size
            with self._file(partial / archive.blob_name(blob.descriptor.digest)) as out:
                self._blob(out, 0, blob)
                if out.size > size:
                    out.truncate(size)
                out.finish()
        partial.rename(path)
        sync_folder(path.parent)
        return [path]

    def _file(self, path: Path) -> Growing:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        return Growing(path, part_size=None)

    def _known(self, out: Growing, at: int, data: bytes) -> None:
        """`data` lies at `at`."""
        there = 0
        while there < len(data) and (found := out.read(at + there, len(data) - there)):
            if found != data[there : there + len(found)]:
                out.truncate(at + there)
                break
            there += len(found)
        out.append(data[there:])

    def _blob(self, out: Growing, at: int, blob: Blob) -> None:
        """The bytes of a blob lie at `at`."""
        digest, size = blob.descriptor.digest, blob.descriptor.size
        for _ in range(2):
            hasher = digest.hasher()
            there = 0
            while there < size and (found := out.read(at + there, size - there)):
                hasher.update(found)
                there += len(found)
            self._watch(there)

            def take(source: Readable) -> int:
                count = source.readinto(self._buffer)
                hasher.update(self._buffer[:count])  # noqa: B023 - called in this turn
                try:
                    out.append(self._buffer[:count])
                except OSError as error:
                    raise WriteFailed(error) from error
                self._watch(count)
                return count

            self._giver.give(blob, there, take)
            if hasher.hexdigest() == digest.hex:
                return
            out.truncate(at)
            self._watch(-size)
            if not there:
                break
        raise BadBundle(f"the proxy gave other bytes than {digest}")
