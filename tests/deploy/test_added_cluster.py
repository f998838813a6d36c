"""A cluster that the script adds passes the checks of every other."""

import os
import shutil
import subprocess
import sys

import pytest

import manifests

NAME = "eu-west"

# Those about commands and pages do not depend on the set of clusters.
FILES = ["builds", "gateway", "hub", "monitoring", "resources", "schemas", "spokes", "try", "values"]


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory):
    """A copy of the project's deploy/ to which the script has added a cluster."""
    folder = tmp_path_factory.mktemp("added-cluster")
    for name in ("deploy", "docs", "packaging"):
        shutil.copytree(project / name, folder / name)
    script = folder / "deploy" / "configure-source-clusters.sh"
    options = ["--new-cluster", NAME, "--source-range", f"{NAME}=198.51.100.7/32"]
    done = subprocess.run(
        ["bash", script, *options, "--endpoint", "hubgate.example.com"],
        env=manifests.environment(KUBECONFIG=os.devnull),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_added_cluster_is_a_spoke_like_the_others(copy):
    deploy = manifests.Deploy(copy / "deploy")
    assert deploy.spokes() == ["eu-west", "production", "staging"]
    service = deploy.find("gateway/overlays/hub", "Service", "hubgate")
    assert "198.51.100.7/32" in service["spec"]["loadBalancerSourceRanges"]


def test_the_added_cluster_passes_every_check(copy, project):
    folder = project / "tests" / "deploy"
    files = [folder / f"test_{name}.py" for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA"]
        + ["--deploy", copy / "deploy", *files],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20000:]
    checked = [it for it in done.stdout.splitlines() if it.startswith("PASSED") and NAME in it]
    assert len(checked) > 10, checked


def test_the_declarations_of_the_copy_agree(copy):
    script = copy / "deploy" / "configure-source-clusters.sh"
    subprocess.run(["bash", script, "--check-declarations"], check=True)


def test_a_declaration_that_does_not_agree_is_noticed(copy, tmp_path):
    shutil.copytree(copy / "deploy", tmp_path / "deploy")
    declaration = tmp_path / "deploy" / "clusters" / NAME / "spoke.env"
    text = declaration.read_text()
    declaration.write_text(text.replace("198.51.100.7/32", "198.51.100.8/32"))
    script = tmp_path / "deploy" / "configure-source-clusters.sh"
    done = subprocess.run(["bash", script, "--check-declarations"], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
