"""What a user without Rust gets: the image, the Debian package, the service, the files of a release."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request

import pytest
import yaml

import container
import released

TARGET = f"{platform.machine()}-unknown-linux-gnu"
MIB = 1 << 20
TOKEN = "FTtNJ4cRaYI5ZvaQDTzW4HkTHbuR3uR4Cv9kYXvXLkQ"
# The byte 0 is a compressed empty message.
EMPTY_WRITE = b"\0"


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    return released.make(tmp_path_factory.mktemp("release"), tmp_path_factory.mktemp("work"))


# The binary


def test_the_binary_needs_no_library_and_no_folder_of_the_machine_that_built_it(release):
    binary = release.tarball / "hubgate"
    assert "(NEEDED)" not in released.run("readelf", "--dynamic", binary)
    assert "INTERP" not in released.run("readelf", "--program-headers", binary)
    folders = [str(released.PROJECT), str(pathlib.Path.home())]
    folders += [
        it for it in (os.environ.get("CARGO_HOME"), os.environ.get("CARGO_TARGET_DIR")) if it
    ]
    content = binary.read_bytes()
    # A home such as / is in every path.
    assert [it for it in folders if len(it) > 3 and f"{it}/".encode() in content] == []


def test_the_binary_says_its_version_and_revision(release):
    revision = released.run("git", "rev-parse", "HEAD").strip()
    printed = released.run(release.tarball / "hubgate", "--version")
    assert f"version {released.version()} (" in printed
    assert f"revision: {revision}" in printed


# The image


@pytest.fixture(scope="session")
def image_configuration(release):
    return json.loads((release.image / manifest(release)["Config"]).read_text())


def manifest(release):
    [entry] = json.loads((release.image / "manifest.json").read_text())
    return entry


def unpack_image(release, root):
    root.mkdir()
    for layer in manifest(release)["Layers"]:
        with tarfile.open(release.image / layer) as tar:
            tar.extractall(root)
    return root


def test_hadolint_finds_nothing_in_the_dockerfile():
    released.run("hadolint", "deploy/gateway/Dockerfile")


def test_the_image_holds_what_it_needs_and_is_small(release, tmp_path):
    root = unpack_image(release, tmp_path / "root")
    files = {str(it.relative_to(root)): it for it in root.rglob("*") if it.is_file()}
    names = {"LICENSE", "THIRD-PARTY-LICENCES", "hubgate", "etc/ssl/certs/ca-certificates.crt"}
    assert set(files) == names
    assert sum(it.stat().st_size for it in files.values()) < 25 * MIB
    assert release.file("*.image.tar").stat().st_size < 25 * MIB
    # Without these, no https:// hub of a public authority would be trusted.
    assert "BEGIN CERTIFICATE" in files["etc/ssl/certs/ca-certificates.crt"].read_text()


def test_the_image_says_how_to_run_it(image_configuration, release, deploy):
    config = image_configuration["config"]
    assert manifest(release)["RepoTags"] == [f"docker.io/library/hubgate:{released.version()}"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/hubgate"]
    # As the Deployment says; it has more arguments.
    template = deploy.find("gateway/base", "Deployment", "hubgate")["spec"]["template"]["spec"]
    assert config["Cmd"] == template["containers"][0]["args"][:2]
    assert set(config["ExposedPorts"]) == {"9480/tcp", "9481/tcp"}


def test_the_image_says_what_it_is(image_configuration, release):
    revision = released.run("git", "rev-parse", "HEAD").strip()
    label = "org.opencontainers.image."
    labels = image_configuration["config"]["Labels"]
    assert labels[f"{label}title"] == "hubgate"
    assert labels[f"{label}licenses"] == "Apache-2.0"
    assert labels[f"{label}version"] == released.version()
    assert labels[f"{label}revision"].startswith(revision)
    assert image_configuration["architecture"] in release.file("*.image.tar").name


def test_the_first_stage_of_the_dockerfile_has_every_file_that_the_build_read(tmp_path):
    # What .dockerignore lets through, as buildah reads it.
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /src\n")
    context = copy_context(tmp_path / "Dockerfile", tmp_path)
    binary = pathlib.Path(released.run("packaging/build-static.sh").strip())
    _, read = binary.with_suffix(".d").read_text().strip().split(": ", 1)
    needed = {pathlib.Path(it) for it in re.split(r"(?<!\\) ", read)}
    project = {
        it.relative_to(released.PROJECT) for it in needed if it.is_relative_to(released.PROJECT)
    }
    project = {it for it in project if not it.is_relative_to("target")}
    assert pathlib.Path("src/main.rs") in project
    # The scripts that the stage runs, and what they read.
    stage = (released.PROJECT / "deploy/gateway/Dockerfile").read_text().split("\nFROM ")[1]
    scripts = re.findall(r"packaging/[\w.-]+", stage)
    assert "packaging/build-static.sh" in scripts
    project |= {pathlib.Path(it) for it in [*scripts, "packaging/static-names.c"]}
    assert [str(it) for it in sorted(project) if not (context / it).exists()] == []
    assert "Licence: " in released.run("packaging/licences.py", cwd=context)
    assert (context / "LICENSE").is_file()
    assert released.run("git", "rev-parse", "HEAD", cwd=context) == released.run(
        "git", "rev-parse", "HEAD"
    )
    for left_out in ("deploy", "target", "docs/README.md", "rust-toolchain.toml"):
        assert not (context / left_out).exists()


COPY_CONTEXT = """
set -eu
work=$1
source packaging/buildah.sh
policy="--signature-policy=$work/policy.json"
run_buildah bud "$policy" --quiet --isolation chroot --iidfile "$work/id" --file "$2" . >/dev/null
run_buildah mount "$(run_buildah from "$policy" --pull-never "$(cat "$work/id")")"
"""


def copy_context(dockerfile, folder):
    """The build context of the project, as a Dockerfile that copies it to /src gets it."""
    command = ["bash", "-c", COPY_CONTEXT, "copy", folder, dockerfile]
    return pathlib.Path(released.run(*command, programs=["buildah"]).strip(), "src")


def test_images_of_several_architectures_are_joined_into_one(
    release, image_configuration, tmp_path
):
    index, archive = tmp_path / "index", release.file("*.image.tar")
    released.run("packaging/image-index.sh", f"oci:{index}:0.1.0", archive, programs=["buildah"])
    [entry] = json.loads((index / "index.json").read_text())["manifests"]
    joined = json.loads((index / "blobs" / entry["digest"].replace(":", "/")).read_text())
    [platform_of_image] = [it["platform"] for it in joined["manifests"]]
    assert platform_of_image["architecture"] == image_configuration["architecture"]
    assert platform_of_image["os"] == "linux"


# The image at work


class Hub:
    """A hub that takes everything, over TLS with a certificate for hub.test."""

    def __init__(self, certificate, key):
        self.bodies = bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def make_certificates(folder):
    """An authority, and a certificate for both hub.test and localhost."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1"]
    released.run(
        *command, "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.crt"
    )
    names = "subjectAltName=DNS:localhost,DNS:hub.test"
    authority = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"]
    leaf = ["-subj", "/CN=gate", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", names]
    files = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    released.run(*command, *authority, *leaf, *files)


@contextlib.contextmanager
def dns_server(name, address):
    """Answers for one name on port 53 of an address of this machine that nobody else uses."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own = f"127.{os.getpid() >> 16 & 255}.{os.getpid() >> 8 & 255}.{os.getpid() & 253 | 2}"
    server.bind((own, 53))

    def answer():
        with contextlib.suppress(OSError):
            while True:
                query, client = server.recvfrom(512)
                end = query.index(b"\0", 12) + 5
                labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split("."))
                is_known = query[12:end] == labels + b"\0\0\1\0\1"
                head = query[:2] + struct.pack(">5H", 0x8180, 1, int(is_known), 0, 0)
                record = struct.pack(">3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
                server.sendto(head + query[12:end] + (record if is_known else b""), client)

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield own
    finally:
        server.close()


def add_name_service_module(root, folder):
    """Has the system of the container look up names with a module that crashes whoever loads it."""
    (folder / "module.c").write_text(
        "__attribute__((constructor)) static void crash(void) { __builtin_trap(); }\n"
    )
    (root / "etc/nsswitch.conf").write_text("hosts: crashing files dns\n")
    libraries = root / f"lib/{platform.machine()}-linux-gnu"
    libraries.mkdir(parents=True)
    module = libraries / "libnss_crashing.so.2"
    released.run("cc", "-shared", "-fPIC", "-nostdlib", "-o", module, folder / "module.c")


@pytest.fixture
def gateway(release, deploy, tmp_path):
    """The image, run with the volumes and arguments of the Deployment in deploy/gateway."""
    if os.geteuid() != 0:
        pytest.skip("only root can run an image as another user")
    root = unpack_image(release, tmp_path / "root")
    make_certificates(tmp_path)
    shutil.copy(tmp_path / "ca.crt", root / "etc/ssl/certs/ca-certificates.crt")
    hub = Hub(tmp_path / "tls.crt", tmp_path / "tls.key")
    add_name_service_module(root, tmp_path)

    template = deploy.find("gateway/base", "Deployment", "hubgate")["spec"]["template"]["spec"]
    [gateway_container] = template["containers"]
    user = template["securityContext"]
    config_map = deploy.find("gateway/base", "ConfigMap", "hubgate-config")
    files = {name: yaml.safe_load(text) for name, text in config_map["data"].items()}
    everything = {key: value for file in files.values() for key, value in file.items()}
    for listener in ("listen", "admin"):
        everything[listener]["address"] = "127.0.0.1:0"
    everything["hubs"][0]["url"] = f"https://hub.test:{hub.port}/api/v1/write"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    spoke = {"name": "production", "credentials": [{"token_sha256": digest}]}
    contents = {
        "config": {name: yaml.safe_dump(file) for name, file in files.items()},
        "spokes": {"production.yaml": yaml.safe_dump(spoke)},
        "tls": {name: (tmp_path / name).read_text() for name in ("tls.crt", "tls.key")},
    }
    mounts = [(tmp_path / it["name"], it["mountPath"]) for it in gateway_container["volumeMounts"]]
    for source, _ in mounts:
        source.mkdir()
        for name, text in contents.pop(source.name).items():
            (source / name).write_text(text)
    assert contents == {}

    arguments = [it for it in gateway_container["args"] if not it.startswith("--shutdown.delay")]
    arguments.append("--shutdown.delay=1s")
    with dns_server("hub.test", "127.0.0.1") as resolver:
        (root / "etc/resolv.conf").write_text(f"nameserver {resolver}\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        identity = f"{user['runAsUser']}:{user['runAsGroup']}"
        command = ["/hubgate", *arguments]
        with container.run(root, mounts, identity, command, tmp_path) as running:
            running.hub = hub
            running.authority = tmp_path / "ca.crt"
            yield running


def status(url, **options):
    """The status and body of a response."""
    body, headers = options.get("data"), options.get("headers", {})
    context = (
        ssl.create_default_context(cafile=options["authority"]) if "authority" in options else None
    )
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_image_serves_as_its_user_with_a_read_only_root(gateway, release, tmp_path):
    write = gateway.wait_for(r'"receiving remote writes" address=(\S+)').replace(
        "127.0.0.1", "localhost"
    )
    admin = gateway.wait_for(r'"serving admin" address=(\S+)')
    assert status(f"http://{admin}/-/healthy") == (200, "hubgate is healthy.\n")
    assert status(f"http://{admin}/-/ready") == (200, "hubgate is ready.\n")
    assert "hubgate_bytes_in_flight" in status(f"http://{admin}/metrics")[1]

    process = pathlib.Path("/proc", str(gateway.pid()))
    state = process.joinpath("status").read_text()
    assert re.search(r"^Uid:\s+65532\s+65532\s+65532\s", state, re.MULTILINE)
    assert re.search(r"^Groups:\s*$", state, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", state, re.MULTILINE)
    if container.can_mount():
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        writable = {it[4] for it in mounts if it[5].startswith("rw")}
        assert writable == {"/proc", *container.DEVICES}

    url = f"https://{write}/api/v1/write"
    protobuf = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    authorized = protobuf | {"Authorization": f"Bearer {TOKEN}"}
    options = {"data": EMPTY_WRITE, "authority": gateway.authority}
    assert status(url, headers=protobuf, **options)[0] == 401
    assert status(url, headers=authorized, **options)[0] == 204

    # Real samples reach a hub that is found by DNS and trusted by the authorities of the image.
    (tmp_path / "token").write_text(TOKEN)
    load = [
        "load",
        f"--url={url}",
        f"--ca-file={gateway.authority}",
        f"--token-file={tmp_path / 'token'}",
    ]
    load += ["--cluster=production", "--duration=1s", "--connections=1"]
    report = json.loads(released.run(release.tarball / "hubgate", *load))
    assert list(report["responses"]) == ["204"] and report["errors"] == 0
    assert len(gateway.hub.bodies) >= report["responses"]["204"] > 0

    assert gateway.stop() == 0


# The service


def unit(text):
    """The settings of a systemd unit, each a list."""
    settings = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def seconds(span):
    return float(re.fullmatch(r"(\d+)s", span)[1])


def test_the_service_is_hardened():
    printed = released.run(
        *["systemd-analyze", "security", "--offline=true", "packaging/hubgate.service"],
        programs=["systemd-analyze"],
    )
    exposure = re.search(r"Overall exposure level for hubgate.service: ([\d.]+)", printed)
    assert float(exposure[1]) < 2.0, printed


def test_systemd_understands_the_service(release, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(release.package, root, ignore=shutil.ignore_patterns("DEBIAN"))
    # What every system has: the command of the reload, and the targets that are named.
    shutil.copy("/bin/kill", root / "usr/bin/kill")
    for name in ("sysinit", "basic", "shutdown", "network-online", "nss-lookup", "time-sync"):
        target = root / f"usr/lib/systemd/system/{name}.target"
        target.write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
    for name in ("-.mount", "tmp.mount"):
        mount = root / f"usr/lib/systemd/system/{name}"
        where = "/" if name == "-.mount" else "/tmp"
        mount.write_text(f"[Unit]\nDefaultDependencies=no\n[Mount]\nWhat=tmpfs\nWhere={where}\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", "hubgate.service"],
        env=released.environment("systemd-analyze"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_stops_no_request_and_has_files_for_every_connection(release):
    settings = unit((release.package / "usr/lib/systemd/system/hubgate.service").read_text())
    binary = release.tarball / "hubgate"
    delay = re.search(
        r"shutdown.delay <.*?\[default: (\d+s)\]",
        released.run(binary, "serve", "--help"),
        re.DOTALL,
    )
    assert seconds(settings["TimeoutStopSec"][0]) > seconds(delay[1]) + 29
    configuration = (released.PROJECT / "docs/configuration.md").read_text()
    connections = int(re.search(r"^  connections_max: (\d+)$", configuration, re.MULTILINE)[1])
    assert int(settings["LimitNOFILE"][0]) >= connections + 10 * 256 + 320


# The Debian package


def test_the_package_holds_the_static_binary_its_service_and_its_pages(release):
    package = release.package
    digest = hashlib.sha256((release.tarball / "hubgate").read_bytes()).hexdigest()
    assert hashlib.sha256((package / "usr/bin/hubgate").read_bytes()).hexdigest() == digest
    control = (package / "DEBIAN/control").read_text()
    assert f"\nVersion: {released.version()}-1\n" in control
    assert "libc6" not in control
    assert (package / "usr/lib/systemd/system/hubgate.service").is_file()
    assert (package / "usr/lib/sysusers.d/hubgate.conf").read_text().startswith("u hubgate ")
    documents = package / "usr/share/doc/hubgate"
    assert (documents / "THIRD-PARTY-LICENCES").is_file()
    # The pages and their pictures.
    pages = {it.name for it in (released.PROJECT / "docs").iterdir()}
    assert {it.name for it in (documents / "docs").iterdir()} == pages
    share = package / "usr/share"
    commands = {"check-config", "completions", "config-schema", "inspect", "serve", "token"}
    manual = {it.name for it in (share / "man/man1").iterdir()}
    assert manual >= {"hubgate.1.gz", *(f"hubgate-{it}.1.gz" for it in commands)}
    for script in (
        "bash-completion/completions/hubgate",
        "fish/vendor_completions.d/hubgate.fish",
        "zsh/vendor-completions/_hubgate",
    ):
        assert "check-config" in (share / script).read_text()
    for schema in ("hubgate.schema.json", "spoke.schema.json"):
        assert json.loads((share / "hubgate" / schema).read_text())["$schema"]
    [modeline] = re.findall(r"\$schema=/(\S+)", (package / "etc/hubgate/hubgate.yaml").read_text())
    assert (package / modeline).is_file()


def test_the_package_keeps_the_configuration_of_the_admin_and_starts_nothing(release):
    package = release.package
    assert (package / "DEBIAN/conffiles").read_text().split() == ["/etc/hubgate/hubgate.yaml"]
    script = (package / "DEBIAN/postinst").read_text()
    assert "systemd-sysusers" in script
    # The start is one of an upgrade, and nothing enables what nobody had enabled.
    assert "try-restart" in script and "deb-systemd-invoke start" not in script
    assert re.findall(r"deb-systemd-helper enable", script) == ["deb-systemd-helper enable"]
    assert "was-enabled hubgate.service; then" in script
    for name in ("postinst", "postrm"):
        released.run("shellcheck", package / "DEBIAN" / name)


def test_the_configuration_of_the_package_is_valid_and_lacks_only_a_spoke(release, tmp_path):
    folder = tmp_path / "hubgate"
    shutil.copytree(release.package / "etc/hubgate", folder)
    binary = release.package / "usr/bin/hubgate"
    check = [binary, "check-config", folder / "hubgate.yaml"]
    done = subprocess.run(check, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert lines and all("there is no spoke" in it or "no file matches" in it for it in lines), (
        lines
    )
    # With the command that it names, it is complete.
    (folder / "spokes").mkdir()
    spoke = released.run(binary, "token", "--spoke", "production")
    (folder / "spokes/production.yaml").write_text(spoke)
    released.run(*check, "--strict")


# The page that says how to install it

# Runs $3 on a copy of this system, whose changes go to memory, with the folders $1 and $2 in /mnt.
ON_A_COPY = """
set -e
copy=$(mktemp -d)
mount -t tmpfs tmpfs "$copy"
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" overlay "$copy/root"
mount -t proc proc "$copy/root/proc"
mount --rbind /dev "$copy/root/dev"
mkdir -p "$copy/root/mnt/files" "$copy/root/mnt/tools"
mount --bind "$1" "$copy/root/mnt/files"
mount --bind "$2" "$copy/root/mnt/tools"
exec chroot "$copy/root" sh -euc "cd /mnt/files; $3"
"""


def on_a_copy(commands, folder, tmp_path):
    """What commands print that change the system, run by root in a folder of files."""
    if not container.can_mount():
        pytest.skip("no mount namespace to install packages in")
    tools = pathlib.Path(shutil.which("systemd-analyze")).resolve().parents[2]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if tools != pathlib.Path("/"):
        libraries = released.environment("systemd-analyze")["LD_LIBRARY_PATH"]
        environment["LD_LIBRARY_PATH"] = libraries.replace(str(tools), "/mnt/tools")
        environment["PATH"] += ":/mnt/tools/usr/bin:/mnt/tools/bin"
    files = tmp_path / "files"
    shutil.copytree(folder, files)
    start = ["unshare", "--mount", "sh", "-c", ON_A_COPY, "start", files, tools, commands]
    return released.run(*start, env=environment)


def page_commands(heading):
    """The commands below a heading of the page, for this machine and without sudo."""
    page = (released.PROJECT / "docs/installation.md").read_text()
    section = re.split(r"^#+ ", page, flags=re.MULTILINE)
    [text] = [it for it in section if it.startswith(f"{heading}\n")]
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert released.version() in commands
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    return commands.replace("amd64", architecture).replace("sudo ", "")


def test_the_commands_of_the_page_install_the_tarball(release, tmp_path):
    check = """
        command -v hubgate
        stat -c '%A %U:%G' /etc/hubgate /etc/hubgate/spokes
        as_hubgate() { setpriv --reuid=hubgate --regid=hubgate --clear-groups "$@"; }
        hubgate token --spoke production 2>/dev/null >/etc/hubgate/spokes/production.yaml
        as_hubgate hubgate check-config --strict /etc/hubgate/hubgate.yaml >/dev/null
        test -f /usr/local/lib/systemd/system/hubgate.service
    """
    commands = page_commands("From the tarball")
    # No systemd runs in a copy.
    assert commands.count("systemctl daemon-reload\n") == 1
    commands = commands.replace("systemctl daemon-reload\n", "")
    lines = on_a_copy(commands + check, release.folder, tmp_path).splitlines()
    assert f"version {released.version()} (" in lines[0]
    assert lines[-3:] == ["/usr/local/bin/hubgate", *["drwxr-x--- root:hubgate"] * 2]


def test_the_commands_of_the_page_install_the_package(release, tmp_path):
    commands = page_commands("On Debian and Ubuntu")
    # A copy has no network and no systemd that runs.
    assert commands.count("apt install ./") == 1 and commands.count("systemctl enable --now") == 1
    commands = commands.replace("apt install ./", "dpkg --force-depends --install ./")
    commands = commands.replace("systemctl enable --now", "systemctl enable")
    wanted = "/etc/systemd/system/multi-user.target.wants/hubgate.service"
    install, set_up = commands.split("\n", 1)
    check = f"""
        test ! -e {wanted}
        {set_up}
        test -e {wanted}
        echo --
        stat -c '%A %U:%G' /etc/hubgate /etc/hubgate/spokes
        setpriv --reuid=hubgate --regid=hubgate --clear-groups \
          hubgate check-config --strict /etc/hubgate/hubgate.yaml >/dev/null
        dpkg --force-depends --purge hubgate >/dev/null 2>&1
        ls /etc/hubgate /etc/hubgate/spokes
        test ! -e {wanted}
    """
    printed = on_a_copy(f"{install}\n{check}", release.folder, tmp_path).split("--\n")[-1]
    # What the admin made is there after a purge.
    left = ["/etc/hubgate:", "spokes", "", "/etc/hubgate/spokes:", "production.yaml"]
    assert printed.splitlines() == [*["drwxr-x--- root:hubgate"] * 2, *left]


# The release


def test_the_release_has_all_its_files_and_their_checksums(release):
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    version = released.version()
    name = f"hubgate-{version}-linux-{architecture}"
    files = {f"{name}.tar.gz", f"{name}.image.tar", f"{name}.cdx.json"}
    files.add(f"hubgate_{version}-1_{architecture}.deb")
    assert {it.name for it in release.folder.iterdir()} == files | {"SHA256SUMS"}
    checked = released.run("sha256sum", "--check", "SHA256SUMS", cwd=release.folder)
    assert {it.removesuffix(": OK") for it in checked.splitlines()} == files


def shipped_crates():
    """Names and versions of all crates in the binary but hubgate."""
    tree = ["cargo", "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]
    lines = released.run(*tree, f"--target={TARGET}").splitlines()
    crates = {tuple(line.split()[:2]) for line in lines if line}
    assert len(crates) > 100
    return {(name, version.removeprefix("v")) for name, version in crates if name != "hubgate"}


def test_the_bill_of_materials_lists_the_crates_of_the_binary(release):
    text = release.file("*.cdx.json").read_text()
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "hubgate"
    assert bill["metadata"]["component"]["version"] == released.version()
    assert {(it["name"], it["version"]) for it in bill["components"]} == shipped_crates()
    # What depends on what is complete.
    names = {it["bom-ref"] for it in [bill["metadata"]["component"], *bill["components"]]}
    assert {it["ref"] for it in bill["dependencies"]} == names
    assert {it for one in bill["dependencies"] for it in one.get("dependsOn", [])} <= names
    assert str(released.PROJECT) not in text


def test_the_licence_of_every_crate_of_the_binary_is_in_the_tarball(release):
    text = (release.tarball / "THIRD-PARTY-LICENCES").read_text()
    sections = set(re.findall(r"^={80}\n(\S+) (\S+)\nLicence: \S", text, re.MULTILINE))
    assert sections == shipped_crates()


def test_the_tarball_names_no_user_and_no_time_but_that_of_the_commit(release):
    commit = int(released.run("git", "log", "-1", "--format=%ct"))
    with tarfile.open(release.file("*.tar.gz")) as tar:
        members = tar.getmembers()
    assert {(it.uid, it.gid, it.mtime) for it in members} == {(0, 0, commit)}


def test_a_release_of_another_version_than_that_of_cargo_is_refused(tmp_path):
    done = subprocess.run(
        ["packaging/release.sh", "9.9.9", tmp_path / "release"],
        cwd=released.PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"Cargo.toml has version {released.version()}, not 9.9.9" in done.stderr


@pytest.mark.parametrize(
    "version, printed",
    [("1.1.0", "- New.\n\nMore of it."), ("1.0.0", "- First."), ("1.0", None), ("0.9.0", None)],
)
def test_the_notes_of_a_release_are_its_section_of_the_changelog(version, printed, tmp_path):
    (tmp_path / "packaging").mkdir()
    script = tmp_path / "packaging/release-notes.sh"
    shutil.copy(released.PROJECT / "packaging/release-notes.sh", script)
    changelog = (
        "# Changelog\n\n## 1.1.0\n\n- New.\n\nMore of it.\n\n## 1.0.0\n\n- First.\n\n## 0.9.0\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    done = subprocess.run([script, version], capture_output=True, text=True)
    assert (done.stdout.strip() if done.returncode == 0 else None) == printed


# The workflows


def workflows():
    return sorted((released.PROJECT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", workflows(), ids=lambda it: it.name)
def test_github_takes_the_workflow(workflow):
    released.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)


def test_the_workflows_hold_no_known_weakness():
    released.run("zizmor", "--offline", "--quiet", "--min-severity=medium", ".github")


def run_steps(workflow):
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from (step["run"] for step in job.get("steps", []) if "run" in step)


@pytest.mark.parametrize("workflow", workflows(), ids=lambda it: it.name)
def test_the_commands_of_the_workflow_are_right(workflow, tmp_path):
    steps = list(run_steps(workflow))
    assert steps
    for step in steps:
        # GitHub fills in ${{ }} before a shell sees it.
        script = re.sub(r"\$\{\{.*?\}\}", "filled-in", step)
        (tmp_path / "step.sh").write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{script}\n")
        released.run("shellcheck", tmp_path / "step.sh")
        for path in re.findall(r"(?:packaging|\.ci|tests)/[\w./-]+", script):
            assert os.access(released.PROJECT / path, os.X_OK), f"{path} is no program"
