"""Copies of deploy/ with another set of clusters."""

import pathlib
import shutil

import yaml

import manifests


def copy(deploy, folder):
    """A copy of deploy/ in a folder of a test."""
    root = pathlib.Path(folder) / "deploy"
    shutil.copytree(deploy.root, root)
    return manifests.Deploy(root)


def with_components(deploy, folder, spoke, *components):
    """A copy of deploy/ in which a spoke uses components of deploy/clusters/components as well."""
    changed = copy(deploy, folder)
    path = changed.root / "clusters" / spoke / "kustomization.yaml"
    kustomization = yaml.load(path.read_text(), manifests.Loader)
    used = kustomization.setdefault("components", [])
    used += [it for it in (f"../components/{name}" for name in components) if it not in used]
    path.write_text(yaml.safe_dump(kustomization))
    return changed


def with_cluster(deploy, folder, name):
    """A copy of deploy/ with one more cluster, made of the template."""
    changed = copy(deploy, folder)
    template = changed.root / "clusters" / "_template"
    for path in sorted(template.rglob("*")):
        if path.is_file():
            relative = str(path.relative_to(template)).replace("CLUSTER_NAME", name)
            target = changed.root / "clusters" / name / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace("CLUSTER_NAME", name))
    return changed
