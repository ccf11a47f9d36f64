"""Names of images out of arguments, text files, Kubernetes manifests and Helm charts.

Names stay as they are written; what they lead to is the matter of whoever asked. The
files are other people's, so all reading is bounded. Nothing here waits or dials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from proxy.images.charts import images_of_chart
from proxy.images.kubernetes import images_under
from proxy.images.lists import names_in
from proxy.images.reading import ImagesError, checked_name, read

__all__ = ["IMAGES_MAX", "ImagesError", "gathered"]

IMAGES_MAX = 100_000


def gathered(
    images: Sequence[str],
    *,
    file: Path | None = None,
    manifests: Sequence[Path] = (),
    charts: Sequence[Path] = (),
    values: Sequence[Path] = (),
    tell: Callable[[str], None] = lambda _how: None,
) -> list[str]:
    """All names, each once, in the order in which they come.

    `file`: one name a line; `manifests`: Kubernetes YAML or JSON, files or folders;
    `charts`: Helm charts, with these files of `values`; `tell` hears how their images were
    found. Raises `ImagesError`, which names the file and the line.
    """
    found: dict[str, None] = {checked_name(image, "the command line"): None for image in images}
    if file is not None:
        _add(found, names_in(read(file), str(file)))
    for path in manifests:
        _add(found, images_under(path))
    for path in charts:
        _add(found, images_of_chart(path, values, tell))
    return list(found)


def _add(found: dict[str, None], names: Iterable[str]) -> None:
    for name in names:
        found[name] = None
        if len(found) > IMAGES_MAX:
            raise ImagesError(f"there are more than {IMAGES_MAX} images")
