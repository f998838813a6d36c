"""What packaging/release.sh makes, and the programs that look at it."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parents[2]


def environment(*programs):
    """The environment, with the libraries of programs that were unpacked instead of installed."""
    folders = []
    for program in programs:
        path = shutil.which(program)
        assert path, f"no {program} on PATH; tests/run.sh unpacks it"
        root = pathlib.Path(path).resolve().parents[2]
        if root != pathlib.Path("/"):
            for pattern in (
                "usr/lib/*-linux-gnu",
                "usr/lib/*-linux-gnu/systemd",
                "lib/*-linux-gnu",
            ):
                folders += [str(folder) for folder in root.glob(pattern)]
    return os.environ | ({"LD_LIBRARY_PATH": ":".join(folders)} if folders else {})


def run(*command, programs=(), **options):
    """What a command prints; it must succeed."""
    options = {
        "capture_output": True,
        "text": True,
        "cwd": PROJECT,
        "env": environment(*programs),
    } | options
    done = subprocess.run([str(it) for it in command], **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def version():
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.*)"$', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]


@dataclasses.dataclass
class Release:
    """The files of a release for this machine's architecture, and what is in them."""

    folder: pathlib.Path
    work: pathlib.Path

    def file(self, pattern):
        [found] = self.folder.glob(pattern)
        return found

    @functools.cached_property
    def tarball(self):
        """The unpacked tarball: its one folder."""
        folder = self.work / "tarball"
        folder.mkdir()
        run("tar", "-xzf", self.file("*.tar.gz"), "-C", folder)
        [top] = folder.iterdir()
        return top

    @functools.cached_property
    def package(self):
        """The unpacked Debian package, with its scripts in DEBIAN."""
        folder = self.work / "package"
        run("dpkg-deb", "--raw-extract", self.file("*.deb"), folder)
        return folder

    @functools.cached_property
    def image(self):
        """The unpacked archive of the image."""
        folder = self.work / "image"
        folder.mkdir()
        run("tar", "-xf", self.file("*.image.tar"), "-C", folder)
        return folder


def make(folder, work):
    """Runs packaging/release.sh into an empty folder."""
    run("packaging/release.sh", version(), folder, programs=["buildah"])
    return Release(folder, work)
