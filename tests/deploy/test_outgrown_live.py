"""The overlays for a hub that is outgrown, run on this machine: hubgate with the configuration of a
build, in which only addresses and paths are others.

MIMIR_BIN and THANOS_BIN name programs that the tests of these stores run; without them, a server
that records requests stands in for the store.
"""

import collections
import http.server
import os
import signal
import subprocess
import threading

import pytest

import gates
import manifests
from gates import processes
from test_outgrown import STORES, release

PROMETHEUS_HUB = ["--web.enable-remote-write-receiver"]
HEADERS = {"mimir": "X-Scope-OrgID", "thanos": "THANOS-TENANT"}


@pytest.fixture
def spokes(deploy):
    """Two spokes with tokens of their own."""
    names = deploy.spokes()[:2]
    assert len(names) == 2
    return names


@pytest.fixture
def gate(hubgate_bin, tmp_path, spokes):
    return gates.Gate(hubgate_bin, tmp_path, spokes)


def host(hub):
    """The `HOST:PORT` of the URL of a hub."""
    return hub["url"].split("/")[2]


# Tenants


class Recorder(http.server.ThreadingHTTPServer):
    """Takes every write, and keeps its path, headers and message."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers, unsnappy(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def unsnappy(body):
    """Decompresses a block of snappy."""
    position = length = shift = 0
    while True:
        byte = body[position]
        length |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    out = bytearray()
    while position < len(body):
        tag = body[position]
        position += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                more = size - 59
                size = int.from_bytes(body[position : position + more], "little")
                position += more
            out += body[position : position + size + 1]
            position += size + 1
            continue
        if tag & 3 == 1:
            size, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | body[position]
            position += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size = (tag >> 2) + 1
            offset = int.from_bytes(body[position : position + width], "little")
            position += width
        for _ in range(size):
            out.append(out[-offset])
    assert len(out) == length
    return bytes(out)


def cluster_label(spoke):
    """The label `cluster` of a spoke, as a V1 message holds it."""
    name, value = b"cluster", spoke.encode()
    return b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(value)]) + value


@pytest.mark.parametrize("store", HEADERS)
def test_each_write_has_the_tenant_of_its_spoke(deploy, gate, spokes, store):
    [hub] = deploy.hubgate_config(f"outgrown/{store}")["hubs"]
    with Recorder() as recorder:
        gate.configure(deploy, f"outgrown/{store}", {host(hub): recorder.address})
        with gate:
            for spoke in spokes:
                assert gate.load(spoke)["responses"].keys() == {"204"}
    clusters = collections.defaultdict(set)
    for path, headers, message in recorder.requests:
        assert path == hub["url"].partition(host(hub))[2]
        # hubgate asks for the protocol with an empty message.
        if message:
            found = {spoke for spoke in spokes if cluster_label(spoke) in message}
            clusters[headers[HEADERS[store]]] |= found
    assert clusters == {spoke: {spoke} for spoke in spokes}


def test_victoria_metrics_makes_a_tenant_of_each_spoke(deploy, gate, spokes, tmp_path):
    """A single node, which is what Debian has, applies the relabeling of vminsert and keeps the
    label by which vminsert would choose the tenant."""
    values = release(deploy, "victoria-metrics")["spec"]["values"]["vminsert"]
    relabeling = tmp_path / "relabel.yml"
    relabeling.write_text(manifests.yaml.safe_dump(values["relabel"]["config"]))
    # Not the flag for the length of label names, which Debian's version does not have yet.
    flags = ("maxLabelsPerTimeseries", "maxLabelValueLen")
    [port] = processes.free_ports(1)
    address = f"127.0.0.1:{port}"
    program = processes.Process(
        "victoria-metrics",
        [
            gates.program_on_path("victoria-metrics"), f"-httpListenAddr={address}",
            f"-storageDataPath={tmp_path / 'data'}", f"-relabelConfig={relabeling}",
            *(f"-{it}={values['extraArgs'][it]}" for it in flags),
        ],
        tmp_path,
    )  # fmt: skip
    [hub] = deploy.hubgate_config("outgrown/victoria-metrics")["hubs"]
    gate.configure(
        deploy, "outgrown/victoria-metrics", {host(hub): address}, {"/insert/multitenant/prometheus": ""}
    )

    def tenants(spoke):
        series = gates.api(address, "/api/v1/series", **{"match[]": f'{{cluster="{spoke}"}}'})
        assert series, f"no series of {spoke} yet"
        return {it.get("vm_account_id") for it in series}

    honest, liar = spokes
    program.start()
    try:
        program.wait_ready(address, "/health")
        with gate, gate.spoke(honest):
            processes.wait_for("the first spoke arrives", lambda: tenants(honest), 60)
            [number] = tenants(honest)
            with gate.spoke(liar, {"vm_account_id": number, "vm_project_id": "7"}):
                processes.wait_for("the second spoke arrives", lambda: tenants(liar), 60)
        [other] = tenants(liar)
        assert tenants(honest) == {number} != {other}
        assert all(0 <= int(it) < 2**32 for it in (number, other))
        for tenant, spoke in ((number, honest), (other, liar)):
            series = gates.api(address, "/api/v1/series", **{"match[]": f'{{vm_account_id="{tenant}"}}'})
            assert {it["cluster"] for it in series} == {spoke}
            assert not any("vm_project_id" in it for it in series)
    finally:
        program.stop()


def given(variable):
    """Skips a test if a program is not given."""
    return pytest.mark.skipif(
        variable not in os.environ, reason=f"set {variable} to the program to run this"
    )


@given("MIMIR_BIN")
def test_mimir_keeps_each_spoke_under_its_tenant(deploy, gate, spokes, tmp_path):
    http_port, grpc_port, gossip_port = processes.free_ports(3)
    address = f"127.0.0.1:{http_port}"
    mimir = release(deploy, "mimir")["spec"]["values"]["mimir"]["structuredConfig"]
    # One process with files in place of many with a bucket.
    alone = {"instance_addr": "127.0.0.1", "kvstore": {"store": "inmemory"}}
    local = {
        "target": "all",
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": http_port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": grpc_port,
        },
        "memberlist": {"bind_addr": ["127.0.0.1"], "bind_port": gossip_port},
        "activity_tracker": {"filepath": "activity.log"},
        "usage_stats": {"enabled": False},
        "common": {"storage": {"backend": "filesystem", "filesystem": {"dir": "bucket"}}},
        "blocks_storage": {
            "tsdb": {"dir": "tsdb"},
            "bucket_store": {"sync_dir": "sync"},
        },
        "compactor": {"data_dir": "compactor", "sharding_ring": alone},
        "distributor": {"ring": alone},
        "ingester": {"ring": alone | {"replication_factor": 1}},
        "store_gateway": {"sharding_ring": alone | {"replication_factor": 1}},
        "ruler": {"rule_path": "rules", "ring": alone},
        "ruler_storage": {"storage_prefix": "ruler"},
        "alertmanager": {"data_dir": "alertmanager", "sharding_ring": alone},
        "alertmanager_storage": {"storage_prefix": "alertmanager"},
    }
    del mimir["common"]
    (tmp_path / "mimir.yaml").write_text(manifests.yaml.safe_dump(merged(mimir, local)))
    program = processes.Process(
        "mimir", [os.environ["MIMIR_BIN"], "-config.file=mimir.yaml"], tmp_path
    )

    def found(tenant):
        headers = {"X-Scope-OrgID": tenant}
        query = 'count by (cluster) ({__name__=~".+"})'
        series = gates.query(address, query, "/prometheus", headers)
        return {it["metric"]["cluster"] for it in series}

    [hub] = deploy.hubgate_config("outgrown/mimir")["hubs"]
    gate.configure(deploy, "outgrown/mimir", {host(hub): address})
    everything = mimir["no_auth_tenant"].split("|")
    program.start()
    try:
        program.wait_ready(address, "/ready", 120)
        with gate:
            for spoke in spokes:
                assert gate.load(spoke)["responses"].keys() == {"204"}
        for spoke in spokes:
            assert found(spoke) == {spoke}
        assert found("|".join({*everything, *spokes})) == set(spokes)
        assert found("hub") == set()
    finally:
        program.stop()


def merged(one, other):
    """Two mappings in one; where both have a value, that of the other."""
    out = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


@given("THANOS_BIN")
def test_thanos_keeps_each_spoke_under_its_tenant(deploy, gate, spokes, tmp_path):
    http_port, grpc_port, write_port, query_port, query_grpc = processes.free_ports(5)
    values = release(deploy, "thanos")["spec"]["values"]
    extra = [it for it in values["receive"]["extraArgs"] if "replication-factor" not in it]
    labels = [f"--query.replica-label={it}" for it in values["query"]["replicaLabels"]]
    thanos = os.environ["THANOS_BIN"]
    receive = processes.Process(
        "receive",
        [
            thanos, "receive", "--tsdb.path=data", '--label=receive_replica="0"',
            f"--http-address=127.0.0.1:{http_port}", f"--grpc-address=127.0.0.1:{grpc_port}",
            f"--remote-write.address=127.0.0.1:{write_port}",
            f"--receive.tenant-header={values['receive']['tenancyHeader']}",
            f"--receive.local-endpoint=127.0.0.1:{grpc_port}",
            f'--receive.hashrings=[{{"endpoints": ["127.0.0.1:{grpc_port}"]}}]', *extra,
        ],
        tmp_path,
    )  # fmt: skip
    querier = processes.Process(
        "query",
        [
            thanos, "query", f"--endpoint=127.0.0.1:{grpc_port}",
            f"--http-address=127.0.0.1:{query_port}", f"--grpc-address=127.0.0.1:{query_grpc}",
            *labels,
        ],
        tmp_path,
    )  # fmt: skip

    def found(selector):
        series = gates.query(f"127.0.0.1:{query_port}", f"count by (cluster) ({{{selector}}})")
        return {it["metric"]["cluster"] for it in series}

    [hub] = deploy.hubgate_config("outgrown/thanos")["hubs"]
    gate.configure(deploy, "outgrown/thanos", {host(hub): f"127.0.0.1:{write_port}"})
    try:
        receive.start().wait_ready(f"127.0.0.1:{http_port}")
        querier.start().wait_ready(f"127.0.0.1:{query_port}")
        with gate:
            for spoke in spokes:
                assert gate.load(spoke)["responses"].keys() == {"204"}
        for spoke in spokes:
            processes.wait_for(
                f"the tenant {spoke}", lambda: found(f'tenant_id="{spoke}"') == {spoke}, 60
            )
        assert found('tenant_id=~".+"') == set(spokes)
    finally:
        querier.stop()
        receive.stop()


# The pair


class Pair:
    """Two Prometheus servers behind hubgate, as in the overlay."""

    def __init__(self, deploy, gate, folder, **changes):
        self.gate = gate
        window = deploy.values("outgrown/hub-pair")["prometheus"]["prometheusSpec"]["tsdb"]
        options = {"storage": {"tsdb": {"out_of_order_time_window": window["outOfOrderTimeWindow"]}}}
        hubs = deploy.hubgate_config("outgrown/hub-pair")["hubs"]
        self.servers = [
            gates.Prometheus(hub["name"], folder / hub["name"], options, *PROMETHEUS_HUB)
            for hub in hubs
        ]
        addresses = {host(hub): it.address for hub, it in zip(hubs, self.servers, strict=True)}
        gate.configure(deploy, "outgrown/hub-pair", addresses, **changes)

    def __enter__(self):
        for it in self.servers:
            it.start()
        for it in self.servers:
            it.wait_ready(it.address)
        self.gate.__enter__()
        return self

    def __exit__(self, *_):
        self.gate.__exit__()
        for it in self.servers:
            it.stop()

    def samples(self, spoke):
        """How many samples of a spoke each server has that runs."""
        return [it.samples(f'{{cluster="{spoke}"}}') for it in self.servers if it.running()]


def test_each_of_the_pair_has_every_sample(deploy, gate, spokes, tmp_path):
    with Pair(deploy, gate, tmp_path) as pair:
        for spoke in spokes:
            sent = gate.load(spoke, seconds=2)["samples"]
            assert sent >= 1000
            # `any`: the second of them may be behind for a moment.
            processes.wait_for(
                f"both have {sent} samples of {spoke}", lambda: pair.samples(spoke) == [sent] * 2, 30
            )


def test_the_pair_goes_on_while_one_is_away(deploy, gate, spokes, tmp_path):
    spoke = spokes[0]
    with Pair(deploy, gate, tmp_path) as pair:
        before = gate.load(spoke)["samples"]
        processes.wait_for("both are even", lambda: pair.samples(spoke) == [before] * 2, 30)
        pair.servers[1].stop(signal.SIGKILL)
        during = gate.load(spoke)
        assert during["responses"].keys() == {"204"}
        assert pair.samples(spoke) == [before + during["samples"]]
        pair.servers[1].start().wait_ready(pair.servers[1].address)

        # It goes on with new samples by itself, and what it missed stays missing.
        def both_get_more():
            then = pair.samples(spoke)
            gate.load(spoke)
            return all(now > old for now, old in zip(pair.samples(spoke), then, strict=True))

        processes.wait_for("both get samples again", both_get_more, 60)
        first, second = pair.samples(spoke)
        assert first - second >= during["samples"]


def test_with_ack_all_the_pair_waits_for_the_one_that_is_away(deploy, gate, spokes, tmp_path):
    spoke = spokes[0]
    with Pair(deploy, gate, tmp_path, ack="all") as pair:
        assert gate.load(spoke)["responses"].keys() == {"204"}
        pair.servers[1].stop(signal.SIGKILL)
        statuses = gate.load(spoke)["responses"].keys()
        assert statuses <= {"502", "503"} and statuses


# The time with both


def test_while_both_get_the_samples_the_way_back_has_them_all(deploy, gate, spokes, tmp_path):
    """The old hub and the new store side by side, as in the guide."""
    spoke = spokes[0]
    options = {"storage": {"tsdb": {"out_of_order_time_window": "2h"}}}
    old = gates.Prometheus("old", tmp_path / "old", options, *PROMETHEUS_HUB)
    [hub] = deploy.hubgate_config("hub")["hubs"]
    [store] = deploy.hubgate_config("outgrown/mimir")["hubs"]
    with old, Recorder() as recorder:
        both = {"hubs": [hub, store], "ack": "all"}
        for it, address in zip(both["hubs"], (old.address, recorder.address), strict=True):
            it["url"] = it["url"].replace(host(it), address)
        gate.configure(deploy, "hub", {}, **both)
        with gate:
            sent = gate.load(spoke)
        assert sent["responses"].keys() == {"204"}
        assert old.samples(f'{{cluster="{spoke}"}}') == sent["samples"]
        messages = [headers for _, headers, message in recorder.requests if message]
        assert {it["X-Scope-OrgID"] for it in messages} == {spoke}
