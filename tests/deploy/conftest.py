"""Fixtures for the checks of deploy/."""

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
