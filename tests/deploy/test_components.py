"""Each component that a guide offers builds where it belongs, into what an API server takes."""

import os
import pathlib

import pytest
import yaml

import manifests
import schemas

# Which build a component is for, by its folder.
HOSTS = {
    "clusters/components": "clusters/production",
    "components": "clusters/production",
    "gateway/components": "gateway/overlays/hub",
}

# A component that other builds include, and that needs the resource types of the stack.
WITH_THE_STACK = {"gateway/components/monitoring": "gateway/base"}

DEPLOY = manifests.Deploy(pathlib.Path(__file__).resolve().parents[2] / "deploy")
COMPONENTS = [it.as_posix() for it in DEPLOY.components() if it.parent.as_posix() in HOSTS]


def test_there_are_components():
    assert len(COMPONENTS) > 10


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_builds_alike_into_what_an_api_server_takes(component, tmp_path):
    host = WITH_THE_STACK.get(component, HOSTS[str(pathlib.PurePosixPath(component).parent)])
    used = manifests.load_all((DEPLOY.root / host / "kustomization.yaml").read_text())[0]
    names = {pathlib.PurePosixPath(it).name for it in used.get("components", [])}
    root = os.path.relpath(DEPLOY.root, tmp_path.resolve())
    kustomization = {"resources": [f"{root}/{host}"]}
    if pathlib.PurePosixPath(component).name not in names:
        kustomization["components"] = [f"{root}/{component}"]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    text = manifests.build(tmp_path)
    assert text == manifests.build(tmp_path, "kubectl-1.30")
    assert [error for it in manifests.load_all(text) for error in schemas.errors(it)] == []
