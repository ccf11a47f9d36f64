"""What an export is about to write, kept beside it so that it can be gone on with.

`FILE.plan.json` holds what was asked for and the settled contents with their signature.
While it is there, the same command goes on with it, even if a tag has moved since; it is
removed when the bundle has its name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.bundles import archive, signing
from proxy.bundles.contents import Contents, LeftOut
from proxy.bundles.contents_reading import decode
from proxy.bundles.export_files import PARTIAL, beside, part, write_whole
from proxy.bundles.receipts import Receipt
from proxy.errors import BadBundle

if TYPE_CHECKING:
    from proxy.bundles.keys import PrivateKey

_VERSION = 1
_PLAN = ".plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line said; a plan is gone on with if all of it is the same.

    platforms: empty for the proxy's own; `all`. since: ids of receipts. key: its id.
    form: `archive`, `folder`, or the size of a part in bytes.
    """

    images: tuple[str, ...]
    platforms: tuple[str, ...]
    referrers: bool
    since: tuple[str, ...]
    key: str | None
    form: str

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def differs(self, document: object) -> list[str]:
        """In which fields another one is different."""
        if not isinstance(document, dict):
            return ["all"]
        own = self.document()
        return [name for name in own if own[name] != document.get(name)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settled contents; `body` and `signature` are the bytes of their files."""

    contents: Contents
    body: bytes
    signature: bytes

    @classmethod
    def of(cls, contents: Contents, key: PrivateKey | None) -> Plan:
        """Signed, if there is a key."""
        body = contents.encode()
        return cls(contents, body, signing.signed(body, key))

    @property
    def blob_bytes(self) -> int:
        """Of all blobs in the bundle."""
        return sum(blob.descriptor.size for blob in self.contents.blobs)

    @property
    def left_out_bytes(self) -> int:
        """Of all that is left out."""
        return sum(one.size for one in self.contents.left_out)

    @property
    def archive_bytes(self) -> int:
        """Of the whole archive."""
        return archive.length(self.contents, self.body, self.signature)


def path_of(out: Path) -> Path:
    """Where the plan for `out` is."""
    return beside(out, _PLAN)


def load(out: Path, asked: Asked) -> Plan | None:
    """The plan that an earlier try left, None if there is none.

    Raises `BadBundle` if it was for something else, or if there is no plan and something
    has the name already.
    """
    path = path_of(out)
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        _check_free(out)
        return None
    except OSError as error:
        raise BadBundle(f"{path} can't be read: {error.strerror}") from error
    remove = f"to begin anew, remove it and {out}{PARTIAL} or its parts"
    try:
        document = json.loads(body)
        version, said = document["v"], document["asked"]
        text, signature = document["contents"].encode(), document["signature"].encode()
        plan = Plan(decode(text), text, signature)
    except (ValueError, LookupError, TypeError, AttributeError, BadBundle) as error:
        raise BadBundle(f"{path} is damaged; {remove}") from error
    differs = asked.differs(said) if version == _VERSION else ["version"]
    if differs:
        raise BadBundle(
            f"{path} is of an export that was begun with other {', '.join(differs)};"
            f" repeat that one, or, {remove}"
        )
    return plan


def save(out: Path, asked: Asked, plan: Plan) -> None:
    """Raises `OSError`."""
    document = {
        "v": _VERSION,
        "asked": asked.document(),
        "contents": plan.body.decode(),
        "signature": plan.signature.decode(),
    }
    write_whole(path_of(out), json.dumps(document).encode())


def since(contents: Contents, receipts: Sequence[Receipt]) -> Contents:
    """Without what the other side has by its receipts."""
    if not receipts:
        return contents
    have = frozenset[object]().union(*(receipt.have for receipt in receipts))
    left_out = tuple(
        LeftOut(digest=blob.descriptor.digest, size=blob.descriptor.size, places=blob.places)
        for blob in contents.blobs
        if blob.descriptor.digest in have
    )
    return dataclasses.replace(
        contents,
        receipts=tuple(dict.fromkeys(receipt.receipt for receipt in receipts)),
        bundles=tuple(dict.fromkeys(receipt.bundle for receipt in receipts)),
        blobs=tuple(blob for blob in contents.blobs if blob.descriptor.digest not in have),
        left_out=left_out,
    )


def _check_free(out: Path) -> None:
    for path in (out, part(out, 0), beside(out, PARTIAL), beside(part(out, 0), PARTIAL)):
        if path.exists():
            raise BadBundle(f"{path} is there already; nothing is written over")
