#!/usr/bin/env python3
"""Prints the licence of every crate that is in the binary for this machine's architecture.

Most licences want their text and the names of the authors in each copy of a binary.
"""

import json
import pathlib
import platform
import re
import subprocess

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def shipped_crates():
    """The packages that hubgate is linked from: normal dependencies, and theirs."""
    target = f"{platform.machine()}-unknown-linux-gnu"
    command = [
        "cargo",
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        target,
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    metadata = json.loads(done.stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, open_nodes = set(), [root]
    while open_nodes:
        for dependency in nodes[open_nodes.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                open_nodes.append(dependency["pkg"])
    return sorted((packages[it] for it in found), key=lambda it: (it["name"], it["version"]))


def licence_texts(package):
    """The texts of licences in the folder of a package."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(it for it in folder.iterdir() if it.is_file() and LICENCE_FILE.match(it.name))
    return [it.read_text(errors="replace").strip() for it in files]


def main():
    print("hubgate is under the licence in the file LICENSE. It is linked from these crates.")
    for package in shipped_crates():
        print(f"\n{'=' * 80}\n{package['name']} {package['version']}")
        print(
            f"Licence: {package['license']}\nAuthors: {', '.join(package['authors']) or 'not named'}"
        )
        for text in licence_texts(package):
            print(f"{'-' * 80}\n{text}")


main()
