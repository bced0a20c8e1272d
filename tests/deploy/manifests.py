"""The manifests of ``deploy/kuberay``, and what a schema does not see in them."""

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
RAY_SCHEMA = json.loads(Path(__file__).with_name("raycluster.schema.json").read_text())
OLDEST, NEWEST = "1.29", "1.37"
"""Kubernetes' versions; 1.29 is the first that restarts an init container which stays."""

kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
# It would read megabytes of schemas again for each document.

Document = dict[str, Any]
Reference = tuple[str, str]
"""A kind and a name; of a secret's or a config map's key, ``NAME/KEY``."""


class Refused(Exception):
    """A schema does not allow the manifest."""


@cache
def _read() -> tuple[Document, ...]:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return tuple(
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((FOLDER / name).read_text())
    )


def documents() -> list[Document]:
    """Every document of every manifest, as kustomize puts them together."""
    return copy.deepcopy(list(_read()))


def kustomization() -> Document:
    """What names the manifests, the image and the secrets."""
    found: Document = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return found


def title(document: Document) -> str:
    """Kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def validate(document: Document, version: str) -> None:
    """As a dry run of kubectl against Kubernetes *version* with KubeRay.

    Raises:
        Refused: a field is missing, unknown or of the wrong type.
    """
    try:
        if document.get("kind") != "RayCluster":
            kubernetes_validate.validate(document, version, strict=True)
            return
        jsonschema.validate(document, RAY_SCHEMA)
        for template in ray_templates(document):
            metadata = template.get("metadata", {})
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": template["spec"],
            }
            kubernetes_validate.validate(pod, version, strict=True)
    except (
        jsonschema.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
        KeyError,
    ) as error:
        raise Refused(str(error)) from error


def ray_templates(document: Document) -> list[Document]:
    """The pod templates of a RayCluster: head first."""
    spec = document["spec"]
    workers = spec.get("workerGroupSpecs", [])
    return [group["template"] for group in (spec["headGroupSpec"], *workers)]


def templates(document: Document) -> list[Document]:
    """The pod templates of a document."""
    match document["kind"]:
        case "RayCluster":
            return ray_templates(document)
        case "Deployment":
            return [document["spec"]["template"]]
        case _:
            return []


def containers(template: Document) -> list[Document]:
    """All of a template, those that start first included."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def dangling(found: list[Document]) -> list[str]:
    """What refers to something that is not there, or selects nothing."""
    there = set(_defined(found))
    wrong = [f"{kind} {name} is not there" for kind, name in _wanted(found) - there]
    pods = [template for each in found for template in templates(each)]
    for each in found:
        wrong += [
            f"{title(each)} selects no pod by {labels}"
            for labels in _selectors(each)
            if not any(labels.items() <= pod["metadata"]["labels"].items() for pod in pods)
        ]
        for port in _named_ports(each):
            selected = [pod for pod in pods if _selected(each, pod)]
            if not all(port in _ports(pod) for pod in selected):
                wrong.append(f"{title(each)} wants port {port}")
        for pod in templates(each):
            volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
            for container in containers(pod):
                mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
                wrong += [f"{container['name']} mounts {name}" for name in mounted - volumes]
                own = {port["name"] for port in container.get("ports", [])}
                probed = {
                    probe["tcpSocket"]["port"]
                    for name, probe in container.items()
                    if name.endswith("Probe")
                }
                wrong += [f"{container['name']} is probed at {port}" for port in probed - own]
            wrong += [f"nothing mounts {name}" for name in volumes - _mounted(pod)]
    return sorted(wrong)


def _defined(found: list[Document]) -> Iterator[Reference]:
    for each in found:
        yield each["kind"], each["metadata"]["name"]
        if each["kind"] == "RayCluster":
            yield "Service", f"{each['metadata']['name']}-head-svc"  # KubeRay makes it
    for secret in kustomization()["secretGenerator"]:
        yield "Secret", secret["name"]
        for file in secret["files"]:
            yield "Secret", f"{secret['name']}/{file.partition('=')[0]}"


def _wanted(found: list[Document]) -> set[Reference]:
    wanted: set[Reference] = set()
    for each in found:
        if "namespace" in each["metadata"]:
            wanted.add(("Namespace", each["metadata"]["namespace"]))
        for pod in templates(each):
            wanted |= set(_wanted_by(pod))
    return wanted


def _wanted_by(pod: Document) -> Iterator[Reference]:
    yield "ServiceAccount", pod["spec"]["serviceAccountName"]
    for volume in pod["spec"].get("volumes", []):
        if secret := volume.get("secret"):
            yield "Secret", secret["secretName"]
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"]
    for container in containers(pod):
        for variable in container.get("env", []):
            if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", f"{key['name']}/{key['key']}"
        for word in container.get("command", []):
            if word.endswith(":6379"):
                yield "Service", word.rpartition("=")[2].partition(":")[0]


def _selectors(document: Document) -> Iterator[dict[str, str]]:
    """The labels by which a document selects pods of this namespace."""
    spec = document.get("spec", {})
    match document["kind"]:
        case "Service":
            yield spec["selector"]
        case "Deployment":
            yield spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            yield spec["podSelector"]["matchLabels"]
            for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
                for peer in (*rule.get("from", []), *rule.get("to", [])):
                    if "podSelector" in peer and "namespaceSelector" not in peer:
                        yield peer["podSelector"]["matchLabels"]


def _selected(document: Document, pod: Document) -> bool:
    labels = next(_selectors(document))
    return bool(labels.items() <= pod["metadata"]["labels"].items())


def _named_ports(document: Document) -> Iterator[str]:
    spec = document.get("spec", {})
    ports = [port.get("targetPort") for port in spec.get("ports", [])]
    ports += [port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])]
    yield from (port for port in ports if isinstance(port, str))


def _ports(pod: Document) -> set[str]:
    return {port["name"] for each in containers(pod) for port in each.get("ports", [])}


def _mounted(pod: Document) -> set[str]:
    return {m["name"] for each in containers(pod) for m in each.get("volumeMounts", [])}
