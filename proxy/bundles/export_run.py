"""An export from its beginning to its end: plan, write, give it its name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy import admin_client
from proxy.bundles import export_plan, keys, receipts
from proxy.bundles.contents_reading import decode
from proxy.bundles.export_client import Giver
from proxy.bundles.export_files import only_one
from proxy.bundles.export_plan import Asked, Plan
from proxy.bundles.export_room import Room
from proxy.bundles.export_writing import WriteFailed, Writing
from proxy.errors import BadBundle

ARCHIVE = "archive"
FOLDER = "folder"


class Shows(Protocol):
    """Who tells a person how it goes."""

    def say(self, text: str) -> None: ...

    def begin(self, name: str, size: int) -> None:
        """From now on `size` bytes of blobs are written."""

    def wrote(self, count: int) -> None:
        """So many more bytes of blobs are there; fewer, if negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What to write where.

    url: of the admin listener. wanted: what its `/bundles/plan` takes. since: files of
    receipts. key: the file of a private key. form: `ARCHIVE`, `FOLDER` or the size of a
    part in bytes.
    """

    url: str
    out: Path
    wanted: Mapping[str, Any]
    form: str
    since: Sequence[Path] = ()
    key: Path | None = None

    def run(self, shows: Shows) -> dict[str, Any]:
        """Writes it; what was written. Raises `EntrepotError`, `OSError`.

        However it ends, the same again goes on from there.
        """
        key = None if self.key is None else keys.load_private(self.key)
        had = [receipts.load(path) for path in self.since]
        asked = Asked(
            images=tuple(self.wanted["images"]),
            platforms=tuple(self.wanted["platforms"]),
            referrers=self.wanted["referrers"],
            since=tuple(one.receipt for one in had),
            key=None if key is None else key.public.id,
            form=self.form,
        )
        if not self.out.parent.is_dir():
            raise BadBundle(f"there is no folder {self.out.parent}: {self.out} can't be written")
        with only_one(self.out):
            plan = export_plan.load(self.out, asked)
            if plan is None:
                contents = export_plan.since(decode(self._planned(shows.say)), had)
                plan = Plan.of(contents, key)
                room = Room(self.out, plan, self.form)
                room.check()
                try:
                    export_plan.save(self.out, asked, plan)
                except OSError as error:
                    raise room.failed(error) from error
            else:
                begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(plan.contents.created))
                shows.say(f"going on with what was begun on {begun}")
            written = self._write(plan, shows)
            export_plan.path_of(self.out).unlink()
        return self._told(plan, asked, written)

    def _planned(self, say: Callable[[str], None]) -> bytes:
        """The contents of a full bundle of what is wanted."""
        pieces: list[str] = []
        try:
            for line in admin_client.lines(f"{self.url}/bundles/plan", dict(self.wanted)):
                if told := line.get("problem") or line.get("warning"):
                    say(f"{line['image']}: {told}")
                elif "contents" in line:
                    pieces.append(str(line["contents"]))
        except admin_client.Refused as refused:
            raise BadBundle(str(refused)) from refused
        return "".join(pieces).encode()

    def _write(self, plan: Plan, shows: Shows) -> list[Path]:
        room = Room(self.out, plan, self.form)
        room.check()
        shows.begin(self.out.name, plan.blob_bytes)
        with Giver(self.url, tell=shows.say) as giver:
            writing = Writing(plan.contents, plan.body, plan.signature, giver, shows.wrote)
            try:
                if self.form == FOLDER:
                    return writing.to_folder(self.out)
                part_size = None if self.form == ARCHIVE else int(self.form)
                return writing.to_archive(self.out, part_size=part_size)
            except WriteFailed as failed:
                raise room.failed(failed.error) from failed
            except OSError as error:
                raise room.failed(error) from error

    def _told(self, plan: Plan, asked: Asked, written: Sequence[Path]) -> dict[str, Any]:
        contents = plan.contents
        return {
            "files": [str(path) for path in written],
            "bundle": contents.bundle,
            "images": [one.name for one in contents.images],
            "referrers": len(contents.referrers),
            "platforms": contents.platforms,
            "blobs": len(contents.blobs),
            "blob_bytes": plan.blob_bytes,
            "bytes": plan.blob_bytes if self.form == FOLDER else plan.archive_bytes,
            "left_out": len(contents.left_out),
            "left_out_bytes": plan.left_out_bytes,
            "key": asked.key,
        }
