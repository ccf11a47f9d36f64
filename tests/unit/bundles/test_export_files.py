"""Where a bundle grows: one file or parts, gone on with however it was left."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bundles.export_files import Growing, only_one, write_whole
from proxy.errors import BadBundle

_steps = st.lists(
    st.one_of(
        st.binary(min_size=0, max_size=40),
        st.integers(0, 10_000),
        st.just("again"),
    ),
    max_size=20,
)


def _everything(out: Growing) -> bytes:
    found = b""
    while piece := out.read(len(found), 10_000):
        found += piece
    return found


@given(_steps, st.sampled_from([None, 1, 7, 16]))
def test_it_is_as_an_array_of_bytes_also_after_it_was_opened_again(
    steps: list[bytes | int | str], part_size: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "out", bytearray()
        out = Growing(path, part_size=part_size).__enter__()
        try:
            for step in steps:
                match step:
                    case bytes():
                        out.append(step)
                        model += step
                    case int():
                        size = step % (len(model) + 1)
                        out.truncate(size)
                        del model[size:]
                    case _:
                        out.__exit__(None, None, None)
                        out = Growing(path, part_size=part_size).__enter__()
                assert (out.size, _everything(out)) == (len(model), bytes(model))
            finished = out.finish()
        finally:
            out.__exit__(None, None, None)
        assert b"".join(one.read_bytes() for one in finished) == bytes(model)
        assert sorted(Path(folder).iterdir()) == sorted(finished)
        if part_size is None:
            assert finished == [path]
        else:
            assert all(one.stat().st_size == part_size for one in finished[:-1])
            assert [one.name for one in finished] == [
                f"out.{number + 1:03}" for number in range(len(finished))
            ]


def test_parts_of_which_one_is_short_or_long_end_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for number, body in enumerate([b"0123", b"45", b"89ab", b"c"]):
        (tmp_path / f"out.{number + 1:03}.partial").write_bytes(body)
    with Growing(path, part_size=4) as out:
        assert _everything(out) == b"012345"
    assert not (tmp_path / "out.003.partial").exists()
    (tmp_path / "out.001.partial").write_bytes(b"0123 and more")
    with Growing(path, part_size=4) as out:
        assert _everything(out) == b"0123"
    assert not (tmp_path / "out.002.partial").exists()


def test_names_that_were_given_already_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "out.001").write_bytes(b"0123")
    (tmp_path / "out.002.partial").write_bytes(b"45")
    with Growing(path, part_size=4) as out:
        assert _everything(out) == b"012345"
        assert sorted(one.name for one in tmp_path.iterdir()) == [
            "out.001.partial",
            "out.002.partial",
        ]


def test_much_is_sent_to_the_disk_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.bundles.export_files._SYNC_BYTES", 1000)
    with Growing(tmp_path / "out", part_size=1500) as out:
        for _ in range(20):
            out.append(bytes(700))
        out.truncate(1000)
        out.append(b"x" * 5000)
        finished = out.finish()
    assert b"".join(one.read_bytes() for one in finished) == bytes(1000) + b"x" * 5000


def test_a_small_file_is_there_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "small", b"one")
    write_whole(tmp_path / "small", b"two")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("small", b"two")]


def test_two_do_not_write_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    holding = (
        "import sys, pathlib; from proxy.bundles.export_files import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1])):\n    print('mine', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(BadBundle, match="another export"), only_one(out):
            pass
        other.stdin.write(b"\n")
    with only_one(out):
        pass
    assert list(tmp_path.iterdir()) == []
