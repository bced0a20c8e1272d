"""The manifests for KubeRay: accepted as a cluster would, refused where they are wrong."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import isthmus
from cloud_fn.config import check_exposure, load
from tests.deploy.manifests import (
    FOLDER,
    NEWEST,
    OLDEST,
    ROOT,
    Document,
    Refused,
    containers,
    dangling,
    documents,
    kustomization,
    templates,
    title,
    validate,
)

DOCUMENTS = [pytest.param(document, id=title(document)) for document in documents()]
FREE = frozenset({"labels", "matchLabels", "requests", "limits", "rayStartParams"})
"""Mappings whose keys are the writer's own."""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_manifest_is_accepted(document: Document, version: str) -> None:
    validate(document, version)


def test_every_file_is_named_in_the_kustomization() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == set(kustomization()["resources"])


def misspelt(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401
    """The places of all keys that Kubernetes knows, in *value*."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*where, key)
            if key not in FREE:
                yield from misspelt(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from misspelt(inner, (*where, index))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_manifest_with_any_one_field_misspelt_is_refused(document: Document) -> None:
    accepted = []
    free = {("spec", "selector")} if document["kind"] == "Service" else set()
    for *way, key in misspelt(document):
        if tuple(way) in free:
            continue
        wrong = copy.deepcopy(document)
        at: Any = wrong
        for step in way:
            at = at[step]
        at[f"{key}x"] = at.pop(key)
        try:
            validate(wrong, NEWEST)
        except Refused:
            continue
        accepted.append((*way, key))
    assert accepted == []


@pytest.mark.parametrize(
    ("name", "way", "value"),
    [
        ("Deployment/isthmus-gateway", ("spec", "replicas"), "two"),
        ("Deployment/isthmus-gateway", ("spec", "template", "spec", "containers", 0, "env"), {}),
        ("RayCluster/isthmus", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("RayCluster/isthmus", ("spec", "workerGroupSpecs", 0, "replicas"), -1),
        ("NetworkPolicy/isthmus-ray", ("spec", "policyTypes"), "Ingress"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(
    name: str,
    way: tuple[str | int, ...],
    value: Any,  # noqa: ANN401
) -> None:
    with pytest.raises(Refused):
        validate(changed(name, way, value)[0], NEWEST)


def changed(
    name: str,
    way: tuple[str | int, ...],
    value: Any,  # noqa: ANN401
) -> tuple[Document, list[Document]]:
    """All documents with one value replaced, the document that it is in beside them."""
    found = documents()
    document = next(each for each in found if title(each) == name)
    at: Any = document
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = value
    return document, found


def test_every_name_that_is_referred_to_is_there() -> None:
    assert dangling(documents()) == []


GATEWAY = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("name", "way", "value"),
    [
        ("Service/isthmus-gateway", ("spec", "selector"), {"app.kubernetes.io/name": "other"}),
        ("Service/isthmus-gateway", ("spec", "ports", 0, "targetPort"), "http"),
        ("NetworkPolicy/isthmus-gateway", ("spec", "ingress", 0, "ports", 0, "port"), "http"),
        ("NetworkPolicy/isthmus-ray", ("spec", "podSelector", "matchLabels"), {"isthmus-ray": "x"}),
        ("Deployment/isthmus-gateway", ("spec", "template", "metadata", "labels"), {}),
        ("Deployment/isthmus-gateway", (*GATEWAY, "serviceAccountName"), "default"),
        ("Deployment/isthmus-gateway", (*GATEWAY, "volumes", 3, "secret", "secretName"), "keys"),
        ("Deployment/isthmus-gateway", (*GATEWAY, "volumes", 0, "name"), "temporary"),
        (
            "Deployment/isthmus-gateway",
            (*GATEWAY, "volumes", 4, "persistentVolumeClaim", "claimName"),
            "models",
        ),
        (
            "Deployment/isthmus-gateway",
            (*GATEWAY, "containers", 0, "env", 5, "valueFrom", "secretKeyRef", "key"),
            "token",
        ),
        (
            "Deployment/isthmus-gateway",
            (*GATEWAY, "containers", 0, "livenessProbe", "tcpSocket", "port"),
            "http",
        ),
        ("RayCluster/isthmus", ("metadata", "name"), "ray"),
        ("ServiceAccount/isthmus", ("metadata", "name"), "gateway"),
        ("Namespace/isthmus", ("metadata", "name"), "models"),
    ],
)
def test_a_name_that_leads_nowhere_is_noticed(
    name: str,
    way: tuple[str | int, ...],
    value: Any,  # noqa: ANN401
) -> None:
    document, found = changed(name, way, value)
    validate(document, NEWEST)
    assert dangling(found) != []


PODS = [
    pytest.param(template, id=template["metadata"]["labels"]["app.kubernetes.io/name"])
    for document in documents()
    for template in templates(document)
]


@pytest.mark.parametrize("template", PODS)
def test_no_container_has_more_rights_than_it_needs(template: Document) -> None:
    """The rules of the pod security standard `restricted`, which the namespace enforces."""
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}} <= {
        "emptyDir",
        "secret",
        "persistentVolumeClaim",
    }
    for container in containers(template):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("template", PODS)
def test_every_container_has_its_share_and_every_lasting_one_is_looked_after(
    template: Document,
) -> None:
    lasting = [
        *template["spec"]["containers"],
        *(c for c in template["spec"].get("initContainers", []) if "restartPolicy" in c),
    ]
    for container in containers(template):
        assert container["image"] == "isthmus:VERSION"
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert ("livenessProbe" in container) == (container in lasting)


def policy(name: str) -> Document:
    (found,) = (each for each in documents() if title(each) == f"NetworkPolicy/{name}")
    spec: Document = found["spec"]
    return spec


@pytest.mark.parametrize("template", PODS)
def test_only_members_reach_the_ports_of_ray(template: Document) -> None:
    labels = template["metadata"]["labels"]
    members = policy("isthmus-ray")
    assert members["podSelector"]["matchLabels"].items() <= labels.items()
    assert members["ingress"] == [{"from": [{"podSelector": members["podSelector"]}]}]
    if policy("isthmus-gateway")["podSelector"]["matchLabels"].items() <= labels.items():
        open_to_all = policy("isthmus-gateway")["ingress"]
        assert open_to_all == [{"ports": [{"port": "grpc", "protocol": "TCP"}]}]


def test_the_gateway_is_no_pod_of_the_ray_cluster() -> None:
    """KubeRay takes pods with its label for its own, and would end one too many."""
    for pod in (template for each in documents() for template in templates(each)):
        assert not [label for label in pod["metadata"]["labels"] if label.startswith("ray.io/")]


def container(name: str) -> Document:
    (found,) = (
        each
        for document in documents()
        for template in templates(document)
        for each in containers(template)
        if each["name"] == name
    )
    return found


def environment(of: Document) -> dict[str, str]:
    return {each["name"]: each["value"] for each in of.get("env", []) if "value" in each}


def test_several_gateways_are_reached_by_one_address_and_each_by_its_own() -> None:
    deployment = next(each for each in documents() if each["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 2
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    services = [each["spec"] for each in documents() if each["kind"] == "Service"]
    assert [each.get("clusterIP") for each in services] == [None, "None"]
    assert all(each["selector"].items() <= labels for each in services)


def test_the_memory_that_gateways_share_is_within_each_pod_that_holds_instances() -> None:
    config = load(None, environment(container("gateway")), {})
    assert config.memory_budget_bytes == 3 << 30
    for name in ("ray-node", "ray-worker"):
        assert container(name)["resources"]["limits"]["memory"] == "4Gi"


def test_the_gateways_command_and_settings_are_those_of_isthmus_serve() -> None:
    gateway = container("gateway")
    _, *words = gateway["command"]
    args = isthmus.parser().parse_args(words)
    flags = {"listen": args.listen, "registry": args.registry, "ray.address": args.ray_address}
    config = load(args.config, environment(gateway), flags)
    check_exposure(config)
    assert config.ray.address == "isthmus-head-svc:6379"
    assert config.address.port == gateway["ports"][0]["containerPort"]
    mounts = {mount["mountPath"] for mount in gateway["volumeMounts"]}
    paths = (config.registry_path, Path(str(config.key_file)), config.runtime_path)
    for path in paths:
        assert {str(parent) for parent in (path, *path.parents)} & mounts


def test_gateway_and_ray_node_share_what_they_meet_at() -> None:
    """Sockets, Ray's own files, the object store and the models lie at the same paths for both."""
    gateway, node = container("gateway"), container("ray-node")
    both = [{m["mountPath"]: m["name"] for m in each["volumeMounts"]} for each in (gateway, node)]
    shared = both[0].items() & both[1].items()
    assert {path for path, _ in shared} == {"/tmp", "/dev/shm", "/var/lib/isthmus/registry"}  # noqa: S108
    (deployment,) = (each for each in documents() if each["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["shareProcessNamespace"] is True


def test_every_node_of_ray_asks_for_the_same_token() -> None:
    for name in ("ray-head", "ray-worker", "ray-node", "gateway"):
        each = container(name)
        assert environment(each)["RAY_AUTH_MODE"] == "token"
        (token,) = (v for v in each["env"] if v["name"] == "RAY_AUTH_TOKEN")
        assert token["valueFrom"] == {
            "secretKeyRef": {"name": "isthmus-ray-token", "key": "auth_token"}
        }


@cache
def options_of_ray_start() -> frozenset[str]:
    from ray.scripts.scripts import start

    return frozenset(option for each in start.params for option in each.opts)


def test_every_option_of_ray_is_one_that_it_has() -> None:
    (ray,) = (each for each in documents() if each["kind"] == "RayCluster")
    groups = [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]
    given = [f"--{name}" for group in groups for name in group["rayStartParams"]]
    words = container("ray-node")["command"]
    assert words[:2] == ["ray", "start"]
    given += [word.partition("=")[0] for word in words[2:]]
    assert set(given) <= options_of_ray_start()
    assert "--no-such-option" not in options_of_ray_start()


def test_ray_is_lean_and_of_the_version_that_was_tested() -> None:
    (ray,) = (each for each in documents() if each["kind"] == "RayCluster")
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert ray["spec"]["rayVersion"] == pinned[1]
    head = ray["spec"]["headGroupSpec"]["rayStartParams"]
    assert (head["include-dashboard"], head["num-cpus"]) == ("false", "0")


def test_the_object_store_fits_into_its_shared_memory() -> None:
    (ray,) = (each for each in documents() if each["kind"] == "RayCluster")
    groups = [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]
    node = container("ray-node")["command"]
    (word,) = (each for each in node if each.startswith("--object-store-memory="))
    wanted = [int(group["rayStartParams"]["object-store-memory"]) for group in groups]
    for size_bytes, template in zip(
        [*wanted, int(word.partition("=")[2])],
        [t for each in documents() for t in templates(each)],
        strict=True,
    ):
        (shm,) = (v for v in template["spec"]["volumes"] if v["name"] == "shm")
        limit = shm["emptyDir"]["sizeLimit"]
        assert size_bytes <= int(limit.removesuffix("Mi")) << 20


def test_no_registry_of_images_is_named() -> None:
    for path in FOLDER.iterdir():
        if path.is_file():
            assert not re.search(r"\b(docker|ghcr|quay|gcr)\.io\b", path.read_text())
