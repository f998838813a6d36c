"""A hubgate with the configuration of a build, and what writes to it."""

import hashlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy/try"))

import derive
import processes

import manifests


class Gate:
    """hubgate over TLS, with a token for each of some spokes."""

    def __init__(self, program, folder, spokes):
        self.program = program
        self.folder = folder
        self.config = folder / "hubgate.yaml"
        self.listen, self.admin = (f"127.0.0.1:{port}" for port in processes.free_ports(2))
        self.ca = folder / "ca.crt"
        self.paths = {f"/etc/hubgate/{it}": folder / it for it in ("tls", "spokes")}
        for it in self.paths.values():
            it.mkdir(parents=True)
        certificate(folder)
        self.tokens = {spoke: folder / f"{spoke}.token" for spoke in spokes}
        for spoke, file in self.tokens.items():
            token = secrets.token_urlsafe(32)
            file.write_text(token)
            digest = hashlib.sha256(token.encode()).hexdigest()
            declaration = {"name": spoke, "credentials": [{"token_sha256": digest}]}
            (folder / "spokes" / f"{spoke}.yaml").write_text(manifests.yaml.safe_dump(declaration))
        self.process = processes.Process(
            "hubgate",
            [program, "serve", f"--config.file={self.config}", "--shutdown.delay=0s"],
            folder,
        )

    def configure(self, deploy, folder, addresses, paths=(), **changes):
        """Takes the configuration of a build. addresses and paths: those of hubs that stand in for
        others, by what the manifests say; a hub that is not named stays."""
        config = deploy.hubgate_config(folder)
        for hub in config["hubs"]:
            for old, new in [*addresses.items(), *dict(paths).items()]:
                hub["url"] = hub["url"].replace(old, new)
        self.write(derive.with_paths(config | changes, self.paths))

    def write(self, config):
        config["listen"]["address"] = self.listen
        config["admin"]["address"] = self.admin
        self.config.write_text(manifests.yaml.safe_dump(config))

    def __enter__(self):
        self.process.start().wait_ready(self.admin)
        return self

    def __exit__(self, *_):
        self.process.stop()

    @property
    def url(self):
        return f"https://{self.listen}/api/v1/write"

    def load(self, spoke, seconds=1, series=100):
        """Writes as a spoke, with `hubgate load`, which tries nothing again."""
        done = subprocess.run(
            [self.program, "load", "--url", self.url, "--ca-file", self.ca,
             "--token-file", self.tokens[spoke], "--cluster", spoke, "--connections", "1",
             "--bodies-per-connection", "1", "--series-per-request", str(series),
             "--rate", str(10 * series), "--duration", f"{seconds}s"],
            capture_output=True, text=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def spoke(self, spoke, labels=()):
        """A Prometheus that scrapes itself and sends it as a spoke."""
        config = {
            "global": {
                "scrape_interval": "1s",
                "external_labels": {"cluster": spoke} | dict(labels),
            },
            "scrape_configs": [{"job_name": "prometheus", "static_configs": []}],
            "remote_write": [
                {
                    "url": self.url,
                    "authorization": {"credentials_file": str(self.tokens[spoke])},
                    "tls_config": {"ca_file": str(self.ca)},
                    "queue_config": {"batch_send_deadline": "1s"},
                }
            ],
        }
        return Prometheus(spoke, self.folder / f"prometheus-{spoke}", config)


def certificate(folder):
    """An authority, and its certificate for 127.0.0.1."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for command in (
        f"req -x509 -days 30 {key} -keyout ca.key -out ca.crt -subj /CN=authority",
        f"req {key} -keyout tls/tls.key -out tls.csr -subj /CN=hubgate",
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls/tls.crt -days 30"
        " -extfile extensions",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


class Prometheus(processes.Process):
    """A real Prometheus, on a port of its own."""

    def __init__(self, name, folder, config, *flags):
        [port] = processes.free_ports(1)
        self.address = f"127.0.0.1:{port}"
        folder.mkdir()
        for job in config.get("scrape_configs", []):
            job["static_configs"] = [{"targets": [self.address]}]
        (folder / "prometheus.yml").write_text(manifests.yaml.safe_dump(config))
        program = os.environ.get("PROMETHEUS_BIN") or program_on_path("prometheus")
        arguments = [
            program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            f"--web.listen-address={self.address}", *flags,
        ]  # fmt: skip
        super().__init__(name, arguments, folder)

    def __enter__(self):
        self.start().wait_ready(self.address)
        return self

    def __exit__(self, *_):
        self.stop()

    def samples(self, selector):
        """How many samples it has of the last hour."""
        return sum(len(it["values"]) for it in query(self.address, f"{selector}[1h]"))


def program_on_path(name):
    found = shutil.which(name)
    assert found, f"no {name} on PATH"
    return found


def query(address, expression, prefix="", headers=()):
    """The series that a server with the API of Prometheus finds: labels and value or values."""
    return api(address, f"{prefix}/api/v1/query", headers, query=expression)["result"]


def api(address, path, headers=(), **parameters):
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(
            "GET", f"{path}?{urllib.parse.urlencode(parameters)}", headers=dict(headers)
        )
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, f"{path}: {response.status} {text}"
        return json.loads(text)["data"]
    finally:
        connection.close()
