"""What is told of an image, and of many."""

from __future__ import annotations

import json

from proxy.cache.closure import Piece
from proxy.cache.platforms import Platforms
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.warming.report import Report, Totals


def piece(name: str, **more: object) -> Piece:
    descriptor = Descriptor(media_type="", digest=Digest.of(name.encode()), size=len(name))
    return Piece(**{"kind": "layer", "descriptor": descriptor, "depth": 1, **more})


def test_a_report_tells_how_much_belongs_to_an_image_and_what_is_missing() -> None:
    report = Report("app")
    report.add(piece("index", kind="index", depth=0))
    report.add(piece("manifest", kind="manifest", platform="linux/arm64/v8"))
    report.add(piece("four", depth=2))
    report.look_at_platforms(Platforms.of(["linux/arm64"]))
    assert report.complete
    assert report.absent(Platforms.of(["linux/arm64", "linux/amd64"])) == ["linux/amd64"]
    report.missing[Digest.of(b"four")] = "gone"
    told = report.document(Platforms.all())
    assert (told["state"], told["pieces"], told["bytes"]) == ("incomplete", 3, 5 + 8 + 4)
    assert (told["missing_bytes"], told["absent_platforms"]) == (4, [])
    assert json.loads(json.dumps(told)) == told


def test_an_index_with_nothing_for_the_platforms_is_not_complete() -> None:
    report = Report("app")
    report.add(piece("index", kind="index", depth=0))
    report.add(piece("sbom", kind="manifest", referrer=True))
    report.look_at_platforms(Platforms.of(["linux/s390x"]))
    assert (report.complete, report.reason) == (False, "has nothing for linux/s390x")


def test_sums_are_certain_unless_a_manifest_is_missing_or_an_image_is_unknown() -> None:
    totals = Totals()
    fine, lacks, hides, unknown = (Report(name) for name in "abcd")
    lacks.add(piece("layer", missing="gone"))
    hides.add(piece("child", kind="manifest", missing="gone"))
    unknown.reason = "not here"
    totals.add(fine)
    assert totals.document()["complete"] is True
    totals.add(lacks)
    assert totals.document() == {
        "done": True,
        "complete": False,
        "images": 2,
        "complete_images": 1,
        "missing": 1,
        "missing_bytes": 5,
        "certain": True,
    }
    for one in (hides, unknown):
        sums = Totals()
        sums.add(one)
        assert sums.document()["certain"] is False
