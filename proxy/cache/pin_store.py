"""How pins lie in the store: their keys, what is read of them, what they keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from proxy.cache import keys
from proxy.cache.pin_records import Pin, decode_pin
from proxy.errors import NoSpace, StorageUnavailable
from proxy.ports import Record, Records


class Unwritten(StorageUnavailable):
    """A pin that holds, but could not be made durable yet."""

    def __init__(self, error: StorageUnavailable) -> None:
        why = "the disk is full" if isinstance(error, NoSpace) else str(error)
        super().__init__(
            f"kept, but until a restart only: the pin can't be written ({why}); "
            "it is tried again until then"
        )


async def read(records: Records, key: str) -> Pin | None:
    """The pin under a key; None if it can't be read, or is not what its key says.

    Raises `StorageUnavailable`.
    """
    for look in (records.get, records.latest):
        record: Record | None = await look(key)
        if record is not None and key.endswith(_hash(record.value)):
            return decode_pin(record.value)
    return None


def kept_by(pin: Pin) -> Iterator[bytes]:
    """All digests, as bytes."""
    for image in pin.images:
        for digest in image.closure:
            yield bytes.fromhex(digest.hex)


def key_of(pin: Pin, value: bytes) -> str:
    """Where the record `value` of a pin lies: one place for each content."""
    return keys.pin(_hash("\n".join(pin.identity).encode()), _hash(value))


def _hash(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
