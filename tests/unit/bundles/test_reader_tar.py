"""Tar archives of strangers: what is plain is read, everything unusual is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.bundles.reader_media import Medium, chunks, parts, read, size_of
from proxy.bundles.reader_tar import BLOCK, Entry, entries, looks_like
from proxy.errors import BadBundle

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return file(name, type=kind, linkname=target)


def archive(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def medium(tmp_path: Path, data: bytes) -> Medium:
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    return Medium([path])


def listed(tmp_path: Path, data: bytes, *, links: bool = False) -> list[Entry]:
    return list(entries(medium(tmp_path, data), links=links))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_and_folders_are_told_with_where_their_bytes_are(tmp_path: Path, form: int) -> None:
    long = "/".join(["folder" * 8] * 4)
    data = archive(
        file("blobs", type=tarfile.DIRTYPE),
        file("./blobs/a", b"first"),
        file(long, b"x" * 700),
        file("empty"),
        form=form,
    )
    there = medium(tmp_path, data)
    found = list(entries(there))
    assert [(one.name, one.kind, one.size) for one in found] == [
        ("blobs", "folder", 0),
        ("blobs/a", "file", 5),
        (long, "file", 700),
        ("empty", "file", 0),
    ]
    assert there.read(found[1].offset, 5) == b"first"
    assert there.read(found[2].offset, 700) == b"x" * 700


def test_links_are_told_to_those_who_ask_for_them(tmp_path: Path) -> None:
    data = archive(file("a", b"1"), link("b", "a"), link("c", "a", tarfile.LNKTYPE))
    assert [one.target for one in listed(tmp_path, data, links=True)] == ["", "a", "a"]


BAD: dict[str, Callable[[], bytes]] = {
    "up": lambda: archive(file("../evil", b"1")),
    "up in the middle": lambda: archive(file("a/../../evil", b"1")),
    "absolute": lambda: archive(file("/etc/passwd", b"1")),
    "empty part": lambda: archive(file("a//b", b"1")),
    "dot in the middle": lambda: archive(file("a/./b", b"1")),
    "far too long a name": lambda: archive(file("a/" * 600 + "b", b"1")),
    "no name": lambda: archive(file("./", b"1")),
    "twice": lambda: archive(file("a", b"1"), file("a", b"2")),
    "twice, spelled differently": lambda: archive(file("a", b"1"), file("./a", b"2")),
    "symbolic link": lambda: archive(link("a", "/etc/passwd")),
    "hard link": lambda: archive(file("a"), link("b", "a", tarfile.LNKTYPE)),
    "device": lambda: archive(file("a", type=tarfile.CHRTYPE)),
    "block device": lambda: archive(file("a", type=tarfile.BLKTYPE)),
    "pipe": lambda: archive(file("a", type=tarfile.FIFOTYPE)),
    "holes": lambda: archive(file("a", b"1", type=tarfile.GNUTYPE_SPARSE)),
    "holes by pax": lambda: archive(file("a", b"1", pax_headers={"GNU.sparse.major": "1"})),
    "a pax bomb": lambda: archive(file("a", b"1", pax_headers={"comment": "x" * 200_000})),
    "a name bomb": lambda: archive(file("a" * 100_000, b"1"), form=tarfile.GNU_FORMAT),
    "size by pax is too large": lambda: archive(file("a", b"1", pax_headers={"size": "9" * 15})),
    "size by pax is no number": lambda: archive(file("a", b"1", pax_headers={"size": "-1"})),
    "cut in the data": lambda: archive(file("a", b"x" * 5000))[:1000],
    "cut in a header": lambda: archive(file("a", b"x"))[:1100],
    "no end": lambda: archive(file("a", b"x"))[:1024],
    "something after the end": lambda: archive(file("a", b"x")) + b"more",
    "a bit of a header": lambda: b"\x01" + archive(file("a", b"x"))[1:],
    "gzip": lambda: b"\x1f\x8b" + bytes(1022),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", BAD)
def test_everything_unusual_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadBundle):
        listed(tmp_path, BAD[name]())


def test_a_header_that_renames_all_that_follows_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"path": "evil"}) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with pytest.raises(BadBundle, match="renames"):
        listed(tmp_path, out.getvalue())


def test_headers_of_headers_do_not_go_on_for_ever(tmp_path: Path) -> None:
    one = archive(file("a" * 150, b""), form=tarfile.GNU_FORMAT)[: 2 * BLOCK]
    with pytest.raises(BadBundle, match="too long"):
        listed(tmp_path, one * 10 + bytes(2 * BLOCK))


def test_an_archive_of_impossible_sizes_is_refused_without_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.size = 1 << 70
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(BadBundle):
        listed(tmp_path, header + bytes(2 * BLOCK))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = archive(file("a", b"x" * 600), file("b" * 120, b"y"), link("c", "a"))
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    path.write_bytes(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]))
    there = Medium([path])
    looks_like(there)
    try:
        for entry in entries(there, links=True):
            assert entry.offset + entry.size <= there.size
            assert ".." not in entry.name.split("/")
    except BadBundle:
        pass


def test_parts_are_one_archive(tmp_path: Path) -> None:
    data = archive(file("a", bytes(range(256)) * 8), file("b", b"last"))
    paths = []
    for number, at in enumerate(range(0, len(data), 700), 1):
        path = tmp_path / f"x.tar.{number:03}"
        path.write_bytes(data[at : at + 700])
        paths.append(path)
    for given_ in (paths, [paths[0]], [tmp_path / "x.tar"], paths[::-1]):
        ((*found,),) = parts(given_)
        assert found == paths
    there = Medium(paths)
    assert there.size == len(data)
    assert there.read(100, 2000) == data[100:2100]
    (first, second) = entries(there)
    place = there.place(first.offset, first.size)
    assert (len(place), size_of(place)) == (4, 2048)
    assert b"".join(chunks(place)) == bytes(range(256)) * 8
    assert read(there.place(second.offset, 4), bytes_max=4, what="b") == b"last"
    with pytest.raises(BadBundle, match="longer than 3"):
        read(there.place(second.offset, 4), bytes_max=3, what="b")
    paths[1].unlink()
    with pytest.raises(BadBundle, match=r"part 002 of x\.tar is not there"):
        parts([paths[0]])


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link", "absent", "."):
        with pytest.raises(BadBundle):
            Medium([tmp_path / name])
