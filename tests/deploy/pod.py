"""hubgate as its pods run it: with the arguments, configuration and volumes of the manifests."""

import contextlib
import functools
import hashlib
import os
import pathlib
import queue
import re
import resource
import shutil
import subprocess
import tempfile
import threading
import time

import yaml

USER = 65532
DEADLINE_SECONDS = 30


def labels_of(selector, labels):
    """Whether a selector of labels matches some labels."""
    assert set(selector) <= {"matchLabels"}, f"an unknown kind of selector: {selector}"
    return selector.get("matchLabels", {}).items() <= labels.items()


def spoke_file(name, *tokens, source_ranges=("127.0.0.0/8", "::1/128")):
    """A key of the Secret hubgate-spokes."""
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in tokens]
    spoke = {
        "name": name,
        "source_ranges": list(source_ranges),
        "credentials": [{"token_sha256": digest} for digest in digests],
    }
    return yaml.safe_dump(spoke).encode()


def authority(folder, names):
    """Keys of a Secret of TLS with a certificate for some names, and the authority as `ca.crt`."""
    san = ",".join(f"{'IP' if re.fullmatch('[0-9.]+|.*:.*', it) else 'DNS'}:{it}" for it in names)
    common = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split()
    run = functools.partial(subprocess.run, cwd=folder, check=True, capture_output=True)
    run(
        ["openssl", "req", "-x509", *common, "-days", "365", "-subj", "/CN=authority"]
        + ["-keyout", "ca.key", "-out", "ca.crt"]
    )
    run(
        ["openssl", "req", "-x509", *common, "-days", "90", "-subj", "/CN=hubgate"]
        + ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        + ["-addext", f"subjectAltName={san}", "-keyout", "tls.key", "-out", "tls.crt"]
    )
    return {name: (folder / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}


class Volume:
    """A folder that changes as the kubelet changes a mounted ConfigMap or Secret."""

    def __init__(self, folder):
        self.folder = folder
        self.data = {}

    def write(self, data):
        """Replaces all files at once, by a swap of the symlink `..data`."""
        self.data = dict(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = pathlib.Path(tempfile.mkdtemp(prefix="..", dir=self.folder))
        fresh.chmod(0o755)
        for key, content in data.items():
            file = fresh / key
            file.write_bytes(content)
            file.chmod(0o440)
            if os.geteuid() == 0:
                os.chown(file, 0, USER)
        current = self.folder / "..data"
        before = os.readlink(current) if current.is_symlink() else None
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        (self.folder / "..data_tmp").rename(current)
        for key in data:
            if not (self.folder / key).is_symlink():
                (self.folder / key).symlink_to(f"..data/{key}")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in data:
                link.unlink()
        if before:
            shutil.rmtree(self.folder / before)


class Pod:
    """The container of the Deployment hubgate, below a folder in place of the root.

    ConfigMaps are those of the objects; `data` has the Secrets by their name. `hub` is the URL that
    each hub has instead of its own.
    """

    def __init__(self, objects, data, hub="http://127.0.0.1:9/api/v1/write"):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="hubgate-pod-"))
        self.root.chmod(0o755)
        self.hub = hub
        [deployment] = [
            it
            for it in objects
            if it["kind"] == "Deployment" and it["metadata"]["name"] == "hubgate"
        ]
        self.spec = deployment["spec"]["template"]["spec"]
        [self.container] = self.spec["containers"]
        self.config_maps = {
            it["metadata"]["name"]: {k: v.encode() for k, v in it["data"].items()}
            for it in objects
            if it["kind"] == "ConfigMap"
        }
        self.volumes = {}
        for mount in self.container["volumeMounts"]:
            name, contents = self._source(mount["name"], data)
            self.volumes[name] = Volume(self.root / mount["mountPath"].lstrip("/"))
            self.volumes[name].write({k: self._moved(v) for k, v in contents.items()})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def _source(self, volume, data):
        """The name and the data of what a volume is made of."""
        [it] = [it for it in self.spec["volumes"] if it["name"] == volume]
        if "configMap" in it:
            name = it["configMap"]["name"]
            return name, self.config_maps[name]
        name = it["secret"]["secretName"]
        return name, data[name]

    def _moved(self, content):
        """A file or argument with the paths that it has below the folder."""
        if isinstance(content, bytes):
            return content.replace(b"/etc/hubgate/", bytes(self.root / "etc/hubgate") + b"/")
        return content.replace("/etc/hubgate/", f"{self.root}/etc/hubgate/")

    @property
    def config_folder(self):
        """The folder of the configuration, as the arguments name it."""
        [argument] = [it for it in self.container["args"] if it.startswith("--config.file=")]
        return pathlib.Path(self._moved(argument.split("=", 1)[1]))

    def check_config(self, program):
        """The output of `check-config --strict` on the configuration as it is, or an error."""
        done = subprocess.run(
            [program, "check-config", "--strict", self.config_folder], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self, program):
        """Runs the container as its user, without a file that it may write, on free ports."""
        volume = self.volumes["hubgate-config"]
        files = {name: yaml.safe_load(text) for name, text in volume.data.items()}
        for keys in files.values():
            for listener in keys.keys() & {"listen", "admin"}:
                address = keys[listener]["address"]
                keys[listener]["address"] = re.sub(r":\d+$", ":0", address)
            for hub in keys.get("hubs", []):
                hub["url"] = self.hub
        volume.write({name: yaml.safe_dump(keys).encode() for name, keys in files.items()})
        # Its own folder may be closed to other users.
        local = self.root / "hubgate"
        shutil.copyfile(program, local)
        local.chmod(0o755)
        args = [self._moved(argument) for argument in self.container["args"]]
        identity = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen(
            [local, *args, "--config.auto-reload-interval=1s"],
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
            **identity,
        )
        try:
            yield Running(process)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


class Running:
    """A hubgate that has started."""

    def __init__(self, process):
        self.process = process
        self.log = []
        lines = queue.Queue()
        reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        reader.start()
        self.write_port = self._port(lines, "receiving remote writes")
        self.admin_port = self._port(lines, "serving admin")

    def _read(self, lines):
        for line in self.process.stderr:
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def _port(self, lines, message):
        while (line := lines.get(timeout=DEADLINE_SECONDS)) is not None:
            if found := re.search(rf'message="{message}" address=\S+:(\d+)', line):
                return int(found[1])
        raise AssertionError(f"hubgate ended: {''.join(self.log)}")


def eventually(condition, what):
    """Waits until a condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.1)
