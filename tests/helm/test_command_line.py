"""The manifests' exact command lines, with their files and ports, lead to a pull."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helm.charts import NAME, Document, Helm, Rendered
from tests.helm.matrix import SINGLE, over
from tests.helm.pod import UPSTREAM_PORT
from tests.support.programs import needs_containers, program

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300.0
VALUES = over(
    SINGLE,
    config={
        "disk_free_bytes_min": 0,
        "upstreams": {"lab": {"url": f"http://127.0.0.1:{UPSTREAM_PORT}", "expose": "all"}},
    },
    credentials={"upstreams": {"lab": {"existingSecret": "lab"}}},
    tests={"image": "lab/team/tiny:1"},
    drain={"delaySeconds": 0},
)


def volumes(pod: Document, rendered: Rendered, secrets: dict[str, str]) -> tuple[dict, list]:
    """Texts by path, of ConfigMaps and Secrets, and the folders that are writable."""
    (container,) = pod["containers"]
    sources = {one["name"]: one for one in pod["volumes"]}
    texts: dict[str, str] = {}
    folders: list[str] = []
    for mount in container["volumeMounts"]:
        source, path = sources[mount["name"]], mount["mountPath"]
        if "configMap" in source:
            data = rendered.one("ConfigMap", source["configMap"]["name"])["data"]
            texts |= {f"{path}/{name}": text for name, text in data.items()}
        elif "projected" in source:
            for part in source["projected"]["sources"]:
                texts |= {
                    f"{path}/{one['path']}": secrets[one["key"]] for one in part["secret"]["items"]
                }
        else:
            assert "emptyDir" in source
            folders.append(path)
    return texts, folders


def test_the_manifests_command_lines_lead_to_a_pull(helm: Helm, tmp_path: Path):
    """With the files, ports, probes and privileges that the manifests say."""
    needs_containers()
    unshare = program("unshare", package="util-linux")
    rendered = helm.render(VALUES)
    container, pod = rendered.container, rendered.pod["spec"]
    tester = rendered.one("Pod")["spec"]
    texts, folders = volumes(pod, rendered, {"username": "me", "password": "secret"})
    more, _ = volumes(tester, rendered, {})
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}

    def probe(name: str) -> str:
        get = container[name]["httpGet"]
        return f"http://127.0.0.1:{ports[get['port']]}{get['path']}"

    play: dict[str, Any] = {
        "files": texts | more,
        # A folder of the machine, of which the tests may be a part.
        "folders": [one for one in folders if one != "/tmp"],
        "hosts": [f"{NAME}.mirrors.svc"],
        "command": container["command"],
        "env": {},
        "probe": probe("readinessProbe"),
        "livez": probe("livenessProbe"),
        "test": tester["containers"][0]["command"] + tester["containers"][0]["args"],
    }
    done = subprocess.run(
        [unshare, "--mount", "--net", "--", sys.executable, "-m", "tests.helm.pod"],
        input=json.dumps(play),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for pull in ("first", "second"):
        assert report[pull]["code"] == 0, (report[pull], done.stderr)
        assert "bytes verified" in report[pull]["said"]
    # The second pull is the cache's; so is the image's one config and one layer.
    assert report["blobs_fetched"] == 2
    assert report["livez"] == 200
    assert report["as"]["CapEff"] == "0" * 16
    assert report["as"]["NoNewPrivs"] == "1"
    assert report["exit"] == 0, done.stderr
    assert "draining" in done.stderr
