"""Each kustomization builds, with an old and a new kubectl alike."""

import manifests


def test_builds_alike_with_an_old_and_a_new_kubectl(deploy, kustomization):
    folder = deploy.root / kustomization
    assert manifests.build(folder, "kubectl") == manifests.build(folder, "kubectl-1.30")
