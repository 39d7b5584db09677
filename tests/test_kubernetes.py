"""cluster/kubernetes.yaml, held against the schemas that dask-kubernetes gives its operator."""

import copy
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parent.parent
MANIFEST = list(yaml.safe_load_all((ROOT / "cluster" / "kubernetes.yaml").read_text(encoding="utf-8")))
CLUSTER, GPU_WORKERS = MANIFEST
CRDS = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds"


@pytest.fixture(scope="module")
def definitions():
    """The operator's resources by their kind, from dask-kubernetes as the Makefile downloads it: not installed."""
    found = sorted(Path(sys.prefix, "schemas").glob("dask_kubernetes-*.whl"))
    if not found:
        pytest.skip("no schemas of dask-kubernetes in .venv/schemas: make .venv/.installed downloads them")
    load = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # they are 400 kB
    with zipfile.ZipFile(found[-1]) as package:
        return {kind: load(package.read(f"{CRDS}/{kind.lower()}.yaml")) for kind in ("DaskCluster", "DaskWorkerGroup")}


def closed(schema):
    """Return a schema that takes no fields but those that it names: the operator drops the others without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        shut.setdefault("additionalProperties", False)
    return shut


def faults_of(document, definitions):
    definition = definitions[document["kind"]]
    (version,) = [version for version in definition["spec"]["versions"] if version["served"]]
    assert document["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    schema = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document["spec"])
    ]


@pytest.mark.parametrize("document", MANIFEST, ids=lambda document: document["kind"])
def test_it_is_as_the_operator_s_schema_has_it(document, definitions):
    assert document.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert faults_of(document, definitions) == []


def test_what_the_schema_does_not_have_is_found(definitions):
    misspelt, unquoted = copy.deepcopy(CLUSTER), copy.deepcopy(GPU_WORKERS)
    misspelt["spec"]["scheduler"]["spec"]["containers"][0]["readynessProbe"] = {}
    unquoted["spec"]["worker"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = 8

    assert "readynessProbe" in faults_of(misspelt, definitions)[0]
    assert "8 is not of type 'string'" in faults_of(unquoted, definitions)[0]


def pods():
    specs = (CLUSTER["spec"]["scheduler"], CLUSTER["spec"]["worker"], GPU_WORKERS["spec"]["worker"])
    return [spec["spec"] for spec in specs]


def test_the_service_finds_the_scheduler_and_the_gpu_workers_their_cluster():
    service, name = CLUSTER["spec"]["scheduler"]["service"], CLUSTER["metadata"]["name"]
    container_ports = {port["name"] for port in pods()[0]["containers"][0]["ports"]}

    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    assert [(port["name"], port["port"]) for port in service["ports"]] == [("tcp-comm", 8786), ("http-dashboard", 8787)]
    assert {port["targetPort"] for port in service["ports"]} == container_ports
    assert GPU_WORKERS["spec"]["cluster"] == name


def test_pods_are_one_image_s_and_not_root_s():
    containers = [container for pod in pods() for container in pod["containers"]]

    assert len({container["image"] for container in containers}) == 1
    assert [pod["securityContext"] for pod in pods()] == [{"runAsNonRoot": True, "runAsUser": 1000}] * 3


def test_workers_are_named_by_the_operator_and_take_keys_from_a_secret_of_the_cluster():
    for pod in pods()[1:]:
        (worker,) = pod["containers"]

        assert "--name=$(DASK_WORKER_NAME)" in worker["args"]
        assert worker["envFrom"] == [{"secretRef": {"name": "s3-keys", "optional": True}}]
        assert "env" not in worker
        assert worker["resources"]["requests"] == worker["resources"]["limits"]
