"""The set-up on one machine, with each Prometheus at hand: deploy/try.sh and what it is made of."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

import guide
import manifests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy/try"))

import checks
import derive
import machine as try_machine
import processes
import prometheus_operator

VERSIONS = ((2, 42, 0), (3, 5, 0), (3, 14, 0))


def prometheus_binaries():
    """Every Prometheus to test with: PROMETHEUS_BIN, and the one on PATH."""
    found = [os.environ.get("PROMETHEUS_BIN"), shutil.which("prometheus")]
    return list(dict.fromkeys(program for program in found if program)) or ["prometheus"]


@pytest.fixture(scope="module", params=prometheus_binaries())
def programs(request, project, hubgate_bin, alertmanager_program):
    os.environ["HUBGATE_BIN"] = str(hubgate_bin)
    programs = processes.Programs(project, prometheus=request.param)
    programs.alertmanager = str(alertmanager_program)
    return programs


@pytest.fixture(scope="module")
def machine(deploy, programs, tmp_path_factory):
    """The running set-up, after samples of every spoke have arrived."""
    folder = tmp_path_factory.mktemp("machine")
    with try_machine.Machine(deploy.root, folder, programs) as running:
        running.wait_for_samples()
        yield running


# The queries come first: the checks below stop servers, and make alerts fire.
def test_every_query_of_the_guide_answers(deploy, machine):
    pages = [it for it in guide.blocks(deploy, "promql") if it.page == "README.md"]
    queries = [query for page in pages for query in page.text.strip().split("\n\n")]
    assert len(queries) > 10
    for query in queries:
        named = re.search(r'cluster=~?"([^"]*)"', query)
        clusters = set(named[1].split("|")) if named else set()
        if not clusters <= {"hub", *machine.spokes}:
            continue  # a cluster that the guide adds

        def answered(query=query, clusters=clusters):
            found = machine.hub.query(query)
            if "rejected" in query:
                return True  # nothing was
            if "queue_highest" in query and machine.programs.version < (3, 12):
                return True  # the metric of the 3.14 that the chart runs
            assert found, f"no answer to {query}"
            labelled = checks.clusters_of(found) - {None}
            assert labelled in (set(), clusters) or not clusters, f"{query}: {labelled}"
            return True

        processes.wait_for(query, answered, 30)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda it: it.__name__)
def test_on_one_machine(machine, check):
    check(machine)


def test_the_probe_says_what_the_guide_explains(deploy, machine):
    text = (deploy.root / "README.md").read_text()
    table = text.split("| answer | meaning |", 1)[1].split("\n\n", 1)[0]
    explained = set(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)) - {"---"}
    said = {
        f"curl: ({exit_code})" if exit_code else str(status)
        for _, (exit_code, status), _ in checks.faults(machine)
    }
    assert len(explained) > 5
    # Names and firewalls are not those of loopback.
    assert explained - said == {"curl: (6)", "curl: (28)"}


def test_the_options_of_a_spoke_work(deploy, programs, tmp_path):
    """As agents and with tokens of ServiceAccounts, spokes send the same."""
    copy = tmp_path / "deploy"
    shutil.copytree(deploy.root, copy)
    for spoke in deploy.spokes():
        file = copy / "clusters" / spoke / "kustomization.yaml"
        text = file.read_text()
        options = [
            f"  - ../components/{name}\n" for name in ("agent-mode", "service-account-token")
        ]
        options = [option for option in options if option not in text]
        file.write_text(text.replace("components:\n", f"components:\n{''.join(options)}", 1))
        declaration = copy / "clusters" / spoke / "spoke.env"
        lines = declaration.read_text().replace("credential=token", "credential=service-account")
        if "issuer=" not in lines:
            lines += "issuer=https://kubernetes.default.svc.cluster.local\n"
        declaration.write_text(lines)
    with try_machine.Machine(copy, tmp_path / "machine", programs) as running:
        running.wait_for_samples()
        assert all(spoke.agent for spoke in running.spokes.values())
        for spoke in running.spokes.values():
            [entry] = spoke.derived.config["remote_write"]
            assert entry["authorization"].keys() == {"type", "credentials_file"}
        checks.servers_run_with_the_flags_and_configurations_of_the_operator(running)
        checks.both_queries_of_the_guide_find_every_spoke(running)
        checks.what_a_spoke_drops_is_absent_at_the_hub_and_the_rest_is_there(running)
        checks.no_spoke_loses_a_sample(running)


def test_the_command_shows_the_set_up_and_ends_what_it_started(deploy, programs, tmp_path):
    environment = {**os.environ, "PROMETHEUS_BIN": programs.prometheus, "TMPDIR": str(tmp_path)}
    log = tmp_path / "output"
    with log.open("w") as output:
        command = subprocess.Popen(
            [deploy.root / "try.sh"], stdout=output, stderr=output, env=environment
        )
        try:
            processes.wait_for(
                "the status is shown",
                lambda: command.poll() is not None or "Ctrl-C ends all" in log.read_text(),
                90,
            )
            started = descendants(command.pid)
            command.send_signal(signal.SIGINT)
            assert command.wait(20) == 0, log.read_text()
        finally:
            command.kill()
    assert len(started) >= 2 + len(deploy.spokes()), started
    assert not [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == [log], "it leaves its folder behind"
    shown = log.read_text()
    for spoke in deploy.spokes():
        assert re.search(rf"^{spoke} +v[12] +\d+ s ago +\d+ +\d+ +none$", shown, re.MULTILINE), (
            shown
        )
        assert f"cluster={spoke}, job=kube-prometheus-stack-prometheus 1" in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_command_leaves_nothing_when_it_is_ended_early(deploy, programs, tmp_path, number):
    environment = {**os.environ, "PROMETHEUS_BIN": programs.prometheus, "TMPDIR": str(tmp_path)}
    command = subprocess.Popen(
        [deploy.root / "try.sh"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    try:
        # While credentials are made.
        processes.wait_for(
            "the script has a folder",
            lambda: command.poll() is not None or list(tmp_path.rglob("configure-source-clusters.*/*")),
            90,
        )
        started = descendants(command.pid)
        command.send_signal(number)
        errors = command.communicate(timeout=20)[1].decode()
        assert command.returncode == 0, errors
    finally:
        command.kill()
    assert started
    assert not [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def descendants(pid):
    """The processes that a process started."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    return [
        int(child)
        for children in tasks.glob("*/children")
        for child in children.read_text().split()
    ]


# What the operator makes of the values, also for versions that are not at hand.


def derived(deploy, folder, version, change=lambda values: None):
    release = derive.release(derive.build(deploy.root / folder))
    change(release["spec"]["values"]["prometheus"])
    place = prometheus_operator.Place(
        address="127.0.0.1:9090",
        folder="/folder",
        addresses={derive.urllib.parse.urlsplit(url_of(release)).netloc: "127.0.0.1:9480"},
        secrets={("hubgate", "token"): "a-token"},
        files={("configMap", "hubgate-ca", "ca.crt"): "/folder/ca.crt"},
    )
    return prometheus_operator.derive(release, version, place, [])


def url_of(release):
    spec = release["spec"]["values"]["prometheus"]["prometheusSpec"]
    return spec.get("remoteWrite", [{"url": "https://none"}])[0]["url"]


@pytest.mark.parametrize("version", VERSIONS)
def test_retention_is_a_flag_before_3_11_and_configuration_since(deploy, version):
    values = deploy.values("hub")["prometheus"]["prometheusSpec"]
    hub = derived(deploy, "hub", version)
    flags = [flag for flag in hub.flags if "retention" in flag]
    configured = hub.config["storage"]["tsdb"].get("retention")
    if version >= (3, 11):
        assert (flags, configured) == (
            [],
            {"time": values["retention"], "size": values["retentionSize"]},
        )
    else:
        assert configured is None
        assert flags == [
            f"--storage.tsdb.retention.time={values['retention']}",
            f"--storage.tsdb.retention.size={values['retentionSize']}",
        ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_hub_takes_remote_writes_of_both_versions(deploy, version):
    hub = derived(deploy, "hub", version)
    assert "--web.enable-remote-write-receiver" in hub.flags
    assert not [flag for flag in hub.flags if "accepted-protobuf-messages" in flag]
    assert hub.config["storage"]["tsdb"]["out_of_order_time_window"] == "2h"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_spoke_sends_what_its_version_can(deploy, spoke, version):
    made = derived(deploy, f"clusters/{spoke}", version)
    [entry] = made.config["remote_write"]
    new = version >= (3,)
    assert ("protobuf_message" in entry) == ("sample_age_limit" in entry["queue_config"]) == new
    assert len(made.left_out) == (0 if new else 2), made.left_out
    assert entry["authorization"] == {"type": "Bearer", "credentials": "a-token"}
    assert entry["tls_config"]["server_name"] == deploy.declaration(spoke)["server_name"]
    assert made.config["global"]["external_labels"] == {"cluster": spoke}


def test_a_value_that_is_not_derived_is_an_error(deploy, spoke):
    def add(values):
        values["prometheusSpec"]["remoteWrite"][0]["proxyUrl"] = "http://proxy"

    with pytest.raises(derive.Mistake, match="proxyUrl"):
        derived(deploy, f"clusters/{spoke}", (3, 5, 0), add)


def test_a_missing_secret_is_an_error_as_for_the_operator(deploy, spoke):
    def rename(values):
        values["prometheusSpec"]["remoteWrite"][0]["authorization"]["credentials"]["name"] = "none"

    with pytest.raises(derive.Mistake, match="Secret none"):
        derived(deploy, f"clusters/{spoke}", (3, 5, 0), rename)


def test_every_address_and_path_of_hubgate_is_replaced(deploy):
    objects = derive.build(deploy.root / "hub")
    places = {"listen": "127.0.0.1:1", "admin": "127.0.0.1:2"}
    hubs = {"kube-prometheus-stack-prometheus.monitoring.svc:9090": "127.0.0.1:3"}
    paths = {mount: f"/here{mount}" for mount in derive.mounts(objects)}
    text = derive.hubgate_config(objects, **places, hubs=hubs, paths=paths)
    assert "monitoring.svc" not in text and re.findall(r"(?<!/here)/etc/hubgate", text) == []
    for fewer in ({"hubs": {}, "paths": paths}, {"hubs": hubs, "paths": {}}):
        with pytest.raises(derive.Mistake, match="on this machine"):
            derive.hubgate_config(objects, **places, **fewer)
    assert manifests.load_all(text)[0]["listen"]["address"] == "127.0.0.1:1"
