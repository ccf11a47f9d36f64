"""Names of images out of arguments, lists, manifests: as written, once, in order."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.images import ImagesError, gathered, reading
from proxy.images.kubernetes import images_in
from proxy.images.lists import names_in

NAMES = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}(:[a-z0-9.]{1,6})?", fullmatch=True)

POD = """
spec:
  initContainers:
  - name: first
    image: "docker.io/library/busybox:1.36"
  containers:
  - {name: main, image: ghcr.io/org/app@sha256:%s}
  - name: no-image
  ephemeralContainers:
  - image: debug
  volumes:
  - name: model
    image: {reference: quay.io/org/model:v1, pullPolicy: Always}
  - name: other
    configMap: {name: image}
""" % ("a" * 64)
POD_IMAGES = [
    "docker.io/library/busybox:1.36",
    f"ghcr.io/org/app@sha256:{'a' * 64}",
    "debug",
    "quay.io/org/model:v1",
]


def nested(template: str, *path: str) -> str:
    document = yaml.safe_load(template)
    for key in reversed(path):
        document = [document] if key == "[]" else {key: document}
    return yaml.safe_dump(document)


def test_names_come_once_in_the_order_of_arguments_list_and_manifests(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("b # why\n\n# none\nc:1\r\n  a\n")
    (tmp_path / "pod.yaml").write_text(POD)
    found = gathered(["a", "b"], file=tmp_path / "list", manifests=[tmp_path / "pod.yaml"])
    assert found == ["a", "b", "c:1", *POD_IMAGES]


@given(st.lists(NAMES))
def test_a_written_list_is_read_back(names: list[str]) -> None:
    text = "# images\n" + "\n\n".join(f"  {name}  # {name}" for name in names)
    assert list(names_in(text, "list")) == names


@given(st.text())
def test_any_text_is_a_list_or_refused_with_its_line(text: str) -> None:
    try:
        names = list(names_in(text, "list"))
    except ImagesError:
        return
    assert all(name.isascii() and name.strip() == name != "" for name in names)


@pytest.mark.parametrize("bad", ["two names", "a b", "{{ .Values.image }}", "-x", "a\x00b", "a$b"])
def test_what_is_no_name_is_refused_with_file_and_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "list"
    path.write_text(f"fine\n{bad}\n")
    with pytest.raises(ImagesError, match=r"list:2: .* is no image name"):
        gathered([], file=path)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("spec", "template"),
        ("spec", "jobTemplate", "spec", "template"),
        ("items", "[]", "spec", "template"),
        ("spec", "anything", "[]", "podTemplate"),
    ],
)
def test_a_pod_is_found_wherever_it_stands(path: tuple[str, ...]) -> None:
    text = nested(POD, *path)
    assert sorted(images_in(text, "x")) == sorted(POD_IMAGES)
    as_json = json.dumps(yaml.safe_load(text), indent="\t")
    assert sorted(images_in(as_json, "x")) == sorted(POD_IMAGES)


def test_every_document_of_a_file_counts_and_empty_ones_are_none() -> None:
    text = (
        "---\n---\n# nothing\n---" + POD + "---\nnull\n---\nkind: Job\ncontainers: [{image: j}]\n"
    )
    assert list(images_in(text, "x")) == [*POD_IMAGES, "j"]


def test_what_is_no_container_names_no_image() -> None:
    text = """
    image: top
    spec: {image: spec, containers: {type: array}, steps: [{uses: checkout}], volumes: none}
    metadata: {annotations: {image: note}}
    containers: [{image: null}, {image: ""}, {name: x}, text, [a]]
    """
    assert list(images_in(text, "x")) == []


def test_workflows_and_pipelines_have_containers_of_other_names() -> None:
    text = """
    templates: [{container: {image: a}}, {script: {image: b}, sidecars: [{image: c}]}]
    spec: {steps: [{image: d}], stepTemplate: {image: e}}
    """
    assert sorted(images_in(text, "x")) == ["a", "b", "c", "d", "e"]


def test_anchors_and_merges_are_followed() -> None:
    text = """
    x-base: &base {image: base, name: n}
    x-all: &all [{image: all}]
    spec:
      containers: [{<<: *base, command: [x]}, {<<: [*base], image: own}]
      initContainers: *all
    """
    assert list(images_in(text, "x")) == ["base", "own", "all"]


def test_an_alias_to_itself_and_a_bomb_end_soon() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40)
    )
    assert list(images_in(bomb + "containers: [{image: here}]", "x")) == ["here"]
    assert list(images_in("&a {containers: [{image: y}, *a], z: *a, b: {<<: *a}}", "x")) == ["y"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", r"^p.yaml:2: is not YAML"),
        ("containers:\n- image: 5\n", r"^p.yaml:2: .* must be text"),
        ("containers:\n- name: x\n  image: 'a b'\n", r"^p.yaml:3: 'a b' is no image name"),
        ("containers:\n- image: {{ .Values.image }}\n", r"^p.yaml:2: "),
        ("{" * 5000, r"^p.yaml"),
        ("[" * 100_000, r"^p.yaml"),
    ],
)
def test_what_cannot_be_read_is_told_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(ImagesError, match=said):
        list(
            images_in(
                text + "\ncontainers: [{image: {{x}}}]" if "Values" in text else text, "p.yaml"
            )
        )


@given(st.text(alphabet=st.sampled_from("ac:-[]{}&*<>! \n\"'#|,imge0"), max_size=60))
def test_any_text_is_manifests_or_refused(text: str) -> None:
    # Nothing but `ImagesError` comes out, whatever goes in.
    with contextlib.suppress(ImagesError):
        assert all(isinstance(name, str) for name in images_in("containers:\n" + text, "x"))


def test_a_folder_is_read_to_its_depths_in_the_order_of_names(tmp_path: Path) -> None:
    for inside, name in {
        "b.yml": "two",
        "a.yaml": "one",
        "deep/er/c.json": "three",
        ".git/d.yaml": "hidden",
        "e.txt": "text",
    }.items():
        path = tmp_path / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"containers": [{"image": name}]}))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert gathered([], manifests=[tmp_path]) == ["one", "two", "three"]


def test_manifests_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b"containers: [{image: piped}]"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert gathered([], manifests=[Path("-")]) == ["piped"]


def test_files_that_are_missing_too_big_or_not_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list"
    with pytest.raises(ImagesError, match="No such file"):
        gathered([], file=path)
    path.write_bytes(b"fine\n\xff\n")
    with pytest.raises(ImagesError, match=r"list:2: is not UTF-8"):
        gathered([], file=path)
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 3)
    with pytest.raises(ImagesError, match="more than 0 MiB"):
        gathered([], file=path)
