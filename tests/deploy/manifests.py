"""What kubectl makes of deploy/, and where things are in it."""

import functools
import os
import pathlib
import subprocess

import yaml


class Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a repeated key is an error, `=` and dates are strings."""

    def construct_mapping(self, node, deep=False):
        mapping = {}
        self.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"repeated key {key!r}", key_node.start_mark
                )
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


for tag in ("tag:yaml.org,2002:value", "tag:yaml.org,2002:timestamp"):
    Loader.add_constructor(tag, lambda loader, node: node.value)
Loader.add_constructor(
    "tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def load_all(text):
    """The documents of a YAML text, without empty ones."""
    return [document for document in yaml.load_all(text, Loader) if document is not None]


def environment(**variables):
    """The environment of this process, with some variables set."""
    return {**os.environ, **variables}


@functools.cache
def build(folder, kubectl="kubectl"):
    """The YAML text that `kubectl kustomize` makes of a folder."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, f"{kubectl} kustomize {folder}: {done.stderr}"
    return done.stdout


class Deploy:
    """The folder deploy/, or a copy of it."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def _kinds(self, kind):
        for file in sorted(self.root.rglob("kustomization.yaml")):
            if load_all(file.read_text())[0].get("kind", "Kustomization") == kind:
                yield file.parent.relative_to(self.root)

    def kustomizations(self):
        """Every folder that `kubectl kustomize` makes objects of, relative to the root.

        A template is none, nor is a folder that others name as a transformer.
        """
        folders = [it for it in self._kinds("Kustomization") if "_template" not in it.parts]
        transformers = set()
        for folder in folders:
            [kustomization] = load_all((self.root / folder / "kustomization.yaml").read_text())
            for path in kustomization.get("transformers", []):
                transformers.add((self.root / folder / path).resolve())
        return [it for it in folders if (self.root / it).resolve() not in transformers]

    def components(self):
        """Every folder that is a kustomize Component."""
        return list(self._kinds("Component"))

    def standalone_files(self):
        """Files of objects that no kustomization of their folder names, such as for Flux itself."""
        return sorted(
            file for file in self.root.rglob("flux.yaml") if "_template" not in file.parts
        )

    def spokes(self):
        """The names of the spokes: the folders of deploy/clusters that hold a declaration."""
        declarations = sorted(self.root.glob("clusters/*/spoke.env"))
        names = [declaration.parent.name for declaration in declarations]
        return [name for name in names if not name.startswith("_")]

    def declaration(self, spoke):
        """The declaration of a spoke: the keys and values of its spoke.env."""
        text = (self.root / "clusters" / spoke / "spoke.env").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines)

    def objects(self, folder, kubectl="kubectl"):
        """The objects that `kubectl kustomize` makes of a folder, fresh ones for each call."""
        return load_all(build(self.root / folder, kubectl))

    def find(self, folder, kind, name=None):
        """The one object of a kind, and of a name where there are several, in a folder's build."""
        found = [
            it
            for it in self.objects(folder)
            if it["kind"] == kind and (name is None or it["metadata"]["name"] == name)
        ]
        assert len(found) == 1, f"{folder} has {len(found)} of {kind} {name or ''}, not one"
        return found[0]

    def hubgate_config(self, folder):
        """The configuration of hubgate in a folder's build: the keys of all its files."""
        config = {}
        files = self.find(folder, "ConfigMap", "hubgate-config")["data"]
        for name, text in files.items():
            [keys] = load_all(text)
            assert config.keys().isdisjoint(keys), f"{name} of {folder} repeats a key"
            config |= keys
        return config

    def values(self, folder, name="kube-prometheus-stack"):
        """`spec.values` of a HelmRelease in a folder's build."""
        return self.find(folder, "HelmRelease", name)["spec"]["values"]
