"""What is known of one image: how much belongs to it, and what of that is not here."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.cache.closure import Piece
from proxy.cache.platforms import Platforms
from proxy.oci.digest import Digest


@dataclass(slots=True)
class Report:
    """Grows while the image is walked. Sizes in bytes.

    reason: why the image as a whole could not be looked at. missing: by digest, why each
    piece is not here.
    """

    image: str
    pieces: dict[Digest, Piece] = field(default_factory=dict)
    missing: dict[Digest, str] = field(default_factory=dict)
    reason: str | None = None
    fetched_bytes: int = 0

    def add(self, piece: Piece) -> None:
        """One more piece; with what the walk knows to be missing."""
        self.pieces[piece.descriptor.digest] = piece
        if piece.missing is not None:
            self.missing[piece.descriptor.digest] = piece.missing

    def look_at_platforms(self, platforms: Platforms) -> None:
        """All pieces are known: is there anything for a wanted platform?"""
        top = next(iter(self.pieces.values()), None)
        if top is None or top.kind != "index" or self.reason is not None:
            return
        if not any(one.depth == 1 and not one.referrer for one in self.pieces.values()):
            self.reason = "has nothing for " + ", ".join(sorted(platforms.wanted or {"anybody"}))

    def absent(self, platforms: Platforms) -> list[str]:
        """The wanted platforms that an index has nothing for."""
        top = next(iter(self.pieces.values()), None)
        if top is None or top.kind != "index":
            return []
        has = {one.platform for one in self.pieces.values() if one.platform}
        has |= {name.rpartition("/")[0] for name in has}
        return sorted((platforms.wanted or frozenset()) - has)

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.reason is None and not self.missing

    @property
    def missing_bytes(self) -> int:
        """Of the pieces that are known; a missing manifest hides what it needs."""
        return sum(self.pieces[digest].descriptor.size for digest in self.missing)

    def document(self, platforms: Platforms) -> dict[str, object]:
        """For an answer's line."""
        return {
            "image": self.image,
            "state": "complete" if self.complete else "incomplete",
            "reason": self.reason,
            "pieces": len(self.pieces),
            "bytes": sum(one.descriptor.size for one in self.pieces.values()),
            "missing_bytes": self.missing_bytes,
            "missing": [
                {**described(self.pieces[digest]), "reason": reason}
                for digest, reason in self.missing.items()
            ],
            "absent_platforms": self.absent(platforms),
        }


def described(piece: Piece) -> dict[str, object]:
    """One piece, for an answer's line."""
    return {
        "digest": str(piece.descriptor.digest),
        "kind": piece.kind,
        "size": piece.descriptor.size,
        "platform": piece.platform,
        "referrer": piece.referrer,
    }


@dataclass(slots=True)
class Totals:
    """Of many images."""

    images: int = 0
    complete: int = 0
    missing: int = 0
    missing_bytes: int = 0
    certain: bool = True

    def add(self, report: Report) -> None:
        """One more image."""
        self.images += 1
        self.complete += report.complete
        self.missing += len(report.missing)
        self.missing_bytes += report.missing_bytes
        hidden = any(
            report.pieces[digest].kind in {"index", "manifest"} for digest in report.missing
        )
        self.certain = self.certain and report.reason is None and not hidden

    def document(self) -> dict[str, object]:
        """`certain`: whether nothing is hidden behind a manifest that is missing."""
        return {
            "done": True,
            "complete": self.complete == self.images,
            "images": self.images,
            "complete_images": self.complete,
            "missing": self.missing,
            "missing_bytes": self.missing_bytes,
            "certain": self.certain,
        }
