"""What is left out of a delta, and which plan is gone on with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.bundles import export_plan
from proxy.bundles.contents import Contents
from proxy.bundles.contents_reading import decode
from proxy.bundles.export_plan import Asked, Plan
from proxy.bundles.keys import PrivateKey
from proxy.bundles.receipts import Receipt
from proxy.errors import BadBundle
from tests.support.bundle_contents import any_contents, contents

ASKED = Asked(
    images=("app", "other"),
    platforms=("linux/amd64",),
    referrers=True,
    since=(),
    key=None,
    form="archive",
)


def _receipt(number: int, have: frozenset[object]) -> Receipt:
    return Receipt(
        receipt=f"{number:032}",
        bundle=f"{number + 50:032}",
        created=0,
        images={},
        have=have,  # type: ignore[arg-type]
    )


# A busy machine is slow to think of examples.
THOROUGH = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@given(any_contents(), st.data())
@THOROUGH
def test_a_delta_and_what_it_leaves_out_are_the_whole(some: Contents, data: st.DataObject) -> None:
    full = dataclasses.replace(some, left_out=(), receipts=(), bundles=())
    digests = [one.descriptor.digest for one in full.blobs]
    have = [frozenset(digest for digest in digests if data.draw(st.booleans())) for _ in range(2)]
    receipts = [_receipt(number, one) for number, one in enumerate(have)]
    delta = export_plan.since(full, receipts)
    left_out = have[0] | have[1]
    assert [one for one in full.blobs if one.descriptor.digest not in left_out] == [*delta.blobs]
    assert {one.digest: one.size for one in delta.left_out} == {
        one.descriptor.digest: one.descriptor.size
        for one in full.blobs
        if one.descriptor.digest in left_out
    }
    assert delta.images == full.images
    assert delta.receipts == (f"{0:032}", f"{1:032}")
    assert delta.bundles == (f"{50:032}", f"{51:032}")


def test_without_a_receipt_nothing_is_left_out() -> None:
    full = contents()
    assert export_plan.since(full, []) is full


def test_a_delta_is_read_back() -> None:
    full = contents()
    delta = export_plan.since(full, [_receipt(1, frozenset({full.blobs[0].descriptor.digest}))])
    assert decode(delta.encode()) == delta


def test_the_same_plan_is_found_again(tmp_path: Path) -> None:
    out, plan = tmp_path / "bundle", Plan.of(contents(), PrivateKey.new())
    assert export_plan.load(out, ASKED) is None
    export_plan.save(out, ASKED, plan)
    assert export_plan.load(out, ASKED) == plan


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": ("app",)}, "images"),
        ({"platforms": ()}, "platforms"),
        ({"referrers": False, "form": "folder"}, "referrers, form"),
        ({"since": ("0" * 32,)}, "since"),
        ({"key": "0" * 16}, "key"),
    ],
)
def test_the_plan_of_something_else_is_refused(
    change: dict[str, object], named: str, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    export_plan.save(out, ASKED, Plan.of(contents(), None))
    other = dataclasses.replace(ASKED, **change)  # type: ignore[arg-type]
    with pytest.raises(BadBundle, match=f"begun with other {named};"):
        export_plan.load(out, other)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"v":1}', b'{"v":1,"asked":{},"contents":"{}","signature":""}']
)
def test_a_damaged_plan_is_refused(body: bytes, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    export_plan.path_of(out).write_bytes(body)
    with pytest.raises(BadBundle, match="is damaged; to begin anew, remove it"):
        export_plan.load(out, ASKED)


@pytest.mark.parametrize("name", ["bundle", "bundle.001", "bundle.partial", "bundle.001.partial"])
def test_what_has_the_name_already_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(BadBundle, match=f"{name} is there already"):
        export_plan.load(tmp_path / "bundle", ASKED)


def test_sizes_are_those_of_the_archive() -> None:
    plan = Plan.of(contents(), None)
    assert plan.blob_bytes == sum(one.descriptor.size for one in contents().blobs)
    assert plan.left_out_bytes == 0
    assert plan.archive_bytes % 512 == 0
    assert plan.archive_bytes > plan.blob_bytes
