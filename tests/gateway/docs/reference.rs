//! Compares the lists of the pages with the program: keys, metrics, reasons, flags, figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hubgate::config::{self, Config, LimitSet};
use hubgate::reasons::{Reason, RequestReason};

use super::examples::{Example, SPARSE, write_secrets};
use super::page::{Page, code, root, rows};
use crate::support;
use crate::support::body::Protocol;
use crate::support::config::{not_after, sha256, spoke_with, token, token_sha256};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::jwt::jwt;
use crate::support::metrics::Metrics;
use crate::support::pki::Authority;
use crate::support::prometheus::find_on_path;
use crate::support::sender::Request;
use crate::support::tls::{self, TlsClient};

/// Flags of Prometheus that the pages name.
const PROMETHEUS_FLAGS: [&str; 6] = [
    "--enable-feature",
    "--storage.tsdb.path",
    "--web.config.file",
    "--web.enable-remote-write-receiver",
    "--web.listen-address",
    "--web.max-connections",
];

/// A configuration with an unknown key in every mapping. The errors name the keys that are allowed.
const UNKNOWN_KEYS: &str = "x: 1
listen: {x: 1, tls: {x: 1}}
admin: {x: 1, tls: {x: 1}}
hub: {x: 1, url: 'http://hub', credentials: {x: 1, basic: {x: 1}}, tls: {x: 1}}
limits: {x: 1}
spoke_defaults: {x: 1, labels: {x: 1}, limits: {x: 1}}
spokes:
- x: 1
  labels: {x: 1}
  limits: {x: 1}
  credentials: [{x: 1}, {basic: {x: 1}}, {certificate: {x: 1}}, {jwt: {x: 1}}]
";

/// The keys of hubgate's configuration below `prefix`, as paths such as `limits.body_bytes_max`.
fn keys_below(prefix: &str) -> BTreeSet<String> {
    let errors = config::parse(UNKNOWN_KEYS).unwrap_err();
    let mut keys = BTreeSet::new();
    let mut parents = BTreeSet::new();
    for error in &errors {
        let Some((_, allowed)) = error.message.split_once("allowed: ") else {
            continue;
        };
        assert!(error.message.contains("unknown key"), "{error}");
        let mapping = (0..4).fold(error.key.clone(), |key, place| {
            key.replace(&format!("[{place}]"), "[]")
        });
        for key in allowed.split(", ") {
            let path = [mapping.as_str(), key].join(".");
            keys.insert(path.trim_start_matches('.').to_owned());
        }
        parents.insert(mapping);
    }
    let mappings = UNKNOWN_KEYS.matches("x: 1").count();
    assert_eq!(parents.len(), mappings, "{parents:?}");
    let leaves = keys.into_iter().filter(|key| !parents.contains(key));
    let below = leaves.filter_map(|key| key.strip_prefix(prefix).map(str::to_owned));
    below.collect()
}

/// The cells of the table below a heading, by the code in the first.
fn table(page: &Page, heading: &str) -> BTreeMap<String, Vec<String>> {
    let rows = rows(&page.section(heading)).into_iter();
    let named = rows.map(|row| (code(&row[0]).to_owned(), row));
    let mut table = BTreeMap::new();
    for (name, row) in named {
        let before = table.insert(name, row);
        assert!(before.is_none(), "{before:?} occurs twice");
    }
    table
}

fn names(table: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    table.keys().cloned().collect()
}

fn set<'s>(names: impl IntoIterator<Item = &'s str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_tables_of_keys_have_every_key_and_no_other() {
    let page = Page::read("docs/configuration.md");
    let process: BTreeSet<String> = keys_below("")
        .into_iter()
        .filter(|key| {
            let of_a_hub = key.starts_with("hub.");
            let of_tls = key.starts_with("listen.tls.") || key.starts_with("admin.tls.");
            !of_a_hub
                && !of_tls
                && !key.starts_with("spokes[].")
                && !key.starts_with("spoke_defaults.")
        })
        .collect();
    // These are mappings and lists, so they have tables of their own.
    let mappings = ["hub", "spokes", "spoke_defaults", "listen.tls", "admin.tls"];
    let process = &process | &set(mappings);
    assert_eq!(names(&table(&page, "The process")), process);
    for listener in ["listen.tls.", "admin.tls."] {
        assert_eq!(names(&table(&page, "TLS")), keys_below(listener));
    }
    assert_eq!(names(&table(&page, "Hub")), keys_below("hub."));
    let spoke = keys_below("spokes[].");
    assert_eq!(names(&table(&page, "Spoke")), spoke);
    let of_one = |key: &&String| *key == "name" || key.starts_with("credentials");
    let shared: BTreeSet<String> = spoke.iter().filter(|it| !of_one(it)).cloned().collect();
    assert_eq!(keys_below("spoke_defaults."), shared);
}

#[test]
fn the_complete_example_has_every_key() {
    let example = &Example::Configuration.on(&Page::read("docs/configuration.md"))[0].text;
    for key in keys_below("") {
        let (_, key) = key.rsplit_once('.').unwrap_or(("", &key));
        // The example has `hubs` instead.
        assert!(
            key == "hub" || example.contains(&format!("{key}:")),
            "{key}"
        );
    }
}

#[test]
fn the_tables_of_keys_show_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    write_secrets(folder.path());
    let load = |text: String| -> Config {
        let file = folder.path().join("hubgate.yaml");
        fs::write(&file, &text).unwrap();
        let loaded = config::load(&file).result;
        let mut config = loaded.unwrap_or_else(|errors| panic!("{errors} in\n{text}"));
        // Whether a limit is named is not a part of its value.
        for spoke in &mut config.spokes {
            spoke.limits.named = LimitSet::EMPTY;
        }
        config
    };
    let default = load(SPARSE.to_owned());
    let page = Page::read("docs/configuration.md");
    // Where the keys of a table go in the sparse configuration.
    let places = [
        ("The process", ""),
        ("Hub", "hub: {"),
        ("Spoke", "spokes: [{"),
    ];
    let mut compared = 0;
    for (heading, place) in places {
        for (key, row) in table(&page, heading) {
            if row[1].is_empty() {
                continue;
            }
            let value = code(&row[1]);
            let setting = match key.split_once('.') {
                Some((section, key)) => format!("{section}: {{{key}: {value}}}"),
                None => format!("{key}: {value}"),
            };
            let text = if place.is_empty() {
                format!("{setting}\n{SPARSE}")
            } else {
                SPARSE.replace(place, &format!("{place}{setting}, "))
            };
            assert_eq!(load(text), default, "{key}");
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared} defaults");
}

#[test]
fn the_tables_of_reasons_have_every_reason_and_no_other() {
    let page = Page::read("docs/responses.md");
    let requests = table(&page, "Reasons of refused requests");
    assert_eq!(
        names(&requests),
        set(RequestReason::ALL.map(RequestReason::name))
    );
    let series = table(&page, "Reasons of refused series");
    assert_eq!(names(&series), set(Reason::ALL.map(Reason::name)));
}

/// The types of all metrics, by name.
fn families() -> BTreeMap<String, String> {
    let pinned = fs::read_to_string(root().join("tests/fixtures/metrics.txt")).unwrap();
    let types = pinned.lines().filter_map(|line| line.split_once(" TYPE "));
    let types: BTreeMap<_, _> = types
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    assert!(!types.is_empty());
    types
}

/// The rows of all tables of metrics.
fn documented_metrics() -> BTreeMap<String, Vec<String>> {
    let page = Page::read("docs/metrics.md");
    let headings = ["Requests of spokes", "Samples", "Hubs", "The process"];
    let tables = headings.map(|heading| table(&page, heading));
    tables.into_iter().flatten().collect()
}

#[test]
fn the_tables_of_metrics_have_every_metric_with_its_type() {
    let documented = documented_metrics();
    let types = documented
        .iter()
        .map(|(name, row)| (name.clone(), row[1].clone()));
    assert_eq!(types.collect::<BTreeMap<_, _>>(), families());
}

/// A scrape after a write, so that every family has a series.
async fn scrape() -> Metrics {
    let (hub, authority) = (ScriptedHub::start().await, Authority::new("authority"));
    let listen = tls::listen(&tls::gate_certificate(&authority), "");
    let end = SystemTime::now() + Duration::from_secs(365 * 24 * 3600);
    let credential = not_after(&token_sha256(&token("production")), end);
    // Nothing has to answer there.
    let fetched = jwt("hubgate", "jwks_url: 'http://127.0.0.1:1/keys'");
    let spokes = [
        spoke_with(
            "production",
            &credential,
            "limits: {samples_per_second: 1000000, active_series_max: 1000000}",
        ),
        spoke_with("fetched", &fetched, ""),
    ];
    let config = support::config::config(&hub.url(), &spokes);
    let gate = Gate::start(&(listen + &config)).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let request = Request::up().spoke("production");
    let client = TlsClient::new(&authority);
    gate.send(request.tls(&client)).await.expect(204);
    gate.metrics().await
}

#[tokio::test]
async fn the_tables_of_metrics_show_the_labels_and_their_values() {
    let metrics = scrape().await;
    let spans: BTreeSet<_> = Page::read("docs/metrics.md")
        .code_spans()
        .into_iter()
        .collect();
    for (name, row) in documented_metrics() {
        let lines = metrics.text.lines().filter(|line| {
            let rest = line.strip_prefix(&name).unwrap_or_default();
            ["{", " ", "_bucket{", "_sum{", "_count{"]
                .iter()
                .any(|next| rest.starts_with(next))
        });
        let mut scraped = BTreeSet::new();
        for line in lines {
            let labels = line.split_once('{').map_or("", |(_, labels)| labels);
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split_once("=\""));
            scraped.extend(labels.map(|(label, _)| label.to_owned()));
        }
        scraped.remove("le");
        let shown = row[2].split(", ").filter(|label| !label.is_empty());
        assert_eq!(set(shown.map(code)), scraped, "{name}");
        for label in ["kind", "part", "reason", "result"] {
            let known = name == "hubgate_samples_rejected_total" && label == "reason";
            if known || !scraped.contains(label) {
                continue;
            }
            for value in metrics.label_values(&name, label) {
                assert!(spans.contains(value), "{name}: {label} {value:?}");
            }
        }
    }
}

#[test]
fn pages_name_no_metric_that_does_not_exist() {
    let families = families();
    let mut found = 0;
    for page in Page::all() {
        for start in page.text.match_indices("hubgate_").map(|(start, _)| start) {
            let rest = &page.text[start..];
            let end = rest.find(|it: char| !it.is_ascii_lowercase() && it != '_');
            let name = &rest[..end.unwrap_or(rest.len())];
            // The file of the Debian package, hubgate_VERSION_ARCHITECTURE.deb.
            if name == "hubgate_" {
                continue;
            }
            assert!(
                families.contains_key(name),
                "{}: {name}",
                page.path.display()
            );
            found += 1;
        }
    }
    assert!(found > 0, "no page names a metric");
}

fn help(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg("--help")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of hubgate, as its help lists them.
fn commands() -> Vec<String> {
    let help = help(env!("CARGO_BIN_EXE_hubgate"), &[]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.collect()
}

#[test]
fn the_table_of_commands_has_every_command() {
    let page = Page::read("docs/operation.md");
    let rows = rows(&page.section("Commands"));
    let shown = rows
        .iter()
        .filter_map(|row| code(&row[0]).strip_prefix("hubgate "));
    let commands = commands();
    assert_eq!(set(shown), set(commands.iter().map(String::as_str)));
}

#[test]
fn the_table_of_flags_has_every_flag_with_its_default() {
    let page = Page::read("docs/operation.md");
    let rows = rows(&page.section("Commands"));
    let flags = rows.iter().filter(|row| code(&row[0]).starts_with("--"));
    let shown: BTreeMap<_, _> = flags
        .map(|row| {
            (
                code(&row[0]).to_owned(),
                row[1].trim_matches('`').to_owned(),
            )
        })
        .collect();
    let help = help(env!("CARGO_BIN_EXE_hubgate"), &["serve"]);
    let mut known = BTreeMap::new();
    let mut flag = String::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") {
            flag = line.split(' ').next().unwrap().to_owned();
            known.insert(flag.clone(), String::new());
        } else if let Some(default) = line.strip_prefix("[default: ") {
            known.insert(flag.clone(), default.trim_end_matches(']').to_owned());
        }
    }
    assert_eq!(shown, known);
}

#[test]
fn flags_that_pages_name_exist() {
    let commands = commands();
    let hubgate = commands.iter().filter(|it| *it != "help");
    let mut known: String = hubgate
        .map(|command| help(env!("CARGO_BIN_EXE_hubgate"), &[command]))
        .collect();
    known += &help(env!("CARGO_BIN_EXE_hubgate"), &[]).replace(',', " ");
    let prometheus = find_on_path("prometheus").expect("prometheus on PATH; run tests/run.sh");
    let prometheus = help(prometheus.to_str().unwrap(), &[]);
    for flag in PROMETHEUS_FLAGS {
        assert!(prometheus.contains(flag), "{flag}");
        known += &format!("{flag}\n");
    }
    let mut found = 0;
    for page in Page::all() {
        for span in page.code_spans() {
            if span.starts_with("cargo ") || span.starts_with("curl ") {
                continue;
            }
            let flags = span.split([' ', '=']).filter(|word| word.starts_with("--"));
            for flag in flags {
                found += 1;
                let exists = known.split_whitespace().any(|word| word == flag);
                assert!(exists, "{}: {flag}", page.path.display());
            }
            if let Some(command) = span.strip_prefix("hubgate ") {
                let command = command.split(' ').next().unwrap();
                let exists =
                    command.starts_with("--") || commands.iter().any(|known| known == command);
                assert!(exists, "{}: {span}", page.path.display());
            }
        }
    }
    assert!(found > 0, "no page names a flag");
}

/// The rooms of the map in `src/lib.rs` that a request meets.
fn rooms() -> BTreeSet<String> {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lines = library
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"));
    let rooms: Vec<_> = lines.filter_map(|line| line.split('`').next()).collect();
    assert!(rooms.contains(&"listener"), "{rooms:?}");
    set(rooms)
}

#[test]
fn the_life_of_a_request_passes_every_room() {
    let page = Page::read("docs/life-of-a-request.md");
    let prose = page.prose();
    let named = prose.iter().filter(|line| line.starts_with("Room"));
    let named = named.flat_map(|line| line.split('`').skip(1).step_by(2));
    assert_eq!(set(named), rooms());
    let diagram = &Example::Diagram.on(&page)[0].text;
    for room in rooms() {
        assert!(
            diagram.split_whitespace().any(|word| word == room),
            "{room}"
        );
    }
}

#[test]
fn diagrams_name_statuses_and_ports_that_exist() {
    let responses = Page::read("docs/responses.md").prose().join("\n");
    let digest = sha256("a token");
    let credential = format!("token_sha256: {digest}");
    let sparse = SPARSE.replace("token_file: tokens/production", &credential);
    let default = config::parse(&sparse).unwrap();
    let addresses = [default.listen.address, default.admin.address];
    let ports = addresses.map(|address| address.port().to_string());
    for diagram in Example::Diagram.everywhere() {
        for word in diagram.text.split([' ', '\n']) {
            let place = &diagram.place;
            if word.len() == 3 && word.parse::<u16>().is_ok() {
                assert!(responses.contains(word), "{place}: {word}");
            }
            if let Some(port) = word.strip_prefix(':') {
                assert!(ports.iter().any(|it| it == port), "{place}: {word}");
            }
        }
    }
}

#[test]
fn figures_are_those_that_were_recorded() {
    let mut records = String::new();
    for entry in fs::read_dir(root().join("benches/record")).unwrap() {
        records += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let page = Page::read("docs/performance.md");
    let measured = page
        .prose()
        .into_iter()
        .filter(|line| line.starts_with("| "));
    let mut compared = 0;
    for row in measured {
        assert!(records.contains(row), "nowhere in benches/record: {row}");
        compared += 1;
    }
    for row in rows(&Page::read("README.md").section("Performance")) {
        let figure = row.last().unwrap();
        let cell = format!(" {figure} |");
        assert!(
            page.text.contains(&cell),
            "not in docs/performance.md: {figure}"
        );
        compared += 1;
    }
    assert!(compared > 20, "{compared} rows");
}
