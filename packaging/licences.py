#!/usr/bin/env python3
"""Prints the licence of every crate that is in the binary.

Most licences want their text and the names of the authors in each copy of a binary.
"""

import json
import pathlib
import re
import subprocess

import crates

LICENCE_FILE = re.compile(r"licen[cs]e|copying|notice|unlicense", re.IGNORECASE)


def licence_texts(package):
    """The texts of licences in the folder of a package."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(it for it in folder.iterdir() if it.is_file() and LICENCE_FILE.match(it.name))
    return [it.read_text(errors="replace").strip() for it in files]


def main():
    command = ["cargo", "metadata", "--locked", "--format-version=1"]
    command.append(f"--filter-platform={crates.TARGET}")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    shipped = crates.shipped()
    print("hubgate is under the licence in the file LICENSE. It is linked from these crates.")
    for package in json.loads(done.stdout)["packages"]:
        if (package["name"], package["version"]) in shipped and package["source"]:
            print(f"\n{'=' * 80}\n{package['name']} {package['version']}")
            print(f"Licence: {package['license']}")
            print(f"Authors: {', '.join(package['authors']) or 'not named'}")
            for text in licence_texts(package):
                print(f"{'-' * 80}\n{text}")


main()
