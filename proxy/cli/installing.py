"""Files on a node, written so that they can be taken back, byte for byte.

A ledger notes what was made and what was there before; copies of the latter lie
beside the originals as `*.before-entrepot`. Order is what makes a crash
harmless: copies, then the ledger, then the files, each by rename. What somebody
changed after us is theirs: it is neither overwritten nor taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proxy.clients.wish import MARK, Conflict, File, Plan

_KEPT = ".before-entrepot"
_CHANGED = "was changed after it was written here; left as it is"


@dataclass(frozen=True, slots=True)
class _Entry:
    """`made`: there was nothing before. `sha256`: of what we wrote."""

    path: str
    made: bool
    sha256: str


@dataclass(slots=True)
class _Ledger:
    files: dict[str, _Entry] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Done:
    """What happened, by path."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Node:
    """A machine's files, below `root` where its own root is mounted elsewhere.

    Methods raise `Conflict` before anything is changed, and OSError.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.resolve()

    def before(self, ledger: str, path: str) -> str | None:
        """What is at `path`, or was before we wrote there."""
        entry = self._ledger(ledger).files.get(path)
        there = self._bytes(path)
        if entry is not None and there is not None and _sha(there) == entry.sha256:
            there = None if entry.made else self._bytes(path + _KEPT)
        if there is None:
            return None
        try:
            return there.decode()
        except UnicodeDecodeError as error:
            raise Conflict(path, "is not UTF-8 text") from error

    def write(self, plan: Plan) -> Done:
        """Bring the files of a plan about; of an earlier plan, take back the rest."""
        ledger, done = self._ledger(plan.ledger), Done()
        todo = [one for one in plan.files if self._needed(ledger, one, done)]
        planned = {one.path for one in plan.files}
        stale = [entry for path, entry in ledger.files.items() if path not in planned]
        for one in todo:
            self._keep(ledger, one)
        self._save(plan.ledger, ledger)
        for one in todo:
            self._replace(one.path, one.content.encode())
            done.written.append(one.path)
        for entry in stale:
            self._take_back(ledger, entry, done, force=False)
        self._save(plan.ledger, ledger)
        return done

    def remove(self, ledger_path: str, *, force: bool) -> Done:
        """Put back what was there. `force`: also over what was changed since."""
        ledger, done = self._ledger(ledger_path), Done()
        for entry in reversed(list(ledger.files.values())):
            self._take_back(ledger, entry, done, force=force)
        self._save(ledger_path, ledger)
        return done

    # --- the steps -------------------------------------------------------------------

    def _needed(self, ledger: _Ledger, one: File, done: Done) -> bool:
        there, entry = self._bytes(one.path), ledger.files.get(one.path)
        if there == one.content.encode():
            done.unchanged.append(one.path)
            return False
        if entry is not None:
            before = None if entry.made else self._bytes(one.path + _KEPT)
            if there != before and (there is None or _sha(there) != entry.sha256):
                raise Conflict(one.path, f"{_CHANGED}; see --remove")
        elif there is not None:
            if not one.shared and MARK.encode() not in there:
                raise Conflict(one.path, "exists and is not ours; move it away first")
            if self._bytes(one.path + _KEPT) is not None:
                raise Conflict(one.path + _KEPT, "is left from before; move it away first")
        return True

    def _keep(self, ledger: _Ledger, one: File) -> None:
        entry, path = ledger.files.get(one.path), self._at(one.path)
        made = not path.exists() if entry is None else entry.made
        if entry is None and not made:
            copy = self._at(one.path + _KEPT)
            shutil.copy2(path, copy)
            _same_owner(path, copy)
        ledger.files[one.path] = _Entry(one.path, made, _sha(one.content.encode()))

    def _take_back(self, ledger: _Ledger, entry: _Entry, done: Done, *, force: bool) -> None:
        there, path, copy = self._bytes(entry.path), self._at(entry.path), entry.path + _KEPT
        before = None if entry.made else self._bytes(copy)
        ours = there is not None and _sha(there) == entry.sha256
        # A copy that is gone was put back by a `--remove` that did not come to its end.
        if there == before or (not entry.made and before is None):
            self._at(copy).unlink(missing_ok=True)
        elif not ours and not force:
            done.left.append(entry.path)
            return
        elif entry.made:
            path.unlink(missing_ok=True)
            done.deleted.append(entry.path)
        else:
            self._at(copy).replace(path)
            done.restored.append(entry.path)
        del ledger.files[entry.path]

    # --- the ledger ------------------------------------------------------------------

    def _ledger(self, path: str) -> _Ledger:
        text = self._bytes(path)
        if text is None:
            return _Ledger()
        try:
            document = json.loads(text)
            entries = [_Entry(**one) for one in document["files"]]
            return _Ledger({one.path: one for one in entries}, list(document["folders"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Conflict(path, "is not a ledger of ours; move it away") from error

    def _save(self, path: str, ledger: _Ledger) -> None:
        if not ledger.files:
            self._at(path).unlink(missing_ok=True)
            for folder in sorted(ledger.folders, key=len, reverse=True):
                with contextlib.suppress(OSError):  # Others have files in it.
                    self._at(folder).rmdir()
            return
        for one in (*ledger.files, path):
            self._make_folder(ledger, str(Path(one).parent))
        entries = [asdict(entry) for entry in ledger.files.values()]
        document = {"version": 1, "files": entries, "folders": ledger.folders}
        self._replace(path, (json.dumps(document, indent=2) + "\n").encode())

    def _make_folder(self, ledger: _Ledger, folder: str) -> None:
        if not self._at(folder).is_dir():
            self._make_folder(ledger, str(Path(folder).parent))
            self._at(folder).mkdir(mode=0o755)
            ledger.folders.append(folder)

    # --- the disk --------------------------------------------------------------------

    def _at(self, path: str) -> Path:
        """Where `path` of the node is. Never outside `root`, whatever links say."""
        if self._root is None:
            return Path(path)
        found = self._root / path.lstrip("/")
        if found != self._root and not found.parent.resolve().is_relative_to(self._root):
            raise Conflict(path, f"a link in it leads out of {self._root}")
        return found

    def _bytes(self, path: str) -> bytes | None:
        at = self._at(path)
        if at.is_symlink():
            raise Conflict(path, "is a link; write to what it leads to by hand")
        try:
            return at.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _replace(self, path: str, content: bytes) -> None:
        at = self._at(path)
        descriptor, name = tempfile.mkstemp(prefix=".entrepot-", suffix="~", dir=at.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if at.exists():
                    shutil.copymode(at, temporary)
                    _same_owner(at, temporary)
                else:
                    temporary.chmod(0o644)
                os.fsync(file.fileno())
            temporary.replace(at)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _same_owner(model: Path, path: Path) -> None:
    status = model.stat()
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, status.st_uid, status.st_gid)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
