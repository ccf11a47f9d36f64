"""`export`: images out of a running proxy into a file that other programs read, too."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner, Result

from proxy import cli
from proxy.bundles import signing
from proxy.bundles.contents import Contents
from proxy.bundles.contents_reading import decode
from proxy.bundles.keys import PrivateKey, load_public, write_pair
from proxy.bundles.receipts import Receipt
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST
from proxy.oci.names import Repository
from tests.flows.conftest import Running, World
from tests.support import programs
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, Image, artifact, document, image, index, schema1

AMD64, ARM64 = image(300_000, 70, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
SIGNATURE = artifact(BOTH)
SBOM = artifact(AMD64, "application/spdx+json")


async def run(proxy: Running, *words: str | Path, command: str = "export") -> Result:
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    whole = [command, *map(str, words), *admin]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, whole)


async def exported(proxy: Running, *words: str | Path) -> dict[str, Any]:
    done = await run(proxy, *words, "--json")
    assert done.exit_code == 0, done.output
    # The proxy runs in this process, too, and may log a line meanwhile.
    told, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{\n"))
    return dict(told)


def opened(path: Path) -> tuple[Contents, dict[str, bytes]]:
    """What is in an archive, with every blob checked."""
    with tarfile.open(path, "r:") as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    for name, body in found.items():
        if name.startswith("blobs/"):
            _, algorithm, hexadecimal = name.split("/")
            assert Digest(algorithm, hexadecimal).matches(body)
    return decode(found["entrepot/contents.json"]), found


def blobs(contents: Contents) -> set[Digest]:
    return {one.descriptor.digest for one in contents.blobs}


def all_of(*images: Image) -> set[Digest]:
    return {one.digest for some in images for one in (*some.manifests, *some.blobs)}


async def test_an_image_with_all_platforms_and_all_that_refers_to_it_is_whole(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("team/app", BOTH, "v1")
    for one in (SIGNATURE, SBOM):
        upstream.add("team/app", one)
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "bundle.tar"
    private, public = write_pair(PrivateKey.new(), "site", tmp_path)
    told = await exported(proxy, "lab/team/app:v1", "-o", out, "--all-platforms", "--key", private)
    contents, found = opened(out)
    assert blobs(contents) == all_of(BOTH, SIGNATURE, SBOM)
    assert [one.name for one in contents.images] == ["lab/team/app:v1"] == told["images"]
    assert contents.images[0].descriptor.digest == BOTH.digest
    assert contents.platforms is None
    assert {(one.subject, one.descriptor.digest) for one in contents.referrers} == {
        (BOTH.digest, SIGNATURE.digest),
        (AMD64.digest, SBOM.digest),
    }
    assert {one.artifact_type for one in contents.referrers} == {
        "application/example.signature",
        "application/spdx+json",
    }
    assert found[f"blobs/sha256/{BOTH.digest.hex}"] == BOTH.manifest.body
    key = signing.verify(
        found["entrepot/contents.sig"], found["entrepot/contents.json"], [load_public(public)]
    )
    assert key is not None
    assert told["key"] == key.id
    assert told["bytes"] == out.stat().st_size
    assert list(found)[:4] == [
        "oci-layout",
        "entrepot/contents.json",
        "entrepot/contents.sig",
        "index.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle.tar",
        "data",
        "site.key",
        "site.pub",
    ]


async def test_values_for_a_chart_name_what_is_exported_as_what_is_warmed(
    world: World, upstream: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # No helm, so that no other one is found.
    chart, values = tmp_path / "chart", tmp_path / "values.yaml"
    chart.mkdir()
    (chart / "Chart.yaml").write_text("name: app\n")
    (chart / "values.yaml").write_text("image: {repository: lab/app, tag: v1}\n")
    values.write_text("image: {tag: v2}\n")
    upstream.add("app", AMD64, "v2")
    proxy = await world.start({"lab": upstream})
    words = ["--helm-chart", chart, "--helm-values", values]
    told = await exported(proxy, *words, "-o", tmp_path / "bundle.tar")
    assert told["images"] == ["lab/app:v2"]
    assert (await run(proxy, *words, command="missing")).exit_code == 0


async def test_only_the_wanted_platform_is_fetched_and_the_index_stays_as_it_is(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    await exported(proxy, "lab/app:v1", "-o", out, "--platform", "linux/arm64", "--no-referrers")
    contents, found = opened(out)
    assert blobs(contents) == {BOTH.digest} | all_of(ARM64)
    assert contents.platforms == ("linux/arm64",)
    assert found[f"blobs/sha256/{BOTH.digest.hex}"] == BOTH.manifest.body
    asked = {seen.reference for seen in upstream.seen}
    assert not asked & {str(one) for one in all_of(AMD64)}


async def test_names_from_a_file_and_by_digest_share_what_they_share(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("a", AMD64, "v1", "v2")
    upstream.add("b", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    listed, out = tmp_path / "images.txt", tmp_path / "b.tar"
    listed.write_text(f"lab/a:v1 # one\nlab/a:v2\nlab/b@{AMD64.digest}\n")
    await exported(proxy, "--file", listed, "-o", out)
    contents, _ = opened(out)
    assert [(one.name, one.tag) for one in contents.images] == [
        ("lab/a:v1", "v1"),
        ("lab/a:v2", "v2"),
        (f"lab/b@{AMD64.digest}", None),
    ]
    assert blobs(contents) == all_of(AMD64)
    for one in contents.blobs:
        assert [place.repository for place in one.places] == [
            Repository.parse("a"),
            Repository.parse("b"),
        ]


async def test_cosigns_tags_are_carried_with_their_names(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    signature = image(90, seed="cosign")
    tag = f"sha256-{AMD64.digest.hex}.sig"
    upstream.add("app", AMD64, "v1")
    upstream.add("app", signature, tag)
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    await exported(proxy, "lab/app:v1", "-o", out)
    contents, _ = opened(out)
    (referrer,) = contents.referrers
    assert (referrer.subject, referrer.tag) == (AMD64.digest, tag)
    assert referrer.descriptor.digest == signature.digest
    assert blobs(contents) == all_of(AMD64, signature)


async def test_a_delta_has_what_the_receipt_has_not_and_tells_the_rest(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    newer = image(300_000, 900, seed="amd")
    assert newer.layers[0] == AMD64.layers[0]
    upstream.add("app", newer, "v2")
    proxy = await world.start({"lab": upstream})
    receipt = Receipt(
        receipt="a" * 32,
        bundle="b" * 32,
        created=1,
        images={"lab/app:v1": AMD64.digest},
        have=frozenset(all_of(AMD64)),
    )
    path, out = tmp_path / "receipt.json", tmp_path / "delta.tar"
    path.write_bytes(receipt.encode())
    told = await exported(proxy, "lab/app:v2", "-o", out, "--since", path)
    contents, _ = opened(out)
    assert blobs(contents) == all_of(newer) - all_of(AMD64)
    assert {one.digest for one in contents.left_out} == all_of(newer) & all_of(AMD64)
    assert (contents.receipts, contents.bundles) == (("a" * 32,), ("b" * 32,))
    assert told["left_out_bytes"] == sum(
        one.size for one in (*newer.blobs, *newer.manifests) if one.digest in all_of(AMD64)
    )
    # What is left out was not even fetched.
    shared = str(AMD64.layers[0].digest)
    assert not [seen for seen in upstream.requests(kind="blob") if shared in seen.reference]


async def test_a_damaged_receipt_is_refused_before_anything_is_asked(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    path = tmp_path / "receipt.json"
    path.write_text("{}")
    done = await run(proxy, "lab/app:v1", "-o", tmp_path / "b.tar", "--since", path)
    assert done.exit_code == 1
    assert "the receipt" in done.output
    assert upstream.seen == []


async def test_images_that_cannot_be_had_whole_are_named_and_nothing_is_written(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("whole", AMD64, "v1")
    half = upstream.add("half", BOTH, "v1")
    upstream.add("ancient", schema1(), "v1")
    upstream.inject(
        Fault(status=404),
        kind="manifest",
        times=None,
        match=lambda s: str(ARM64.digest) in s.reference,
    )
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    names = ["lab/whole:v1", "lab/half:v1", "lab/none:v1", "lab/ancient:v1", "other.io/x:v1"]
    done = await run(proxy, *names, "-o", out, "--all-platforms")
    assert done.exit_code == 1
    assert half.digest == BOTH.digest
    said = {line.split(": ")[0]: line for line in done.output.splitlines() if ": " in line}
    assert str(ARM64.digest) in said["lab/half:v1"]
    assert "lab/none:v1" in said
    assert "schema 1" in said["lab/ancient:v1"]
    assert "lab/whole:v1" not in said
    assert "4 images of 5 can't be had whole" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("kind", ["referrers", "manifest"])
async def test_without_knowing_what_refers_to_it_an_image_is_not_taken_for_whole(
    kind: Literal["referrers", "manifest"],
    world: World,
    upstream: FakeRegistry,
    tmp_path: Path,
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    # Of manifests: those that cosign's tags name.
    upstream.inject(
        Fault(status=502),
        kind=kind,
        times=None,
        match=lambda s: kind == "referrers" or s.reference.endswith(".att"),
    )
    done = await run(proxy, "lab/app:v1", "-o", out)
    assert done.exit_code == 1
    assert "1 image of 1 can't be had whole" in done.output
    assert "lab/app:v1: " in done.output
    await exported(proxy, "lab/app:v1", "-o", out, "--no-referrers")
    upstream.heal()
    out.unlink()
    proxy.let_time_pass("lab", 3600)
    await exported(proxy, "lab/app:v1", "-o", out)


async def test_a_chart_is_an_image_like_any_other(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    kind = "application/vnd.cncf.helm"
    config = Content.of(f"{kind}.config.v1+json", document({"name": "web"}))
    archive = Content.of(f"{kind}.chart.content.v1.tar+gzip", b"a chart" * 100)
    body = {
        "schemaVersion": 2,
        "config": config.descriptor(),
        "layers": [archive.descriptor()],
    }
    chart = Image(manifests=(Content.of(OCI_MANIFEST, document(body)),), blobs=(config, archive))
    upstream.add("charts/web", chart, "1.2.3")
    proxy = await world.start({"lab": upstream})
    await exported(proxy, "lab/charts/web:1.2.3", "-o", tmp_path / "b.tar")
    contents, _ = opened(tmp_path / "b.tar")
    assert blobs(contents) == all_of(chart)


async def test_that_a_tag_could_not_be_asked_about_is_told(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, revalidate_budget_s=1)
    await exported(proxy, "lab/app:v1", "-o", tmp_path / "1.tar", "--no-referrers")
    await upstream.stop()
    done = await run(proxy, "lab/app:v1", "-o", tmp_path / "2.tar", "--no-referrers")
    assert done.exit_code == 0
    assert "lab/app:v1: " in done.output
    assert opened(tmp_path / "2.tar")[0].images == opened(tmp_path / "1.tar")[0].images


async def test_a_signature_that_came_later_is_found(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    first, second = image(90, seed="cosign"), image(90, 80, seed="cosign")
    tag = f"sha256-{AMD64.digest.hex}.sig"
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, negative_s=0)
    for number, signature in enumerate([first, second]):
        upstream.add("app", signature, tag)
        out = tmp_path / f"{number}.tar"
        await exported(proxy, "lab/app:v1", "-o", out)
        (referrer,) = opened(out)[0].referrers
        assert referrer.descriptor.digest == signature.digest


async def test_an_image_without_the_wanted_platform_is_refused(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", BOTH, "v1")
    upstream.add("app", SIGNATURE)
    proxy = await world.start({"lab": upstream})
    done = await run(proxy, "lab/app:v1", "-o", tmp_path / "b", "--platform", "windows/amd64")
    assert done.exit_code == 1
    assert "nothing for windows/amd64" in done.output


async def test_nothing_is_written_over(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    out.write_text("precious")
    done = await run(proxy, "lab/app:v1", "-o", out)
    assert done.exit_code == 1
    assert "nothing is written over" in done.output
    assert out.read_text() == "precious"


async def test_parts_put_together_are_the_archive_and_a_folder_has_the_same_files(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    told = await exported(proxy, "lab/app:v1", "-o", out, "--split", "100kB")
    parts = [Path(one) for one in told["files"]]
    assert [one.name for one in parts] == [f"b.tar.00{number}" for number in range(1, 5)]
    assert [one.stat().st_size for one in parts[:-1]] == [100_000] * 3
    assert not out.exists()
    out.write_bytes(b"".join(one.read_bytes() for one in parts))
    contents, found = opened(out)
    assert out.stat().st_size == told["bytes"]
    folder = tmp_path / "folder"
    await exported(proxy, "lab/app:v1", "-o", folder, "--folder")
    files = {str(one.relative_to(folder)): one for one in folder.rglob("*") if one.is_file()}
    assert files.keys() == found.keys()
    for name, path in files.items():
        if not name.startswith("entrepot/"):
            assert path.read_bytes() == found[name]
    assert blobs(contents) == all_of(AMD64)


async def test_a_blob_that_breaks_off_is_gone_on_with_and_a_lie_about_its_size_is_told(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.inject(Fault(reset_at=150_000), kind="blob", match=lambda s: s.method == "GET")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "b.tar"
    await exported(proxy, "lab/app:v1", "-o", out)
    contents, _ = opened(out)
    assert blobs(contents) == all_of(AMD64)


async def test_the_proxy_is_away_and_there_is_no_such_proxy(tmp_path: Path) -> None:
    command = ["export", "x", "-o", str(tmp_path / "b"), "--admin", "http://127.0.0.1:1"]
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, command)
    assert done.exit_code == 1
    assert "refused" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "1MB", "--folder"], "only one of"),
        (["--split", "many"], "must be a size"),
        (["--split", "10"], "at least 64KiB"),
        (["--key", "none.key"], "can't be read"),
    ],
)
def test_command_lines_that_make_no_sense(words: list[str], said: str, tmp_path: Path) -> None:
    command = ["export", "x", "-o", str(tmp_path / "b"), "--admin", "http://127.0.0.1:1", *words]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code in {1, 2}
    assert said in done.output


async def test_skopeo_reads_the_archive_and_the_folder(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    skopeo = programs.program("skopeo")
    upstream.add("team/app", BOTH, "v1")
    upstream.add("other", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    out, folder = tmp_path / "b.tar", tmp_path / "folder"
    names = ["lab/team/app:v1", f"lab/team/app@{BOTH.digest}", "lab/other:v1"]
    await exported(proxy, *names, "-o", out, "--all-platforms")
    await exported(proxy, *names, "-o", folder, "--all-platforms", "--folder")
    for name in names:
        for place in (f"oci-archive:{out}:{name}", f"oci:{folder}:{name}"):
            raw = await asyncio.to_thread(programs.run, skopeo, "inspect", "--raw", place)
            wanted = AMD64 if "other" in name else BOTH
            assert raw.stdout.encode() == wanted.manifest.body
    copy = tmp_path / "copy"
    place = f"oci-archive:{out}:lab/team/app:v1"
    await asyncio.to_thread(
        programs.run, skopeo, "copy", "--all", "--preserve-digests", place, f"dir:{copy}"
    )
    assert (copy / "manifest.json").read_bytes() == BOTH.manifest.body
    for one in BOTH.blobs:
        assert (copy / one.digest.hex).read_bytes() == one.body
