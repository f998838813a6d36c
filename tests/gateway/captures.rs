//! `hubgate capture`: what an operator sees of the refused requests of a spoke, and who may see it.

mod access;
mod bounds;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command as Blocking, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::support::body::{Protocol, bare, encode, now, series, snappy};
use crate::support::config::{config, sha256, spoke, token, token_sha256};
use crate::support::eventually_equal;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually, signal};

/// A label value that no log and no page may show.
const SECRET: &str = "data-of-another-team";

/// A configuration whose admin port asks for a credential.
fn guarded(hub: &ScriptedHub, spokes: &[String]) -> String {
    let credential = may_capture(&token("operator"));
    let admin = format!("admin: {{address: \"127.0.0.1:0\", credentials: [{credential}]}}\n");
    let limits = "limits: {body_bytes_max: 100000, decoded_bytes_max: 200000}\n";
    format!("{admin}{limits}{}", config(&hub.url(), spokes))
}

/// A credential of an operator: the hash of a token.
fn may_capture(token: &str) -> String {
    format!("{{token_sha256: {}, captures: allow}}", sha256(token))
}

async fn start() -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let limited = "labels: {mismatch: reject}, limits: {answer: 429, samples_per_second: 100000}";
    let spokes = [spoke("production", limited), spoke("staging", "")];
    let gate = Gate::start(&guarded(&hub, &spokes)).await;
    (hub, gate)
}

/// A `hubgate capture` that has begun.
struct Capturing {
    child: Child,
    stderr: BufReader<ChildStderr>,
    folder: TempDir,
    /// What it said that it waits for.
    waiting: String,
}

impl Capturing {
    async fn start(gate: &Gate, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), token("operator")).unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
        command.args(["capture", "--spoke=production", "--token-file=token"]);
        command.arg(format!("--admin=http://{}", gate.admin_address()));
        command.args(["--out=out"]).args(arguments);
        command.current_dir(folder.path()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut capturing = Self {
            child,
            stderr,
            folder,
            waiting: String::new(),
        };
        capturing.waiting = capturing.line().await + &capturing.line().await;
        let start = "waiting for requests of production that are refused ";
        assert!(
            capturing.waiting.starts_with(start),
            "{}",
            capturing.waiting
        );
        capturing
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(&self) {
        signal(self.child.id().unwrap(), "INT");
    }

    /// The next line that it says.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stderr.read_line(&mut line);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        line
    }

    /// Waits for the end. Returns the exit code, and what was printed.
    async fn end(&mut self) -> (Option<i32>, String) {
        let mut printed = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        let read = stdout.read_to_string(&mut printed);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        (self.child.wait().await.unwrap().code(), printed)
    }

    /// The files, in the order of their requests.
    fn files(&self) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("out")).unwrap();
        let mut files: Vec<_> = files.map(|it| it.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn body_of(captured: &Value) -> Vec<u8> {
    BASE64_STANDARD
        .decode(captured["body"].as_str().unwrap())
        .unwrap()
}

/// Runs `hubgate inspect` on a file.
fn inspect(folder: &Path, file: &Path, arguments: &[&str]) -> String {
    let (code, text) = inspect_any(folder, file, arguments);
    assert!(code < 2, "{text}");
    text
}

/// Runs `hubgate inspect` on a file. Returns the exit code as well.
fn inspect_any(folder: &Path, file: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Blocking::new(env!("CARGO_BIN_EXE_hubgate"));
    command.arg("inspect").arg(file).args(arguments);
    let output = command.current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

/// Expects that only a part of a body is in a file.
fn expect_cut(capturing: &Capturing, file: &Path) {
    let (code, shown) = inspect_any(capturing.folder.path(), file, &[]);
    assert_eq!(code, 2, "{shown}");
    let cut = "# the body is cut, so it cannot be read; ";
    assert!(shown.contains(cut), "{shown}");
}

/// A write of a label that names another spoke.
fn mismatched() -> Vec<u8> {
    let labels = format!("__name__=up,cluster=staging,job={SECRET}");
    let forged = [bare(&labels).sample(1.0, now()), series("__name__=good")];
    encode(Protocol::V2, &forged)
}

fn write(protocol: Protocol, body: impl Into<bytes::Bytes>) -> Request {
    Request::write(protocol, body).spoke("production")
}

#[tokio::test]
async fn each_refused_request_is_stored_as_it_came() {
    let (hub, gate) = start().await;
    let mut capturing = Capturing::start(&gate, &["--requests=8"]).await;
    let good = encode(Protocol::V1, &[series("__name__=up")]);
    let forged = mismatched();
    let large = snappy(&vec![1; 150_000]);
    let noise: Vec<u8> = (0..120_000_u32)
        .map(|it| (it.wrapping_mul(it) >> 7) as u8)
        .collect();
    // What is not refused for good, or is another spoke's, is not stored.
    gate.send(write(Protocol::V1, good.clone()))
        .await
        .expect(204);
    let other = Request::write(Protocol::V2, forged.clone());
    gate.send(other.spoke("staging")).await;
    hub.reply_once(Reply::status(503));
    gate.send(write(Protocol::V1, good.clone()))
        .await
        .expect_retryable(503);
    let mut written = Vec::new();
    for (request, body, status, reason, protocol) in [
        (
            write(Protocol::V2, forged.clone()),
            forged,
            400,
            "mismatched_label",
            "v2",
        ),
        (
            write(Protocol::V1, good[..10].to_vec()),
            good[..10].to_vec(),
            400,
            "snappy",
            "v1",
        ),
        (
            write(Protocol::V2, good.clone()),
            good.clone(),
            400,
            "wrong_message",
            "v2",
        ),
        (
            write(Protocol::V1, large.clone()),
            large.clone(),
            400,
            "malformed",
            "v1",
        ),
        // The body is not read before the refusal.
        (
            write(Protocol::V1, good.clone()).header("content-encoding", "gzip"),
            good.clone(),
            415,
            "content_encoding",
            "v1",
        ),
        (
            write(Protocol::V1, noise.clone()),
            noise.clone(),
            413,
            "body_too_large",
            "v1",
        ),
        // It is too large when a part has arrived.
        (
            write(Protocol::V2, noise.clone()).chunked(),
            noise.clone(),
            413,
            "body_too_large",
            "v2",
        ),
    ] {
        gate.send(request).await.expect(status);
        written.push((body, status, reason, protocol));
        // The rest of a body may come after the response.
        eventually_equal(reason, DEADLINE, written.len(), async || {
            capturing.files().len()
        })
        .await;
    }
    // The hub refuses one of two series.
    hub.refuse_if(|series| series.notation().contains("bad"));
    let two = [series("__name__=bad"), series("__name__=good")];
    let two = encode(Protocol::V1, &two);
    gate.send(write(Protocol::V1, two.clone()))
        .await
        .expect(400);
    written.push((two, 400, "hub", "v1"));
    let (code, printed) = capturing.end().await;
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(capturing.line().await, "all are there after 8 requests\n");
    let files = capturing.files();
    assert_eq!((files.len(), printed.lines().count()), (8, 8), "{printed}");
    for (file, (body, status, reason, protocol)) in files.iter().zip(&written) {
        let captured = read(file);
        assert_eq!(captured["status"], *status, "{captured}");
        assert_eq!(captured["reasons"][0], *reason, "{captured}");
        assert!(captured["protocol"] == *protocol || *reason == "content_encoding");
        assert_eq!(captured["spoke"], "production");
        assert_eq!(captured["source_address"], "127.0.0.1");
        assert_eq!(captured["user_agent"], "Prometheus/2.42.0");
        assert!(body_of(&captured) == *body, "{reason}");
        assert_eq!(captured["body_bytes"], body.len());
        assert_eq!(captured["complete"], true, "{reason}");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains(&token("production")) && !text.contains("authorization"));
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(printed.contains(reason), "{printed}");
    }
    // Nothing of a body is in the log, beside the example of a refusal, which is a series.
    let log = gate.log().concat();
    let others = log
        .lines()
        .filter(|line| !line.contains("mismatched_label"));
    assert!(!others.collect::<String>().contains(SECRET), "{log}");
}

#[tokio::test]
async fn a_stored_request_is_inspected_as_the_gate_met_it() {
    let (_hub, gate) = start().await;
    let mut capturing = Capturing::start(&gate, &["--requests=2"]).await;
    gate.send(write(Protocol::V2, mismatched()))
        .await
        .expect(400);
    let hostile = "x\u{9b}31m\u{202e}y";
    let malformed = write(Protocol::V1, snappy(b"\x0a\x7f"));
    let malformed = malformed.header("user-agent", hostile);
    gate.send(malformed).await.expect(400);
    assert_eq!(capturing.end().await.0, Some(0));
    let folder = capturing.folder.path();
    std::fs::copy(gate.config_file(), folder.join("hubgate.yaml")).unwrap();
    let files = capturing.files();
    // The spoke is that of the capture.
    let text = inspect(folder, &files[0], &[]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("# captured at 20"), "{text}");
    let end = "Z of spoke production: 400 mismatched_label";
    assert!(lines[0].ends_with(end), "{text}");
    assert_eq!(
        lines[1],
        "# sent by 127.0.0.1 (socket), User-Agent \"Prometheus/2.42.0\", Content-Type \
         \"application/x-protobuf;proto=io.prometheus.write.v2.Request\", Content-Encoding \"snappy\""
    );
    let told = "# told: spoke production: mismatched_label: 1 of 2 refused: ";
    assert!(lines[2].starts_with(told), "{text}");
    assert!(lines[2].contains("; e.g. up{cluster=\"staging\""), "{text}");
    assert!(lines[3].starts_with("# v2 (io.prometheus.write.v2.Request)"));
    assert!(text.contains("# refused: mismatched_label: "), "{text}");
    assert!(!text.contains("when it was captured"), "{text}");
    let json = inspect(folder, &files[0], &["--output=json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["body"]["captured"]["reasons"][0], "mismatched_label");
    assert_eq!(json["series"].as_array().unwrap().len(), 2);
    let stored = std::fs::read_to_string(&files[1]).unwrap();
    assert!(stored.contains("x\\u009b31m\\u202ey"), "{stored}");
    let text = inspect(folder, &files[1], &[]);
    assert!(text.contains("# refused: malformed: "), "{text}");
    assert!(text.contains("x\\u{9b}31m\\u{202e}y"), "{text}");
}

#[tokio::test]
async fn captures_are_a_filter_with_inspect() {
    let (_hub, gate) = start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), token("operator")).unwrap();
    let program = env!("CARGO_BIN_EXE_hubgate");
    let admin = gate.admin_address();
    let script = format!(
        "{program} capture --spoke=production --token-file=token --admin=http://{admin} \
         --requests=2 --out=- | {program} inspect -"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(folder.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    gate.wait_for_log(&["a capture of refused requests begins"])
        .await;
    for _ in 0..2 {
        gate.send(write(Protocol::V2, mismatched()))
            .await
            .expect(400);
        // Each is shown before the next one comes.
        let series = async {
            while let Some(line) = shown.next_line().await.unwrap() {
                if line.starts_with("# 2 series: ") {
                    return;
                }
            }
            panic!("the output ended");
        };
        tokio::time::timeout(DEADLINE, series).await.unwrap();
    }
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn only_those_with_a_reason_are_stored_whatever_their_status() {
    let (hub, gate) = start().await;
    let chosen = ["--reason=hub_failed", "--reason=too_old", "--requests=1"];
    let mut capturing = Capturing::start(&gate, &chosen).await;
    gate.send(write(Protocol::V2, mismatched()))
        .await
        .expect(400);
    hub.reply_once(Reply::status(503));
    let good = encode(Protocol::V1, &[series("__name__=up")]);
    gate.send(write(Protocol::V1, good.clone()))
        .await
        .expect_retryable(503);
    assert_eq!(capturing.end().await.0, Some(0));
    let captured = read(&capturing.files()[0]);
    assert_eq!(captured["status"], 503);
    assert_eq!(captured["reasons"][0], "hub_failed");
    assert_eq!(body_of(&captured), good);
}

#[tokio::test]
async fn what_a_capture_waits_for_and_what_it_passed_over_is_said() {
    let hub = ScriptedHub::start().await;
    let keys = "limits: {samples_per_second: 1}";
    let gate = Gate::start(&guarded(&hub, &[spoke("production", keys)])).await;
    let mut in_vain = Capturing::start(&gate, &[]).await;
    in_vain.interrupt();
    assert_eq!(in_vain.line().await, "interrupted after 0 requests\n");
    let nothing = "meanwhile nothing of it was refused\n";
    assert_eq!(in_vain.line().await, nothing);
    // hubgate notices the end of the first a little later.
    let three = ["a", "b", "c"].map(|it| series(&format!("__name__={it}")));
    let body = encode(Protocol::V1, &three);
    let mut capturing = Capturing::start(&gate, &[]).await;
    let waiting = &capturing.waiting;
    let what = "refused with a status 4xx: 10 at most, until 2";
    assert!(waiting.contains(what), "{waiting}");
    let others = "\nthose with 5xx, which the spoke sends again, need a --reason: ";
    let (_, reasons) = waiting.split_once(others).unwrap();
    assert!(reasons.contains("rate_limited"), "{waiting}");
    gate.send(write(Protocol::V1, body.clone()))
        .await
        .expect(204);
    gate.send(write(Protocol::V1, body))
        .await
        .expect_retryable(503);
    capturing.interrupt();
    assert_eq!(capturing.line().await, "interrupted after 0 requests\n");
    let missed = "meanwhile something was refused for rate_limited; to capture that, say --reason \
                  rate_limited\n";
    assert_eq!(capturing.line().await, missed);
    assert_eq!(capturing.end().await.0, Some(1));
}

#[tokio::test]
async fn a_request_over_a_rate_is_stored_with_its_429() {
    let hub = ScriptedHub::start().await;
    let keys = "limits: {samples_per_second: 1, answer: 429}";
    let gate = Gate::start(&guarded(&hub, &[spoke("production", keys)])).await;
    let many: Vec<_> = (0..3)
        .map(|it| series(&format!("__name__=m{it}")))
        .collect();
    let body = encode(Protocol::V1, &many);
    gate.send(write(Protocol::V1, body.clone()))
        .await
        .expect(204);
    let mut capturing = Capturing::start(&gate, &["--requests=1"]).await;
    gate.send(write(Protocol::V1, body.clone()))
        .await
        .expect(429);
    assert_eq!(capturing.end().await.0, Some(0));
    let captured = read(&capturing.files()[0]);
    assert_eq!(captured["reasons"][0], "rate_limited");
    assert_eq!(body_of(&captured), body);
    // The body is not what was refused.
    let (folder, file) = (capturing.folder.path(), &capturing.files()[0]);
    let end = "\n# when it was captured, it was refused for rate_limited: the rate of the spoke decided \
               that, not the body";
    let (code, text) = inspect_any(folder, file, &[]);
    assert!(code == 0 && text.ends_with(&format!("{end}\n")), "{text}");
    std::fs::copy(gate.config_file(), folder.join("hubgate.yaml")).unwrap();
    let (code, text) = inspect_any(folder, file, &[]);
    let accepted = format!("{end}, which would be accepted\n");
    assert!(code == 0 && text.ends_with(&accepted), "{text}");
}

/// Whose body is not read, since it may be anybody's.
#[tokio::test]
async fn a_request_from_outside_the_source_ranges_is_stored_without_its_body() {
    let hub = ScriptedHub::start().await;
    let keys = "source_ranges: [10.0.0.0/8]";
    let gate = Gate::start(&guarded(&hub, &[spoke("production", keys)])).await;
    let mut capturing = Capturing::start(&gate, &["--requests=1"]).await;
    gate.send(write(Protocol::V2, mismatched()))
        .await
        .expect(403);
    assert_eq!(capturing.end().await.0, Some(0));
    let captured = read(&capturing.files()[0]);
    assert_eq!(captured["reasons"][0], "source_range");
    assert_eq!(
        (&captured["body_bytes"], &captured["body"]),
        (&0.into(), &"".into())
    );
    expect_cut(&capturing, &capturing.files()[0]);
}

/// What came of it is no malformed body.
#[tokio::test]
async fn a_body_that_breaks_off_is_stored_as_cut() {
    let (_hub, gate) = start().await;
    let chosen = ["--requests=1", "--reason=body_truncated"];
    let mut capturing = Capturing::start(&gate, &chosen).await;
    let body = mismatched();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
         Content-Length: {}\r\n\r\n",
        token("production"),
        body.len()
    );
    let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
    let request = [head.as_bytes(), &body[..body.len() - 1]].concat();
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(capturing.end().await.0, Some(0));
    let file = &capturing.files()[0];
    let captured = read(file);
    assert_eq!(captured["complete"], false);
    assert_eq!(body_of(&captured), body[..body.len() - 1]);
    expect_cut(&capturing, file);
}
