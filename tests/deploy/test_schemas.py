"""Every object is one that an API server takes."""

import copy
import pathlib

import pytest

import manifests
import schemas

# A transformer that other folders name; it makes no object of its own.
TRANSFORMER = pathlib.Path("clusters/base/declaration")


def test_an_api_server_takes_each_object(deploy, kustomization):
    objects = deploy.objects(kustomization)
    assert objects or kustomization == TRANSFORMER, f"{kustomization} builds nothing"
    assert [error for it in objects for error in schemas.errors(it)] == []


def test_an_api_server_takes_each_object_of_a_file_by_itself(deploy):
    files = deploy.standalone_files()
    objects = [it for file in files for it in manifests.load_all(file.read_text())]
    assert objects
    assert [error for it in objects for error in schemas.errors(it)] == []


def test_no_object_is_built_twice(deploy, kustomization):
    keys = [
        (it["apiVersion"], it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"])
        for it in deploy.objects(kustomization)
    ]
    assert sorted(set(map(str, keys))) == sorted(map(str, keys))


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: it, namespace: it}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers: [{name: it, image: it}]
"""
RELEASE = """
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: it, namespace: it}
spec:
  interval: 10m
  chart: {spec: {chart: it, sourceRef: {kind: HelmRepository, name: it}}}
"""
MONITOR = """
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: it, namespace: it}
spec:
  selector: {}
  endpoints: [{port: admin, interval: 30s}]
"""


def _set(path, value):
    def change(thing):
        *parents, last = path
        for parent in parents:
            thing = thing[parent]
        thing[last] = value

    return change


@pytest.mark.parametrize("text", [DEPLOYMENT, RELEASE, MONITOR])
def test_the_samples_are_taken(text):
    [thing] = manifests.load_all(text)
    assert schemas.errors(thing) == []


@pytest.mark.parametrize(
    ("text", "change", "error"),
    [
        (DEPLOYMENT, _set(["spec", "template", "spec", "securityContex"], {}), "securityContex"),
        (DEPLOYMENT, _set(["apiVersion"], "apps/v1beta1"), "no such kind"),
        (DEPLOYMENT, _set(["kind"], "Deploymint"), "no such kind"),
        (DEPLOYMENT, _set(["metadata", "labels"], {"a": 1}), "no string"),
        (DEPLOYMENT, _set(["metadata", "name"], "It"), "no name"),
        (RELEASE, _set(["spec", "intervall"], "10m"), "intervall"),
        (RELEASE, _set(["spec", "interval"], "ten"), "does not match"),
        (RELEASE, _set(["apiVersion"], "helm.toolkit.fluxcd.io/v2beta2"), "no schema"),
        (RELEASE, _set(["spec", "chartRef"], {"kind": "HelmChart", "name": "it"}), "chart"),
        (RELEASE, lambda it: it["spec"].pop("interval"), "required"),
        (RELEASE, lambda it: it["metadata"].pop("namespace"), "Namespaced"),
        (MONITOR, _set(["spec", "endpoints", 0, "intervall"], "30s"), "intervall"),
        (MONITOR, _set(["spec", "endpoints", 0, "port"], 9481), "not of type"),
        (MONITOR, _set(["spec", "endpoints", 0, "scheme"], "ftp"), "not one of"),
        (MONITOR, _set(["apiVersion"], "monitoring.example.com/v1"), "no schema"),
    ],
)
def test_a_fault_is_noticed(text, change, error):
    [thing] = manifests.load_all(text)
    broken = copy.deepcopy(thing)
    change(broken)
    assert any(error in it for it in schemas.errors(broken)), schemas.errors(broken)


def test_a_repeated_key_is_noticed():
    with pytest.raises(Exception, match="repeated key"):
        manifests.load_all("a: 1\na: 2\n")


def test_an_element_that_is_there_twice_is_noticed():
    schema = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": {"type": "string"}}},
    }
    strict = schemas.strict(schema)
    assert list(schemas.errors_by(strict, [{"name": "a"}, {"name": "b"}])) == []
    assert list(schemas.errors_by(strict, [{"name": "a"}, {"name": "a"}])) != []
