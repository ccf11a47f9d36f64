"""Spool and journal against a model: whatever is written, crashes and is damaged, what
a reopened spool claims to have are bytes of the blob.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.cache import journal
from proxy.cache.extents import Extents
from proxy.cache.spool import WITHHELD_BYTES, Spool
from proxy.errors import DigestMismatch, TransferBroken
from proxy.oci.digest import Digest

EXTENT = 64
_REAL_EXTENT = journal.EXTENT_BYTES


class SpoolMachine(RuleBasedStateMachine):
    """One blob, filled over any number of crashes, with extents of 64 bytes."""

    def __init__(self) -> None:
        super().__init__()
        journal.EXTENT_BYTES = EXTENT
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "spool"

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()
        journal.EXTENT_BYTES = _REAL_EXTENT

    @initialize(data=st.binary(min_size=EXTENT + 1, max_size=6 * EXTENT))
    def create(self, data: bytes) -> None:
        # Without zeros: a file that lost its end reads as zeros, which would be right.
        self.data = bytes(byte | 1 for byte in data)
        self.digest = Digest.of(self.data)
        self.new_spool()

    def new_spool(self) -> None:
        self.spool = Spool(self.path, self.digest, len(self.data))
        self.spool.create_blocking()
        self.vouched: list[tuple[int, int]] = []

    @property
    def missing(self) -> int:
        return len(self.data) - self.spool.extents.total

    def write_at(self, start: int, cuts: list[int]) -> None:
        chunks, end = [], start
        for cut in cuts:
            chunks.append(self.data[end : end + cut])
            end += len(chunks[-1])
        self.spool.write_blocking([(start, [chunk for chunk in chunks if chunk])])
        self.spool.publish(start, end)
        while self.spool.behind:
            self.spool.write_blocking([])

    @precondition(lambda self: self.missing)
    @rule(cuts=st.lists(st.integers(1, 2 * EXTENT), min_size=1, max_size=5))
    def write_on(self, cuts: list[int]) -> None:
        self.write_at(self.spool.written, cuts)

    @rule(start=st.integers(0, 6 * EXTENT), cuts=st.lists(st.integers(1, EXTENT), max_size=3))
    def write_anywhere(self, start: int, cuts: list[int]) -> None:
        """Also over what is there already."""
        if start < len(self.data):
            self.write_at(start, cuts)

    @rule()
    def journal(self) -> None:
        extent = self.spool.to_journal
        if extent is not None:
            self.spool.journal_blocking(extent)
            self.vouched.append((0, extent.end))

    @rule()
    def stop_and_resume(self) -> None:
        extents = list(self.spool.extents)
        self.spool.journal_tail_blocking()
        self.spool.close()
        assert self.reopen() == bool(extents)
        if extents:
            assert list(self.spool.extents) == extents
            self.vouched = extents
        else:
            self.new_spool()

    @rule(torn=st.integers(0, 200), noise=st.binary(min_size=1, max_size=40))
    def crash(self, torn: int, noise: bytes) -> None:
        """Unsynced bytes become noise; of the journal, only an unsynced line may tear."""
        self.spool.close()
        kept = Extents()
        for start, end in self.vouched:
            kept.add(start, end)
        # Even, where the blob is odd: noise is never right by chance.
        lost = bytearray(byte & ~1 for byte in (noise * len(self.data))[: len(self.data)])
        for start, end in kept:
            lost[start:end] = self.data[start:end]
        self.path.write_bytes(lost)
        with journal.path_of(self.path).open("ab") as file:
            file.write(b'{"start": 0, "end": 999999, "hash": "abcdef0123456789'[:torn])
        assert self.reopen() == bool(len(kept))
        if len(kept):
            assert list(self.spool.extents) == list(kept)
        else:
            self.new_spool()

    @rule(at=st.integers(0, 6 * EXTENT), lines=st.integers(0, 8))
    def worse_than_a_crash(self, at: int, lines: int) -> None:
        """Even what was synced is lost: less is believed, never something wrong."""
        self.spool.close()
        os.truncate(self.path, at)
        kept = journal.path_of(self.path).read_bytes().splitlines(keepends=True)[:lines]
        journal.path_of(self.path).write_bytes(b"".join(kept))
        if self.reopen():
            self.vouched = list(self.spool.extents)
            assert all(end <= at for _, end in self.vouched)
        else:
            self.new_spool()

    def reopen(self) -> bool:
        said = journal.read(self.path)
        if said is None or not said.extents:
            return False
        self.spool = Spool(self.path, self.digest, said.size)
        good = self.spool.reopen_blocking(said)
        for start, end in good:
            self.spool.publish(start, end)
        if not good:
            self.spool.close()
        return bool(good)

    @invariant()
    def what_it_has_are_bytes_of_the_blob(self) -> None:
        if not hasattr(self, "spool"):
            return
        assert self.path.stat().st_size == len(self.data)
        for start, end in self.spool.extents:
            assert self.path.read_bytes()[start:end] == self.data[start:end]
        assert self.spool.complete == (not self.missing)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_a_sha512_blob_is_journaled_and_resumed_in_its_own_hash(path: Path) -> None:
    data = os.urandom(journal.EXTENT_BYTES + 10)
    spool = Spool(path, Digest.of(data, "sha512"), len(data))
    spool.create_blocking()
    spool.write_blocking([(0, [data[:-5]])])
    spool.journal_tail_blocking()
    spool.close()
    said = journal.read(path)
    assert said is not None
    again = Spool(path, Digest.of(data, "sha512"), len(data))
    assert again.reopen_blocking(said) == [(0, len(data) - 5)]
    again.write_blocking([(len(data) - 5, [data[-5:]])])
    assert again.complete
    again.close()


def test_a_small_blob_has_no_journal(path: Path) -> None:
    spool = Spool(path, Digest.of(b"x" * 1000), 1000)
    spool.create_blocking()
    spool.write_blocking([(0, [b"x" * 999])])
    spool.journal_tail_blocking()
    assert not spool.resumable
    spool.close()
    assert journal.read(path) is None
    spool.discard_blocking()
    assert os.listdir(path.parent) == []


def test_a_journal_that_cannot_be_written_costs_the_resume_only(path: Path) -> None:
    size = journal.EXTENT_BYTES + 10
    data = os.urandom(size)
    spool = Spool(path, Digest.of(data), size)
    spool.create_blocking()
    # As on a full disk: what is written there is refused.
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, spool._journal_fd)
    os.close(full)
    spool.write_blocking([(0, [data])])
    extent = spool.to_journal
    assert extent is not None
    spool.journal_blocking(extent)
    assert spool.to_journal is None
    assert not spool.resumable
    assert spool.complete
    spool.close()


def test_many_chunks_are_written_in_one_go(path: Path) -> None:
    chunks = [bytes([number % 256]) * 3 for number in range(3000)]
    data = b"".join(chunks)
    spool = Spool(path, Digest.of(data), len(data))
    spool.create_blocking()
    spool.write_blocking([(0, chunks)])
    assert spool.complete
    assert path.read_bytes() == data
    spool.close()


async def test_the_end_of_a_whole_body_is_readable_only_once_verified(path: Path) -> None:
    size = WITHHELD_BYTES + 100
    spool = Spool(path, Digest.of(b""), size)
    spool.create_blocking()
    spool.write_blocking([(0, [bytes(size)])])
    spool.publish(0, size)
    assert spool.readable(0, whole=True) == 100
    assert spool.readable(100, whole=True) == 100
    assert spool.readable(5, whole=False) == size
    waiting = asyncio.create_task(spool.wait(100, whole=True))
    await asyncio.sleep(0)
    assert not waiting.done()
    spool.publish_verified()
    await waiting
    assert spool.readable(0, whole=True) == size
    spool.close()


async def test_a_reader_of_the_whole_gets_only_what_can_not_change_any_more(path: Path) -> None:
    """Bytes that came ahead, and are not hashed yet, may be written over by others."""
    size, lie = 40 * 1024 * 1024, 39 * 1024 * 1024
    spool = Spool(path, Digest.of(bytes(size)), size)
    spool.create_blocking()
    spool.write_blocking([(1, [bytes(lie - 1)]), (lie, [b"\1" * 1000])])
    spool.publish(1, lie + 1000)
    spool.write_blocking([(0, [b"\0"])])
    spool.publish(0, 1)
    # All of it can be read, but too little is hashed to know what it will be.
    assert spool.readable(0, whole=False) == lie + 1000
    assert 0 < spool.readable(0, whole=True) <= spool.hashed < lie
    waiting = asyncio.create_task(spool.wait(spool.hashed, whole=True))
    spool.write_blocking([(lie, [bytes(size - lie)])])
    assert not waiting.done()
    spool.publish_hashed()
    await waiting
    spool.publish(lie, size)
    while spool.behind:
        spool.write_blocking([])
    assert spool.complete
    spool.close()


async def test_of_bytes_known_to_be_wrong_nobody_reads_on(path: Path) -> None:
    spool = Spool(path, Digest.of(b""), 1000)
    spool.publish(0, 500)
    spool.fail(TransferBroken("the upstream is gone"))
    assert spool.readable(0, whole=False) == 500
    spool = Spool(path, Digest.of(b""), 1000)
    spool.publish(0, 500)
    spool.fail(DigestMismatch("lies"))
    assert spool.readable(0, whole=False) == 0
    with pytest.raises(TransferBroken):
        await spool.wait(0, whole=False)


def test_a_spool_that_was_complete_but_not_hashed_is_complete_when_found(path: Path) -> None:
    data = os.urandom(3 * journal.EXTENT_BYTES)
    spool = Spool(path, Digest.of(data), len(data))
    spool.create_blocking(whole=False)
    spool.write_blocking([(1000, [data[1000:]])])
    spool.journal_tail_blocking()
    spool.close()
    said = journal.read(path)
    assert said is not None
    spool = Spool(path, Digest.of(data), len(data))
    assert spool.reopen_blocking(said) == [(1000, len(data))]
    spool.write_blocking([(0, [data[:1000]])])
    # Stopped before the hash has caught up.
    assert spool.behind
    spool.journal_tail_blocking()
    spool.close()
    said = journal.read(path)
    assert said is not None
    spool = Spool(path, Digest.of(data), len(data))
    assert spool.reopen_blocking(said) == [(0, len(data))]
    assert spool.complete
    spool.close()


def test_leaving_again_and_again_does_not_grow_the_journal(path: Path) -> None:
    data = os.urandom(journal.EXTENT_BYTES + 1000)
    spool = Spool(path, Digest.of(data), len(data))
    spool.create_blocking(whole=False)
    starts = range(1, 2_000_000, 10_000)
    spool.write_blocking([(start, [data[start : start + 100]]) for start in starts])
    lengths = set()
    for _ in range(4):
        spool.journal_tail_blocking()
        spool.close()
        said = journal.read(path)
        assert said is not None
        lengths.add(len(said.extents))
        spool = Spool(path, Digest.of(data), len(data))
        assert spool.reopen_blocking(said) == [(start, start + 100) for start in starts]
    assert lengths == {len(starts)}
    spool.close()


def test_bytes_that_were_hashed_are_never_written_again(path: Path) -> None:
    """A side lane that comes late, with lies, must not change what was verified."""
    data = os.urandom(1000)
    spool = Spool(path, Digest.of(data), 1000)
    spool.create_blocking()
    spool.write_blocking([(500, [b"\0" * 100])])
    spool.write_blocking([(0, [data])])
    spool.write_blocking([(900, [b"\0" * 100]), (0, [b"\0" * 50, b"\0" * 10])])
    assert spool.complete
    assert path.read_bytes() == data
    spool.close()


async def test_what_lies_ahead_can_be_read_before_what_comes_first(path: Path) -> None:
    spool = Spool(path, Digest.of(b""), 1000)
    spool.publish(500, 600)
    assert spool.written == 0
    assert spool.readable(0, whole=False) == 0
    assert spool.readable(550, whole=False) == 600
    await spool.wait(599, whole=False)
    waiting = asyncio.create_task(spool.wait(600, whole=False))
    await asyncio.sleep(0)
    assert not waiting.done()
    spool.publish(0, 700)
    await waiting
    assert spool.written == 700


async def test_a_failure_wakes_all_who_wait_and_those_who_come_later(path: Path) -> None:
    spool = Spool(path, Digest.of(b""), 1000)
    spool.publish(0, 10)
    waiting = [asyncio.create_task(spool.wait(10 + n, whole=False)) for n in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    spool.fail(OSError("gone"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(one, TransferBroken) for one in results[1:])
    await spool.wait(0, whole=False)
    with pytest.raises(TransferBroken):
        await spool.wait(10, whole=False)


async def test_a_verified_blob_cannot_fail_any_more(path: Path) -> None:
    spool = Spool(path, Digest.of(b""), 10)
    spool.publish_verified()
    spool.fail(OSError("too late"))
    await spool.wait(9, whole=True)
    assert spool.failure is None
