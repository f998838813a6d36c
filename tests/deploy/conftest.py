"""Fixtures for the checks of deploy/."""

import os
import pathlib

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
