"""What the chart and prometheus-operator make of a release's values: prometheus.yml and flags.

It follows kube-prometheus-stack 88 and prometheus-operator 0.93 for the keys that such a set-up
uses, also in what they leave out for an older Prometheus. A key that this page does not know is an
error, so that no value of a release goes untried without a word. Jobs are not here: they come from
Kubernetes in a cluster, and from targets.py on one machine.
"""

import dataclasses
import re

from derive import Mistake, with_address, with_paths

# Keys of prometheusSpec that say how and where the pod runs, what the operator selects, or what
# else Kubernetes alone can do.
OF_KUBERNETES = {
    "additionalPrometheusSecretsAnnotations", "affinity", "automountServiceAccountToken",
    "configMaps", "containers", "disableCompaction", "dnsConfig", "dnsPolicy",
    "enableServiceLinks", "hostAliases", "hostNetwork", "hostUsers", "image", "initContainers",
    "maximumStartupDurationSeconds", "minReadySeconds", "nodeSelector", "paused",
    "persistentVolumeClaimRetentionPolicy", "podAntiAffinity", "podAntiAffinityTopologyKey",
    "podManagementPolicy", "podMetadata", "podMonitorNamespaceSelector", "podMonitorSelector",
    "podMonitorSelectorNilUsesHelmValues", "portName", "priorityClassName",
    "probeNamespaceSelector", "probeSelector", "probeSelectorNilUsesHelmValues",
    "remoteWriteDashboards", "replicas", "resources", "ruleNamespaceSelector", "ruleSelector",
    "ruleSelectorNilUsesHelmValues", "schedulerName", "scrapeClasses",
    "scrapeConfigNamespaceSelector", "scrapeConfigSelector",
    "scrapeConfigSelectorNilUsesHelmValues", "secrets", "securityContext",
    "serviceMonitorNamespaceSelector", "serviceMonitorSelector",
    "serviceMonitorSelectorNilUsesHelmValues", "serviceName", "shards", "storageSpec",
    "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints",
    "updateStrategy", "version", "volumeMounts", "volumes",
}  # fmt: skip

# Keys of prometheusSpec that server() and agent() look at.
KNOWN = {
    "additionalRemoteWrite", "enableAdminAPI", "enableFeatures", "enableRemoteWriteReceiver",
    "evaluationInterval", "exemplars", "externalLabels", "externalUrl", "listenLocal",
    "logFormat", "logLevel", "prometheusExternalLabelName", "prometheusExternalLabelNameClear",
    "query", "remoteWrite", "remoteWriteReceiverMessageVersions", "replicaExternalLabelName",
    "replicaExternalLabelNameClear", "retention", "retentionSize", "routePrefix",
    "ruleQueryOffset", "scrapeInterval", "scrapeTimeout", "tsdb", "walCompression", "web",
}  # fmt: skip

MESSAGES = {
    "V1.0": "prometheus.WriteRequest",
    "V2.0": "io.prometheus.write.v2.Request",
}

# Field of the custom resource: field of prometheus.yml, and the first version that has it.
REMOTE_WRITE = {
    "remoteTimeout": ("remote_timeout", None),
    "headers": ("headers", (2, 15)),
    "name": ("name", (2, 15)),
    "messageVersion": ("protobuf_message", (2, 54)),
    "sendExemplars": ("send_exemplars", (2, 27)),
    "sendNativeHistograms": ("send_native_histograms", (2, 40)),
    "writeRelabelConfigs": ("write_relabel_configs", None),
    "tlsConfig": ("tls_config", None),
    "authorization": ("authorization", (2, 26)),
    "followRedirects": ("follow_redirects", (2, 26)),
    "enableHTTP2": ("enable_http2", (2, 35)),
    "queueConfig": ("queue_config", None),
    "metadataConfig": ("metadata_config", (2, 23)),
    "roundRobinDNS": ("round_robin_dns", (3, 1)),
}
QUEUE = {
    "capacity": ("capacity", None),
    "minShards": ("min_shards", (2, 6)),
    "maxShards": ("max_shards", None),
    "maxSamplesPerSend": ("max_samples_per_send", None),
    "batchSendDeadline": ("batch_send_deadline", None),
    "minBackoff": ("min_backoff", None),
    "maxBackoff": ("max_backoff", None),
    "retryOnRateLimit": ("retry_on_http_429", (2, 26)),
    "sampleAgeLimit": ("sample_age_limit", (2, 50)),
}
METADATA = {
    "send": ("send", None),
    "sendInterval": ("send_interval", None),
    "maxSamplesPerSend": ("max_samples_per_send", (2, 29)),
}
RELABELING = {
    "sourceLabels": ("source_labels", None),
    "separator": ("separator", None),
    "targetLabel": ("target_label", None),
    "regex": ("regex", None),
    "modulus": ("modulus", None),
    "replacement": ("replacement", None),
    "action": ("action", None),
}
TLS = {
    "caFile": ("ca_file", None),
    "certFile": ("cert_file", None),
    "keyFile": ("key_file", None),
    "serverName": ("server_name", None),
    "insecureSkipVerify": ("insecure_skip_verify", None),
    "minVersion": ("min_version", (2, 35)),
    "maxVersion": ("max_version", (2, 41)),
}
QUERY = {
    "lookbackDelta": "query.lookback-delta",
    "maxSamples": "query.max-samples",
    "maxConcurrency": "query.max-concurrency",
    "timeout": "query.timeout",
}


@dataclasses.dataclass
class Place:
    """Where a Prometheus is on this machine, and what it finds there."""

    address: str
    """`IP:PORT` to listen on."""
    folder: str
    """Its folder: data goes to data/, rules are in rules/."""
    addresses: dict
    """For each `HOST:PORT` of a URL in the manifests, the `IP:PORT` in its place."""
    secrets: dict
    """The texts of Secrets, by name and key."""
    files: dict
    """The files of ConfigMaps and Secrets, by kind, name and key."""
    paths: dict = dataclasses.field(default_factory=dict)
    """For each folder of the pod that a value names, the folder in its place."""
    alertmanagers: dict = dataclasses.field(default_factory=dict)
    """The `IP:PORT` of the Alertmanager of a Service, by name."""


@dataclasses.dataclass
class Derived:
    """A Prometheus as the operator would run it."""

    config: dict
    flags: list
    left_out: list
    """What this version of Prometheus does not have, and the operator therefore leaves out."""
    agent: bool


class Fields:
    """Turns fields of custom resources into those of a Prometheus of some version."""

    def __init__(self, version):
        self.version = version
        self.left_out = []

    def has(self, since, what):
        """True if this version has a thing; otherwise the thing is noted as left out."""
        if since is None or self.version >= since:
            return True
        self.left_out.append(f"{what} (Prometheus {'.'.join(map(str, since))} or newer)")
        return False

    def rename(self, where, fields, table):
        unknown = fields.keys() - table.keys()
        if unknown:
            raise Mistake(f"{where} has keys that deploy/try does not know: {sorted(unknown)}")
        renamed = {}
        for field, (name, since) in table.items():
            if field in fields and self.has(since, f"{where}.{field}"):
                renamed[name] = fields[field]
        return renamed

    def relabelings(self, where, rules):
        renamed = [self.rename(where, rule, RELABELING) for rule in rules]
        return [
            {**rule, "action": rule["action"].lower()} if "action" in rule else rule
            for rule in renamed
        ]

    def tls(self, where, fields, place):
        fields = dict(fields)
        assets = {
            "ca_file": fields.pop("ca", {}),
            "cert_file": fields.pop("cert", {}),
            "key_file": {"secret": fields.pop("keySecret", None)},
        }
        files = {}
        for name, reference in assets.items():
            for kind, selector in reference.items():
                if selector is not None:
                    files[name] = file_of(where, place, kind, selector)
        return {**files, **with_paths(self.rename(where, fields, TLS), place.paths)}

    def authorization(self, where, fields, place):
        known = {"type", "credentials", "credentialsFile"}
        if fields.keys() - known:
            raise Mistake(f"{where} has keys that deploy/try does not know: {sorted(fields)}")
        config = {"type": fields.get("type", "Bearer").strip()}
        if "credentials" in fields:
            selector = fields["credentials"]
            config["credentials"] = secret_of(where, place, selector)
        if "credentialsFile" in fields:
            config["credentials_file"] = with_paths(fields["credentialsFile"], place.paths)
        return config

    def remote_write(self, entry, place):
        where = f"remoteWrite.{entry.get('name', entry['url'])}"
        entry = dict(entry)
        url = entry.pop("url")
        config = {"url": with_address(url, place.addresses)}
        config |= self.rename(where, entry, REMOTE_WRITE)
        if "protobuf_message" in config:
            config["protobuf_message"] = MESSAGES[config["protobuf_message"]]
        if "write_relabel_configs" in config:
            rules = config["write_relabel_configs"]
            config["write_relabel_configs"] = self.relabelings(where, rules)
        if "tls_config" in config:
            config["tls_config"] = self.tls(f"{where}.tlsConfig", config["tls_config"], place)
        if "authorization" in config:
            config["authorization"] = self.authorization(
                f"{where}.authorization", config["authorization"], place
            )
        if "queue_config" in config:
            queue = {key: value for key, value in config["queue_config"].items() if value}
            config["queue_config"] = self.rename(f"{where}.queueConfig", queue, QUEUE)
        if "metadata_config" in config:
            metadata = dict(config["metadata_config"])
            if entry.get("messageVersion") == "V2.0":
                metadata["send"] = False
            config["metadata_config"] = self.rename(f"{where}.metadataConfig", metadata, METADATA)
        return config


def secret_of(where, place, selector):
    """The text of a Secret. Without it the operator refuses the whole configuration."""
    key = (selector["name"], selector["key"])
    if key not in place.secrets:
        raise Mistake(f"{where}: Secret {key[0]} has no key {key[1]}")
    return place.secrets[key]


def file_of(where, place, kind, selector):
    key = (kind, selector["name"], selector["key"])
    if key not in place.files:
        raise Mistake(f"{where}: no {kind} {key[1]} with key {key[2]}")
    return place.files[key]


def derive(release, version, place, scrape_configs):
    """The Prometheus of a release's values, of a version such as (3, 5), at a place."""
    values = release["spec"]["values"]["prometheus"]
    spec = values.get("prometheusSpec", {})
    unknown = spec.keys() - OF_KUBERNETES - KNOWN
    if unknown:
        raise Mistake(f"prometheusSpec has keys that deploy/try does not know: {sorted(unknown)}")
    agent = bool(values.get("agentMode"))
    fields = Fields(version)
    flags = common_flags(spec, fields, place)
    config = {"global": global_config(release, spec, fields)}
    if agent:
        flags += ["--agent"] if version >= (3,) else ["--enable-feature=agent"]
        flags.append(f"--storage.agent.path={place.folder}/data")
        config["scrape_configs"] = scrape_configs
        if version >= (2, 54):
            config["storage"] = {"tsdb": tsdb(spec)}
    else:
        flags += server_flags(spec, fields, place)
        config["global"]["evaluation_interval"] = spec.get("evaluationInterval", "30s")
        offset = spec.get("ruleQueryOffset")
        if offset and fields.has((2, 53), "ruleQueryOffset"):
            config["global"]["rule_query_offset"] = offset
        config["rule_files"] = [f"{place.folder}/rules/*.yaml"]
        config["scrape_configs"] = scrape_configs
        config["storage"] = storage(spec, version)
        config |= alerting(release, place)
    writes = [*spec.get("remoteWrite", []), *spec.get("additionalRemoteWrite", [])]
    if writes:
        config["remote_write"] = [fields.remote_write(entry, place) for entry in writes]
    compression = spec.get("walCompression", True)
    storage_kind = "agent" if agent else "tsdb"
    flags.append(f"--{'' if compression else 'no-'}storage.{storage_kind}.wal-compression")
    flags.append(f"--web.listen-address={place.address}")
    return Derived(config, flags, fields.left_out, agent)


def common_flags(spec, fields, place):
    flags = [f"--config.file={place.folder}/prometheus.yml"]
    if fields.version < (3,):
        flags.append(f"--web.console.templates={place.folder}/consoles")
        flags.append(f"--web.console.libraries={place.folder}/console_libraries")
    flags.append("--web.enable-lifecycle")
    web = spec.get("web", {})
    if web.keys() - {"maxConnections", "pageTitle"}:
        raise Mistake(f"prometheusSpec.web has keys that deploy/try does not know: {sorted(web)}")
    if "pageTitle" in web:
        flags.append(f"--web.page-title={web['pageTitle']}")
    if "maxConnections" in web:
        flags.append(f"--web.max-connections={web['maxConnections']}")
    if spec.get("enableRemoteWriteReceiver"):
        flags.append("--web.enable-remote-write-receiver")
        messages = spec.get("remoteWriteReceiverMessageVersions")
        if messages and fields.has((2, 54), "remoteWriteReceiverMessageVersions"):
            accepted = ",".join(MESSAGES[message] for message in messages)
            flags.append(f"--web.remote-write-receiver.accepted-protobuf-messages={accepted}")
    writes = [*spec.get("remoteWrite", []), *spec.get("additionalRemoteWrite", [])]
    if any(entry.get("messageVersion") == "V2.0" for entry in writes):
        if (2, 54) <= fields.version < (3, 4):
            flags.append("--enable-feature=metadata-wal-records")
    if spec.get("enableFeatures"):
        flags.append(f"--enable-feature={','.join(spec['enableFeatures'])}")
    flags.append(f"--web.external-url=http://{place.address}")
    flags.append(f"--web.route-prefix={spec.get('routePrefix', '/')}")
    if spec.get("logLevel", "info") != "info":
        flags.append(f"--log.level={spec['logLevel']}")
    if spec.get("logFormat", "logfmt") != "logfmt":
        flags.append(f"--log.format={spec['logFormat']}")
    return flags


def server_flags(spec, fields, place):
    flags = []
    if fields.version < (3, 11):
        flags.append(f"--storage.tsdb.retention.time={spec.get('retention', '10d')}")
        if spec.get("retentionSize"):
            flags.append(f"--storage.tsdb.retention.size={spec['retentionSize']}")
    flags.append(f"--storage.tsdb.path={place.folder}/data")
    if spec.get("enableAdminAPI"):
        flags.append("--web.enable-admin-api")
    for key, value in spec.get("query", {}).items():
        flags.append(f"--{QUERY[key]}={value}")
    return flags


def global_config(release, spec, fields):
    config = {"scrape_interval": spec.get("scrapeInterval", "30s")}
    if spec.get("scrapeTimeout"):
        config["scrape_timeout"] = spec["scrapeTimeout"]
    config["external_labels"] = external_labels(release, spec)
    return config


def external_labels(release, spec):
    """The external labels, with the two of the operator unless the values clear them."""
    namespace, name = release_names(release)
    own = {
        "prometheusExternalLabelName": ("prometheus", f"{namespace}/{name}-prometheus"),
        "replicaExternalLabelName": ("prometheus_replica", f"prometheus-{name}-prometheus-0"),
    }
    labels = {}
    for key, (default, value) in own.items():
        if not spec.get(f"{key}Clear"):
            labels[spec.get(key) or default] = value
    return {**spec.get("externalLabels", {}), **labels}


def release_names(release):
    """The namespace and the name of a release; the chart names its objects after both."""
    spec = release["spec"]
    namespace = spec.get("targetNamespace", release["metadata"].get("namespace"))
    return namespace, spec["releaseName"]


def tsdb(spec):
    return {"out_of_order_time_window": spec.get("tsdb", {}).get("outOfOrderTimeWindow", "0s")}


def storage(spec, version):
    config = {}
    if spec.get("exemplars", {}).get("maxSize"):
        config["exemplars"] = {"max_exemplars": spec["exemplars"]["maxSize"]}
    config["tsdb"] = tsdb(spec)
    if version >= (3, 11):
        config["tsdb"]["retention"] = {"time": spec.get("retention", "10d")}
        if spec.get("retentionSize"):
            config["tsdb"]["retention"]["size"] = spec["retentionSize"]
    return config


def alerting(release, place):
    """The section `alerting`, if the release has an Alertmanager."""
    values = release["spec"]["values"]
    if not values.get("alertmanager", {}).get("enabled", True):
        return {}
    _, name = release_names(release)
    spec = values["prometheus"].get("prometheusSpec", {})
    config = {}
    if not spec.get("replicaExternalLabelNameClear"):
        label = spec.get("replicaExternalLabelName") or "prometheus_replica"
        drop = {"action": "labeldrop", "regex": re.escape(label)}
        config["alert_relabel_configs"] = [drop]
    address = place.alertmanagers.get(f"{name}-alertmanager")
    targets = [{"targets": [address]}] if address else []
    config["alertmanagers"] = [{"path_prefix": "/", "api_version": "v2", "static_configs": targets}]
    return {"alerting": config}


def default_scrape_class(release, version):
    """What the default scrape class adds to every job: relabelings of targets and of metrics."""
    spec = release["spec"]["values"]["prometheus"].get("prometheusSpec", {})
    fields = Fields(version)
    for scrape_class in spec.get("scrapeClasses", []):
        if scrape_class.get("default"):
            return {
                "relabel_configs": fields.relabelings(
                    "scrapeClasses", scrape_class.get("relabelings", [])
                ),
                "metric_relabel_configs": fields.relabelings(
                    "scrapeClasses", scrape_class.get("metricRelabelings", [])
                ),
            }
    return {"relabel_configs": [], "metric_relabel_configs": []}
