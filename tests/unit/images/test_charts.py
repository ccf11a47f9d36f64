"""The images of a Helm chart: rendered where there is a helm, estimated where not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from proxy.images import ImagesError, chart_files, gathered

CHART = """
apiVersion: v2
name: shop
appVersion: "2.5"
annotations:
  artifacthub.io/images: |
    - {name: extra, image: quay.io/org/extra:1}
dependencies:
- {name: db, version: 1.x.x, condition: db.enabled}
- {name: cache, version: 1.x.x, condition: "nothing.there,cache.enabled"}
"""
VALUES = """
image: {registry: ghcr.io, repository: org/shop}
tools: &tools
  repository: quay.io/org/tools
  tag: 1.10
again: *tools
pinned: {image: {repository: org/pinned, tag: v1, digest: "sha256:%s"}}
metrics: {enabled: false, image: {repository: off, tag: v1}}
initImage: busybox:1.36
sidecar: {image: org/sidecar, imageTag: v7}
source: {git: {repository: "https://git.example/x", tag: v1}, chart: {repository: just-a-name}}
later: {image: "{{ .Values.other }}"}
controller: {image: {registry: registry.k8s.io, image: ingress/controller, tag: v1}}
shell: {image: {name: alpine, tag: "3"}}
global: {image: {repository: quay.io/argo/cd, tag: v3}}
db: {image: {tag: "16"}}
cache: {enabled: false}
""" % ("b" * 64)
FILES = {
    "Chart.yaml": CHART,
    "values.yaml": VALUES,
    "templates/job.yaml": 'spec:\n  containers:\n  - image: "literal:3"\n  - image: {{ .x }}\n',
    "README.md": "image: not-this:1\n",
    "charts/db/Chart.yaml": "name: db\nappVersion: '15'\n",
    "charts/db/values.yaml": "image: {repository: postgres, tag: '15'}\n",
    "charts/cache/Chart.yaml": "name: cache\n",
    "charts/cache/values.yaml": "image: {repository: redis, tag: '7'}\n",
    "charts/notes.txt": "nothing",
}
ESTIMATED = [
    "quay.io/org/extra:1",
    "ghcr.io/org/shop:2.5",
    "quay.io/org/tools:1.10",
    f"org/pinned@sha256:{'b' * 64}",
    "busybox:1.36",
    "org/sidecar:v7",
    "registry.k8s.io/ingress/controller:v1",
    "alpine:3",
    "quay.io/argo/cd:v3",
    "literal:3",
    "postgres:16",
]


def folder(path: Path, files: dict[str, str]) -> Path:
    for inside, text in files.items():
        (path / inside).parent.mkdir(parents=True, exist_ok=True)
        (path / inside).write_text(text)
    return path


def packed(files: dict[str, str | bytes], name: str = "shop") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for inside, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(f"{name}/{inside}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(autouse=True)
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH besides those of a shell; no helm in it yet."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "sh").symlink_to("/bin/sh")
    (path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(path))
    return path


def helm(bin_folder: Path, script: str) -> None:
    (bin_folder / "helm").write_text(f"#!/bin/sh\n{script}\n")
    (bin_folder / "helm").chmod(0o755)


def images(path: Path, *values: Path) -> tuple[list[str], str]:
    told: list[str] = []
    found = gathered([], charts=[path], values=values, tell=told.append)
    (line,) = told
    return found, line


def test_without_helm_the_values_tell_the_images(tmp_path: Path) -> None:
    found, told = images(folder(tmp_path / "shop", FILES))
    assert found == ESTIMATED
    assert "estimated" in told


def test_given_values_win_the_last_ones_most(tmp_path: Path, bin_folder: Path) -> None:
    chart = folder(tmp_path / "shop", {"Chart.yaml": "name: x", "values.yaml": "image: {tag: a}"})
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("image: {repository: org/x, tag: b}")
    second.write_text("image: {tag: c}")
    assert images(chart, first, second)[0] == ["org/x:c"]
    helm(bin_folder, f'echo "$@" > {tmp_path}/arguments; echo "containers: [{{image: r}}]"')
    assert images(chart, first, second)[0] == ["r"]
    given = (tmp_path / "arguments").read_text().split()[3:]
    assert given == [f"--values={first}", f"--values={second}"]
    bin_folder.joinpath("helm").unlink()
    with pytest.raises(ImagesError, match="No such file"):
        images(chart, tmp_path / "none")


def test_a_packed_chart_with_packed_subcharts_has_the_same_images(tmp_path: Path) -> None:
    inner = {path[len("charts/db/") :]: text for path, text in FILES.items() if "/db/" in path}
    files: dict[str, str | bytes] = {
        path: text for path, text in FILES.items() if "charts/db/" not in path
    }
    path = tmp_path / "shop-1.tgz"
    path.write_bytes(packed({**files, "charts/db-1.tgz": packed({**inner}, "db")}))
    assert images(path)[0] == ESTIMATED


def test_subcharts_follow_condition_alias_and_the_parents_registry(tmp_path: Path) -> None:
    files = {
        "Chart.yaml": "name: p\ndependencies:\n- {name: s, alias: one}\n"
        "- {name: s, alias: two}\n- {name: s, alias: off, condition: off.enabled}\n",
        "values.yaml": "global: {imageRegistry: mirror.lan}\none: {image: {tag: a}}\n"
        "two: {image: {tag: b}}\noff: {enabled: false}\n",
        "charts/s/Chart.yaml": "name: s\n",
        "charts/s/values.yaml": "image: {registry: docker.io, repository: org/s, tag: z}\n",
    }
    found, _ = images(folder(tmp_path / "p", files))
    assert found == ["mirror.lan/org/s:a", "mirror.lan/org/s:b"]


def test_with_helm_the_images_are_those_of_what_it_renders(
    tmp_path: Path, bin_folder: Path
) -> None:
    chart = folder(tmp_path / "shop", FILES)
    (tmp_path / "out").write_text("---\nspec: {containers: [{image: rendered:1}]}\n")
    helm(bin_folder, f'echo "$@" > {tmp_path}/arguments; cat {tmp_path}/out')
    found, told = images(chart)
    assert found == ["rendered:1"]
    assert "as `helm template` renders" in told
    assert (tmp_path / "arguments").read_text().split() == ["template", "entrepot", str(chart)]


def test_a_chart_that_helm_refuses_is_not_estimated(tmp_path: Path, bin_folder: Path) -> None:
    chart = folder(tmp_path / "shop", FILES)
    helm(bin_folder, "echo 'Error: password is required' >&2; exit 1")
    with pytest.raises(ImagesError, match=r"(?s)password is required.*--from-manifests -"):
        images(chart)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"values.yaml": "a: 1"}, "no Chart.yaml"),
        ({"Chart.yaml": "- a"}, "Chart.yaml: must be a mapping"),
        ({"Chart.yaml": "name: x", "values.yaml": "a: [\n\nb: c"}, r"values.yaml:\d: is not YAML"),
        ({"Chart.yaml": "name: x", "values.yaml": "image: a b"}, "is no image name"),
    ],
)
def test_a_broken_chart_is_refused_with_its_file(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(ImagesError, match=said):
        images(folder(tmp_path / "chart", files))


def test_what_is_no_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="no such chart"):
        images(tmp_path / "none")
    (tmp_path / "x.tgz").write_bytes(b"no archive at all")
    with pytest.raises(ImagesError, match="is no packed chart"):
        images(tmp_path / "x.tgz")
    (tmp_path / "x.tgz").write_bytes(packed({**FILES})[:200])
    with pytest.raises(ImagesError, match="is no packed chart"):
        images(tmp_path / "x.tgz")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    files = {"Chart.yaml": "name: x", "values.yaml": bomb}
    with pytest.raises(ImagesError, match="unfolds into too many"):
        images(folder(tmp_path / "yaml", files))
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))
    for number, values in enumerate((chain, "a: &a {b: *a}", "&a [*a]")):
        looped = {"Chart.yaml": "name: x", "values.yaml": values}
        with pytest.raises(ImagesError, match="nested too deeply"):
            images(folder(tmp_path / f"deep {number}", looped))
    inner = packed({"Chart.yaml": "name: x"})
    for _ in range(12):
        inner = packed({"Chart.yaml": "name: x", "charts/x.tgz": inner})
    (tmp_path / "matryoshka.tgz").write_bytes(inner)
    with pytest.raises(ImagesError, match="charts in charts"):
        images(tmp_path / "matryoshka.tgz")
    monkeypatch.setattr(chart_files, "_BYTES_MAX", 100_000)
    (tmp_path / "big.tgz").write_bytes(packed({"Chart.yaml": "name: x", "x": "0" * 200_000}))
    with pytest.raises(ImagesError, match="unpacks to more"):
        images(tmp_path / "big.tgz")
