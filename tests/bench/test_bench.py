"""The bench can be believed: what it must notice, it does notice."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.client import Job, Outcome, run
from tests.bench.content import Image, Item, make_image, read_catalog
from tests.bench.processes import Tree
from tests.bench.report import markdown, results
from tests.bench.rounds import Measured
from tests.bench.upstream import Registry

SIZE = 300_000


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path, blob_bytes=SIZE, small_bytes=100)


@pytest.fixture
def registry(tmp_path: Path, image: Image) -> Iterator[Registry]:
    with Registry(read_catalog(tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pull(registry: Registry, item: Item, *, at_once: int = 4, pulls: int = 4) -> Outcome:
    job = Job(
        port=registry.server_address[1],
        path=f"/v2/{item.url}",
        file=item.path,
        digest=item.digest,
        size=item.size,
        at_once=at_once,
        pulls=pulls,
        limit_s=20,
    )
    return run(job)


def overwrite(path: str, offset: int, data: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_every_pull_is_counted_at_both_ends(registry: Registry, image: Image) -> None:
    outcome = pull(registry, image.crowd, at_once=3, pulls=7)
    assert (outcome.failed, outcome.wrong) == ([], [])
    assert len(outcome.done_s) == len(outcome.first_byte_s) == 7
    path = f"/v2/{image.crowd.url}"
    assert registry.counters.gets == {path: 7}
    assert registry.counters.sent == {path: 7 * SIZE}


def test_a_wrong_byte_in_the_middle_is_seen_by_the_pull_that_keeps_its_bytes(
    registry: Registry, image: Image
) -> None:
    overwrite(image.crowd.path, SIZE // 2, b"\0" * 16)
    outcome = pull(registry, image.crowd)
    assert len(outcome.wrong) == 1
    assert "sha256" in outcome.wrong[0]


def test_a_wrong_end_is_seen_by_every_pull(
    registry: Registry, image: Image, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.write_bytes(Path(image.crowd.path).read_bytes())
    overwrite(image.crowd.path, SIZE - 16, b"\0" * 16)
    outcome = pull(registry, replace(image.crowd, path=str(good)))
    assert len(outcome.wrong) == 4


def test_a_body_that_is_cut_is_a_failed_pull(registry: Registry, image: Image) -> None:
    good = pull(registry, image.crowd, at_once=1, pulls=1)
    assert good.failed == []
    os.truncate(image.crowd.path, SIZE - 100_000)
    outcome = pull(registry, image.crowd)
    assert len(outcome.failed) == 4
    assert outcome.done_s == []


def test_a_refusal_and_another_length_are_failed_pulls(registry: Registry, image: Image) -> None:
    absent = replace(image.crowd, digest="sha256:" + "0" * 64)
    assert len(pull(registry, absent).failed) == 4
    longer = replace(image.crowd, size=SIZE + 1)
    assert len(pull(registry, longer).failed) == 4


def test_the_upstream_keeps_to_its_rate(registry: Registry, image: Image) -> None:
    registry.bytes_s = 20 * SIZE
    registry.window_bytes = SIZE // 10
    outcome = pull(registry, image.crowd, at_once=1, pulls=1)
    assert outcome.done_s[0] >= 0.9 * 0.9 / 20  # the first tenth leaves at once


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", (206, 1, f"bytes 0-0/{SIZE}")),
        ("bytes=100-", (206, SIZE - 100, f"bytes 100-{SIZE - 1}/{SIZE}")),
        ("bytes=-7", (206, 7, f"bytes {SIZE - 7}-{SIZE - 1}/{SIZE}")),
        (f"bytes=5-{SIZE * 2}", (206, SIZE - 5, f"bytes 5-{SIZE - 1}/{SIZE}")),
        (f"bytes={SIZE}-", (416, 0, f"bytes */{SIZE}")),
        ("rows=1-2", (200, SIZE, None)),
    ],
)
def test_the_upstream_answers_ranges(
    registry: Registry,
    image: Image,
    asked: str,
    expected: tuple[int, int, str | None],
) -> None:
    url = f"http://127.0.0.1:{registry.server_address[1]}/v2/{image.crowd.url}"
    request = urllib.request.Request(url, headers={"Range": asked, "Connection": "close"})
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        got = (answer.status, len(answer.read()), answer.headers["Content-Range"])
    assert got == expected


def test_a_tree_measures_and_ends_its_children_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "sleep 60 & sleep 60 & echo started; wait"
    with Tree(["sh", "-c", script], log=log, cwd=tmp_path) as tree:
        tree.wait_ready(lambda: log.read_text() == "started\n")
        pids = tree.pids()
        assert len(pids) == 3
        assert tree.peak_rss_bytes() > 0
        assert tree.cpu_s() > 0
    assert [pid for pid in pids if running(pid)] == []


def running(pid: int) -> bool:
    """Ended but not yet collected by the system's first process counts as ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_limits_are_medians_against_the_peers_of_the_same_rounds() -> None:
    rounds = [
        {
            name: Measured(name, {"warm_cpu_s_per_gb": value})
            for name, value in (("Entrepot", own), ("nginx", 0.10), ("docker-registry", 0.50))
        }
        for own in (0.01, 0.12, 0.90)
    ]
    row = results(rounds, ["warm"])[0]
    assert row["limit"] == pytest.approx(0.13)
    assert row["verdict"] == "pass"
    assert "0.120 (0.010..0.900)" in markdown([row], ["Entrepot", "nginx"])
    for one in rounds:
        one["nginx"].values["warm_cpu_s_per_gb"] = 0.09
    assert results(rounds, ["warm"])[0]["verdict"] == "FAIL"
