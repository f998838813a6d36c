"""Which crates are in the binary."""

import platform
import subprocess

TARGET = f"{platform.machine()}-unknown-linux-gnu"


def shipped():
    """Names and versions of the crates that the binary is linked from, hubgate among them.

    `cargo metadata` would list more: it takes `crate?/feature` for a dependency.
    """
    command = ["cargo", "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]
    done = subprocess.run([*command, f"--target={TARGET}"], check=True, stdout=subprocess.PIPE)
    lines = [line.split() for line in done.stdout.decode().splitlines() if line]
    return {(name, version.removeprefix("v")) for name, version, *_ in lines}
