"""Runs an image as the kubelet does: its user, a read-only root, folders mounted into it."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import warnings

# $1: the root; the others in pairs up to --: what to mount, and where; then the user and command.
START = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for device in $DEVICES; do mount --bind "$device" "$root$device"; done
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; shift 2
done
mount -o remount,bind,ro "$root"
shift; user=$1; shift
exec chroot --userspec="$user" --groups= "$root" "$@"
"""


# Those of which hubgate needs one: for random bytes.
DEVICES = ("/dev/null", "/dev/random", "/dev/urandom")


@functools.cache
def can_mount():
    """Whether this process may have a mount namespace; a container without privileges may not."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    return done.returncode == 0


class Container:
    """A container that runs. Its output goes to the file `log`."""

    def __init__(self, root, mounts, user, command, folder):
        self.log = folder / "log"
        self.root = root
        for _, target in mounts:
            (root / target[1:]).mkdir(parents=True, exist_ok=True)
        (root / "proc").mkdir(exist_ok=True)
        (root / "dev").mkdir()
        if can_mount():
            for device in DEVICES:
                (root / device[1:]).touch()
            pairs = [str(it) for mount in mounts for it in mount]
            namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
            start = ["sh", "-c", START, "start", str(root), *pairs, "--", user, *command]
            whole = [*namespaces, *start]
        else:
            warnings.warn(
                "no mount namespace: the root is not mounted read-only, the mounts are copies"
            )
            for device in DEVICES:
                (root / device[1:]).write_bytes(os.urandom(1 << 20))
            for source, target in mounts:
                shutil.copytree(source, root / target[1:], dirs_exist_ok=True)
            whole = [shutil.which("chroot"), f"--userspec={user}", "--groups=", str(root), *command]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                whole, stdout=log, stderr=log, env={"DEVICES": " ".join(DEVICES)}
            )

    def pid(self):
        """The process in the container: the child of unshare, or the one that was started."""
        if not can_mount():
            return self.process.pid
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        [child] = children.read_text().split()
        return int(child)

    def wait_for(self, pattern):
        """The first group of what matches in the log, once it does."""
        for _ in range(200):
            found = re.search(pattern, self.log.read_text())
            if found:
                return found[1] if found.groups() else found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in the log:\n{self.log.read_text()}")

    def stop(self):
        """Sends SIGTERM as the kubelet does, and returns the exit code."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.process.wait(timeout=40)


@contextlib.contextmanager
def run(root, mounts, user, command, folder):
    """A Container for the length of a `with` block."""
    container = Container(root, mounts, user, command, folder)
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.process.kill()
            container.process.wait()
