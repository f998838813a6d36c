//! Bodies, and the lines that are printed of them.

use super::*;

/// A body, how it is looked at, and what is printed of it.
struct Case<'c> {
    name: &'c str,
    body: Vec<u8>,
    /// Keys of the spoke `production`, and further lines of the configuration.
    keys: &'c str,
    limits: String,
    arguments: &'c [&'c str],
    code: i32,
    /// Lines of the output. One that ends with `...` is the start of a line.
    lines: &'c [&'c str],
}

/// A body that is shown without a spoke, and refused.
fn case<'c>(name: &'c str, body: impl Into<Vec<u8>>, lines: &'c [&'c str]) -> Case<'c> {
    Case {
        name,
        body: body.into(),
        keys: "",
        limits: String::new(),
        arguments: &[],
        code: 1,
        lines,
    }
}

/// A body that the spoke `production` with these keys sends.
fn sent<'c>(name: &'c str, body: &[u8], keys: &'c str, lines: &'c [&'c str]) -> Case<'c> {
    Case {
        keys,
        arguments: &["--spoke=production", "--time=2026-11-26T16:20:00Z"],
        ..case(name, body, lines)
    }
}

impl Case<'_> {
    fn check(&self) {
        let folder = configured(self.keys, &self.limits);
        let shown = inspect_in(&folder, &self.body, self.arguments);
        let Inspected { code, out, err } = &shown;
        assert_eq!(*code, self.code, "{}: {out}{err}", self.name);
        for line in self.lines {
            let found = match line.strip_suffix("...") {
                Some(start) => out.lines().any(|it| it.starts_with(start)),
                None => out.lines().any(|it| it == *line),
            };
            assert!(found, "{}: no {line:?} in {out}", self.name);
        }
        let json = inspect_in(
            &folder,
            &self.body,
            &[self.arguments, &["-o=json"]].concat(),
        );
        assert_eq!(json.code, self.code, "{}", self.name);
        json.json();
    }
}

#[test]
fn each_body_is_shown_as_the_table_says() {
    let one = bare("__name__=up,cluster=production").sample(1.0, TIME);
    let one = encode(Protocol::V1, &[one]);
    let message = unsnappy(&one).unwrap();
    let changes = [
        "__name__=a,cluster=production",
        "__name__=b",
        "__name__=c,cluster=staging",
        "__name__=d,cluster=production,b=",
        "cluster=production,__name__=e",
        "cluster=production",
    ];
    let changes = changes.map(|it| bare(it).sample(1.0, TIME));
    let changes = encode(Protocol::V1, &changes);
    let times = bare("__name__=up,cluster=production")
        .sample(1.0, TIME - 7_200_000)
        .sample(2.0, TIME)
        .sample(3.0, TIME + 7_200_000);
    let times = encode(Protocol::V2, &[times]);
    let good = unsnappy(&encode(Protocol::V1, &[everything()])).unwrap();
    let broken = snappy(&[&good[..], &field(1, b"\x0a\x7f")].concat());
    // A series without a name, and a field of the other message.
    let both = snappy(&[field(1, b""), field(5, b"")].concat());
    let limited = |name, body: &[u8], limits: [usize; 2], code, lines| Case {
        limits: format!(
            "limits: {{body_bytes_max: {}, decoded_bytes_max: {}}}\n",
            limits[0], limits[1]
        ),
        code,
        ..sent(name, body, "", lines)
    };
    let too_large = &[
        "# refused: body_too_large: the body is larger than...",
        "# response: 413",
    ];
    let expands = &[
        "# refused: decoded_too_large: the body declares...",
        "# response: 413",
    ];
    let read_as = |name, arguments| Case {
        arguments,
        code: 0,
        ..case(
            name,
            both.clone(),
            &["# there are fields that the message does not define; they never travel on"],
        )
    };
    let cases = [
        sent(
            "labels that change, and what to do",
            &changes,
            "labels: {mismatch: rename}",
            &[
                r#"a{cluster="production"}  # passes"#,
                r#"b{}  # passes, changed: with cluster="production""#,
                r#"c{cluster="staging"}  # passes, changed: with cluster="production",exported_cluster="staging", without cluster="staging"; mismatched_label"#,
                r#"d{cluster="production",b=""}  # passes, changed: without b="""#,
                r#"e{cluster="production"}  # passes, changed: labels in order, no foreign fields"#,
                r#"{cluster="production"}  # refused: missing_metric_name: every series needs the label __name__"#,
                "# spoke production: 5 of 6 series pass",
                r#"# refused: missing_metric_name: 1: every series needs the label __name__; e.g. {cluster="production"}"#,
                "# response, if the hubs take all that passes: 400",
                "# spoke production: missing_metric_name: 1 of 6 refused: ...",
            ],
        ),
        sent(
            "samples, at the time of the request",
            &times,
            "limits: {samples_age_max: 1h}",
            &[
                "  1 @ 2026-11-26T14:20:00.123Z  # refused: too_old: 7199 s old: check the clocks and the backlog, or raise limits.samples_age_max",
                "  2 @ 2026-11-26T16:20:00.123Z",
                "  3 @ 2026-11-26T18:20:00.123Z  # refused: too_far_in_future: 7200 s ahead: check the clocks, or raise limits.samples_ahead_max",
            ],
        ),
        Case {
            code: 0,
            ..sent(
                "samples under limits that only count",
                &times,
                "limits: {mode: observe, samples_age_max: 1h, samples_ahead_max: 1h}",
                &[
                    r#"up{cluster="production"}  # passes; samples_age_max; samples_ahead_max"#,
                    "# observed: limits.samples_age_max is exceeded by 1",
                    "# observed: limits.samples_ahead_max is exceeded by 1",
                ],
            )
        },
        limited("a large body", &one, [one.len() - 1, 1000], 1, too_large),
        limited(
            "a body that expands",
            &one,
            [1000, message.len() - 1],
            1,
            expands,
        ),
        limited(
            "a large message",
            &message,
            [1000, message.len() - 1],
            1,
            expands,
        ),
        limited(
            "a body at its limits",
            &one,
            [one.len(), message.len()],
            0,
            &[],
        ),
        case(
            "framed snappy",
            *b"\xff\x06\x00\x00sNaPpY",
            &[
                "# refused: snappy: the body is framed snappy...",
                "# response: 400",
            ],
        ),
        case(
            "a request with its head",
            *b"POST /api/v1/write HTTP/1.1\r\n",
            &[
                "# refused: snappy: the body is not a valid snappy block...",
                "# it begins with the head of an HTTP message; give the body alone",
            ],
        ),
        case(
            "gzip",
            *b"\x1f\x8b\x08\x00",
            &[
                "# refused: snappy: ...",
                "# it is compressed by gzip; decompress it first",
            ],
        ),
        case(
            "base64",
            *b"CvQBCgw=\n",
            &[
                "# refused: snappy: ...",
                "# it is text; decode it first if it is base64 or hex",
            ],
        ),
        case(
            "a cut message that is not compressed",
            &message[..message.len() - 1],
            &[
                "# refused: snappy: ...",
                "# if it is a message that is not compressed, say --encoding none",
            ],
        ),
        case(
            "a cut message",
            snappy(&message[..message.len() - 1]),
            &[
                "# refused: malformed: the body is not a valid prometheus.WriteRequest: it ends inside a field; check the sender",
                "# response: 400",
            ],
        ),
        case(
            "fields of another message",
            snappy(&field(9, b"x")),
            &[
                "# refused: wrong_message: the body holds no field of...",
                "# response: 400",
            ],
        ),
        case(
            "a series before an error",
            broken,
            &[
                "latency{...",
                "# refused: malformed: ...",
                "# 1 series: 2 samples...",
            ],
        ),
        Case {
            code: 0,
            ..case("an empty message", snappy(b""), &["# 0 series: ..."])
        },
        Case {
            code: 0,
            ..case(
                "metadata of V1",
                metadata_v1("up"),
                &["metadata of \"up\": counter, help \"help\""],
            )
        },
        read_as("a body of both versions as V1", &["--protocol=v1"]),
        read_as("a body of both versions as V2", &["--protocol=v2"]),
    ];
    for case in &cases {
        case.check();
    }
}
