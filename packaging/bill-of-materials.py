#!/usr/bin/env python3
"""Prints what cargo-cyclonedx says of the binary, without crates that are not in it.

cargo-cyclonedx goes by `cargo metadata`, which lists optional crates that nothing switches on. Who
searches a bill for a vulnerable crate would find them.

    packaging/bill-of-materials.py CARGO_CYCLONEDX
"""

import json
import pathlib
import subprocess
import sys

import crates

NAME = "hubgate-bill-of-materials"


def main():
    # It writes beside Cargo.toml only.
    written = pathlib.Path(f"{NAME}.json")
    command = [sys.argv[1], "cyclonedx", "--quiet", "--format=json", "--spec-version=1.5"]
    command += ["--no-build-deps", f"--target={crates.TARGET}", f"--override-filename={NAME}"]
    try:
        subprocess.run(command, check=True)
        text = written.read_text()
    finally:
        written.unlink(missing_ok=True)
    bill = json.loads(text.replace(f"file://{pathlib.Path.cwd()}#", "file:///hubgate#"))
    shipped = crates.shipped()
    kept = [it for it in bill["components"] if (it["name"], it["version"]) in shipped]
    names = {it["bom-ref"] for it in kept} | {bill["metadata"]["component"]["bom-ref"]}
    dependencies = [it for it in bill["dependencies"] if it["ref"] in names]
    for dependency in dependencies:
        if "dependsOn" in dependency:
            dependency["dependsOn"] = [it for it in dependency["dependsOn"] if it in names]
    json.dump(bill | {"components": kept, "dependencies": dependencies}, sys.stdout, indent=2)
    print()


main()
