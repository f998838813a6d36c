"""What watches hubgate: where the rules, the dashboards and the runbook are, and what they read."""

import json
import re

CONFIGS = "hub/monitoring/configs"


def dashboards(deploy):
    """The dashboards as the ConfigMaps have them, by the name of their file."""
    maps = [it for it in deploy.objects(CONFIGS) if it["kind"] == "ConfigMap"]
    files = [file for it in maps for file in it["data"].items()]
    assert len(dict(files)) == len(files) == 2, [name for name, _ in files]
    return {name: json.loads(text) for name, text in files}


def panels(dashboard):
    """The panels with data."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard):
    """The expressions of all panels."""
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def runbook(project):
    """The text of the runbook."""
    return (project / "docs/runbook.md").read_text()


def sections(project):
    """The sections of the runbook by their headings."""
    parts = re.split(r"^## (.*)$", runbook(project), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def queries(project):
    """The queries of the runbook."""
    blocks = re.findall(r"^```promql\n(.*?)^```", runbook(project), re.MULTILINE | re.DOTALL)
    return [query for block in blocks for query in block.strip().split("\n\n")]
