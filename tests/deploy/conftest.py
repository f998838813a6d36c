"""Fixtures for the checks of deploy/."""

import os
import pathlib
import shutil

import pytest

import manifests

PROJECT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption(
        "--deploy",
        type=pathlib.Path,
        default=PROJECT / "deploy",
        help="the folder to check, if it is not that of the project",
    )


def pytest_generate_tests(metafunc):
    deploy = manifests.Deploy(metafunc.config.getoption("--deploy").resolve())
    if "kustomization" in metafunc.fixturenames:
        metafunc.parametrize("kustomization", deploy.kustomizations(), ids=str)
    if "spoke" in metafunc.fixturenames:
        metafunc.parametrize("spoke", deploy.spokes())


@pytest.fixture(scope="session")
def project():
    """The root of the project."""
    return PROJECT


@pytest.fixture(scope="session")
def deploy(request):
    """The folder under check, and what kubectl builds from it."""
    return manifests.Deploy(request.config.getoption("--deploy").resolve())


@pytest.fixture(scope="session")
def hubgate_bin(project):
    """The program hubgate: HUBGATE_BIN, or the debug build."""
    target = os.environ.get("CARGO_TARGET_DIR", project / "target")
    program = pathlib.Path(os.environ.get("HUBGATE_BIN", pathlib.Path(target, "debug/hubgate")))
    assert os.access(program, os.X_OK), f"no program {program}: run `cargo build`, or set HUBGATE_BIN"
    return program.resolve()


@pytest.fixture(scope="session")
def alertmanager_program(tmp_path_factory):
    """Debian's Alertmanager.

    It reads templates from a fixed place, where they are not if the package is only unpacked. A copy
    reads them from its working folder, a path of the same length."""
    installed = shutil.which("prometheus-alertmanager")
    assert installed, "no prometheus-alertmanager on PATH: install the package of Debian"
    folder = tmp_path_factory.mktemp("alertmanager")
    templates = pathlib.Path(installed).resolve().parents[1] / "share/prometheus/alertmanager"
    for template in templates.glob("*.tmpl"):
        shutil.copy(template, folder)
    place = b"/usr/share/prometheus/alertmanager"
    here = b"./" * (len(place) // 2)
    copy = folder / "alertmanager"
    copy.write_bytes(pathlib.Path(installed).read_bytes().replace(place, here))
    program = folder / "prometheus-alertmanager"
    program.write_text(f'#!/bin/sh\ncd "{folder}" && exec ./alertmanager "$@"\n')
    for file in (copy, program):
        file.chmod(0o755)
    return program
