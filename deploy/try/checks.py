"""What must hold in the set-up, and what its troubleshooting probe says about each fault.

A check is a function of the machine that raises AssertionError. It leaves the set-up as it was.
"""

import json
import re
import signal
import subprocess
import time

import prometheus_operator
import remote_write
from processes import get, wait_for

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def title(function):
    """What a check says, for a reader."""
    return function.__name__.replace("_", " ")


def selector(machine):
    """The label matcher of the guide's queries, with every spoke."""
    return f'cluster=~"{"|".join(machine.spokes)}"'


def clusters_of(series):
    return {it["metric"].get("cluster") for it in series}


def own_job(machine, spoke):
    return f"{prometheus_operator.release_names(machine.releases[spoke])[1]}-prometheus"


@check
def servers_run_with_the_flags_and_configurations_of_the_operator(machine):
    for server in (machine.hub, *machine.spokes.values()):
        status, text = get(server.address, "/api/v1/status/flags")
        flags = json.loads(text)["data"]
        for flag in server.derived.flags:
            name, equals, value = flag.removeprefix("--").partition("=")
            if name.startswith("no-"):
                name, equals, value = name.removeprefix("no-"), "=", "false"
            in_force = flags.get(name)
            if name in ("config.file", "agent", "enable-feature") or in_force is None:
                continue
            if name.endswith(("retention.time", "retention.size", "external-url")):
                assert in_force not in ("", "0s", "0B"), f"{server.name}: {flag} is {in_force}"
            else:
                assert in_force == (value if equals else "true"), (
                    f"{server.name}: {flag}: {in_force}"
                )
        if machine.programs.promtool is not None and not server.agent:
            config = server.folder / "prometheus.yml"
            command = [machine.programs.promtool, "check", "config", str(config)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, f"{server.name}: {done.stdout}{done.stderr}"


@check
def both_queries_of_the_guide_find_every_spoke(machine):
    for metric in ("up", "gotk_resource_info"):
        query = f"{metric}{{{selector(machine)}}}"

        def complete(query=query):
            found = clusters_of(machine.hub.query(query))
            assert found == set(machine.spokes), f"{query}: {sorted(found)}"
            return True

        wait_for(query, complete, 60)


@check
def each_series_at_the_hub_says_which_cluster_it_is_from(machine):
    found = clusters_of(machine.hub.query("count by (cluster) (up)"))
    assert found == {"hub", *machine.spokes}, found
    for spoke in machine.spokes:
        for label in ("prometheus", "prometheus_replica"):
            series = machine.hub.query(f'count({{cluster="{spoke}",{label}!=""}})')
            assert not series, f"{spoke} sends the label {label}, which only tells replicas apart"


@check
def each_spoke_speaks_the_version_that_its_values_say(machine):
    for spoke in machine.spokes:
        [write] = machine.spokes[spoke].derived.config["remote_write"]
        v2 = write.get("protobuf_message") == "io.prometheus.write.v2.Request"
        protocol = "v2" if v2 else "v1"
        found = requests(machine, spoke)
        spoken = {
            labels["protocol"] for labels, value in found if labels["code"] == "204" and value
        }
        assert spoken == {protocol}, f"{spoke}: {spoken}, not {protocol}"


def requests(machine, spoke):
    """The series of hubgate_requests_total of a spoke."""
    return [
        (labels, value)
        for labels, value in gateway_metric(machine, "hubgate_requests_total")
        if labels["spoke"] == spoke
    ]


def gateway_metric(machine, name):
    """Labels and value of each series of a metric of hubgate."""
    text = get(machine.admin_address, "/metrics")[1]
    series = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return [
        (dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in series
    ]


@check
def what_a_spoke_drops_is_absent_at_the_hub_and_the_rest_is_there(machine):
    for spoke, server in machine.spokes.items():
        drops = dropped_names(server)
        assert drops, f"{spoke} drops no metric by its name"

        def as_expected(spoke=spoke, server=server, drops=drops):
            arrived = names_at(machine.hub, f'cluster="{spoke}"')
            leaked = {name for name in arrived if any(it.fullmatch(name) for it in drops)}
            assert not leaked, f"{spoke}: {sorted(leaked)[:5]} are at the hub"
            if server.agent:
                return "go_goroutines" in arrived
            scraped = names_at(server, "")
            kept = {name for name in scraped if not any(it.fullmatch(name) for it in drops)}
            assert kept - arrived == set(), (
                f"{spoke}: {sorted(kept - arrived)[:5]} are not at the hub"
            )
            assert scraped - kept, f"{spoke}: nothing that was scraped is dropped"
            return True

        wait_for(f"the metrics of {spoke}", as_expected, 30)


def dropped_names(server):
    """The patterns of metric names that the remote write of a server drops."""
    return [
        re.compile(rule["regex"])
        for rule in server.derived.config["remote_write"][0].get("write_relabel_configs", [])
        if rule.get("action") == "drop" and rule["source_labels"] == ["__name__"]
    ]


def names_at(server, matcher):
    status, text = get(
        server.address,
        "/api/v1/label/__name__/values",
        **{"match[]": f'{{__name__!="",{matcher}}}'},
    )
    assert status == 200, text
    return set(json.loads(text)["data"])


@check
def no_spoke_loses_a_sample(machine):
    for spoke, server in machine.spokes.items():
        failed = server.metric("prometheus_remote_storage_samples_failed_total")
        assert failed == 0, f"{spoke}: {failed} samples failed"
        query = f'prometheus_remote_storage_samples_failed_total{{cluster="{spoke}"}}'
        wait_for(query, lambda query=query: machine.hub.query(query), 30)
        assert [it["value"][1] for it in machine.hub.query(query)] == ["0"], query


@check
def no_alert_is_pending_and_no_rule_fails(machine):
    def evaluated():
        groups = json.loads(get(machine.hub.address, "/api/v1/rules")[1])["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert rules, "the hub has no rules"
        assert all(rule["health"] != "unknown" for rule in rules), "a rule was not evaluated yet"
        return rules

    rules = wait_for("rules are evaluated", evaluated, 30)
    failed = [f"{it['name']}: {it.get('lastError')}" for it in rules if it["health"] != "ok"]
    assert not failed, failed

    # Until a spoke has written, an alert that it never came is pending.
    def quiet():
        found = {it["metric"]["alertname"] for it in machine.hub.query("ALERTS")}
        unexpected = found - machine.expected_alerts
        assert not unexpected, sorted(unexpected)
        return True

    wait_for("no alert", quiet, 30)


def alerts(machine, name, states="firing"):
    """The clusters for which an alert is in one of some states."""
    return clusters_of(machine.hub.query(f'ALERTS{{alertname="{name}",alertstate=~"{states}"}}'))


@check
def a_spoke_cannot_write_in_the_name_of_another_cluster(machine):
    spokes = list(machine.spokes)
    for spoke, other in zip(spokes, [*spokes[1:], "hub"]):
        forged = remote_write.one_sample({"__name__": "forged", "cluster": other})
        status, text = write(machine, spoke, forged)
        assert (status, "mismatched_label" in text) == (400, True), f"{status} {text}"
        honest = remote_write.one_sample({"__name__": "honest", "cluster": spoke})
        assert write(machine, spoke, honest)[0] == 204
    wait_for(
        "the honest samples",
        lambda: clusters_of(machine.hub.query("honest")) == set(spokes),
        10,
    )
    assert not machine.hub.query('{__name__="forged"}'), "a forged sample is at the hub"
    wait_for(
        "HubgateLabelMismatch",
        lambda: alerts(machine, "HubgateLabelMismatch") == set(spokes),
        20,
    )


def curl(machine, *arguments, body=remote_write.EMPTY, path="/api/v1/write", host=None, ca=None,
         scheme="https", token=None, spoke=None, address=None):  # fmt: skip
    """curl's exit code, the status and the text of the guide's probe, sent to this machine.

    The URL is that of the spoke's declaration, and so is the name that the certificate must have.
    """
    folder = machine.folder / "probe"
    folder.mkdir(exist_ok=True)
    (folder / "body").write_bytes(body)
    header = []
    if token is not None:
        (folder / "header").write_text(f"Authorization: Bearer {token}")
        header = ["-H", f"@{folder}/header"]
    spoke = spoke or next(iter(machine.spokes))
    (folder / "ca.crt").write_text(machine.credentials.authority(spoke))
    host = host or machine.declarations[spoke]["server_name"]
    command = [
        "curl", "-sS", "--http1.1", "--max-time", "20", "--noproxy", "*", "-X", "POST",
        "--connect-to", f"::{address or machine.write_address}",
        "--cacert", str(ca or folder / "ca.crt"),
        "-o", str(folder / "response"), "-w", "%{http_code}",
        "-H", "Content-Type: application/x-protobuf", "-H", "Content-Encoding: snappy",
        "-H", "X-Prometheus-Remote-Write-Version: 0.1.0", *header,
        "--data-binary", f"@{folder}/body", *arguments, f"{scheme}://{host}{path}",
    ]  # fmt: skip
    (folder / "response").write_text("")
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, int(done.stdout or 0), (folder / "response").read_text(errors="replace")


def write(machine, spoke, body):
    exit_code, status, text = curl(machine, body=body, spoke=spoke, token=token_of(machine, spoke))
    assert exit_code == 0, f"curl exited with {exit_code}"
    return status, text


def token_of(machine, spoke):
    return machine.credentials.token(spoke)


def probe(machine, *arguments, token=None, **options):
    """Exit code and status of the probe, with the token of a spoke unless there is another."""
    spoke = next(iter(machine.spokes))
    token = token_of(machine, spoke) if token is None else token
    return curl(machine, *arguments, token=token or None, **options)[:2]


def faults(machine):
    """Each fault that the guide explains: its name, what the probe says, and what it should say."""
    other_authority = machine.folder / "probe/other-ca.crt"
    if not other_authority.exists():
        other_authority.parent.mkdir(exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", "/dev/null", "-out", str(other_authority), "-days", "1",
             "-subj", "/CN=another authority"],
            check=True, capture_output=True,
        )  # fmt: skip
    yield "nothing is wrong", probe(machine), (0, 204)
    yield "no token", probe(machine, token=""), (0, 401)
    yield "a wrong token", probe(machine, token="wrong-" + 20 * "x"), (0, 401)
    # curl takes the newline for the end of its header; a Prometheus does not.
    with_newline = f"{token_of(machine, next(iter(machine.spokes)))}\n"
    yield "a token with a newline at its end", probe(machine, token=with_newline), (0, 204)
    yield "a wrong path", probe(machine, path="/api/v1/wrong"), (0, 404)
    yield "the root as path", probe(machine, path="/"), (0, 404)
    yield "a GET", probe(machine, "-X", "GET"), (0, 405)
    yield "an empty body", probe(machine, body=b""), (0, 400)
    yield (
        "from outside the spoke's source ranges",
        probe(machine, "--interface", "127.0.0.2"),
        (0, 403),
    )
    yield "another authority", probe(machine, ca=other_authority), (60, 0)
    yield "a name that the certificate lacks", probe(machine, host="other.example.com"), (60, 0)
    yield "http:// in place of https://", probe(machine, scheme="http"), (0, 503)
    yield "nothing listens", probe(machine, address="127.0.0.1:1"), (7, 0)


@check
def the_probe_of_the_guide_tells_each_fault(machine):
    wrong = [
        f"{fault}: curl exits with {found[0]}, status {found[1]}, not {expected}"
        for fault, found, expected in faults(machine)
        if found != expected
    ]
    assert not wrong, wrong
    wait_for(
        "HubgateSourceRangeRefusals",
        lambda: len(alerts(machine, "HubgateSourceRangeRefusals")) == 1,
        20,
    )


@check
def a_hub_that_is_down_leaves_no_gap(machine):
    before = time.time()
    machine.hub.process.stop()
    try:
        for spoke, server in machine.spokes.items():
            wait_for(
                f"{spoke} tries again",
                lambda server=server: server.metric(
                    "prometheus_remote_storage_samples_retried_total"
                ),
                30,
            )
        spoke = next(iter(machine.spokes))
        assert probe(machine) == (0, 204), "an empty message is not forwarded, so it gets 204"
        honest = remote_write.one_sample({"__name__": "honest", "cluster": spoke})
        status, text = write(machine, spoke, honest)
        assert status == 502, f"{status} {text}"
        wait_for("ten seconds without the hub", lambda: time.time() > before + 10, 20)
    finally:
        machine.hub.start()
        machine.hub.wait_ready()
    back = time.time()
    for spoke, server in machine.spokes.items():
        assert_no_gap(machine, spoke, server, before, back)
    no_spoke_loses_a_sample(machine)


def assert_no_gap(machine, spoke, server, since, until):
    """Waits until every sample that a spoke took in a time is at the hub."""
    job = own_job(machine, spoke)
    window = f"{int(until - since) + 5}s"

    def complete():
        at_hub = machine.hub.samples(f'up{{cluster="{spoke}",job="{job}"}}', until, window)
        if server.agent:
            times = sorted(timestamp for timestamp, _ in at_hub)
            gaps = [later - earlier for earlier, later in zip(times, times[1:])]
            assert max(gaps) < 3, f"a gap of {max(gaps)} s"
            return times[-1] > until - 3
        at_spoke = server.samples(f'up{{job="{job}"}}', until, window)
        missing = at_spoke - at_hub
        assert not missing, (
            f"{len(missing)} of {len(at_spoke)} samples of {spoke} are not at the hub"
        )
        return len(at_spoke) > until - since - 3

    wait_for(f"all samples of {spoke}", complete, 60)


@check
def a_token_with_a_newline_at_its_end_sends_nothing(machine):
    spoke = list(machine.spokes)[-1]
    server = machine.spokes[spoke]
    authorization = server.derived.config["remote_write"][0]["authorization"]
    token = authorization["credentials"]
    server.process.stop()
    requests_before = sum(value for _, value in requests(machine, spoke))
    refused_before = sum(
        value for _, value in gateway_metric(machine, "hubgate_auth_failures_total")
    )
    authorization["credentials"] = f"{token}\n"
    log_before = len(server.process.text())
    try:
        server.start()
        server.wait_ready()
        wait_for(
            "the log of the spoke names the header",
            lambda: "invalid header field value" in server.process.text()[log_before:],
            30,
        )
        assert sum(value for _, value in requests(machine, spoke)) == requests_before
        refused = sum(value for _, value in gateway_metric(machine, "hubgate_auth_failures_total"))
        assert refused == refused_before, "hubgate saw a request without a good credential"
        assert server.metric("prometheus_remote_storage_samples_failed_total") == 0
    finally:
        # It would try for a minute to send what it has.
        server.process.stop(signal.SIGKILL)
        authorization["credentials"] = token
        server.start()
        server.wait_ready()
    assert_arrives(machine, spoke)


def assert_arrives(machine, spoke):
    """Waits for a sample of a spoke that is newer than this call."""
    now = time.time()
    query = f'timestamp(up{{cluster="{spoke}",job="{own_job(machine, spoke)}"}})'

    def newer():
        return any(float(it["value"][1]) > now for it in machine.hub.query(query))

    wait_for(f"new samples of {spoke}", newer, 60)


@check
def an_alert_fires_for_a_spoke_that_is_silent_and_for_no_other(machine):
    name = "HubgateSpokeSilent"
    wait_for(f"no {name}", lambda: not alerts(machine, name, "pending|firing"), 60)
    spoke = list(machine.spokes)[-1]
    server = machine.spokes[spoke]
    server.process.stop()
    try:
        wait_for(f"{name} for {spoke}", lambda: spoke in alerts(machine, name), 60)
        assert alerts(machine, name) == {spoke}, alerts(machine, name)
        if machine.alertmanager is not None:
            wait_for("the alert at the Alertmanager", lambda: notified(machine, name, spoke), 30)
    finally:
        server.start()
        server.wait_ready()
    wait_for(f"{name} is over", lambda: not alerts(machine, name), 60)


def notified(machine, name, cluster):
    """True if an alert is active at the Alertmanager."""
    status, text = get(machine.addresses["alertmanager"], "/api/v2/alerts")
    assert status == 200, text
    return any(
        (it["labels"]["alertname"], it["labels"].get("cluster")) == (name, cluster)
        for it in json.loads(text)
    )
