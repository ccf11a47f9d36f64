"""The images of a Helm chart: as `helm template` renders it, else as far as its files tell.

With a `helm` on the PATH the chart is rendered, and the images are
those of the manifests that come out. Without one they are estimated; see `estimate.py`.
Which way was taken is always told.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.images.chart_files import chart_files
from proxy.images.estimate import estimated, values_in
from proxy.images.kubernetes import images_in
from proxy.images.reading import FILE_BYTES_MAX, ImagesError

_HELM_S = 60.0


def images_of_chart(path: Path, values: Sequence[Path], tell: Callable[[str], None]) -> list[str]:
    """Of a chart's folder or `.tgz` with these files of values, the last of which wins;
    `tell` hears how they were found.

    Raises `ImagesError`, also where helm can't render it: an estimate in its place
    would look as good and be worth less.
    """
    if not path.exists():
        raise ImagesError(f"{path}: there is no such chart")
    helm = shutil.which("helm")
    if helm is None:
        names = list(dict.fromkeys(estimated(chart_files(path), map(values_in, values))))
        tell(
            f"{path}: {len(names)} images estimated from the chart's values; with a helm binary "
            "on the PATH they would be those of `helm template`"
        )
        return names
    names = list(dict.fromkeys(images_in(_rendered(helm, path, values), f"helm template {path}")))
    tell(f"{path}: {len(names)} images, as `helm template` renders the chart")
    return names


def _rendered(helm: str, path: Path, values: Sequence[Path]) -> str:
    given = [f"--values={file.absolute()}" for file in values]
    with tempfile.TemporaryFile() as out:
        try:
            # Into a file: a template can render any amount.
            done = subprocess.run(  # noqa: S603 - no shell, and the path is an argument of its own
                [helm, "template", "entrepot", str(path.absolute()), *given],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=_HELM_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ImagesError(f"{path}: helm template takes more than {_HELM_S:g} s") from error
        except OSError as error:
            raise ImagesError(f"{path}: helm does not start: {error.strerror}") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise ImagesError(
                f"{path}: helm template fails: {said}\n"
                "Give it what it needs by --helm-values, or render it yourself: "
                f"helm template {path} | entrepot ... --from-manifests -"
            )
        out.seek(0)
        data = out.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ImagesError(f"{path}: renders to more than {FILE_BYTES_MAX // 2**20} MiB")
    return data.decode(errors="replace")
