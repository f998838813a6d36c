"""What the manifests of deploy/ say, for servers that run without Kubernetes.

Every function takes objects as `build` returns them. Nothing is replaced but addresses, ports and
paths, and for each of these the caller says what stands in its place: an address or a path of the
manifests that the caller did not name is an error, so that none is lost.
"""

import copy
import functools
import pathlib
import subprocess
import urllib.parse

import yaml

RELEASE = "kube-prometheus-stack"
HUBGATE_CONFIG = "hubgate-config"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as Kubernetes reads it: dates and `=` are strings."""


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """YAML without aliases, which hubgate refuses."""

    def ignore_aliases(self, data):
        return True


for tag in ("tag:yaml.org,2002:value", "tag:yaml.org,2002:timestamp"):
    Loader.add_constructor(tag, lambda loader, node: node.value)


class Mistake(Exception):
    """Something about the manifests that a reader has to know."""


def load(text):
    """The document of a YAML text."""
    return yaml.load(text, Loader)


def dump(document):
    """A document as YAML text."""
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=100)


@functools.cache
def _built(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if done.returncode != 0:
        raise Mistake(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return [document for document in yaml.load_all(done.stdout, Loader) if document is not None]


def build(folder):
    """The objects that `kubectl kustomize` makes of a folder."""
    return copy.deepcopy(_built(str(pathlib.Path(folder).resolve())))


def kind(objects, kind):
    """The objects of a kind."""
    return [it for it in objects if it["kind"] == kind]


def find(objects, kind_, name):
    """The one object of a kind and a name."""
    found = [it for it in kind(objects, kind_) if it["metadata"]["name"] == name]
    if len(found) != 1:
        raise Mistake(f"the build has {len(found)} of {kind_} {name}, not one")
    return found[0]


def release(objects, name=RELEASE):
    """The HelmRelease of the monitoring stack."""
    return find(objects, "HelmRelease", name)


def spokes(deploy):
    """The declarations of the spokes: the keys and values of each clusters/NAME/spoke.env."""
    declarations = {}
    for file in sorted(pathlib.Path(deploy).glob("clusters/*/spoke.env")):
        if not file.parent.name.startswith("_"):
            lines = (line.strip() for line in file.read_text().splitlines())
            pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
            declarations[file.parent.name] = dict(pairs)
    return declarations


def rules(objects):
    """The rule file of each PrometheusRule, by its name."""
    return {
        it["metadata"]["name"]: {"groups": it["spec"]["groups"]}
        for it in kind(objects, "PrometheusRule")
    }


def hubgate_keys(objects, name=HUBGATE_CONFIG):
    """The keys of the configuration of a build, which several files may hold."""
    keys = {}
    for file, text in find(objects, "ConfigMap", name)["data"].items():
        part = load(text) or {}
        if twice := keys.keys() & part.keys():
            raise Mistake(f"{file} of the ConfigMap {name} repeats {', '.join(sorted(twice))}")
        keys |= part
    return keys


def hubgate_config(objects, *, listen, admin, hubs, paths, name=HUBGATE_CONFIG):
    """The text of the configuration of a build, as one file for this machine.

    listen, admin: the `IP:PORT` of the two listeners.
    hubs: for each `HOST:PORT` of a hub's URL in the manifests, the `IP:PORT` in its place. A hub
        whose URL has no port is named by its host alone. Scheme and path stay.
    paths: for each folder of the pod, such as /etc/hubgate/tls, the folder in its place.
    """
    config = hubgate_keys(objects, name)
    config["listen"]["address"] = listen
    config.setdefault("admin", {})["address"] = admin
    for hub in config.get("hubs") or [config["hub"]]:
        hub["url"] = with_address(hub["url"], hubs)
    return dump(with_paths(config, paths))


def mounts(objects, name="hubgate"):
    """What the first container of a Deployment mounts: (kind, name of the object) by folder."""
    pod = find(objects, "Deployment", name)["spec"]["template"]["spec"]
    sources = {}
    for volume in pod["volumes"]:
        if "secret" in volume:
            sources[volume["name"]] = ("Secret", volume["secret"]["secretName"])
        elif "configMap" in volume:
            sources[volume["name"]] = ("ConfigMap", volume["configMap"]["name"])
    found = {
        mount["mountPath"]: sources[mount["name"]]
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] in sources
    }
    return found


def arguments(objects, paths, name="hubgate"):
    """The arguments of the first container of a Deployment, with the folders of this machine."""
    pod = find(objects, "Deployment", name)["spec"]["template"]["spec"]
    replaced = []
    for argument in pod["containers"][0]["args"]:
        flag, equals, value = argument.partition("=")
        replaced.append(f"{flag}{equals}{with_paths(value, paths)}")
    return replaced


def with_address(url, addresses):
    """A URL with the address of this machine in place of the one of the manifests."""
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in addresses:
        raise Mistake(f"no address on this machine for {parts.netloc}, of {url}")
    return parts._replace(netloc=addresses[parts.netloc]).geturl()


def with_paths(value, paths):
    """A configuration with the folders of this machine in place of those of the pod."""
    if isinstance(value, dict):
        return {key: with_paths(element, paths) for key, element in value.items()}
    if isinstance(value, list):
        return [with_paths(element, paths) for element in value]
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    for folder in sorted(paths, key=len, reverse=True):
        if value == folder or value.startswith(f"{folder}/"):
            return f"{paths[folder]}{value.removeprefix(folder)}"
    raise Mistake(f"no path on this machine for {value}")
