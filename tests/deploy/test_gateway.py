"""The gateway: what its manifests promise, and that hubgate runs with what they give it."""

import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import urllib.parse

import pytest
import yaml

import manifests
import pod

HUB = "gateway/overlays/hub"
COMPONENTS = "gateway/components"

# Figures of docs/operation.md.
DRAIN_SECONDS = 35
REQUESTS_TO_A_HUB = 256
MIB = 1 << 20
THREAD_BYTES = 20 * MIB
CONNECTION_BYTES = (64 + 150) * 1024
PROCESS_BYTES = 25 * MIB


def pytest_generate_tests(metafunc):
    """`gateway` is each folder whose build runs hubgate, but for the base, which is no whole one."""
    if "gateway" not in metafunc.fixturenames:
        return
    deploy = manifests.Deploy(metafunc.config.getoption("--deploy").resolve())
    folders = [
        folder
        for folder in deploy.kustomizations()
        if str(folder) != "gateway/base"
        and any(is_hubgate(it) for it in deploy.objects(folder))
    ]
    assert {HUB, "gateway/overlays/local"} <= {str(folder) for folder in folders}
    metafunc.parametrize("gateway", folders, ids=str)


def is_hubgate(it):
    return it["kind"] == "Deployment" and it["metadata"]["name"] == "hubgate"


def of_kind(objects, *kinds):
    return [it for it in objects if it["kind"] in kinds]


def pods(objects):
    """The pod templates of a build."""
    workloads = of_kind(objects, "Deployment", "StatefulSet", "DaemonSet")
    return [it["spec"]["template"] for it in workloads]


def containers(template):
    spec = template["spec"]
    return spec["containers"] + spec.get("initContainers", [])


def hubgate_template(deploy, folder):
    return deploy.find(folder, "Deployment", "hubgate")["spec"]["template"]


def hubgate_container(deploy, folder):
    [container] = hubgate_template(deploy, folder)["spec"]["containers"]
    return container


def flag(container, name):
    [value] = [it.split("=", 1)[1] for it in container["args"] if it.startswith(f"--{name}=")]
    return value


def seconds(duration):
    return int(re.fullmatch(r"(\d+)s", duration)[1])


def size(text):
    number, unit = re.fullmatch(r"(\d+)(Mi|MiB)", text).groups()
    return int(number) * MIB


def built_with(deploy, folder, *components):
    """The objects of the base and some components, through a kustomization in `folder`."""
    gateway = os.path.relpath((deploy.root / "gateway").resolve(), folder.resolve())
    kustomization = {
        "resources": [f"{gateway}/base"],
        "components": [f"{gateway}/components/{component}" for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return manifests.load_all(manifests.build(folder))


# What Kubernetes is told


def test_the_namespace_enforces_the_restricted_level(deploy, gateway):
    labels = deploy.find(gateway, "Namespace", "hubgate")["metadata"]["labels"]
    prefix = "pod-security.kubernetes.io/"
    for mode in ("enforce", "audit", "warn"):
        assert labels[prefix + mode] == "restricted"
        assert re.fullmatch(r"latest|v1\.\d+", labels[f"{prefix}{mode}-version"])


def test_flux_never_deletes_the_namespace_with_its_secrets(deploy, gateway):
    annotations = deploy.find(gateway, "Namespace", "hubgate")["metadata"]["annotations"]
    assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


def test_pods_fulfil_the_restricted_level(deploy, gateway):
    allowed_volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for template in pods(deploy.objects(gateway)):
        spec = template["spec"]
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(key)
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= allowed_volumes
        shared = spec["securityContext"]
        assert not {"sysctls", "seLinuxOptions", "windowsOptions"} & set(shared)
        for container in containers(template):
            own = container["securityContext"]
            both = shared | own
            assert both["runAsNonRoot"] is True
            assert both["runAsUser"] != 0
            assert both["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"]["drop"] == ["ALL"]
            assert not own["capabilities"].get("add")
            assert not {"privileged", "procMount", "seLinuxOptions"} & set(own)
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_hubgate_has_no_more_rights_than_it_needs(deploy, gateway):
    spec = hubgate_template(deploy, gateway)["spec"]
    container = hubgate_container(deploy, gateway)
    assert spec["serviceAccountName"] == "hubgate"
    assert spec["automountServiceAccountToken"] is False
    account = deploy.find(gateway, "ServiceAccount", "hubgate")
    assert account["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    context = spec["securityContext"]
    assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {pod.USER}
    assert not of_kind(deploy.objects(gateway), "Role", "ClusterRole", "RoleBinding")


def test_every_image_has_a_version(deploy, gateway):
    for template in pods(deploy.objects(gateway)):
        for container in containers(template):
            _, _, version = container["image"].rpartition("/")[2].partition(":")
            assert version and not version.startswith("latest"), container["image"]


def test_hubgate_has_requests_and_a_limit_of_memory_alone(deploy, gateway):
    resources = hubgate_container(deploy, gateway)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert resources["limits"] == {"memory": resources["requests"]["memory"]}


def test_memory_suffices_for_the_budget_the_threads_and_the_connections(deploy, gateway):
    container = hubgate_container(deploy, gateway)
    config = deploy.hubgate_config(gateway)
    needed = (
        size(config["limits"]["bytes_in_flight_max"])
        + int(flag(container, "threads")) * THREAD_BYTES
        + int(config["listen"]["connections_max"]) * CONNECTION_BYTES
        + PROCESS_BYTES
    )
    given = size(container["resources"]["limits"]["memory"])
    assert needed <= given, f"{needed / MIB:.0f} MiB of {given / MIB:.0f} MiB"


def test_probes_ask_the_admin_port(deploy, gateway):
    container = hubgate_container(deploy, gateway)
    for probe, path in (
        ("startupProbe", "/-/healthy"),
        ("livenessProbe", "/-/healthy"),
        ("readinessProbe", "/-/ready"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "admin"}


def test_ports_of_the_container_are_those_of_the_configuration(deploy, gateway):
    config = deploy.hubgate_config(gateway)
    ports = {it["name"]: it["containerPort"] for it in hubgate_container(deploy, gateway)["ports"]}
    # Without a host, hubgate listens on all addresses of IPv4 and IPv6.
    addresses = {"write": config["listen"]["address"], "admin": config["admin"]["address"]}
    assert addresses == {name: f":{port}" for name, port in ports.items()}


def test_spokes_write_over_tls(deploy, gateway):
    tls = deploy.hubgate_config(gateway)["listen"]["tls"]
    assert tls["cert_file"] == "/etc/hubgate/tls/tls.crt"
    assert tls["key_file"] == "/etc/hubgate/tls/tls.key"


def test_kubernetes_waits_until_hubgate_has_drained(deploy, gateway):
    delay = seconds(flag(hubgate_container(deploy, gateway), "shutdown.delay"))
    grace = hubgate_template(deploy, gateway)["spec"]["terminationGracePeriodSeconds"]
    assert grace >= delay + DRAIN_SECONDS


def test_a_node_sends_a_pod_that_drains_what_balancers_still_bring(deploy, gateway):
    container = hubgate_container(deploy, gateway)
    probe = container["readinessProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] > seconds(
        flag(container, "shutdown.delay")
    )


def test_a_rollout_never_has_fewer_replicas(deploy, gateway):
    spec = deploy.find(gateway, "Deployment", "hubgate")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_replicas_spread_over_zones_and_nodes(deploy, gateway):
    template = hubgate_template(deploy, gateway)
    constraints = template["spec"]["topologySpreadConstraints"]
    assert {it["topologyKey"] for it in constraints} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    for constraint in constraints:
        assert pod.labels_of(constraint["labelSelector"], template["metadata"]["labels"])
        # Pods of the replica set before do not count, or a rollout could find no node.
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    [zone] = [it for it in constraints if it["topologyKey"] == "topology.kubernetes.io/zone"]
    assert zone["whenUnsatisfiable"] == "ScheduleAnyway"


def test_selectors_find_the_pods(deploy, gateway):
    labels = hubgate_template(deploy, gateway)["metadata"]["labels"]
    deployment = deploy.find(gateway, "Deployment", "hubgate")
    assert pod.labels_of(deployment["spec"]["selector"], labels)
    for name in ("hubgate", "hubgate-admin"):
        assert deploy.find(gateway, "Service", name)["spec"]["selector"].items() <= labels.items()


def test_services_lead_to_ports_of_the_container(deploy, gateway):
    names = {port["name"] for port in hubgate_container(deploy, gateway)["ports"]}
    for service in ("hubgate", "hubgate-admin"):
        for port in deploy.find(gateway, "Service", service)["spec"]["ports"]:
            assert port["targetPort"] in names


def test_only_port_443_of_writes_is_open_to_the_outside(deploy, gateway):
    open_services = [
        it
        for it in of_kind(deploy.objects(gateway), "Service")
        if it["spec"].get("type", "ClusterIP") != "ClusterIP" or it["spec"].get("externalIPs")
    ]
    assert [it["metadata"]["name"] for it in open_services] == ["hubgate"]
    [service] = open_services
    assert [(it["port"], it["targetPort"]) for it in service["spec"]["ports"]] == [(443, "write")]
    # Otherwise hubgate sees the address of a node in place of that of the spoke.
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert "loadBalancerIP" not in service["spec"]


def test_prometheus_finds_the_admin_service(deploy, gateway):
    service = deploy.find(gateway, "Service", "hubgate-admin")
    assert service["metadata"]["labels"]["app.kubernetes.io/component"] == "admin"
    assert [(it["name"], it["port"]) for it in service["spec"]["ports"]] == [("admin", 9481)]


def test_the_load_balancer_admits_the_declared_spokes_alone(deploy):
    declared = {
        source_range
        for spoke in deploy.spokes()
        for source_range in deploy.declaration(spoke)["source_ranges"].split(",")
    }
    service = deploy.find(HUB, "Service", "hubgate")["spec"]
    assert service["type"] == "LoadBalancer"
    ranges = service["loadBalancerSourceRanges"]
    assert sorted(ranges) == sorted(declared)
    assert all(ipaddress.ip_network(it).prefixlen > 0 for it in ranges)


def test_a_load_balancer_without_an_overlay_admits_nobody(deploy, tmp_path):
    objects = built_with(deploy, tmp_path, "load-balancer")
    [service] = [it for it in of_kind(objects, "Service") if "externalTrafficPolicy" in it["spec"]]
    documentation = ipaddress.ip_network("192.0.2.0/24")
    for source_range in service["spec"]["loadBalancerSourceRanges"]:
        assert ipaddress.ip_network(source_range).subnet_of(documentation)


def test_the_source_ranges_say_that_they_are_generated(deploy):
    first = (deploy.root / HUB / "source-ranges.yaml").read_text().splitlines()[0]
    assert first.startswith("# Generated by deploy/configure-source-clusters.sh"), first


def test_pods_wait_for_their_secrets_and_see_them_change(deploy, gateway):
    spec = hubgate_template(deploy, gateway)["spec"]
    mounts = {it["name"]: it for it in hubgate_container(deploy, gateway)["volumeMounts"]}
    volumes = {it["name"]: it for it in spec["volumes"]}
    assert mounts.keys() == volumes.keys()
    for mount in mounts.values():
        assert "subPath" not in mount and "subPathExpr" not in mount
        assert mount["readOnly"] is True
    for volume in volumes.values():
        source = volume.get("secret") or volume["configMap"]
        assert not source.get("optional")
        # Whole folders, or a further spoke would not appear.
        assert "items" not in source
    secrets = {
        it["secret"]["secretName"]: it["secret"]["defaultMode"]
        for it in volumes.values()
        if "secret" in it
    }
    assert secrets.items() >= {"hubgate-spokes": 0o440, "hubgate-tls": 0o440}.items()


def test_the_name_of_the_configuration_never_changes(deploy, gateway):
    volumes = hubgate_template(deploy, gateway)["spec"]["volumes"]
    names = [it["configMap"]["name"] for it in volumes if "configMap" in it]
    assert names == ["hubgate-config"]


def policies(deploy, folder):
    """The network policies that select the pods of hubgate."""
    labels = hubgate_template(deploy, folder)["metadata"]["labels"]
    return [
        it["spec"]
        for it in of_kind(deploy.objects(folder), "NetworkPolicy")
        if it["metadata"]["namespace"] == "hubgate"
        and pod.labels_of(it["spec"]["podSelector"], labels)
    ]


def opened(rules, peers):
    """The ports that the rules open, with the peers in `to` or `from`."""
    return [
        (port["port"], port["protocol"], rule.get(peers))
        for rule in rules
        for port in rule["ports"]
    ]


def test_everything_is_denied_that_no_policy_allows(deploy, gateway):
    denials = [
        it["spec"]
        for it in of_kind(deploy.objects(gateway), "NetworkPolicy")
        if it["spec"]["podSelector"] == {}
    ]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in denials


def test_policies_open_every_port_of_the_container(deploy, gateway):
    rules = [rule for it in policies(deploy, gateway) for rule in it.get("ingress", [])]
    found = opened(rules, "from")
    ports = {it["name"]: it["containerPort"] for it in hubgate_container(deploy, gateway)["ports"]}
    assert {port for port, _, _ in found} == set(ports.values())
    assert (ports["write"], "TCP", None) in found
    [peers] = [it for port, _, it in found if port == ports["admin"]]
    assert peers == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
        }
    ]


def test_policies_let_hubgate_reach_every_hub_and_name_servers(deploy, gateway):
    rules = [rule for it in policies(deploy, gateway) for rule in it.get("egress", [])]
    found = opened(rules, "to")
    assert {protocol for port, protocol, _ in found if port == 53} == {"UDP", "TCP"}
    assert all(peers for _, _, peers in found), "a rule for every address"
    for hub in deploy.hubgate_config(gateway)["hubs"]:
        url = urllib.parse.urlsplit(hub["url"])
        namespace = url.hostname.removesuffix(".svc").rpartition(".")[2]
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        assert any(
            port == url.port and peer.get("namespaceSelector") == selector
            for port, _, peers in found
            for peer in peers
        ), hub


def test_a_drain_of_nodes_takes_one_pod_at_a_time(deploy):
    budget = deploy.find(HUB, "PodDisruptionBudget", "hubgate")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    labels = hubgate_template(deploy, HUB)["metadata"]["labels"]
    assert pod.labels_of(budget["selector"], labels)


def test_the_autoscaler_owns_the_number_of_replicas(deploy):
    scaler = deploy.find(HUB, "HorizontalPodAutoscaler", "hubgate")["spec"]
    deployment = deploy.find(HUB, "Deployment", "hubgate")
    assert scaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": "hubgate",
    }
    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] == 2
    # A percentage is one of the request.
    assert scaler["metrics"][0]["resource"]["name"] == "cpu"
    assert "cpu" in hubgate_container(deploy, HUB)["resources"]["requests"]


def test_the_hub_has_connections_for_all_replicas_and_one_more(deploy):
    replicas = deploy.find(HUB, "HorizontalPodAutoscaler", "hubgate")["spec"]["maxReplicas"]
    strategy = deploy.find(HUB, "Deployment", "hubgate")["spec"]["strategy"]
    surge = strategy["rollingUpdate"]["maxSurge"]
    prometheus = deploy.values("hub")["prometheus"]["prometheusSpec"]
    rest = prometheus["web"]["maxConnections"] - (replicas + surge) * REQUESTS_TO_A_HUB
    assert rest >= 256, f"{rest} connections are left for Grafana, rules and scrapes"


# Components that an overlay may add


def certificate(objects):
    [found] = [
        it["spec"]
        for it in of_kind(objects, "Certificate")
        if it["spec"]["secretName"] == "hubgate-tls"
    ]
    return found


def server_name(declaration):
    return declaration.get("server_name") or urllib.parse.urlsplit(declaration["url"]).hostname


@pytest.mark.parametrize("component", ["cert-manager", "cert-manager-acme"])
def test_cert_manager_makes_the_certificate_that_hubgate_serves(deploy, tmp_path, component):
    objects = built_with(deploy, tmp_path, component)
    spec = certificate(objects)
    [deployment] = [it for it in objects if is_hubgate(it)]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert spec["secretName"] in [it["secret"]["secretName"] for it in volumes if "secret" in it]
    assert spec["privateKey"]["rotationPolicy"] == "Always"
    names = set(spec["dnsNames"]) | set(spec.get("ipAddresses", []))
    declared = {server_name(deploy.declaration(spoke)) for spoke in deploy.spokes()}
    assert declared and declared <= names
    issuers = {it["metadata"]["name"]: it["spec"] for it in of_kind(objects, "Issuer")}
    assert spec["issuerRef"]["name"] in issuers


def test_the_authority_issues_what_hubgate_serves(deploy, tmp_path):
    objects = built_with(deploy, tmp_path, "cert-manager")
    issuers = {it["metadata"]["name"]: it["spec"] for it in of_kind(objects, "Issuer")}
    authority = issuers[certificate(objects)["issuerRef"]["name"]]["ca"]["secretName"]
    [root] = [
        it["spec"]
        for it in of_kind(objects, "Certificate")
        if it["spec"]["secretName"] == authority
    ]
    assert authority == "hubgate-ca"
    assert root["isCA"] is True
    assert issuers[root["issuerRef"]["name"]] == {"selfSigned": {}}
    # Spokes that trust its certificate of before must trust the renewed one.
    assert root["privateKey"]["rotationPolicy"] == "Never"


@pytest.mark.parametrize(
    ("component", "changes"),
    [
        (
            "client-certificates",
            {
                "tls": {
                    "cert_file": "/etc/hubgate/tls/tls.crt",
                    "key_file": "/etc/hubgate/tls/tls.key",
                    "client_ca_file": "/etc/hubgate/client-ca/ca.crt",
                    "client_auth": "optional",
                }
            },
        ),
        ("proxy-protocol", {"proxy_protocol": "required", "trusted_proxies": ["192.0.2.0/24"]}),
    ],
)
def test_a_component_with_a_configuration_changes_only_its_own_keys(deploy, component, changes):
    [base] = manifests.load_all((deploy.root / "gateway/base/listen.yaml").read_text())
    file = deploy.root / COMPONENTS / component / "listen.yaml"
    [config] = manifests.load_all(file.read_text())
    assert config == {"listen": base["listen"] | changes}


def test_a_balancer_of_a_cloud_stays_as_closed(deploy, tmp_path):
    plain, changed = tmp_path / "plain", tmp_path / "changed"
    plain.mkdir()
    changed.mkdir()
    before = built_with(deploy, plain, "load-balancer")
    after = built_with(
        deploy, changed, "load-balancer", "aws-load-balancer", "internal-load-balancer"
    )
    for it in after:
        if it["kind"] == "Service" and it["metadata"]["name"] == "hubgate":
            annotations = it["metadata"].pop("annotations")
            assert it["spec"].pop("loadBalancerClass") == "service.k8s.aws/nlb"
    assert before == after
    scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme"
    assert annotations[scheme] == "internal"


def test_keys_of_issuers_are_fetched_from_public_addresses_alone(deploy, tmp_path):
    objects = built_with(deploy, tmp_path, "jwks-egress")
    [policy] = of_kind(objects, "NetworkPolicy")
    [rule] = policy["spec"]["egress"]
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
    blocks = [it["ipBlock"] for it in rule["to"]]
    for address, allowed in (
        ("8.8.8.8", True),
        ("2001:db8::1", True),
        ("10.96.0.1", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("fd00::1", False),
    ):
        ip = ipaddress.ip_address(address)
        found = any(
            ip in ipaddress.ip_network(block["cidr"])
            and not any(ip in ipaddress.ip_network(it) for it in block.get("except", []))
            for block in blocks
        )
        assert found == allowed, address


# hubgate itself, with what the manifests give it


@pytest.fixture
def secrets(deploy, tmp_path):
    """The Secrets that a gateway waits for, with one spoke."""
    folder = tmp_path / "authority"
    folder.mkdir()
    tls = pod.authority(folder, ["hubgate.example.com", "127.0.0.1", "::1"])
    return {
        "hubgate-tls": tls,
        "hubgate-client-ca": {"ca.crt": tls["ca.crt"]},
        "hubgate-spokes": {"production.yaml": pod.spoke_file("production", "a" * 32)},
    }


def has_ipv6():
    """Whether this machine has a loopback address of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Client:
    """Asks a gateway that runs."""

    def __init__(self, running, ca):
        self.running = running
        self.context = ssl.create_default_context(cadata=ca.decode())

    def write(self, token, host="127.0.0.1"):
        """The status of a write that holds nothing, which is one byte long."""
        connection = http.client.HTTPSConnection(
            host, self.running.write_port, context=self.context, timeout=pod.DEADLINE_SECONDS
        )
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request("POST", "/api/v1/write", b"\0", headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def admin(self, path):
        """The status and the text of a page of the admin port."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.running.admin_port, timeout=pod.DEADLINE_SECONDS
        )
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def spokes(self):
        _, text = self.admin("/api/v1/spokes")
        return [spoke["name"] for spoke in json.loads(text)["spokes"]]


def test_the_configuration_is_valid_without_a_warning(deploy, gateway, hubgate_bin, secrets):
    with pod.Pod(deploy.objects(gateway), secrets) as gate:
        assert "the configuration is valid" in gate.check_config(hubgate_bin)


@pytest.mark.parametrize("component", ["client-certificates", "proxy-protocol"])
def test_the_configuration_of_a_component_is_valid(
    deploy, tmp_path, component, hubgate_bin, secrets
):
    with pod.Pod(built_with(deploy, tmp_path, component), secrets) as gate:
        assert "the configuration is valid" in gate.check_config(hubgate_bin)


def test_a_pod_answers_probes_and_writes_also_without_its_hub(deploy, hubgate_bin, secrets):
    with pod.Pod(deploy.objects(HUB), secrets) as gate, gate.running(hubgate_bin) as running:
        client = Client(running, secrets["hubgate-tls"]["ca.crt"])
        pod.eventually(
            lambda: any("cannot probe the hub" in line for line in running.log),
            "a probe of the hub",
        )
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            status, _ = client.admin(gate.container[probe]["httpGet"]["path"])
            assert status == 200, probe
        assert client.write("a" * 32) == 204
        # The address :9480 is one of IPv6 as well, where the machine has it.
        if has_ipv6():
            assert client.write("a" * 32, host="::1") == 204
        assert client.write("b" * 32) == 401
        assert client.write(None) == 401
        warnings = [it for it in running.log if "level=warn" in it or "level=error" in it]
        assert all(re.search("the hub|not identified", it) for it in warnings), warnings


def test_a_spoke_comes_and_goes_without_a_restart(deploy, hubgate_bin, secrets):
    with pod.Pod(deploy.objects(HUB), secrets) as gate, gate.running(hubgate_bin) as running:
        client = Client(running, secrets["hubgate-tls"]["ca.crt"])
        spokes = gate.volumes["hubgate-spokes"]
        before = dict(spokes.data)
        assert client.write("b" * 32) == 401
        spokes.write(before | {"staging.yaml": pod.spoke_file("staging", "b" * 32)})
        pod.eventually(lambda: client.spokes() == ["production", "staging"], "the spoke staging")
        assert client.write("b" * 32) == 204
        # Two tokens of a spoke, as during a rotation.
        spokes.write({"production.yaml": pod.spoke_file("production", "a" * 32, "c" * 32)})
        pod.eventually(lambda: client.spokes() == ["production"], "only the spoke production")
        assert client.write("b" * 32) == 401
        assert {client.write("a" * 32), client.write("c" * 32)} == {204}


def test_a_renewed_certificate_is_served_without_a_restart(
    deploy, hubgate_bin, secrets, tmp_path
):
    renewed = pod.authority(tmp_path, ["127.0.0.1"])
    with pod.Pod(deploy.objects(HUB), secrets) as gate, gate.running(hubgate_bin) as running:
        client = Client(running, renewed["ca.crt"])

        def is_served():
            try:
                return client.write("a" * 32) == 204
            except ssl.SSLCertVerificationError:
                return False

        assert not is_served()
        gate.volumes["hubgate-tls"].write(renewed)
        pod.eventually(is_served, "the renewed certificate")


def test_a_spoke_outside_of_its_source_ranges_is_refused(deploy, hubgate_bin, secrets):
    elsewhere = pod.spoke_file("production", "a" * 32, source_ranges=["203.0.113.10/32"])
    secrets["hubgate-spokes"] = {"production.yaml": elsewhere}
    with pod.Pod(deploy.objects(HUB), secrets) as gate, gate.running(hubgate_bin) as running:
        assert Client(running, secrets["hubgate-tls"]["ca.crt"]).write("a" * 32) == 403
