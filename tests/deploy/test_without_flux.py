"""deploy/without-flux.sh with the real folders, and with a real helm.

tests/deploy/without_flux.bats has the rest of its behaviour."""

import functools
import http.server
import json
import os
import subprocess
import textwrap
import threading

import pytest

import manifests

# Keeps what is applied and the values of each release below $seen. kubectl does what needs no
# cluster; helm has none to upgrade, so it renders the same chart with the same options instead.
KUBECTL = """\
#!/usr/bin/env bash
case " $* " in *" kustomize "* | *" --local "*) exec "$real_kubectl" "$@" ;; esac
for file; do :; done
cat "$file" >>"$seen/applied.yaml"
"""
NO_HELM = """\
#!/usr/bin/env bash
[[ "$1" == upgrade ]] || exit 0
for file; do :; done
cp "$file" "$seen/values-$3.yaml"
"""
HELM = """\
#!/usr/bin/env bash
if [[ "$1 $2" == "upgrade --install" ]]; then
  "$real_helm" "$@" --help >/dev/null || exit
  shift 2
  exec "$real_helm" template "$@" >>"$seen/rendered.yaml"
fi
exec "$real_helm" "$@"
"""


@pytest.fixture
def apply(tmp_path, project):
    """Runs the script on a folder; returns the folder with what it applied."""

    def run(folder, helm):
        commands, seen = tmp_path / "bin", tmp_path / "seen"
        seen.mkdir()
        commands.mkdir()
        for name, text in (("kubectl", KUBECTL), ("helm", helm)):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        which = functools.partial(subprocess.check_output, text=True)
        done = subprocess.run(
            [project / "deploy/without-flux.sh", "--wait", folder],
            env={
                **os.environ,
                "PATH": f"{commands}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "seen": str(seen),
                "real_kubectl": which(["which", "kubectl-1.30"]).strip(),
                "real_helm": which(["which", "helm"]).strip(),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return seen

    return run


def is_of_flux(it):
    return ".toolkit.fluxcd.io/" in it["apiVersion"]


def test_each_folder_can_be_applied_without_flux(deploy, kustomization, apply):
    seen = apply(deploy.root / kustomization, NO_HELM)
    objects = deploy.objects(kustomization)
    applied = seen / "applied.yaml"
    assert (manifests.load_all(applied.read_text()) if applied.exists() else []) == [
        it for it in objects if not is_of_flux(it)
    ]
    values = {
        it["spec"].get("releaseName", it["metadata"]["name"]): it["spec"]["values"]
        for it in objects
        if it["kind"] == "HelmRelease"
    }
    given = {it.stem[7:]: json.loads(it.read_text()) for it in seen.glob("values-*.yaml")}
    assert given == values


@pytest.fixture
def chart_repository(tmp_path):
    """The URL of a repository with one small chart, `small`, in version 1.2.3."""
    chart, repository = tmp_path / "small", tmp_path / "repository"
    for path, text in {
        "Chart.yaml": """\
            apiVersion: v2
            name: small
            version: 1.2.3
            """,
        "values.yaml": """\
            answer: {given: false, kept: true}
            """,
        "crds/thing.yaml": """\
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata:
              name: things.example.com
            """,
        "templates/it.yaml": """\
            apiVersion: v1
            kind: ConfigMap
            metadata:
              name: {{ .Release.Name }}
              namespace: {{ .Release.Namespace }}
            data:
              answer: {{ toJson .Values.answer | quote }}
            """,
    }.items():
        (chart / path).parent.mkdir(parents=True, exist_ok=True)
        (chart / path).write_text(textwrap.dedent(text))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=repository)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for command in (["package", chart, "-d", repository], ["repo", "index", repository]):
            subprocess.run(["helm", *command], check=True, capture_output=True)
        yield url
        server.shutdown()


def test_a_real_helm_takes_the_chart_its_definitions_and_the_values(
    tmp_path, apply, chart_repository
):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: [objects.yaml]\n")
    objects = f"""\
        apiVersion: source.toolkit.fluxcd.io/v1
        kind: HelmRepository
        metadata: {{name: charts, namespace: place}}
        spec: {{interval: 1h, url: "{chart_repository}"}}
        ---
        apiVersion: helm.toolkit.fluxcd.io/v2
        kind: HelmRelease
        metadata: {{name: it, namespace: place}}
        spec:
          interval: 1h
          releaseName: named
          targetNamespace: elsewhere
          chart: {{spec: {{chart: small, version: 1.x, sourceRef: {{kind: HelmRepository, name: charts}}}}}}
          upgrade: {{crds: CreateReplace}}
          values: {{answer: {{given: "true"}}}}
        """
    (folder / "objects.yaml").write_text(textwrap.dedent(objects))
    seen = apply(folder, HELM)
    [definition] = manifests.load_all((seen / "applied.yaml").read_text())
    assert definition["metadata"]["name"] == "things.example.com"
    [rendered] = manifests.load_all((seen / "rendered.yaml").read_text())
    assert rendered["metadata"] == {"name": "named", "namespace": "elsewhere"}
    assert json.loads(rendered["data"]["answer"]) == {"given": "true", "kept": True}
