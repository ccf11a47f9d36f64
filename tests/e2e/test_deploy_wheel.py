"""What is released is complete: the wheel holds all of the package, says one version,
and serves from an environment in which there is nothing else.
"""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from proxy import __version__
from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import ROOT, Distribution, distribution, new_environment
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import upstreams_of
from tests.support.processes import ServerProcess, answers_http, free_port
from tests.support.programs import run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    return distribution(tmp_path_factory.getbasetemp())


def _package(source: Path) -> set[str]:
    """All files of the package in `source`, by their paths there; not what an editor or
    a patch left beside them.
    """
    files = (path for path in (source / "proxy").rglob("*") if path.is_file())
    left = {".orig", ".rej", ".pyc", ".swp"}
    return {str(path.relative_to(source)) for path in files if path.suffix not in left}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_beside_it(
    made: Distribution,
) -> None:
    with zipfile.ZipFile(made.wheel) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if name.startswith("proxy/")} == _package(made.source)
    beside = {name.split("/")[0] for name in names} - {"proxy"}
    assert beside == {f"entrepot-{__version__}.dist-info"}
    assert any(name.endswith("LICENSE") for name in names)


def test_the_version_is_said_in_one_place(made: Distribution) -> None:
    assert made.wheel.name == f"entrepot-{__version__}-py3-none-any.whl"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    chart = yaml.safe_load((ROOT / "helm" / "entrepot" / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__  # a chart can't refer to Python


def test_it_serves_a_pull_from_an_environment_with_nothing_else(
    nook: Path, made: Distribution, upstream: DockerRegistry, image: Built
) -> None:
    python = new_environment(nook / "fresh")
    offline = ("--no-index", "--find-links", made.wheels)
    run(python, "-m", "pip", "install", "-q", *offline, made.wheel)
    run(python, "-m", "pip", "check")
    entrepot = python.with_name("entrepot")
    assert run(entrepot, "version").stdout.strip() == f"entrepot {__version__}"
    port = free_port()
    config = nook / "entrepot.yaml"
    listeners = {"listen": f"127.0.0.1:{port}", "admin_listen": f"127.0.0.1:{free_port()}"}
    settings = {**listeners, "data_dir": str(nook / "data"), "upstreams": upstreams_of(upstream)}
    config.write_text(yaml.safe_dump(settings))
    serving = ServerProcess(
        [entrepot, "serve", "--config", config],
        log=nook / "log",
        ready=lambda: answers_http(port),
        cwd=nook,
    )
    serving.start()
    try:
        skopeo = Skopeo(Settings(nook / "tools", insecure=(f"127.0.0.1:{port}",)))
        skopeo.copy(f"127.0.0.1:{port}/lab/demo/busybox:v1", nook / "copied")
        fetched_once(upstream, image.blobs)
        assert serving.stop() == 0, serving.log_tail()
    finally:
        serving.kill()
