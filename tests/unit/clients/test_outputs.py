"""What each client is given, read back as the client reads it."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import Any

import pytest
import yaml

from proxy.clients import PLANS, Conflict, Mistake, Plan, Registry, Server, Wish, parse_version

HUB = Registry.parse("docker.io")
CORP = Registry.parse("registry.corp:5000=corp")
PLAIN = Server.parse("http://cache.example:5000")
SECURE = Server.parse("https://cache.example")
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def planned(client: str, server: Server = PLAIN, version: str = "", **more: Any) -> Plan:
    old: dict[str, str] = more.pop("old", {})
    wish = Wish(
        server=server,
        registries=more.pop("registries", (HUB, CORP)),
        version=parse_version(version) if version else None,
        now=old.get,
        **more,
    )
    return PLANS[client](wish)


def read(plan: Plan, path: str) -> Any:
    (content,) = [one.content for one in plan.files if one.path == path]
    if path.endswith((".toml", ".conf")):
        return tomllib.loads(content)
    if path.endswith(".json"):
        return json.loads(content)
    if path.endswith(".yaml"):
        documents = list(yaml.safe_load_all(content))
        return documents[0] if len(documents) == 1 else documents
    return content


def hosts_of(plan: Plan, registry: str, folder: str = "/etc/containerd/certs.d") -> Any:
    return read(plan, f"{folder}/{registry}/hosts.toml")


# --- containerd ------------------------------------------------------------------------


def test_containerd_gets_one_folder_and_a_hosts_toml_for_each_registry() -> None:
    plan = planned("containerd")
    config = read(plan, "/etc/containerd/config.toml")
    registry = config["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    assert (config["version"], registry) == (2, {"config_path": "/etc/containerd/certs.d"})
    assert hosts_of(plan, "docker.io") == {
        "server": "https://registry-1.docker.io",
        "host": {
            "http://cache.example:5000/v2/docker.io": {
                "capabilities": ["pull", "resolve"],
                "override_path": True,
            }
        },
    }
    corp = hosts_of(plan, "registry.corp:5000")
    assert corp["server"] == "https://registry.corp:5000"
    assert list(corp["host"]) == ["http://cache.example:5000/v2/corp"]
    assert "restart containerd" in plan.then[0]


@pytest.mark.parametrize(
    ("version", "capabilities", "timeout"),
    [
        ("", ["pull", "resolve"], None),
        ("1.6.20~ds1", ["pull", "resolve"], None),
        ("v2.1.4", ["pull", "resolve"], "1s"),
        ("2.2.0", ["pull", "resolve", "referrers"], "1s"),
    ],
)
def test_containerd_is_told_only_what_its_version_understands(
    version: str, capabilities: list[str], timeout: str | None
) -> None:
    (host,) = hosts_of(planned("containerd", version=version), "docker.io")["host"].values()
    assert host["capabilities"] == capabilities
    assert "push" not in host["capabilities"]
    assert host.get("dial_timeout") == timeout


def test_containerd_2_without_a_file_gets_one_of_version_3() -> None:
    config = read(planned("containerd", version="2.0"), "/etc/containerd/config.toml")
    assert config["version"] == 3
    assert list(config["plugins"]) == ["io.containerd.cri.v1.images"]


@pytest.mark.parametrize(
    ("old", "plugin"),
    [
        ("version = 3\n", "io.containerd.cri.v1.images"),
        ("version = 2\n", "io.containerd.grpc.v1.cri"),
        # As some managed nodes have it.
        (
            "version = 2\n[plugins.'io.containerd.cri.v1.images']\nx = 1\n",
            "io.containerd.cri.v1.images",
        ),
        ("# a file without a version is of version 1\n", "cri"),
    ],
)
def test_containerds_table_is_called_as_its_file_has_it(old: str, plugin: str) -> None:
    plan = planned("containerd", old={"/etc/containerd/config.toml": old})
    config = read(plan, "/etc/containerd/config.toml")
    expected = {"config_path": "/etc/containerd/certs.d"}
    assert config["plugins"][plugin]["registry"] == expected


def test_a_folder_that_containerd_names_already_is_used_and_its_file_left_alone() -> None:
    old = (
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n  config_path = '/opt/hosts'"
    )
    plan = planned("containerd", old={"/etc/containerd/config.toml": old})
    assert plan.files[0].content == old
    assert plan.then == ()
    assert hosts_of(plan, "docker.io", "/opt/hosts")


def test_two_folders_joined_by_a_colon_become_the_one_that_all_parts_of_it_read() -> None:
    pair = "/etc/containerd/certs.d:/etc/docker/certs.d"
    old = f"""version = 3
[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs' # kept
    [plugins.'io.containerd.cri.v1.images'.registry]
      config_path = '{pair}'
    [plugins.'io.containerd.cri.v1.images'.image_decryption]
      key_model = 'node'
"""
    plan = planned("containerd", old={"/etc/containerd/config.toml": old})
    expected = old.replace(f"'{pair}'", '"/etc/containerd/certs.d"')
    assert plan.files[0].content == expected
    assert any(pair in note for note in plan.notes)
    older = planned("containerd", version="1.7.2", old={"/etc/containerd/config.toml": old})
    assert older.files[0].content == old
    other = old.replace("/etc/docker/certs.d", "/srv/mine")
    with pytest.raises(Conflict, match="single folder"):
        planned("containerd", old={"/etc/containerd/config.toml": other})


@pytest.mark.parametrize(
    "table",
    ["mirrors.'docker.io']\nendpoint = ['http://a']", "configs.'a'.tls]\nca_file = '/a'"],
)
def test_mirrors_of_the_old_kind_are_refused_beside_config_path(table: str) -> None:
    old = f"version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.{table}\n"
    with pytest.raises(Conflict, match=r"hosts\.toml"):
        planned("containerd", old={"/etc/containerd/config.toml": old})


def test_that_the_cri_plugin_is_off_is_said() -> None:
    old = 'disabled_plugins = ["cri"]\nversion = 2\n'
    plan = planned("containerd", old={"/etc/containerd/config.toml": old})
    assert any("CRI plugin off" in note for note in plan.notes)


def test_that_other_files_are_imported_is_said() -> None:
    old = 'imports = ["/etc/containerd/conf.d/*.toml"]\nversion = 2\n'
    plan = planned("containerd", old={"/etc/containerd/config.toml": old})
    assert any("imports other files" in note for note in plan.notes)


def test_containerd_trusts_a_private_authority_by_a_file_that_is_brought_along() -> None:
    plan = planned("containerd", SECURE, ca=PEM)
    (host,) = hosts_of(plan, "docker.io")["host"].values()
    assert read(plan, host["ca"]) == PEM


def test_others_hosts_stay_and_come_after_ours() -> None:
    path = "/etc/containerd/certs.d/docker.io/hosts.toml"
    old = """# mine
server = "https://own.example"

[host."https://mirror.gcr.io"]
  capabilities = ["pull"]
"""
    plan = planned("containerd", old={path: old})
    hosts = hosts_of(plan, "docker.io")
    assert list(hosts["host"]) == [
        "http://cache.example:5000/v2/docker.io",
        "https://mirror.gcr.io",
    ]
    assert hosts["server"] == "https://own.example"
    (content,) = [one.content for one in plan.files if one.path == path]
    assert content.startswith("# mine\n")
    again = planned("containerd", old={path: content})
    assert next(one.content for one in again.files if one.path == path) == content
    with pytest.raises(Conflict, match="other settings"):
        planned("containerd", old={path: content.replace('["pull", "resolve"]', '["pull"]')})


# --- Docker ----------------------------------------------------------------------------


def test_docker_mirrors_hub_only_and_says_so() -> None:
    plan = planned("docker")
    assert read(plan, "/etc/docker/daemon.json") == {
        "registry-mirrors": ["http://cache.example:5000"],
        "insecure-registries": ["cache.example:5000"],
    }
    assert any("docker.io only" in note and "registry.corp" in note for note in plan.notes)
    with pytest.raises(Mistake, match=r"mirrors docker\.io"):
        planned("docker", registries=(CORP,))


def test_docker_25_may_have_the_upstream_in_the_mirrors_path() -> None:
    plan = planned("docker", SECURE, version="25.0.3")
    assert read(plan, "/etc/docker/daemon.json") == {
        "registry-mirrors": ["https://cache.example/docker.io"]
    }


def test_docker_28_has_hosts_toml_for_all_registries_too() -> None:
    plan = planned("docker", SECURE, version="28.1", ca=PEM)
    for registry in ("docker.io", "registry.corp:5000"):
        (host,) = hosts_of(plan, registry, "/etc/docker/certs.d")["host"].values()
        assert host["capabilities"] == ["pull", "resolve"]
        assert read(plan, host["ca"]) == PEM


def test_daemon_json_keeps_what_it_says_and_how_it_is_indented() -> None:
    old = '{\n    "log-driver": "journald",\n    "registry-mirrors": ["https://other"]\n}\n'
    plan = planned("docker", old={"/etc/docker/daemon.json": old})
    assert read(plan, "/etc/docker/daemon.json") == {
        "log-driver": "journald",
        "registry-mirrors": ["http://cache.example:5000", "https://other"],
        "insecure-registries": ["cache.example:5000"],
    }
    assert '\n    "log-driver"' in plan.files[0].content
    with pytest.raises(Conflict, match="is not JSON"):
        planned("docker", old={"/etc/docker/daemon.json": "{,}"})


# --- podman, CRI-O ---------------------------------------------------------------------


@pytest.mark.parametrize("client", ["podman", "crio"])
def test_containers_image_gets_a_drop_in(client: str) -> None:
    plan = planned(client)
    drop_in = read(plan, "/etc/containers/registries.conf.d/entrepot.conf")
    assert drop_in["registry"] == [
        {
            "prefix": name,
            "location": name,
            "mirror": [
                {
                    "location": f"cache.example:5000/{at}",
                    "pull-from-mirror": "all",
                    "insecure": True,
                }
            ],
        }
        for name, at in (("docker.io", "docker.io"), ("registry.corp:5000", "corp"))
    ] + [{"location": "cache.example:5000", "insecure": True}]
    assert bool(plan.then) == (client == "crio")


def test_containers_image_verifies_tls_with_the_given_authority() -> None:
    plan = planned("podman", SECURE, ca=PEM)
    drop_in = read(plan, "/etc/containers/registries.conf.d/entrepot.conf")
    assert all("insecure" not in one["mirror"][0] for one in drop_in["registry"])
    assert read(plan, "/etc/containers/certs.d/cache.example/ca.crt") == PEM


def test_a_host_without_a_dot_gets_its_port_lest_it_be_taken_for_a_namespace() -> None:
    plan = planned("podman", Server.parse("https://cache"))
    drop_in = read(plan, "/etc/containers/registries.conf.d/entrepot.conf")
    assert drop_in["registry"][0]["mirror"][0]["location"] == "cache:443/docker.io"


def test_an_entry_in_registries_conf_is_not_replaced_behind_its_back() -> None:
    main = "/etc/containers/registries.conf"
    old = '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
    planned("podman", old={main: old})
    with pytest.raises(Conflict, match="would replace"):
        planned("podman", old={main: old + "blocked = true\n"})


# --- BuildKit, k3s, kind, Talos, regctl --------------------------------------------------


def test_buildkit_gets_mirrors_and_how_to_speak_to_them() -> None:
    path = "/etc/buildkit/buildkitd.toml"
    assert read(planned("buildkit"), path) == {
        "registry": {
            "docker.io": {"mirrors": ["cache.example:5000/docker.io"]},
            "registry.corp:5000": {"mirrors": ["cache.example:5000/corp"]},
            "cache.example:5000": {"http": True},
        }
    }
    secure = planned("buildkit", SECURE, ca=PEM)
    (ca,) = read(secure, path)["registry"]["cache.example"]["ca"]
    assert read(secure, ca) == PEM


def test_buildkits_own_settings_and_other_mirrors_stay() -> None:
    path = "/etc/buildkit/buildkitd.toml"
    old = """debug = true # keep me
[registry."docker.io"]
  mirrors = ["mirror.gcr.io"]
[worker.oci]
  enabled = true
"""
    plan = planned("buildkit", old={path: old})
    merged = read(plan, path)
    assert merged["registry"]["docker.io"]["mirrors"] == [
        "cache.example:5000/docker.io",
        "mirror.gcr.io",
    ]
    assert merged["worker"] == {"oci": {"enabled": True}}
    assert "# keep me" in plan.files[0].content
    again = planned("buildkit", old={path: plan.files[0].content})
    assert again.files[0].content == plan.files[0].content


def test_k3s_gets_endpoints_with_their_whole_path() -> None:
    path = "/etc/rancher/k3s/registries.yaml"
    assert read(planned("k3s"), path) == {
        "mirrors": {
            "docker.io": {"endpoint": ["http://cache.example:5000/v2/docker.io"]},
            "registry.corp:5000": {"endpoint": ["http://cache.example:5000/v2/corp"]},
        }
    }
    secure = planned("k3s", SECURE, ca=PEM)
    assert read(secure, read(secure, path)["configs"]["cache.example"]["tls"]["ca_file"]) == PEM


def test_registries_yaml_is_merged_unless_comments_would_be_lost() -> None:
    path = "/etc/rancher/k3s/registries.yaml"
    old = "configs:\n  corp:\n    auth: {username: me, password: pw}\n"
    old += 'mirrors:\n  docker.io:\n    endpoint: ["https://mirror.gcr.io"]\n'
    merged = read(planned("k3s", old={path: old}), path)
    assert merged["configs"] == {"corp": {"auth": {"username": "me", "password": "pw"}}}
    assert merged["mirrors"]["docker.io"]["endpoint"] == [
        "http://cache.example:5000/v2/docker.io",
        "https://mirror.gcr.io",
    ]
    with pytest.raises(Conflict, match="comments"):
        planned("k3s", old={path: "# mine\n" + old})


def test_kind_mounts_the_folder_and_names_it_to_older_node_images() -> None:
    plan = planned("kind", version="0.26.0")
    cluster = read(plan, "entrepot-kind/cluster.yaml")
    assert (cluster["kind"], cluster["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    (mount,) = cluster["nodes"][0]["extraMounts"]
    assert mount["containerPath"] == "/etc/containerd/certs.d"
    folder = mount["hostPath"].removeprefix("./")
    assert hosts_of(plan, "docker.io", folder)["host"]
    (patch,) = cluster["containerdConfigPatches"]
    plugin = tomllib.loads(patch)["plugins"]["io.containerd.grpc.v1.cri"]
    assert plugin["registry"]["config_path"] == mount["containerPath"]
    newer = read(planned("kind", version="0.27.0"), "entrepot-kind/cluster.yaml")
    assert "containerdConfigPatches" not in newer
    loopback = planned("kind", Server.parse("http://127.0.0.1:5000"))
    assert any("the node itself" in note for note in loopback.notes)
    with_ca = planned("kind", SECURE, ca=PEM)
    (host,) = hosts_of(with_ca, "docker.io", folder)["host"].values()
    assert host["ca"] == "/etc/containerd/certs.d/entrepot-ca.crt"
    assert read(with_ca, f"{folder}/entrepot-ca.crt") == PEM


def test_talos_gets_documents_from_1_12_and_a_part_of_machine_before() -> None:
    path = "entrepot-talos/patch.yaml"
    documents = read(planned("talos", SECURE, ca=PEM), path)
    assert documents == [
        {
            "apiVersion": "v1alpha1",
            "kind": "RegistryMirrorConfig",
            "name": "docker.io",
            "endpoints": [{"url": "https://cache.example/v2/docker.io", "overridePath": True}],
        },
        {
            "apiVersion": "v1alpha1",
            "kind": "RegistryMirrorConfig",
            "name": "registry.corp:5000",
            "endpoints": [{"url": "https://cache.example/v2/corp", "overridePath": True}],
        },
        {
            "apiVersion": "v1alpha1",
            "kind": "RegistryTLSConfig",
            "name": "cache.example",
            "ca": PEM,
        },
    ]
    before = read(planned("talos", SECURE, version="v1.11.2", ca=PEM), path)
    registries = before["machine"]["registries"]
    assert registries["mirrors"]["docker.io"] == {
        "endpoints": ["https://cache.example/v2/docker.io"],
        "overridePath": True,
    }
    assert base64.b64decode(registries["config"]["cache.example"]["tls"]["ca"]).decode() == PEM


def test_regctl_gets_a_mirror_with_a_prefix_for_each_registry() -> None:
    path = "/home/me/.regctl/config.json"
    old = '{"hosts": {"docker.io": {"user": "me", "pass": "pw"}}}'
    hosts = read(planned("regctl", home="/home/me", old={path: old}), path)["hosts"]
    assert (hosts["docker.io"]["user"], hosts["docker.io"]["pass"]) == ("me", "pw")
    (mirror,) = hosts["docker.io"]["mirrors"]
    expected = {"hostname": "cache.example:5000", "pathPrefix": "docker.io", "tls": "disabled"}
    assert hosts[mirror] == expected
    secure = read(planned("regctl", SECURE, ca=PEM, home="/home/me"), path)["hosts"]
    assert (secure["cache.example"]["tls"], secure["cache.example"]["regcert"]) == ("enabled", PEM)


# --- what is asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["cache:5000", "ftp://cache", "http://", "http://c/x", "http://u@c", "http://c:x"]
)
def test_a_server_is_a_scheme_and_a_host(url: str) -> None:
    with pytest.raises(Mistake):
        Server.parse(url)


@pytest.mark.parametrize("name", ["a b", "", "reg.corp:5000", "a=b:1", "../x", "a/b"])
def test_an_upstream_that_no_path_can_name_is_refused(name: str) -> None:
    with pytest.raises(Mistake):
        Registry.parse(name)


@pytest.mark.parametrize("client", PLANS)
def test_a_plan_carried_out_and_made_again_is_the_same(client: str) -> None:
    first = planned(client, SECURE, ca=PEM)
    old = {one.path: one.content for one in first.files}
    again = planned(client, SECURE, ca=PEM, old=old)
    assert {one.path: one.content for one in again.files} == old
