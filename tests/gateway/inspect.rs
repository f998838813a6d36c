//! `hubgate inspect`: what a body holds, and what hubgate would do with it.

mod table;

use std::io::Write as _;
use std::process::{Command, Stdio};

use hubgate::wire::proto::v2;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::body::{
    Protocol, Series, bare, encode, encode_v2, field, fixture, labels, metadata_v1, series, snappy,
    unsnappy,
};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

/// 2026-11-26T16:20:00.123Z
const TIME: i64 = 1_795_710_000_123;

struct Inspected {
    code: i32,
    out: String,
    err: String,
}

impl Inspected {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn expect_line(&self, start: &str) -> &str {
        let line = self.out.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start:?} in {}", self.out))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A folder with the configuration of the spokes `production` with these keys and `staging`.
fn configured(keys: &str, limits: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let spokes = [spoke("production", keys), spoke("staging", "")];
    let text = config("http://127.0.0.1:9/api/v1/write", &spokes) + limits;
    std::fs::write(folder.path().join("hubgate.yaml"), text).unwrap();
    folder
}

fn inspect_in(folder: &TempDir, body: &[u8], arguments: &[&str]) -> Inspected {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    command.args(["inspect", "-"]).args(arguments);
    command.current_dir(folder.path()).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let sent = std::thread::spawn(move || {
        // One that refuses its arguments reads nothing.
        let _ = stdin.write_all(&body);
    });
    let output = child.wait_with_output().unwrap();
    sent.join().unwrap();
    Inspected {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn inspect(body: &[u8], arguments: &[&str]) -> Inspected {
    inspect_in(&tempfile::tempdir().unwrap(), body, arguments)
}

/// A series of everything that both versions hold.
fn everything() -> Series {
    bare("__name__=latency,cluster=production,le=")
        .sample(1.5, TIME)
        .sample(f64::from_bits(0x7ff0_0000_0000_0002), TIME + 1)
        .histogram(TIME)
        .exemplar("trace_id=a b", TIME)
}

#[test]
fn both_versions_are_shown_in_the_notation_of_prometheus() {
    let shown = r#"latency{cluster="production",le=""}
  1.5 @ 2026-11-26T16:20:00.123Z
  stale @ 2026-11-26T16:20:00.124Z
  {schema:3, count:3, sum:4.5, [-0.001,0.001]:1, (1,1.09051]:2} @ 2026-11-26T16:20:00.123Z
  exemplar {trace_id="a b"} 0.5 @ 2026-11-26T16:20:00.123Z
"#;
    let end = "# 1 series: 2 samples, 1 histogram, 1 exemplar, 0 metadata; from \
               2026-11-26T16:20:00.123Z to 2026-11-26T16:20:00.124Z\n";
    for (protocol, message) in [
        (Protocol::V1, "prometheus.WriteRequest"),
        (Protocol::V2, "io.prometheus.write.v2.Request"),
    ] {
        let body = encode(protocol, &[everything()]);
        let message_bytes = unsnappy(&body).unwrap();
        let head = |encoding, bytes| {
            let (name, decoded) = (protocol.name(), message_bytes.len());
            format!("# {name} ({message}), encoding {encoding}: {bytes} bytes, {decoded} decoded\n")
        };
        let compressed = inspect(&body, &[]).expect(0);
        let expected = format!("{}{shown}{end}", head("snappy", body.len()));
        assert_eq!(compressed.out, expected);
        let plain = inspect(&message_bytes, &[]).expect(0);
        let expected = format!("{}{shown}{end}", head("none", message_bytes.len()));
        assert_eq!(plain.out, expected);
    }
}

#[test]
fn created_timestamps_metadata_and_custom_buckets_of_v2_are_shown() {
    let symbols = [
        "",
        "__name__",
        "http.requests",
        "a-b",
        "c",
        "seconds",
        "how long",
    ];
    let mut histogram = bare("a=b").custom_buckets(TIME).histograms.remove(0);
    histogram.start_timestamp = TIME - 60_000;
    let timeseries = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![v2::Sample {
            value: 2.0,
            timestamp: TIME,
            start_timestamp: TIME - 1000,
        }],
        histograms: vec![histogram],
        metadata: Some(v2::Metadata {
            r#type: 1,
            help_ref: 6,
            unit_ref: 5,
        }),
        ..v2::TimeSeries::default()
    };
    let body = encode_v2(&symbols, vec![timeseries]);
    let shown = r#"{__name__="http.requests","a-b"="c"}
  2 @ 2026-11-26T16:20:00.123Z created 2026-11-26T16:19:59.123Z
  {schema:-53, count:3, sum:4.5, (-Inf,1]:1, (1,2]:2} @ 2026-11-26T16:20:00.123Z created 2026-11-26T16:19:00.123Z
  metadata: counter, unit "seconds", help "how long"
"#;
    let text = inspect(&body, &[]).expect(0).out;
    assert!(text.contains(shown), "{text}");
    let json = inspect(&body, &["-o", "json"]).expect(0).json();
    let series = &json["series"][0];
    assert_eq!(series["labels"][1]["name"], "a-b");
    assert_eq!(series["samples"][0]["start_timestamp"], TIME - 1000);
    assert_eq!(series["samples"][0]["value"], "2");
    assert_eq!(series["histograms"][0]["buckets"][0]["lower"], "-Inf");
    assert_eq!(series["metadata"]["type"], "counter");
    assert_eq!(json["body"]["protocol"], "v2");
    assert_eq!(json["summary"]["histograms"], 1);
}

#[test]
fn metadata_of_v1_has_its_family_in_json() {
    let json = inspect(&metadata_v1("up"), &["-o", "json"])
        .expect(0)
        .json();
    assert_eq!(json["metadata"][0]["family"], "up");
    assert_eq!(json["series"].as_array().unwrap().len(), 0);
}

/// The numbers are those of `tests/fixtures/README.md`.
#[test]
fn captured_bodies_hold_what_is_known_of_them() {
    for (name, protocol, cluster, [all, samples, histograms, exemplars, metadata]) in [
        (
            "prometheus-3.12-v1-mixed",
            "v1",
            "production",
            [300, 281, 17, 2, 0],
        ),
        (
            "prometheus-3.12-v1-metadata",
            "v1",
            "production",
            [0, 0, 0, 0, 267],
        ),
        (
            "prometheus-3.12-v2-mixed",
            "v2",
            "production",
            [300, 281, 17, 2, 300],
        ),
        (
            "prometheus-3.12-v2-floats",
            "v2",
            "production",
            [300, 300, 0, 0, 300],
        ),
        (
            "prometheus-2.42-v1-mixed",
            "v1",
            "staging",
            [300, 298, 0, 2, 0],
        ),
        (
            "prometheus-2.42-v1-metadata",
            "v1",
            "staging",
            [0, 0, 0, 0, 206],
        ),
        (
            "prometheus-3.12-v1-2000",
            "v1",
            "production",
            [2000, 2000, 0, 0, 0],
        ),
        (
            "prometheus-3.12-v2-2000",
            "v2",
            "production",
            [2000, 2000, 0, 0, 2000],
        ),
    ] {
        let body = fixture(name);
        let text = inspect(&body, &[]).expect(0);
        text.expect_line(&format!("# {protocol} ("));
        text.expect_line(&format!(
            "# {all} series: {samples} samples, {histograms} histograms, {exemplars} exemplars, \
             {metadata} metadata"
        ));
        let folder = configured("", "");
        let asked = ["--spoke", cluster, "-o", "json"];
        let json = inspect_in(&folder, &body, &asked).expect(0).json();
        let series = json["series"].as_array().unwrap();
        assert_eq!(series.len(), all, "{name}");
        let passing = series
            .iter()
            .filter(|it| it["decision"]["action"] == "pass");
        assert_eq!(passing.count(), all, "{name}");
        assert_eq!(json["summary"]["verdict"]["response"]["status"], 204);
        let kept = |kind: &str| -> usize {
            let items = series.iter().filter_map(|it| it[kind].as_array());
            items.map(Vec::len).sum()
        };
        let shown = ["samples", "histograms", "exemplars"].map(kept);
        assert_eq!(shown, [samples, histograms, exemplars], "{name}");
    }
}

/// Each series with what becomes of it, and all of them at a real gate: what it sends to the hub, and
/// what it responds.
#[tokio::test]
async fn the_policy_says_what_the_gate_does() {
    let cases = [
        "__name__=up,cluster=production",
        "__name__=up,job=a",
        "__name__=up,cluster=,job=b",
        "job=c,__name__=up,cluster=production",
        "__name__=up,cluster=staging,job=d",
        "__name__=up,cluster=staging,exported_cluster=x,job=e",
        "cluster=production,job=f",
        "__name__=up,cluster=production,job=g,job=g",
        "__name__=up,=h,cluster=production",
    ];
    let body: Vec<_> = cases.iter().map(|case| series(case)).collect();
    for keys in [
        "",
        "labels: {absent: reject, mismatch: rename}",
        "labels: {mismatch: overwrite}",
        "limits: {labels_per_series_max: 2}",
        "limits: {labels_per_series_max: {limit: 2, mode: observe}, label_value_bytes_max: 9}",
        "limits: {series_per_request_max: 3}",
    ] {
        let hub = ScriptedHub::start().await;
        let gate = Gate::start(&config(&hub.url(), &[spoke("production", keys)])).await;
        let folder = configured(keys, "");
        for protocol in Protocol::BOTH {
            let encoded = encode(protocol, &body);
            let asked = ["--spoke=production", "--output=json"];
            let inspected = inspect_in(&folder, &encoded, &asked).expect(1);
            let json = inspected.json();
            let said = &json["summary"]["verdict"]["response"];
            let request = Request::write(protocol, encoded).spoke("production");
            let response = gate.send(request).await;
            assert_eq!(said["status"], response.status, "{keys}");
            assert_eq!(said["text"], response.text.trim_end(), "{keys}");
            let received = hub.take_received();
            let sent = received.iter().flat_map(|request| &request.series);
            let mut sent: Vec<_> = sent.map(|series| sorted(&series.labels)).collect();
            sent.sort();
            assert_eq!(predicted(&json), sent, "{keys}: {}", inspected.out);
        }
    }
}

fn sorted(labels: &[(String, String)]) -> Vec<(String, String)> {
    let mut labels = labels.to_vec();
    labels.sort();
    labels
}

/// The labels of the series that pass, sorted.
fn predicted(json: &Value) -> Vec<Vec<(String, String)>> {
    let pairs = |list: &Value| -> Vec<(String, String)> {
        let list = list.as_array().into_iter().flatten();
        let text = |label: &Value, key: &str| label[key].as_str().unwrap().to_owned();
        list.map(|label| (text(label, "name"), text(label, "value")))
            .collect()
    };
    let series = json["series"].as_array().unwrap().iter();
    let passing = series.filter(|it| it["decision"]["action"] != "refuse");
    let mut labels: Vec<_> = passing
        .map(|series| {
            let mut labels = pairs(&series["labels"]);
            let removed = pairs(&series["decision"]["removed_labels"]);
            labels.retain(|label| !removed.contains(label));
            labels.extend(pairs(&series["decision"]["set_labels"]));
            sorted(&labels)
        })
        .collect();
    labels.sort();
    labels
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_not_guessed_at() {
    let both = snappy(&[field(1, b""), field(5, b"")].concat());
    let unsure = inspect(&both, &[]).expect(2);
    assert!(
        unsure.err.contains("--protocol v1 or --protocol v2"),
        "{}",
        unsure.err
    );
    assert_eq!(unsure.out, "");
    // A block of 26 bytes begins with 26, which is the key of field 3.
    let message = field(1, &[0; 24]);
    let mut body = vec![26, 36];
    body.extend(&message[..10]);
    let mut rest = &message[10..];
    for length in [2, 2, 2, 2, 2, 2, 1, 1, 1, 1] {
        let (literal, left) = rest.split_at(length);
        body.push(u8::try_from(length - 1).unwrap() << 2);
        body.extend(literal);
        rest = left;
    }
    assert_eq!(unsnappy(&body).unwrap(), message);
    let unsure = inspect(&body, &[]).expect(2);
    assert!(
        unsure.err.contains("--encoding none or --encoding snappy"),
        "{}",
        unsure.err
    );
    for (encoding, decoded) in [("none", 38), ("snappy", 26)] {
        let text = inspect(&body, &["--encoding", encoding]).expect(1);
        text.expect_line(&format!(
            "# v1 (prometheus.WriteRequest), encoding {encoding}: 38 bytes, {decoded} decoded"
        ));
    }
}

#[test]
fn hostile_texts_cannot_reach_the_terminal() {
    let hostile = "\u{1b}[2J\u{202e}\u{2066}\r\n\u{0}\"}\u{7f}\u{9b}";
    let mut one = bare("__name__=up,cluster=production")
        .sample(1.0, TIME)
        .help(hostile);
    for (name, value) in [("a", hostile), (hostile, "b")] {
        one.labels.push((name.to_owned(), value.to_owned()));
        one = one.exemplar("trace=x", TIME);
        one.exemplars[0].labels = labels("x=y");
        one.exemplars[0].labels[0].1 = hostile.to_owned();
    }
    let invalid = field(
        1,
        &[field(1, b"__name__"), field(2, b"\xff\xfe\x1b")].concat(),
    );
    let bodies = [
        encode(Protocol::V1, std::slice::from_ref(&one)),
        encode(Protocol::V2, &[one]),
        snappy(&field(1, &invalid)),
        metadata_v1(hostile),
    ];
    let folder = configured("", "");
    for body in bodies {
        for arguments in [
            &[][..],
            &["--spoke=production"],
            &["-o=json", "--spoke=production"],
        ] {
            let shown = inspect_in(&folder, &body, arguments);
            let printed = shown.out.chars().filter(|it| *it != '\n');
            let unsafe_: Vec<_> = printed
                .filter(|it| it.is_control() || ('\u{2000}'..'\u{2070}').contains(it))
                .collect();
            assert!(unsafe_.is_empty(), "{unsafe_:?} in {:?}", shown.out);
            assert!(
                shown.out.contains("u{202e}")
                    || shown.out.contains("\\u202e")
                    || shown.out.contains("\\xff")
                    || shown.out.contains('\u{fffd}')
            );
        }
    }
}

#[test]
fn trouble_is_told_apart_from_a_refusal() {
    let folder = configured("", "");
    let body = encode(Protocol::V1, &[series("__name__=up")]);
    for (arguments, error) in [
        (
            &["--spoke=prod"][..],
            "no spoke is named \"prod\"; the configuration has production, staging",
        ),
        (&["--config.file=hubgate.yaml"], "--spoke <NAME>"),
        (
            &["--spoke=production", "--config.file=other.yaml"],
            "other.yaml: cannot be read",
        ),
        (&["--time=yesterday"], "is not a time in UTC"),
        (&["--output=yaml"], "[possible values: text, json]"),
    ] {
        let trouble = inspect_in(&folder, &body, arguments).expect(2);
        assert!(trouble.err.contains(error), "{}", trouble.err);
        assert_eq!(trouble.out, "");
    }
    let nothing = inspect(b"", &[]).expect(2);
    let empty = "hubgate inspect: stdin is empty, so there is no body to inspect; ";
    assert!(nothing.err.starts_with(empty), "{}", nothing.err);
    assert_eq!(nothing.out, "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    let missing = command.args(["inspect", "no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(
        error.starts_with("hubgate inspect: cannot read no/such/file: "),
        "{error}"
    );
    let file = folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    let read = command.arg("inspect").arg(&file).output().unwrap();
    assert_eq!(read.status.code(), Some(0));
}
