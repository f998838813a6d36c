"""The set-up on one machine: the hub's Prometheus and Alertmanager, hubgate, and each spoke."""

import json
import pathlib
import re
import signal
import urllib.parse

import credentials
import derive
import prometheus_operator
import standin
import targets
from processes import Process, free_ports, get, wait_for

# What is not as in the manifests, beside addresses, ports, paths and what is scraped: times, so
# that nobody waits for minutes. Each is a path in prometheus.yml, and its value on this machine.
FASTER = {
    "hub": {
        "global.scrape_interval": "1s",
        "global.evaluation_interval": "1s",
        "global.rule_query_offset": "2s",
        "scrape_configs.*.scrape_interval": "1s",
    },
    "spoke": {
        "global.scrape_interval": "1s",
        "remote_write.0.queue_config.batch_send_deadline": "1s",
    },
}

# The same for rules: how often each group is evaluated, and for an alert a text of its expression,
# what stands in its place, and how long the alert waits (`for`).
FASTER_INTERVAL = "1s"
FASTER_ALERTS = {
    "HubgateSpokeSilent": ("> 300", "> 10", "2s"),
}


class Server:
    """A Prometheus of the set-up, as the operator would run it."""

    def __init__(self, name, folder, address, derived, program):
        self.name = name
        self.folder = folder
        self.address = address
        self.derived = derived
        self.process = Process("prometheus", [program, *derived.flags], folder)

    @property
    def agent(self):
        return self.derived.agent

    def write_config(self):
        (self.folder / "prometheus.yml").write_text(derive.dump(self.derived.config))

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_config()
        self.process.start()

    def wait_ready(self):
        self.process.wait_ready(self.address)

    def query(self, expression, time=None):
        """The result of an instant query: a list of {metric, value} or {metric, values}."""
        parameters = {"query": expression} | ({"time": time} if time else {})
        status, text = get(self.address, "/api/v1/query", **parameters)
        assert status == 200, f"{self.name}: query {expression}: {status} {text}"
        return json.loads(text)["data"]["result"]

    def samples(self, selector, time, window="10m"):
        """The samples of the one series of a selector in a window before a time."""
        result = self.query(f"{selector}[{window}]", time)
        assert len(result) == 1, f"{self.name}: {selector} has {len(result)} series, not one"
        return {(timestamp, value) for timestamp, value in result[0]["values"]}

    def metric(self, name):
        """The sum of the series of a metric that it exposes about itself."""
        lines = get(self.address, "/metrics")[1].splitlines()
        values = [
            line.rsplit(" ", 1)[1] for line in lines if line.split("{")[0].split(" ")[0] == name
        ]
        assert values, f"{self.name} has no metric {name}"
        return sum(float(value) for value in values)


class Machine:
    """The whole set-up, in one folder. Use it as a context manager."""

    def __init__(self, deploy, folder, programs, faster=True):
        self.deploy = pathlib.Path(deploy)
        self.folder = pathlib.Path(folder)
        self.programs = programs
        self.faster = faster
        self.declarations = derive.spokes(self.deploy)
        self.hub_objects = derive.build(self.deploy / "hub")
        self.hub_configs = derive.build(self.deploy / "hub/monitoring/configs")
        self.releases = {"hub": derive.release(self.hub_objects)}
        for spoke in self.declarations:
            objects = derive.build(self.deploy / "clusters" / spoke)
            self.releases[spoke] = derive.release(objects)
        self.processes = []
        self.notices = []
        self.changes = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.place_everything()
        self.stand_in = standin.StandIn(self.releases)
        self.alertmanager = self.start_alertmanager(self.releases["hub"])
        self.credentials = credentials.make(self.deploy, self.declarations, self.folder)
        self.hub = self.make_hub()
        self.gateway = self.make_gateway()
        self.spokes = {spoke: self.make_spoke(spoke) for spoke in self.declarations}
        # The hub first: the alerts take a hub that is not there yet for one that failed.
        self.hub.start()
        self.processes.append(self.hub.process)
        self.hub.wait_ready()
        self.run(self.gateway)
        self.gateway.wait_ready(self.admin_address)
        for spoke in self.spokes.values():
            spoke.start()
            self.processes.append(spoke.process)
        for spoke in self.spokes.values():
            spoke.wait_ready()

    def run(self, process):
        self.processes.append(process.start())

    def stop(self):
        """Ends all programs, hubgate without its drain."""
        for process in reversed(self.processes):
            if process.running():
                process.child.send_signal(signal.SIGKILL)
        for process in reversed(self.processes):
            process.stop(signal.SIGKILL)
        if hasattr(self, "stand_in"):
            self.stand_in.stop()

    def place_everything(self):
        names = ["hub", "write", "admin", "alertmanager", *self.declarations]
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)))
        }
        self.write_address = self.addresses["write"]
        self.admin_address = self.addresses["admin"]

    def make_hub(self):
        version = self.programs.version
        folder = self.folder / "hub"
        release = self.releases["hub"]
        namespace, name = prometheus_operator.release_names(release)
        alertmanagers = {}
        if self.alertmanager is not None:
            alertmanagers[f"{name}-alertmanager"] = self.addresses["alertmanager"]
        place = prometheus_operator.Place(
            address=self.addresses["hub"],
            folder=str(folder),
            addresses={},
            secrets={},
            files={},
            alertmanagers=alertmanagers,
        )
        jobs = targets.of_release(
            release, "hub", self.addresses["hub"], self.stand_in.address, version
        )
        admin = {("hubgate", "hubgate-admin", "admin"): self.admin_address}
        objects = self.hub_objects + self.hub_configs
        jobs += targets.of_monitors(objects, release, admin, version)
        (folder / "rules").mkdir(parents=True)
        for rule, groups in derive.rules(objects).items():
            if self.faster:
                groups = faster_rules(groups)
            (folder / "rules" / f"{rule}.yaml").write_text(derive.dump(groups))
        return self.make_server("hub", "hub", folder, place, jobs)

    def start_alertmanager(self, release):
        """The Alertmanager of the hub, where the machine has one that starts."""
        values = release["spec"]["values"].get("alertmanager", {})
        if not values.get("enabled", True):
            return None
        if self.programs.alertmanager is None:
            self.notices.append("hub: without an Alertmanager, because none is on PATH")
            return None
        folder = self.folder / "alertmanager"
        folder.mkdir(parents=True)
        (folder / "alertmanager.yml").write_text(derive.dump(values["config"]))
        flags = [
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address={self.addresses['alertmanager']}",
            "--cluster.listen-address=",
        ]
        process = Process("alertmanager", [self.programs.alertmanager, *flags], folder)
        self.run(process)
        try:
            process.wait_ready(self.addresses["alertmanager"])
        except derive.Mistake as mistake:
            error = re.findall(r'err="(.*)"', str(mistake))
            reason = error[-1] if error else str(mistake)
            self.notices.append(f"hub: without an Alertmanager, which does not start: {reason}")
            self.processes.remove(process)
            return None
        return process

    def make_gateway(self):
        """hubgate, with the folders that its Deployment mounts."""
        folder = self.folder / "gateway"
        hub = derive.release(self.hub_objects)
        namespace, name = prometheus_operator.release_names(hub)
        mounts = derive.mounts(self.hub_objects)
        paths = {mount: str(folder / mount.strip("/")) for mount in mounts}
        for mount, (kind, source) in mounts.items():
            pathlib.Path(paths[mount]).mkdir(parents=True)
            # The configuration differs on this machine, and is written below.
            if (kind, source) != ("ConfigMap", derive.HUBGATE_CONFIG):
                for key, text in self.gateway_data(kind, source).items():
                    pathlib.Path(paths[mount], key).write_text(text)
        text = derive.hubgate_config(
            self.hub_objects,
            listen=self.write_address,
            admin=self.admin_address,
            hubs={f"{name}-prometheus.{namespace}.svc:9090": self.addresses["hub"]},
            paths=paths,
        )
        arguments = derive.arguments(self.hub_objects, paths)
        config = next(it for it in arguments if it.startswith("--config.file="))
        pathlib.Path(config.partition("=")[2], "hubgate.yaml").write_text(text)
        self.gateway_paths = paths
        return Process("hubgate", [self.programs.hubgate, *arguments], folder)

    def gateway_data(self, kind, name):
        """The keys and texts of a Secret or ConfigMap of the gateway."""
        if (kind, name) in self.credentials.hub:
            return self.credentials.hub[kind, name]
        return derive.find(self.hub_objects, kind, name)["data"]

    def make_spoke(self, spoke):
        folder = self.folder / "spokes" / spoke
        data = self.credentials.spokes[spoke]
        files = {}
        for (kind, name), keys in data.items():
            for key, text in keys.items():
                file = folder / "certs" / f"{kind}_{name}_{key}"
                if kind == "ConfigMap":
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
                    files["configMap", name, key] = str(file)
        secrets = {
            (name, key): text
            for (kind, name), keys in data.items()
            if kind == "Secret"
            for key, text in keys.items()
        }
        paths = self.service_account(spoke, folder)
        url = urllib.parse.urlsplit(self.declarations[spoke]["url"])
        place = prometheus_operator.Place(
            address=self.addresses[spoke],
            folder=str(folder),
            addresses={url.netloc: self.write_address},
            secrets=secrets,
            files=files,
            paths=paths,
        )
        jobs = targets.of_release(
            self.releases[spoke],
            spoke,
            self.addresses[spoke],
            self.stand_in.address,
            self.programs.version,
        )
        return self.make_server(spoke, "spoke", folder, place, jobs)

    def service_account(self, spoke, folder):
        """Folders in place of those where the kubelet puts tokens of the ServiceAccount."""
        spec = self.releases[spoke]["spec"]["values"]["prometheus"]["prometheusSpec"]
        paths = {}
        for entry in spec.get("remoteWrite", []):
            file = entry.get("authorization", {}).get("credentialsFile")
            if file is not None:
                token = folder / "service-account" / pathlib.PurePath(file).name
                token.parent.mkdir(parents=True, exist_ok=True)
                token.write_text(self.credentials.token(spoke))
                paths[str(pathlib.PurePath(file).parent)] = str(token.parent)
                self.notices.append(
                    f"{spoke}: with a token of its own for that of a ServiceAccount"
                )
        return paths

    @property
    def expected_alerts(self):
        """Alerts that this machine provokes."""
        return set() if self.alertmanager else {"PrometheusNotConnectedToAlertmanagers"}

    def make_server(self, name, role, folder, place, jobs):
        derived = prometheus_operator.derive(
            self.releases[name], self.programs.version, place, jobs
        )
        self.notices += [f"{name}: without {what}" for what in derived.left_out]
        if self.faster:
            for path, value in FASTER[role].items():
                if override(derived.config, path, value):
                    self.changes[f"{role}: {path} is {value}"] = None
        return Server(name, folder, place.address, derived, self.programs.prometheus)

    def spoke_samples_arrive(self, spoke):
        """True once samples that a spoke takes from now on have reached the hub."""
        job = prometheus_operator.release_names(self.releases[spoke])[1] + "-prometheus"
        return bool(self.hub.query(f'up{{cluster="{spoke}",job="{job}"}} == 1'))

    def wait_for_samples(self, seconds=60):
        for spoke in self.spokes:
            wait_for(
                f"samples of {spoke} at the hub",
                lambda spoke=spoke: self.spoke_samples_arrive(spoke),
                seconds,
            )


def override(config, path, value):
    """Replaces a value of a configuration where it is set, and says whether it is.

    `*` is every element of a list.
    """
    first, _, rest = path.partition(".")
    if first == "*":
        return any([override(element, rest, value) for element in config])
    if rest:
        return override(config[int(first) if first.isdigit() else first], rest, value)
    if first not in config:
        return False
    config[first] = value
    return True


def faster_rules(file):
    """Rules that fire within seconds: see FASTER_ALERTS."""
    for group in file["groups"]:
        group["interval"] = FASTER_INTERVAL
        for rule in group["rules"]:
            if rule.get("alert") in FASTER_ALERTS:
                old, new, wait = FASTER_ALERTS[rule["alert"]]
                if old not in rule["expr"]:
                    raise derive.Mistake(f"the alert {rule['alert']} has no {old!r} to replace")
                rule["expr"] = rule["expr"].replace(old, new)
                rule["for"] = wait
    return file
