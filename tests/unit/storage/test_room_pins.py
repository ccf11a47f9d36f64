"""Making room where nearly everything must stay."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.cache import keys
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey
from proxy.storage.room import Room

COUNT, SIZE = 600, 100


def blobs(root: Path) -> list[str]:
    """So many, each of this size, used long ago."""
    made = []
    for number in range(COUNT):
        path = root / keys.blob(BlobKey(PUBLIC, Digest.of(str(number).encode())))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(SIZE))
        os.utime(path, (1, 1))
        made.append(str(path))
    return made


def room_in(root: Path) -> Room:
    room = Room(root, bytes_max=COUNT * SIZE, free_bytes_min=0)
    room.used = COUNT * SIZE
    return room


def test_the_few_that_may_go_are_found_among_the_pinned(tmp_path: Path) -> None:
    made = blobs(tmp_path)
    free = set(made[:3])
    dropped = room_in(tmp_path).evict_blocking(3 * SIZE, lambda path: path not in free)
    assert {path for path, _ in dropped} == free


def test_if_all_must_stay_nothing_goes_and_it_ends(tmp_path: Path) -> None:
    made = blobs(tmp_path)
    assert room_in(tmp_path).evict_blocking(SIZE, lambda _path: True) == []
    assert all(map(os.path.exists, made))


def test_what_the_pinned_leave_no_room_for_is_hopeless(tmp_path: Path) -> None:
    room = room_in(tmp_path)
    assert not room.hopeless(COUNT * SIZE)
    room.stays = COUNT * SIZE - 5 * SIZE
    assert not room.hopeless(5 * SIZE)
    assert room.hopeless(5 * SIZE + 1)
    room.stays = 2 * COUNT * SIZE
    assert room.hopeless(1)
