"""The pages of deploy/ show commands that work, and name things that exist."""

import re
import subprocess

import pytest
import yaml

import clusters
import guide
import manifests

# A cluster that the guide adds.
ADDED = "eu-west"

# Contexts of kubectl that the pages name. Nothing listens at their server.
CONTEXTS = ["hub-cluster", "production-cluster", "staging-cluster", f"{ADDED}-cluster"]

# What kubectl says when everything up to the request to the server was right.
REFUSED = re.compile(r"connection refused|connection to the server .* was refused")

# Objects that no manifest of ours holds, by who makes them; names as in a render of the chart
# 88.5.3, and as the operator and Flux give them.
MADE_BY_OTHERS = {
    "the chart, at every cluster": {
        ("monitoring", "deployment/kube-prometheus-stack-operator"),
        ("monitoring", "prometheus/kube-prometheus-stack-prometheus"),
        ("monitoring", "svc/kube-prometheus-stack-prometheus"),
    },
    "the chart, at the hub": {
        ("monitoring", "svc/kube-prometheus-stack-alertmanager"),
        ("monitoring", "svc/kube-prometheus-stack-grafana"),
    },
    "the operator": {
        ("monitoring", "pod/prometheus-kube-prometheus-stack-prometheus-0"),
    },
    "Flux": {
        ("flux-system", "deployment/helm-controller"),
        ("flux-system", "deployment/source-controller"),
        ("monitoring", "helmchart/monitoring-kube-prometheus-stack"),
    },
    "configure-source-clusters.sh": {
        ("hubgate", "secret/hubgate-spokes"),
        ("hubgate", "secret/hubgate-tls"),
        ("monitoring", "configmap/hubgate-ca"),
        ("monitoring", "secret/grafana-admin"),
        ("monitoring", "secret/hubgate"),
    },
}

SHORT = {
    "hr": "helmrelease",
    "svc": "service",
    "deploy": "deployment",
    "cm": "configmap",
    "pods": "pod",
}


def shell(deploy):
    return [
        (str(block), command)
        for block in guide.blocks(deploy, "sh")
        for command in guide.commands(block)
    ]


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory):
    """A configuration of kubectl with the contexts of the pages."""
    cluster = {"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}
    contexts = [{"name": it, "context": {"cluster": "none", "user": "none"}} for it in CONTEXTS]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        # Without a credential, kubectl would ask for one.
        "users": [{"name": "none", "user": {"token": "none"}}],
        "contexts": contexts,
        "current-context": CONTEXTS[0],
    }
    file = tmp_path_factory.mktemp("kube") / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def test_kubectl_takes_each_command(deploy, kubeconfig, tmp_path):
    """Without a server, kubectl fails at the first request, after it has read the command."""
    changed = clusters.with_cluster(deploy, tmp_path, ADDED)
    failures = []
    seen = 0
    for where, command in shell(deploy):
        for part in re.split(r"\s*(?:\|\||&&|\|)\s*", command):
            if not part.startswith("kubectl "):
                continue
            seen += 1
            done = subprocess.run(
                ["bash", "-c", part],
                cwd=changed.root.parent,
                env=manifests.environment(KUBECONFIG=str(kubeconfig)),
                input="",
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode != 0 and not REFUSED.search(done.stderr):
                failures.append(f"{where}: {part}: {done.stderr.strip()}")
    assert failures == []
    assert seen > 10


def built_objects(deploy):
    for folder in deploy.kustomizations():
        for it in deploy.objects(folder):
            namespace = it["metadata"].get("namespace")
            yield namespace, f"{it['kind'].lower()}/{it['metadata']['name']}"


def named_objects(command):
    """The objects that a command of kubectl names, with their namespace."""
    namespace = re.search(r"(?:-n|--namespace)[ =](\S+)", command)
    if not namespace or not command.startswith("kubectl "):
        return
    names = re.findall(r"(?<=\s)([a-z]+)[/ ]([a-z][a-z0-9-]*[a-z0-9])(?=\s|$)", command)
    kinds = {"hr", "helmrelease", "helmchart", "helmrepository", "svc", "service", "deploy"}
    kinds |= {"deployment", "secret", "configmap", "cm", "prometheus", "pod", "pods", "certificate"}
    for kind, name in names:
        if kind in kinds:
            yield namespace[1], f"{SHORT.get(kind, kind)}/{name}"


def test_each_object_that_a_command_names_exists(deploy):
    known = set(built_objects(deploy))
    for objects in MADE_BY_OTHERS.values():
        known |= {
            (namespace, f"{SHORT.get(kind, kind)}/{name}")
            for namespace, kind, name in (
                (namespace, *thing.split("/")) for namespace, thing in objects
            )
        }
    wrong = [
        (where, thing)
        for where, command in shell(deploy)
        for part in re.split(r"\s*(?:\|\||&&|\|)\s*", command)
        for thing in named_objects(part)
        if thing not in known
    ]
    assert wrong == []


def anchors(page):
    """The anchors of a page's headings, as forges make them."""
    found = set()
    for title in re.findall(r"^#+ +(.+)$", guide.FENCE.sub("", page.read_text()), re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        found.add(re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-"))
    return found


def test_each_link_leads_somewhere(deploy):
    broken = []
    for page in sorted(deploy.root.rglob("*.md")):
        for link in re.findall(r"\]\(([^)\s]+)\)", guide.FENCE.sub("", page.read_text())):
            target, _, anchor = link.partition("#")
            if ":" in target:
                continue  # on the internet
            file = page.parent / target if target else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{page}: {link}")
    assert broken == []


def test_each_path_of_the_project_exists(deploy):
    """Paths in code spans and commands that begin with deploy/, docs/ or packaging/."""
    broken = []
    for page in sorted(deploy.root.rglob("*.md")):
        pattern = r"(?<![\w./])(?:deploy|docs|packaging)/[A-Za-z0-9_./-]+"
        for path in re.findall(pattern, page.read_text()):
            # NAME stands for that of a spoke.
            path = path.rstrip(".").replace("/NAME", f"/{deploy.spokes()[0]}")
            if ADDED not in path and not (deploy.root.parent / path).exists():
                broken.append(f"{page}: {path}")
    assert broken == []


def test_each_query_is_promql(deploy, tmp_path):
    queries = [it for block in guide.blocks(deploy, "promql") for it in block.text.split("\n\n")]
    queries = [query.strip() for query in queries if query.strip()]
    assert queries
    rules = [{"record": f"guide:query:{i}", "expr": it} for i, it in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "guide", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_patch_of_the_guide_adds_a_rule_to_what_a_spoke_sends(deploy, tmp_path):
    [block] = [it for it in guide.blocks(deploy, "yaml") if it.page == "README.md"]
    changed = clusters.copy(deploy, tmp_path)
    spoke = changed.spokes()[0]
    file = changed.root / "clusters" / spoke / "infra-controllers/kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    kustomization["patches"] += yaml.safe_load(block.text)
    file.write_text(yaml.safe_dump(kustomization))

    def sent(of):
        return of.values(f"clusters/{spoke}")["prometheus"]["prometheusSpec"]["remoteWrite"][0]

    before, after = sent(deploy), sent(changed)
    added = {"sourceLabels": ["__name__"], "regex": "debug_.*", "action": "drop"}
    assert after.pop("writeRelabelConfigs") == [*before.pop("writeRelabelConfigs"), added]
    assert after == before


def options(deploy, heading):
    """The first cells of a section's table, each with its meaning."""
    text = (deploy.root / "README.md").read_text().split(f"\n## {heading}\n", 1)[1]
    rows = re.findall(r"^\| `([^`]*)` \| (.*) \|$", text.split("\n## ", 1)[0], re.MULTILINE)
    return dict(rows)


def test_the_guide_names_each_option_of_hubgate(deploy):
    overlay = deploy.root / "gateway/overlays/hub"
    [kustomization] = manifests.load_all((overlay / "kustomization.yaml").read_text())
    named = options(deploy, "Options of hubgate")
    folders = {it.name for it in (deploy.root / "gateway/components").iterdir()}
    # hub/monitoring/configs uses that one.
    assert set(named) == {f"../../components/{it}" for it in folders - {"monitoring"}}
    there = {line for line, meaning in named.items() if "It is there already" in meaning}
    assert there <= set(kustomization["components"])


def test_the_guide_names_each_option_of_a_spoke(deploy):
    named = options(deploy, "Options of a spoke")
    folders = {it.name for it in (deploy.root / "clusters/components").iterdir()}
    assert {it for it in named if it.startswith("../components/")} == {
        f"../components/{it}" for it in folders
    }
    for line in named:
        assert (deploy.root / "clusters/NAME" / line).resolve().is_dir(), line
