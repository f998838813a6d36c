"""Files in YAML are laid out alike."""

import subprocess

CONFIGURATION = """
extends: default
rules:
  document-start: disable
  comments: {min-spaces-from-content: 1}
  line-length: disable
  braces: {max-spaces-inside: 1}
  truthy: {check-keys: false}
"""


def test_yamllint_finds_nothing(deploy, project):
    done = subprocess.run(
        ["yamllint", "--strict", "-d", CONFIGURATION, deploy.root, project / ".github"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
