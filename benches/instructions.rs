//! The work of one request, again and again, for a program that counts instructions.
//!
//! `instructions CASE COUNT` does one case; `instructions.sh` runs it under callgrind with two
//! counts, and the difference is the cost of a warm request. Counts of instructions, unlike times,
//! are the same on a busy machine, so two commits can be compared. Without a case, as cargo runs
//! it, every case is done once; `--list` names them.

use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::policy::{self, Rules, Scratch};
use hubgate::wire::writer::{Form, Metadata};
use hubgate::wire::{Protocol, snappy};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: usize = 32 * 1024 * 1024;

/// Captured from real Prometheus servers (`tests/fixtures`).
const V1_BODY: &[u8] = include_bytes!("../tests/fixtures/prometheus-3.12-v1-2000.snappy");
const V2_BODY: &[u8] = include_bytes!("../tests/fixtures/prometheus-3.12-v2-2000.snappy");

#[derive(Debug, Clone, Copy)]
enum Work {
    /// Decompress.
    Decode,
    /// Inspect a message that may travel on as it is.
    Inspect,
    /// Write a message that lacks the cluster label with it.
    Inject,
    /// Write a message in the other version.
    Translate,
}

struct Case {
    name: &'static str,
    work: Work,
    protocol: Protocol,
}

const fn case(name: &'static str, work: Work, protocol: Protocol) -> Case {
    Case {
        name,
        work,
        protocol,
    }
}

const CASES: [Case; 8] = [
    case("decode-v1", Work::Decode, Protocol::V1),
    case("decode-v2", Work::Decode, Protocol::V2),
    case("inspect-v1", Work::Inspect, Protocol::V1),
    case("inspect-v2", Work::Inspect, Protocol::V2),
    case("inject-v1", Work::Inject, Protocol::V1),
    case("inject-v2", Work::Inject, Protocol::V2),
    case("upgrade", Work::Translate, Protocol::V1),
    case("downgrade", Work::Translate, Protocol::V2),
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => {
            for case in CASES {
                writeln!(io::stdout(), "{}", case.name)?;
            }
        }
        [name, count] if !name.starts_with('-') => {
            let case = CASES.into_iter().find(|case| case.name == *name);
            let case = case.with_context(|| format!("no case {name}; see --list"))?;
            case.run(count.parse().context("the count is a number")?);
        }
        // Cargo's own flags.
        _ => CASES.into_iter().for_each(|case| case.run(1)),
    }
    Ok(ExitCode::SUCCESS)
}

impl Case {
    /// Does the work of so many requests.
    fn run(&self, count: u32) {
        let body = match self.protocol {
            Protocol::V1 => V1_BODY,
            Protocol::V2 => V2_BODY,
        };
        let mut buffer = Vec::new();
        let message = decode(body, &mut buffer).to_vec();
        let mut scratch = Scratch::default();
        let (unchanged, injected) = (rules("cluster"), rules("tenant"));
        for _ in 0..count {
            match self.work {
                Work::Decode => {
                    black_box(decode(black_box(body), &mut buffer));
                }
                Work::Inspect => inspect(self.protocol, &message, &unchanged, &mut scratch),
                Work::Inject => {
                    write(
                        self.protocol,
                        self.protocol,
                        &message,
                        &injected,
                        &mut scratch,
                    );
                }
                Work::Translate => {
                    let to = match self.protocol {
                        Protocol::V1 => Protocol::V2,
                        Protocol::V2 => Protocol::V1,
                    };
                    write(self.protocol, to, &message, &unchanged, &mut scratch);
                }
            }
        }
    }
}

fn decode<'b>(body: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    snappy::decompress(body, LIMIT, buffer).expect("a captured body")
}

fn inspect(protocol: Protocol, message: &[u8], rules: &Rules, scratch: &mut Scratch) {
    let verdict = policy::inspect(protocol, black_box(message), rules, scratch);
    let verdict = verdict.expect("a captured body");
    assert!(!verdict.changed(), "it may travel on as it is");
}

fn write(from: Protocol, to: Protocol, message: &[u8], rules: &Rules, scratch: &mut Scratch) {
    let written = policy::write(
        from,
        black_box(message),
        rules,
        scratch,
        Form::new(to, Metadata::Drop),
    );
    black_box(written.expect("a captured body"));
}

fn rules(cluster_label: &str) -> Rules {
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Reject,
    };
    let limits = SpokeLimits {
        series_per_request_max: 50_000,
        labels_per_series_max: 128,
        label_value_bytes_max: 65_536,
    };
    Rules::new(cluster_label, "production", policy, limits)
}
