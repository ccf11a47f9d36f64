"""The ledger's file: written now and then and at the end, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cache.pin_records import name_of
from proxy.savings.keeping import Savings
from proxy.savings.ledger import Ledger
from proxy.savings.sums import Sums
from tests.support.waiting import until

NOW = 1_790_000_100.0


def savings(folder: Path, *, every_s: float = 3600) -> Savings:
    (folder / "tmp").mkdir(exist_ok=True)
    ledger = Ledger(
        spell=name_of,
        seconds=lambda _served: 0.0,
        observe=lambda _event: None,
        clock=lambda: NOW,
        by_client=True,
    )
    return Savings(ledger, folder, clock=lambda: NOW, every_s=every_s)


def enter(one: Savings) -> None:
    one.ledger.history.at(NOW).upstreams.setdefault("lab", Sums()).add(Sums(pulls=1))


def pulls(one: Savings) -> int:
    return one.ledger.history.ever(NOW).total.pulls


async def test_it_is_read_at_the_start_and_written_at_the_end(tmp_path: Path) -> None:
    for count in range(3):
        async with savings(tmp_path) as one:
            assert pulls(one) == count
            enter(one)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["savings.json"]
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_it_is_written_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "savings.json"
    async with savings(tmp_path, every_s=0.001) as one:
        for count in (1, 2):
            enter(one)
            line = b'"lab":[%d,' % count
            await until(
                lambda line=line: file.exists() and line in file.read_bytes(), "it is written"
            )


async def test_it_is_only_written_when_something_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "savings.json"
    async with savings(tmp_path) as one:
        enter(one)
        await one._save()
        before = file.stat()
        await one._save()
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        enter(one)
        await one._save()
        assert b'"lab":[2,' in file.read_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b'{"v": 2}', b"[" * 100_000, b'{"v": 1, "ever": 7}']
)
async def test_a_file_that_makes_no_sense_is_written_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "savings.json").write_bytes(data)
    async with savings(tmp_path) as one:
        assert pulls(one) == 0
        enter(one)
    async with savings(tmp_path) as one:
        assert pulls(one) == 1


async def test_a_file_cut_anywhere_is_read_without_harm(tmp_path: Path) -> None:
    async with savings(tmp_path) as one:
        enter(one)
    whole = (tmp_path / "savings.json").read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "savings.json").write_bytes(whole[:end])
        async with savings(tmp_path) as one:
            assert pulls(one) == 0


async def test_a_disk_that_takes_nothing_costs_nothing_else(tmp_path: Path) -> None:
    async with savings(tmp_path) as one:
        enter(one)
        (tmp_path / "tmp").rmdir()
        await one._save()
        (tmp_path / "tmp").mkdir()
    async with savings(tmp_path) as one:
        assert pulls(one) == 1
