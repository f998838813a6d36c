"""Strict validation of objects, as an API server does it with `--validate=strict`."""

import functools
import json
import pathlib
import re

import celpy
import celpy.adapter
import jsonschema
import kubernetes_validate

FOLDER = pathlib.Path(__file__).parent / "schemas"

# The oldest version that the guide names, one in between, and the newest that there is a schema of.
KUBERNETES = ("1.30", "1.32", "1.37")

# Groups that Kubernetes itself serves. Their schemas come with kubernetes_validate.
CORE = {
    "",
    "apps",
    "autoscaling",
    "batch",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
}

# Fields of `metadata` that a manifest may set.
METADATA = {"name", "namespace", "labels", "annotations"}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def strict(schema, is_root=False):
    """A JSON schema that refuses what the OpenAPI schema of a resource does not name."""
    out = dict(schema)
    properties = dict(schema.get("properties", {}))
    if is_root or schema.get("x-kubernetes-embedded-resource"):
        for field, kind in (("apiVersion", "string"), ("kind", "string")):
            properties.setdefault(field, {"type": kind})
        properties["metadata"] = {"type": "object"}
    if properties:
        out["properties"] = {key: strict(value) for key, value in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        out["items"] = strict(schema["items"])
    # The API server sets what has a default before it checks.
    required = [it for it in schema.get("required", []) if "default" not in properties.get(it, {})]
    out.pop("required", None)
    if required:
        out["required"] = required
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    elif schema.get("nullable"):
        out["type"] = [schema["type"], "null"]
    return out


def _list_type(validator, kind, items, schema):
    """Elements of a set, and the keys of a map in the form of a list, are unique."""
    if kind == "map":
        names = schema["x-kubernetes-list-map-keys"]
        defaults = schema["items"].get("properties", {})
        keys = [
            [it.get(name, defaults.get(name, {}).get("default")) for name in names] for it in items
        ]
    elif kind == "set":
        keys = items
    else:
        return
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield jsonschema.ValidationError(f"{key!r} is there twice")


@functools.cache
def _program(rule):
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _rules(validator, rules, value, schema):
    """Rules in CEL. Those that compare with the object before an update do not apply."""
    for rule in rules:
        if "oldSelf" in rule["rule"]:
            continue
        if not _program(rule["rule"]).evaluate({"self": celpy.adapter.json_to_cel(value)}):
            yield jsonschema.ValidationError(rule.get("message", rule["rule"]))


# OpenAPI 3.0 takes its keywords from draft 4.
Validator = jsonschema.validators.extend(
    jsonschema.Draft4Validator,
    {"x-kubernetes-list-type": _list_type, "x-kubernetes-validations": _rules},
)


def errors_by(schema, value, where=""):
    """What is wrong with a value by a strict schema, a line each."""
    for error in Validator(schema).iter_errors(value):
        yield f"{where}{error.json_path.removeprefix('$')}: {error.message}"


@functools.cache
def custom(group, kind, version):
    """What the definition of a custom resource says: served, scope and the strict schema."""
    file = FOLDER / f"{group}_{kind}_{version}.json"
    if not file.exists():
        return None
    definition = json.loads(file.read_text())
    definition["schema"] = strict(definition["schema"], is_root=True)
    return definition


def _metadata_errors(thing):
    metadata = thing.get("metadata", {})
    for field in metadata.keys() - METADATA:
        yield f".metadata.{field}: a manifest does not set it"
    if not NAME.fullmatch(str(metadata.get("name", ""))):
        yield f".metadata.name: {metadata.get('name')!r} is no name"
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not isinstance(value, str):
                yield f".metadata.{field}.{key}: {value!r} is no string"
            elif field == "labels" and not LABEL.fullmatch(value):
                yield f".metadata.labels.{key}: {value!r} is no value of a label"


def _custom_errors(definition, thing):
    if not definition["served"]:
        yield f".apiVersion: {thing['apiVersion']} is not served"
    is_namespaced = "namespace" in thing["metadata"]
    if is_namespaced != (definition["scope"] == "Namespaced"):
        yield f".metadata.namespace: the scope of the kind is {definition['scope']}"
    yield from errors_by(definition["schema"], thing)


def _core_errors(thing, version):
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = "".join(f".{it}" for it in error.path)
        yield f"{path}: Kubernetes {version}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f".kind: Kubernetes {version} knows no such kind in {thing['apiVersion']}"


def errors(thing):
    """What an API server would refuse about an object, a line each."""
    group, _, version = thing["apiVersion"].rpartition("/")
    who = f"{thing['kind']}/{thing.get('metadata', {}).get('name')}"
    found = list(_metadata_errors(thing))
    definition = custom(group, thing["kind"], version)
    if definition is not None:
        found += _custom_errors(definition, thing)
    elif group in CORE:
        for release in KUBERNETES:
            found += _core_errors(thing, release)
    else:
        found.append(f".kind: there is no schema of {thing['apiVersion']}")
    return [f"{who}: {it}" for it in found]
