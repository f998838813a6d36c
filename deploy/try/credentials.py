"""The Secrets and ConfigMaps that the guide makes beside the manifests, for one machine.

An authority signs the certificate of the gateway. Each spoke has a token; the hub has its SHA-256
digest in a file of its own for the spoke.
"""

import dataclasses
import hashlib
import ipaddress
import pathlib
import secrets
import subprocess

import derive

LOOPBACK = "127.0.0.1/32"
"""Where the spokes of one machine write from, in place of their public addresses."""


@dataclasses.dataclass
class Credentials:
    """The data of Secrets and ConfigMaps by kind and name, for the hub and for each spoke."""

    hub: dict
    spokes: dict


def make(declarations, folder):
    """Makes an authority, a certificate with every server_name, and a token for each spoke."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    names = sorted({declaration["server_name"] for declaration in declarations.values()})
    certificate(folder, names)
    authority = (folder / "ca.crt").read_text()
    hub = {("Secret", "hubgate-spokes"): {}}
    hub["Secret", "hubgate-tls"] = {
        "tls.crt": (folder / "tls.crt").read_text(),
        "tls.key": (folder / "tls.key").read_text(),
    }
    spokes = {}
    for spoke, declaration in declarations.items():
        if declaration.get("credential", "token") != "token":
            raise derive.Mistake(f"deploy/try knows only spokes with credential=token, not {spoke}")
        token = secrets.token_urlsafe(32)
        hub["Secret", "hubgate-spokes"][f"{spoke}.yaml"] = derive.dump(
            {
                "name": spoke,
                "source_ranges": [LOOPBACK],
                "credentials": [{"token_sha256": hashlib.sha256(token.encode()).hexdigest()}],
            }
        )
        spokes[spoke] = {
            ("Secret", "hubgate"): {"token": token},
            ("ConfigMap", "hubgate-ca"): {"ca.crt": authority},
        }
    return Credentials(hub, spokes)


def certificate(folder, names):
    """An authority and a certificate for some names and IP addresses."""
    openssl(folder, "req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30",
            "-subj", "/CN=hubgate try", "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip
    openssl(folder, "req", *KEY, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=hubgate")
    extensions = [
        f"subjectAltName={','.join(alternative_name(name) for name in names)}",
        "basicConstraints=critical,CA:FALSE",
        "extendedKeyUsage=serverAuth",
    ]
    (folder / "extensions").write_text("\n".join(extensions))
    openssl(folder, "x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "tls.crt", "-days", "30", "-extfile", "extensions")  # fmt: skip


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def alternative_name(name):
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def openssl(folder, *arguments):
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise derive.Mistake(f"openssl {arguments[0]}: {done.stderr.strip()}")
