"""A node's files as clients see them, below its root."""

from __future__ import annotations

from pathlib import Path


class NodeFiles:
    """`root` is where the node's `/` is, which may be mounted elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> str | None:
        """The text at a path of the node; None if there is none that can be read."""
        try:
            return self._at(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        return self._at(path).exists()

    def names(self, folder: str, suffix: str) -> list[str]:
        """Paths of the files in `folder` that end in `suffix`, in the order of names."""
        try:
            found = sorted(one.name for one in self._at(folder).iterdir())
        except OSError:
            return []
        return [f"{folder}/{name}" for name in found if name.endswith(suffix)]

    def _at(self, path: str) -> Path:
        return self._root / path.lstrip("/")
