"""The images of a Helm chart as far as its files tell, where nothing can render it.

Found, in a chart and its subcharts, with the parent's values over the subchart's:
- the list in the annotation `artifacthub.io/images` or `images` of Chart.yaml;
- values of the shape `{registry, repository, tag | digest}`, the tag being the chart's
  `appVersion` where none is given, the registry `global.imageRegistry` where that is set
  (`name` for `repository` under a key that ends with `image`);
- values called `image` or `…Image` that are text, with a tag beside them if they need one;
- images spelled out in templates.
What stands under `enabled: false`, or in a subchart whose `condition` is false, is left
out, as rendering would. What templates put together in other ways is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proxy.images.chart_files import ChartFiles
from proxy.images.reading import ImagesError, checked_name, documents, plain, read

_LISTED = ("artifacthub.io/images", "images")
# `image: busybox:1.36` with nothing to be filled in.
_SPELLED = re.compile(
    r"""^[ \t]*(?:-[ \t]+)?image:[ \t]*(["']?)([A-Za-z0-9][A-Za-z0-9._/:@-]*)\1[ \t]*(?:\#.*)?$""",
    re.ASCII | re.MULTILINE,
)


def estimated(chart: ChartFiles, values: Iterable[dict[str, Any]] = ()) -> Iterator[str]:
    """In the order in which a chart is read; names may come twice. Raises `ImagesError`.

    `values` over the chart's own, the last ones over the others.
    """
    over: dict[str, Any] = {}
    for one in values:
        over = _merged(over, one)
    return _images(chart, over, top=True)


def values_in(path: Path) -> dict[str, Any]:
    """A file of values. Raises `ImagesError`."""
    return _first_mapping(read(path), str(path))


def _images(chart: ChartFiles, over: dict[str, Any], *, top: bool) -> Iterator[str]:
    about = _mapping(chart, "Chart.yaml")
    values = _merged(_mapping(chart, "values.yaml"), over)
    version = about.get("appVersion")
    place = f"{chart.place}/values.yaml"
    shared = values.get("global")
    shared = shared if isinstance(shared, dict) else {}
    registry = shared.get("imageRegistry")
    found = _Found(
        place,
        version if isinstance(version, str) else None,
        registry if isinstance(registry, str) else None,
    )
    yield from _listed(chart, about)
    # What is said for all charts is found once, in the one that says it.
    yield from found.within("", {key: one for key, one in values.items() if top or key != "global"})
    for inside, text in chart.texts.items():
        if inside.startswith(("templates/", "crds/")):
            for match in _SPELLED.finditer(text):
                yield checked_name(match[2], f"{chart.place}/{inside}")
    for subchart in chart.subcharts:
        yield from _subchart(subchart, about, values, shared)


def _subchart(
    chart: ChartFiles, about: dict[str, Any], values: dict[str, Any], shared: dict[str, Any]
) -> Iterator[str]:
    """As often as the parent depends on it, under each of its aliases."""
    name = _mapping(chart, "Chart.yaml").get("name")
    listed = about.get("dependencies")
    wanted = [
        one
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and one.get("name") == name
    ]
    # In `charts/` and not among the dependencies: it is rendered all the same.
    for one in wanted or [{}]:
        if not _enabled(one, values):
            continue
        over = values.get(str(one.get("alias") or name))
        over = over if isinstance(over, dict) else {}
        yield from _images(chart, _merged(over, {"global": shared}), top=False)


def _enabled(dependency: dict[str, Any], values: dict[str, Any]) -> bool:
    """Of the paths in its condition the first that leads to a boolean decides."""
    for path in str(dependency.get("condition") or "").split(","):
        found: Any = values
        for part in path.strip().split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, bool):
            return found
    return True


def _listed(chart: ChartFiles, about: dict[str, Any]) -> Iterator[str]:
    annotations = about.get("annotations")
    for key in _LISTED:
        text = annotations.get(key) if isinstance(annotations, dict) else None
        if not isinstance(text, str):
            continue
        place = f"{chart.place}/Chart.yaml, {key}"
        for document in documents(text, place):
            entries = plain(document, place)
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and isinstance(entry.get("image"), str):
                    yield checked_name(entry["image"], place)


class _Found:
    """Looks through a chart's values."""

    def __init__(self, place: str, version: str | None, registry: str | None) -> None:
        self._place = place
        self._version = version
        self._registry = registry

    def within(self, key: str, value: Any) -> Iterator[str]:
        """The images in `value`, which stands under `key`. Raises `ImagesError`."""
        match value:
            case {"enabled": False}:
                return
            case {"repository": str(name)} if name and self._is_image(key, value):
                yield from self._tagged(name, value)
            case {"name": str(name), "tag": _} if name and key.lower().endswith("image"):
                yield from self._tagged(name, value)
            case dict():
                for name, one in value.items():
                    if isinstance(one, str) and name.lower().endswith("image") and one:
                        yield from self._tagged(one, value)
                    else:
                        yield from self.within(name, one)
            case list():
                for one in value:
                    yield from self.within(key, one)
            case _:
                pass

    def _is_image(self, key: str, value: dict[str, Any]) -> bool:
        """Not every repository is one of images: charts and git have some, too."""
        said = any(name in value for name in ("tag", "digest", "registry"))
        return said or key.lower().endswith("image")

    def _tagged(self, name: str, beside: dict[str, Any]) -> Iterator[str]:
        if "{{" in name or "://" in name:
            # A template within the values, or a repository of another kind.
            return
        registry = beside.get("registry")
        if isinstance(registry, str) and registry:
            name = f"{(self._registry or registry).rstrip('/')}/{name}"
        elif self._registry and "repository" in beside:
            name = f"{self._registry.rstrip('/')}/{name}"
        digest = beside.get("digest") or beside.get("sha")
        tag = beside.get("tag") or beside.get("imageTag") or self._version
        if "@" in name or ":" in name.rpartition("/")[2]:
            pass
        elif isinstance(digest, str) and digest:
            name += "@" + (digest if ":" in digest else f"sha256:{digest}")
        elif isinstance(tag, str) and tag:
            name += f":{tag}"
        yield checked_name(name, self._place)


def _mapping(chart: ChartFiles, inside: str) -> dict[str, Any]:
    """One of the chart's YAML files; empty if it has none."""
    return _first_mapping(chart.texts.get(inside, ""), f"{chart.place}/{inside}")


def _first_mapping(text: str, place: str) -> dict[str, Any]:
    for document in documents(text, place):
        value = plain(document, place)
        if isinstance(value, dict):
            return value
        if value is not None:
            raise ImagesError(f"{place}: must be a mapping")
    return {}


def _merged(below: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins; null takes a value away, as Helm has it."""
    merged = dict(below)
    for key, value in over.items():
        held = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(held, dict) and isinstance(value, dict):
            merged[key] = _merged(held, value)
        else:
            merged[key] = value
    return merged
