"""Programs that run for a while: started with a log of their own, waited for, and ended by pid."""

import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

from derive import Mistake

POLL = 0.05
"""Seconds between two looks at something that is waited for."""


def wait_for(what, condition, seconds):
    """Calls `condition` until it returns something true, and returns that.

    A failed assertion or a connection that fails means not yet; the last one is in the error.
    """
    deadline = time.monotonic() + seconds
    while True:
        reason = ""
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, OSError, http.client.HTTPException) as error:
            reason = f": {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}{reason}")
        time.sleep(POLL)


def free_ports(count):
    """Ports of loopback that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


def get(address, path, timeout=10, **parameters):
    """Status and text of a GET request."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        connection.request("GET", path + query)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Process:
    """A program with its log."""

    def __init__(self, name, argv, folder):
        self.name = name
        self.argv = [str(argument) for argument in argv]
        self.folder = pathlib.Path(folder)
        self.log = self.folder / f"{name}.log"
        self.child = None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            # A session of its own: Ctrl-C at the terminal reaches only this program, which then
            # ends the others in order.
            self.child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        return self

    def running(self):
        return self.child is not None and self.child.poll() is None

    def wait_ready(self, address, path="/-/ready", seconds=60):
        def ready():
            if not self.running():
                raise Mistake(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            return get(address, path)[0] == 200

        wait_for(f"{self.name} is ready", ready, seconds)

    def stop(self, how=signal.SIGTERM, seconds=20):
        """Ends the program, and kills it if it takes too long."""
        if not self.running():
            return
        self.child.send_signal(how)
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines=15):
        """The end of the log, and before it lines with errors, which a usage text may follow."""
        text = self.text().splitlines()
        errors = [line for line in text[:-lines] if re.search(r"\berror\b", line, re.IGNORECASE)]
        return "\n".join([*errors[:5], *text[-lines:]])


class Programs:
    """The programs that the set-up runs."""

    def __init__(self, project, prometheus=None):
        self.hubgate = self._hubgate(project)
        self.prometheus = prometheus or os.environ.get("PROMETHEUS_BIN") or need("prometheus")
        self.version = prometheus_version(self.prometheus)
        self.alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        self.promtool = self._promtool()
        for program in ("curl", "kubectl", "openssl"):
            need(program)

    @staticmethod
    def _hubgate(project):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", project / "target"))
        candidates = [os.environ.get("HUBGATE_BIN"), shutil.which("hubgate")]
        candidates += [target / "release/hubgate", target / "debug/hubgate"]
        for candidate in candidates:
            if candidate and os.access(candidate, os.X_OK):
                return pathlib.Path(candidate).resolve()
        raise Mistake("no hubgate: run `cargo build --release`, or set HUBGATE_BIN")

    def _promtool(self):
        """A promtool of the same version; another one judges other things."""
        beside = pathlib.Path(shutil.which(self.prometheus) or self.prometheus).parent / "promtool"
        for candidate in (beside, shutil.which("promtool")):
            if candidate and os.access(candidate, os.X_OK):
                if prometheus_version(candidate) == self.version:
                    return str(candidate)
        return None


def need(program):
    found = shutil.which(program)
    if found is None:
        raise Mistake(f"no {program} on PATH")
    return found


def prometheus_version(program):
    """The version of a Prometheus or promtool, as (3, 5, 0)."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", done.stdout + done.stderr)
    if match is None:
        raise Mistake(f"{program} --version says no version")
    return tuple(int(number) for number in match.groups())
