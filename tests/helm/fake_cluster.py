"""As much of a Kubernetes API server as Helm needs to install, upgrade and uninstall.

It keeps objects by their paths and takes server-side apply for what it says. Nothing
is checked, and nothing runs: that is the business of the schemas and of other tests.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

# group/version -> plural: kind
GROUPS: dict[str, dict[str, str]] = {
    "v1": {
        "configmaps": "ConfigMap",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {
        "daemonsets": "DaemonSet",
        "deployments": "Deployment",
        "statefulsets": "StatefulSet",
    },
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "networking.k8s.io/v1": {"ingresses": "Ingress", "networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
}


class FakeCluster:
    """An async context manager; `objects` are what was applied, by path."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.url = ""
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def kubeconfig(self) -> str:
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                "users": [{"name": "nobody", "user": {}}],
                "contexts": [{"name": "it", "context": {"cluster": "fake", "user": "nobody"}}],
                "current-context": "it",
            }
        )

    def names(self, plural: str) -> list[str]:
        """The objects of a kind that are there."""
        return sorted(path.rpartition("/")[2] for path in self.objects if f"/{plural}/" in path)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body, path = await request.read(), request.path
        match request.method:
            case "GET":
                found = _about(path) or self.objects.get(path)
                return _missing() if found is None else web.json_response(found)
            case "PATCH":
                assert request.headers["Content-Type"] == "application/apply-patch+yaml"
                self.objects[path] = yaml.safe_load(body)
                return web.json_response(self.objects[path])
            case "DELETE":
                gone = self.objects.pop(path, None)
                return _missing() if gone is None else web.json_response(gone)
            case method:
                return web.Response(status=405, text=f"{method} {path}")


def _about(path: str) -> dict[str, Any] | None:
    """What an API server tells about itself."""
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(one) for one in GROUPS if "/" in one]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api" | "apis", *rest] if (version := "/".join(rest)) in GROUPS:
            return _resources(version)
        case ["openapi", "v3"]:
            return {
                "paths": {
                    f"apis/{one}" if "/" in one else f"api/{one}": {
                        "serverRelativeURL": f"/openapi/v3/{one}"
                    }
                    for one in GROUPS
                }
            }
        case ["openapi", "v3", *rest]:
            return _openapi("/".join(rest))
    return None


def _group(version: str) -> dict[str, Any]:
    name, _, number = version.partition("/")
    one = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _resources(version: str) -> dict[str, Any]:
    verbs = ["get", "list", "create", "patch", "delete"]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}
            for plural, kind in GROUPS[version].items()
        ],
    }


def _openapi(version: str) -> dict[str, Any]:
    """Only that the server validates fields, which lets Helm leave it to the server."""
    group, _, number = version.rpartition("/")
    return {
        "openapi": "3.0.0",
        "info": {"title": version, "version": "1"},
        "paths": {
            f"/{plural}": {
                "patch": {
                    "parameters": [{"name": "fieldValidation", "in": "query"}],
                    "x-kubernetes-group-version-kind": {
                        "group": group,
                        "version": number,
                        "kind": kind,
                    },
                }
            }
            for plural, kind in GROUPS[version].items()
        },
    }


def _missing() -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return web.json_response({**status, "reason": "NotFound", "code": 404}, status=404)
