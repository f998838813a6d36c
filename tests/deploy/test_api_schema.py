"""The answers of the API of the admin port are as its JSON Schema says."""

import http.client
import http.server
import json
import secrets
import subprocess
import threading
import time

import jsonschema
import pytest
import yaml

from gates import processes

SPOKES = {
    "writing": {},
    "limited": {"limits": {"samples_per_second": 1}},
    "refused": {"limits": {"active_series_max": 5}},
    "failing": {},
    "never came": {},
}

ANSWERS = {
    "/api/v1/status": "status",
    "/api/v1/spokes": "spokes",
    "/api/v1/history": "history",
    "/api/v1/history?since=7": "history",
    "/api/v1/hubs": "hubs",
    "/api/v1/reasons": "reasons",
} | {f"/api/v1/spokes/{it.replace(' ', '%20')}": "spoke" for it in SPOKES}


class Hub(http.server.BaseHTTPRequestHandler):
    """Takes all that is written, but of one spoke."""

    def do_POST(self):  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if self.headers["X-Spoke"] == "failing" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def admin(hubgate_bin, tmp_path_factory):
    """A gate whose spokes are in many conditions, and whose last reload failed."""
    folder = tmp_path_factory.mktemp("api")
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    listen, admin = (f"127.0.0.1:{port}" for port in processes.free_ports(2))
    config = folder / "hubgate.yaml"
    url = f"http://127.0.0.1:{hub.server_port}/api/v1/write"
    document = {
        "listen": {"address": listen},
        "admin": {"address": admin},
        "hub": {"url": url, "protocol": "v1", "headers": {"X-Spoke": "${spoke}"}},
        "spokes": [
            {"name": name, "credentials": [{"token_file": f"{name}.token"}]} | keys
            for name, keys in SPOKES.items()
        ],
    }
    for name in SPOKES:
        (folder / f"{name}.token").write_text(secrets.token_urlsafe(32))
    config.write_text(yaml.safe_dump(document))
    command = [hubgate_bin, "serve", f"--config.file={config}", "--shutdown.delay=0s"]
    gate = processes.Process("hubgate", command, folder)
    gate.start().wait_ready(admin)
    for name in set(SPOKES) - {"never came"}:
        subprocess.run(
            [hubgate_bin, "load", "--url", f"http://{listen}/api/v1/write", "--cluster", name,
             "--token-file", folder / f"{name}.token", "--connections", "1", "--duration", "1s",
             "--bodies-per-connection", "1", "--series-per-request", "10", "--rate", "100",
             "--protocol", "v2" if name == "writing" else "v1"],
            capture_output=True,
        )  # fmt: skip
    # One whom nobody knows.
    connection = http.client.HTTPConnection(listen)
    connection.request("POST", "/api/v1/write")
    assert connection.getresponse().status == 401
    connection.close()
    config.write_text("hub: nowhere\n")
    connection = http.client.HTTPConnection(admin)
    connection.request("POST", "/-/reload")
    assert connection.getresponse().status == 500
    connection.close()
    wait_for_a_step(admin)
    yield admin
    gate.stop()
    hub.shutdown()


def wait_for_a_step(admin):
    """A step of the history, in which refusals are first shown, takes 15 s."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        history = json.loads(processes.get(admin, "/api/v1/spokes/refused")[1])["history"]
        if history["refusals_per_second"]:
            return
        time.sleep(0.5)
    pytest.fail("no refusal in the history")


def captured(hubgate, folder, requests):
    """The lines of a capture at a gate of its own, since a credential guards the whole admin port. Each request
    is the body of one that is refused."""
    (folder / "admin.token").write_text(secrets.token_urlsafe(32))
    (folder / "spoke.token").write_text(secrets.token_urlsafe(32))
    listen, admin = (f"127.0.0.1:{port}" for port in processes.free_ports(2))
    credential = {"token_file": "admin.token", "captures": "allow"}
    document = {
        "listen": {"address": listen},
        "admin": {"address": admin, "credentials": [credential]},
        "hub": {"url": "http://127.0.0.1:9/api/v1/write"},
        "spokes": [{"name": "refused", "credentials": [{"token_file": "spoke.token"}]}],
    }
    config = folder / "hubgate.yaml"
    config.write_text(yaml.safe_dump(document))
    command = [hubgate, "serve", f"--config.file={config}", "--shutdown.delay=0s"]
    gate = processes.Process("hubgate", command, folder)

    def post(address, path, token, body=None):
        connection = http.client.HTTPConnection(address, timeout=30)
        authorization = f"Bearer {(folder / token).read_text()}"
        connection.request("POST", path, body, {"Authorization": authorization})
        return connection.getresponse()

    try:
        gate.start().wait_ready(admin, "/-/healthy")
        path = f"/api/v1/spokes/refused/capture?requests={len(requests)}"
        capture = post(admin, path, "admin.token")
        assert capture.status == 200
        lines = [capture.readline()]
        for body in requests:
            assert post(listen, "/api/v1/write", "spoke.token", body).status == 400
        return [json.loads(it) for it in [*lines, *capture] if it.strip()]
    finally:
        gate.stop()


@pytest.fixture(scope="module")
def schema(project):
    """The schema, which here allows no field that it does not describe."""
    text = (project / "src/admin/api/schema.json").read_text()
    return json.loads(text, object_hook=closed)


def closed(part):
    if "properties" in part:
        part["additionalProperties"] = False
    return part


def errors(schema, answer, document):
    schema = schema | {"$ref": f"#/$defs/{answer}"}
    jsonschema.Draft202012Validator.check_schema(schema)
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{it.json_path}: {it.message}" for it in found]


@pytest.mark.parametrize(("path", "answer"), ANSWERS.items())
def test_an_answer_is_as_its_schema_says(admin, schema, path, answer):
    status, text = processes.get(admin, path)
    assert status == 200, text
    document = json.loads(text)
    assert errors(schema, answer, document) == []
    assert errors(schema, answer, document | {"undocumented": 1}) != []


def test_what_changed_is_as_its_schema_says(admin, schema):
    version = json.loads(processes.get(admin, "/api/v1/spokes")[1])["version"]
    document = json.loads(processes.get(admin, f"/api/v1/spokes?since={version}")[1])
    assert errors(schema, "changes", document) == []
    assert errors(schema, "changes", document | {"undocumented": 1}) != []
    columns = document["columns"]
    assert errors(schema, "changes", document | {"columns": columns | {"other": []}}) != []
    described = schema["$defs"]["row"]["properties"]
    assert set(columns) - set(described) == {"limits_used"}


def test_the_lines_of_a_capture_are_as_their_schema_says(hubgate_bin, tmp_path, schema):
    lines = captured(hubgate_bin, tmp_path, [b"", b"no snappy"])
    assert [it["capture"] for it in lines] == ["begins", "request", "request", "ended"]
    for line in lines:
        assert errors(schema, "capture", line) == []
        assert errors(schema, "capture", line | {"undocumented": 1}) != []


def test_the_answers_show_what_the_schema_is_held_to(admin):
    """Lists that are empty would hold the schema to nothing."""

    def ask(path):
        return json.loads(processes.get(admin, f"/api/v1/{path}")[1])

    conditions = {it["name"]: it["conditions"][0] for it in ask("spokes")["spokes"]}
    assert conditions == {it: it.replace(" ", "_") for it in SPOKES}
    status = ask("status")
    assert status["configuration"]["errors"] and status["ahead"] and status["door"]
    spoke = ask("spokes/refused")
    for part in ("credentials", "limits", "refusals", "requests", "source_addresses"):
        assert spoke[part], part
    assert spoke["active_series"]["growing"] and spoke["samples"]["rejected"]
    for part in ("written_per_second", "limits_used_ratio", "refusals_per_second"):
        assert spoke["history"][part], part
    [hub] = ask("hubs")["hubs"]
    assert hub["requests"] and hub["history"]["state"] and hub["left_out"]
