"""hubgate between real Prometheus servers, one of which watches it with the rules of deploy/."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.parse
import urllib.request

import yaml

import promql

SPOKE = "production"
DEADLINE = 60

# A panel reads either, since Prometheus 3 has another name than Prometheus 2.
EITHER = {
    "prometheus_remote_storage_queue_highest_timestamp_seconds",
    "prometheus_remote_storage_highest_timestamp_in_seconds",
}
# Exists only while an alert is pending or fires.
FLEETING = {"ALERTS"}


class Program:
    """A running program whose log is a file."""

    def __init__(self, stack, folder, name, arguments):
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)
        stack.callback(self.stop)

    def stop(self):
        self.child.kill()
        self.child.wait()

    def address(self, message):
        """The address in the line of the log with a message."""
        pattern = re.compile(f"{message}.* address=([0-9.:]+)")
        return eventually(lambda: pattern.search(self.log.read_text()), self.log.read_text)[1]


def eventually(look, describe):
    """What `look` returns once it is true."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(describe())


def prometheus(stack, folder, name, config, *flags):
    """Starts a Prometheus; returns its address."""
    (folder / f"{name}.yml").write_text(yaml.safe_dump(config))
    program = Program(
        stack,
        folder,
        name,
        [
            os.environ.get("PROMETHEUS_BIN", "prometheus"),
            f"--config.file={name}.yml",
            f"--storage.tsdb.path={name}",
            "--web.listen-address=127.0.0.1:0",
            *flags,
        ],
    )
    return program.address('msg="Listening on"')


def scrape(job, targets, **labels):
    """A scrape of targets that a file lists, with labels as a scrape class sets them."""
    relabelings = [{"target_label": key, "replacement": value} for key, value in labels.items()]
    return {
        "job_name": job,
        "file_sd_configs": [{"files": [targets]}],
        "relabel_configs": relabelings,
    }


class Servers:
    """A spoke, hubgate and a hub. Everything ends with the stack."""

    def __init__(self, stack, folder, hubgate, rules):
        rules.write(folder)
        self.hub = prometheus(
            stack,
            folder,
            "hub",
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yaml"],
                "scrape_configs": [
                    scrape("hubgate", "hubgate.json", cluster="hub", pod="hubgate-0"),
                    scrape("prometheus", "hub.json", cluster="hub"),
                ],
            },
            "--web.enable-remote-write-receiver",
        )
        write, admin = self._hubgate(stack, folder, hubgate)
        spoke = {
            "global": {"scrape_interval": "1s", "external_labels": {"cluster": SPOKE}},
            "scrape_configs": [scrape("prometheus", "spoke.json"), scrape("down", "down.json")],
            "remote_write": [
                {
                    "name": "hub",
                    "url": f"https://{write}/api/v1/write",
                    "tls_config": {"ca_file": "tls.crt"},
                    "authorization": {"credentials_file": "token"},
                    "queue_config": {"batch_send_deadline": "1s"},
                }
            ],
        }
        address = prometheus(stack, folder, "spoke", spoke)
        # Nothing listens on port 1.
        targets = {"hubgate": admin, "hub": self.hub, "spoke": address, "down": "127.0.0.1:1"}
        for name, target in targets.items():
            (folder / f"{name}.json").write_text(json.dumps([{"targets": [target]}]))
        for wanted in (
            f'rate(prometheus_remote_storage_samples_total{{cluster="{SPOKE}"}}[1m])',
            'rate(hubgate_samples_written_total{cluster="hub"}[1m])',
        ):
            eventually(lambda: self.query(wanted), lambda: f"no {wanted} in {folder}")

    def _hubgate(self, stack, folder, hubgate):
        """Starts hubgate with everything that gives it series; returns its addresses."""
        subprocess.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
            "-subj /CN=hubgate -addext subjectAltName=IP:127.0.0.1 "
            "-keyout tls.key -out tls.crt".split(),
            cwd=folder,
            check=True,
            capture_output=True,
        )
        (folder / "token").write_text("a-token-of-enough-length")
        issuer = {"issuer": "it", "audience": "hubgate", "subject": "it"}
        config = {
            "listen": {
                "address": "127.0.0.1:0",
                "tls": {"cert_file": "tls.crt", "key_file": "tls.key"},
            },
            "admin": {"address": "127.0.0.1:0"},
            # The second hub is always down.
            "ack": "any",
            "hubs": [
                {"name": "hub", "url": f"http://{self.hub}/api/v1/write"},
                {"name": "down", "url": "http://127.0.0.1:1/api/v1/write"},
            ],
            "spokes": [
                {
                    "name": SPOKE,
                    "limits": {"active_series_max": 1000000},
                    "credentials": [
                        {"token_file": "token", "not_after": "2100-01-31T00:00:00Z"},
                        {"jwt": {**issuer, "jwks_url": "http://127.0.0.1:1/keys"}},
                    ],
                }
            ],
        }
        (folder / "hubgate.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        program = Program(
            stack, folder, "hubgate", [hubgate, "serve", "--config.file=hubgate.yaml"]
        )
        return program.address("receiving remote writes"), program.address("serving admin")

    def api(self, path, **parameters):
        url = f"http://{self.hub}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expr):
        """The result of an expression at the hub."""
        return self.api("query", query=expr)["result"]

    def missing(self, selectors):
        """Those of the selectors that match nothing at the hub, with the values of the mapping."""
        missing = {}
        for selector, where in selectors.items():
            if selector.metric in FLEETING:
                continue
            text = f"{selector.metric}{{{selector.matchers}}}"
            if not self.query(promql.without_variables(text, SPOKE)):
                missing[text] = where
        either = [text for text in missing if text.split("{")[0] in EITHER]
        return {text: where for text, where in missing.items() if text not in either[:1]}

    def expect_alerts(self, *names):
        """Waits until these alerts, and no others, are pending or fire."""

        def active():
            return {alert["labels"]["alertname"] for alert in self.api("alerts")["alerts"]}

        eventually(lambda: active() == set(names), lambda: f"{active()}, not {set(names)}")

    def expect_rules_healthy(self):
        """Waits until all rules were evaluated; none may have an error."""

        def states():
            groups = self.api("rules")["groups"]
            return {rule["name"]: rule for group in groups for rule in group["rules"]}

        def settled():
            return "unknown" not in {rule["health"] for rule in states().values()}

        eventually(settled, lambda: json.dumps(states(), indent=1))
        failed = {name: rule for name, rule in states().items() if rule["health"] != "ok"}
        assert not failed, failed


@contextlib.contextmanager
def servers(folder, hubgate, rules):
    with contextlib.ExitStack() as stack:
        yield Servers(stack, folder, hubgate, rules)
