"""The Secrets and ConfigMaps that deploy/configure-source-clusters.sh makes, for one machine.

The script runs in a copy of deploy/, so that it changes nothing there. It gets the address that the
declarations already have, and loopback in place of the spokes' public addresses.
"""

import base64
import dataclasses
import os
import pathlib
import shutil
import subprocess
import urllib.parse

import derive

LOOPBACK = "127.0.0.1/32"
"""Where the spokes of one machine write from."""


@dataclasses.dataclass
class Credentials:
    """Keys and texts of Secrets and ConfigMaps, by kind and name, for the hub and each spoke."""

    hub: dict
    spokes: dict
    output: str
    """What the script printed."""

    def token(self, spoke):
        return self.spokes[spoke]["Secret", "hubgate"]["token"]

    def authority(self, spoke):
        return self.spokes[spoke]["ConfigMap", "hubgate-ca"]["ca.crt"]


def make(deploy, declarations, folder):
    """Makes an authority, a certificate, and a token for each spoke."""
    repository = pathlib.Path(folder, "repository")
    copy = repository / "deploy"
    shutil.copytree(deploy, copy, ignore=shutil.ignore_patterns("__pycache__"))
    secrets = pathlib.Path(folder, "secrets")
    output = ""
    for spoke, declaration in declarations.items():
        if declaration.get("credential") != "token":
            with_token(copy, spoke)
        url = urllib.parse.urlsplit(declaration["url"])
        output += run(
            copy / "configure-source-clusters.sh",
            f"--secrets-dir={secrets}",
            f"--cluster={spoke}",
            f"--endpoint={url.scheme}://{url.netloc}",
            f"--server-name={declaration['server_name']}",
            f"--source-range={spoke}={LOOPBACK}",
        )
    return Credentials(
        hub=data(secrets / "hub"),
        spokes={spoke: data(secrets / spoke) for spoke in declarations},
        output=output,
    )


def with_token(deploy, spoke):
    """Declares a token for a spoke in a copy of deploy/: nobody issues ServiceAccount tokens."""
    folder = deploy / "clusters" / spoke
    without_lines(folder / "spoke.env", ("credential=", "issuer="))
    with (folder / "spoke.env").open("a") as file:
        file.write("\ncredential=token\n")
    for kustomization in folder.rglob("kustomization.yaml"):
        without_lines(kustomization, ("- ../components/service-account-token",))


def without_lines(file, beginnings):
    """Takes the lines with some beginnings out of a file."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.lstrip().startswith(beginnings)))


def run(script, *arguments):
    done = subprocess.run(
        ["bash", str(script), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        # When it is killed, what it leaves goes away with the folder.
        env=os.environ | {"TMPDIR": str(script.parent)},
    )
    if done.returncode != 0:
        raise derive.Mistake(f"{script.name} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def data(folder):
    """Keys and texts of each Secret and ConfigMap in a folder of manifests."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        it = derive.load(file.read_text())
        texts = it.get("data", {})
        if it["kind"] == "Secret":
            texts = {key: base64.b64decode(text).decode() for key, text in texts.items()}
        found[it["kind"], it["metadata"]["name"]] = texts
    return found
