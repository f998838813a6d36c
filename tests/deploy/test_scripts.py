"""The scripts of the project: shellcheck finds nothing, and the tests in *.bats pass."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
FOLDERS = ("deploy", "packaging", "tests", "benches", ".github")


def scripts():
    found = [file for folder in FOLDERS for file in (PROJECT / folder).rglob("*") if file.is_file()]
    named = [file for file in found if file.suffix in (".sh", ".bash", ".bats")]
    return sorted(file.relative_to(PROJECT) for file in named if "target" not in file.parts)


def bats_tests():
    return sorted(file.name for file in HERE.glob("*.bats"))


def hubgate():
    """The hubgate under test: $HUBGATE_BIN, or what cargo built last."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    binary = pathlib.Path(os.environ.get("HUBGATE_BIN", target / "debug" / "hubgate"))
    assert binary.is_file(), f"{binary} is not there: run cargo build, or set HUBGATE_BIN"
    return binary


def test_there_are_scripts_to_check():
    assert pathlib.Path("deploy/configure-source-clusters.sh") in scripts()
    assert "configure_source_clusters.bats" in bats_tests()


@pytest.mark.parametrize("script", scripts(), ids=str)
def test_shellcheck_finds_nothing(script):
    command = ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", str(script)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_script_changes_to_a_folder_that_cdpath_names():
    # `cd` also prints such a folder, into what "$(cd ... && pwd)" becomes.
    texts = {it: (PROJECT / it).read_text() for it in scripts() if it.suffix == ".sh"}
    # A part without a first line of its own is read by a script that has one.
    programs = {it: text for it, text in texts.items() if text.startswith("#!")}
    changing = {it for it, text in programs.items() if re.search(r"\bcd ", text)}
    assert len(changing) > 5
    unsetting = {it for it, text in texts.items() if "\nunset CDPATH\n" in text}
    assert changing - unsetting == set()


@pytest.fixture(scope="module")
def bats_runs(request):
    """What bats says of each file that was asked for. They run side by side, since they wait much."""
    bats = shutil.which("bats")
    assert bats, "no bats on PATH: install Debian's package bats"
    environment = os.environ | {"HUBGATE_BIN": str(hubgate())}
    files = [it.callspec.params["file"] for it in request.session.items if it.name.startswith("test_bats[")]
    runs = {}
    for file in files:
        output = tempfile.TemporaryFile("w+")
        command = [bats, "--timing", str(HERE / file)]
        run = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        runs[file] = (run, output)
    return runs


@pytest.mark.parametrize("file", bats_tests())
def test_bats(file, bats_runs):
    run, output = bats_runs[file]
    code = run.wait()
    output.seek(0)
    text = output.read()
    # Without a test, bats exits with 0 as well.
    assert code == 0 and "\nok 1 " in text, text
