"""What a sender is told of a growing file."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cache import content
from proxy.cache.content import File
from proxy.cache.spool import Spool
from proxy.oci.digest import Digest

SIZE = 100 * 1024 * 1024
LATELY = 32 * 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path):
    spool = Spool(tmp_path / "spool", Digest.of(b""), SIZE)
    spool.create_blocking(whole=False)
    yield spool
    spool.close()


def file_of(spool: Spool) -> File:
    assert spool.file is not None
    return File(spool.file, "join", spool=spool)


def test_what_was_written_a_moment_ago_is_in_memory(spool: Spool) -> None:
    file = file_of(spool)
    assert not file.just_written(0)
    spool.publish(0, 2 * LATELY)
    assert file.just_written(2 * LATELY)
    assert file.just_written(LATELY + 1)
    assert not file.just_written(LATELY)
    assert not file.just_written(0)


def test_what_lies_behind_a_gap_may_be_old(spool: Spool) -> None:
    spool.find(LATELY, 2 * LATELY)
    spool.publish(0, 1000)
    file = file_of(spool)
    assert file.just_written(0)
    assert not file.just_written(LATELY)


def test_what_an_earlier_fill_left_was_not_just_written(spool: Spool) -> None:
    spool.find(0, LATELY)
    assert spool.readable(0, whole=False) == LATELY
    assert not file_of(spool).just_written(LATELY - 1)


def test_a_spool_to_which_nothing_comes_is_looked_at(spool: Spool) -> None:
    spool.publish(0, 1000)
    file = file_of(spool)
    assert file.just_written(0)
    spool.written_at -= content._LATELY_S + 1
    assert not file.just_written(0)


def test_a_file_that_is_whole_is_always_looked_at(spool: Spool) -> None:
    assert spool.file is not None
    assert not File(spool.file, "hit").just_written(0)
