"""The JSON Schema of the configuration, as editors and validators use it.

`tests/gateway/docs/schema.rs` compares its keys with those that hubgate knows."""

import json
import re
import subprocess

import jsonschema
import pytest
import yaml

FENCE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The first lines of examples that are configurations of hubgate, and of files with one spoke.
CONFIGURATION = re.compile(r"# (hubgate|hubs|config/\w+)\.yaml\n|# yaml-language-server: ")
SPOKE = re.compile(r'# spokes\.d/\w+\.yaml\n|name: "')

HUB = "hub: {url: 'http://hub/api/v1/write'}"
DIGEST = "71702dfa945f5ca9703660d621d56688a4fc0e153c0e0c1cf9ac36a7aeeda7ed"
OTHER = DIGEST[::-1]
TOKEN = f"{{token_sha256: {DIGEST}}}"


def spoke(keys="", name="a", credentials=TOKEN):
    return f"spokes: [{{name: {name}, credentials: [{credentials}]{keys}}}]"


# What follows the hub, and whether it is good.
VALUES = [
    (spoke(), True),
    (spoke(name="123"), True),
    (spoke(name=""), False),
    (spoke(credentials=""), False),
    (spoke(credentials="{}"), False),
    (spoke(credentials="{token_sha256: short}"), False),
    (spoke(credentials=f"{{token_sha256: {DIGEST}, captures: allow}}"), False),
    (spoke(credentials=f"{{token_sha256: {DIGEST}, token_file: token}}"), False),
    (spoke(", weight: 1000"), True),
    (spoke(", weight: 0"), False),
    (spoke(", weight: heavy"), False),
    (spoke(", source_ranges: []"), False),
    (spoke(", source_ranges: 10.0.0.0/8"), False),
    (spoke(", source_ranges: [10.0.0.0/8, '::1']"), True),
    (spoke(", labels: ~"), True),
    (spoke(", limits: {answer: '429', samples_per_second: 5}"), True),
    (spoke(", limits: {answer: 500}"), False),
    (spoke(", limits: {samples_per_second: -1}"), False),
    (spoke(", limits: {samples_per_second: {limit: 5, mode: observe}}"), True),
    (spoke(", limits: {samples_per_second: {mode: watch}}"), False),
    (spoke(", limits: {label_value_bytes_max: 1.5MiB}"), True),
    (spoke(", limits: {label_value_bytes_max: 100}"), True),
    (spoke(", limits: {label_value_bytes_max: many}"), False),
    (spoke(", limits: {samples_age_max: 1h 30m}"), True),
    (spoke(", limits: {samples_age_max: 3600}"), False),
    (f"{spoke()}\ncluster_label: __name__", False),
    (f"{spoke()}\ncluster_label: 1a", False),
    (f"{spoke()}\nlisten:", True),
    (f"{spoke()}\nlisten: {{address: ':9480'}}", True),
    (f"{spoke()}\nlisten: {{address: localhost}}", False),
    (f"{spoke()}\nlisten: {{proxy_protocol: off}}", True),
    (f"{spoke()}\nlisten: {{proxy_protocol: false}}", False),
    (f"{spoke()}\nadmin: {{credentials: []}}", False),
    (f"{spoke()}\nadmin: {{credentials: [{{token_sha256: {OTHER}, captures: allow}}]}}", True),
    (f"{spoke()}\nadmin: {{credentials: [{{token_sha256: {OTHER}, captures: true}}]}}", False),
    (f"{spoke()}\nspoke_files:", True),
    (f"{spoke()}\nlimits: {{body_bytes_max: 1MiB}}", True),
    (f"{spoke()}\nacks: any", False),
]


class Core(yaml.SafeLoader):
    """The core schema of YAML 1.2, by which editors read a file: `off` is a text."""


Core.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


@pytest.fixture(scope="module")
def faults(hubgate_bin):
    """Finds the places of a text that a schema does not allow."""

    def schema(*arguments):
        printed = subprocess.run(
            [hubgate_bin, "config-schema", *arguments], capture_output=True, check=True
        )
        schema = json.loads(printed.stdout)
        jsonschema.Draft7Validator.check_schema(schema)
        return jsonschema.Draft7Validator(schema)

    schemas = {False: schema(), True: schema("--spoke-file")}

    def find(text, of_a_spoke=False):
        errors = schemas[of_a_spoke].iter_errors(yaml.load(text, Core))
        return sorted(error.json_path for error in errors)

    return find


def examples(project, first):
    """The examples of the pages that begin so."""
    pages = [project / "README.md", *sorted((project / "docs").glob("*.md"))]
    found = [text for page in pages for text in FENCE.findall(page.read_text()) if first.match(text)]
    assert found
    return found


def test_every_configuration_of_the_project_fits(project, faults):
    files = ["packaging/hubgate.yaml"]
    files += [f"deploy/gateway/base/{it}.yaml" for it in ("hubgate", "hubs", "listen")]
    texts = [(project / it).read_text() for it in files] + examples(project, CONFIGURATION)
    assert {text: faults(text) for text in texts if faults(text)} == {}
    texts = examples(project, SPOKE)
    assert {text: faults(text, True) for text in texts if faults(text, True)} == {}


def test_the_errors_of_the_page_are_found(project, faults):
    [broken] = examples(project, re.compile("# broken.yaml\n"))
    assert faults(broken) == ["$.ack", "$.spokes[0].labels.mismatch"]


def test_a_file_of_a_spoke_has_a_schema_of_its_own(faults):
    assert faults("name: a", True) == ["$"]
    assert faults("spokes: []", True) == ["$"] * 3


@pytest.mark.parametrize(("text", "good"), VALUES)
def test_hubgate_and_its_schema_agree_on_values(hubgate_bin, faults, tmp_path, text, good):
    text = f"{HUB}\n{text}\n"
    (tmp_path / "hubgate.yaml").write_text(text)
    (tmp_path / "token").write_text("a-token-of-enough-length\n")
    checked = subprocess.run([hubgate_bin, "check-config"], cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode == 0) == good, checked.stderr
    assert (faults(text) == []) == good, faults(text)
