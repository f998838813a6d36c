#!/usr/bin/env python3
"""update.py FILE...: makes the schemas beside it from CustomResourceDefinitions.

Each version of a kind becomes GROUP_KIND_VERSION.json: whether it is served, its scope, and its
OpenAPI schema without descriptions."""

import json
import pathlib
import sys

import yaml


def without_descriptions(schema):
    """The schema without its texts, which take four fifths of it."""
    if isinstance(schema, list):
        return [without_descriptions(it) for it in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_descriptions(value)
        for key, value in schema.items()
        if key != "description" or not isinstance(value, str)
    }


def main(files):
    folder = pathlib.Path(__file__).parent
    yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)
    for file in files:
        for definition in yaml.safe_load_all(pathlib.Path(file).read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}_{spec['names']['kind']}_{version['name']}.json"
                content = {
                    "served": version["served"],
                    "scope": spec["scope"],
                    "schema": without_descriptions(version["schema"]["openAPIV3Schema"]),
                }
                text = json.dumps(content, sort_keys=True, separators=(",", ":"))
                (folder / name).write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
