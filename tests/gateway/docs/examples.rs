//! Recognises the examples of the pages, and checks those that are configuration with hubgate and
//! promtool.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use hubgate::config::{self, ConnectionRules, LimitSet, Spoke, SpokeLimits};

use super::page::{Block, Page, root};
use crate::support::jwt::{SigningKey, jwks};
use crate::support::pki::{Authority, Subject};
use crate::support::prometheus::find_on_path;
use crate::support::{haproxy, nginx};

/// Contains only required keys, so every other key has its default.
pub(super) const SPARSE: &str = "hub: {url: 'http://127.0.0.1:9090/api/v1/write'}
spokes: [{name: production, credentials: [{token_file: tokens/production}]}]
";

/// The end of the command that writes the alert rules to this file.
const ALERT_RULES: &str = "> hubgate-alerts.yml";

/// The kind of an example, which decides how it is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Example {
    /// A configuration of hubgate, or a part of one: `check-config` accepts it.
    Configuration,
    /// A configuration of hubgate with errors or warnings, which the next block shows.
    DoubtfulConfiguration,
    /// The errors or warnings that `check-config` reports for the block before.
    Findings,
    /// A configuration of Prometheus: `promtool` accepts it.
    Prometheus,
    /// A `--web.config.file` of Prometheus: `promtool` accepts it.
    PrometheusWeb,
    /// A command that makes a file of alert rules: `promtool` accepts it.
    AlertRules,
    /// Queries, with an empty line between them: `promtool` parses them.
    Queries,
    /// The backend of an HAProxy: `rolling_restart` uses it.
    HaproxyBackend,
    /// A resource of Kubernetes: YAML that mounts the token that a Prometheus reads.
    Resource,
    /// Commands for a cluster of Kubernetes.
    ClusterCommands,
    /// A resource of cert-manager. Nothing here reads it.
    CertManager,
    /// A configuration of HAProxy: `haproxy -c` accepts it.
    Haproxy,
    /// A part of a server in a configuration of nginx: `nginx -t` accepts it.
    Nginx,
    /// Commands of a shell.
    Commands,
    /// Commands that install a release, or build one, and what a service is changed by:
    /// `tests/deploy/test_packages.py` tests them.
    Installation,
    /// What `hubgate demo` prints, shortened.
    DemoOutput,
    /// What `hubgate token` prints.
    TokenOutput,
    /// What `hubgate hash-password` prints.
    PasswordHash,
    /// What `hubgate status` prints: `api::command` compares its columns.
    StatusOutput,
    /// What the commands before print: lines that are always the same.
    Text,
    /// What `hubgate token` prints for a spoke: its file.
    SpokeFile,
    /// A configuration that names its schema for editors: it fits that.
    WithSchema,
    /// What the commands before print: an HTTP response.
    Response,
    /// What the commands before print: JSON.
    Json,
    /// Lines of hubgate's log.
    LogLines,
    /// A picture; what it names exists.
    Diagram,
}

impl Example {
    /// Recognises a block by its language and its first line.
    pub(super) fn of(block: &Block) -> Option<Self> {
        let first = block.text.lines().next()?;
        match (block.language.as_str(), first) {
            ("yaml", "# hubgate.yaml" | "# hubs.yaml" | "# spokes.d/staging.yaml") => {
                Some(Self::Configuration)
            }
            ("yaml", _) if first.starts_with("# yaml-language-server: ") => Some(Self::WithSchema),
            ("yaml", _) if first.starts_with("# config/") => Some(Self::Configuration),
            ("yaml", _) if first.starts_with("name: \"") => Some(Self::SpokeFile),
            ("yaml", "# broken.yaml" | "# doubtful.yaml") => Some(Self::DoubtfulConfiguration),
            ("yaml", "# prometheus.yml") => Some(Self::Prometheus),
            ("yaml", "# web.yml") => Some(Self::PrometheusWeb),
            ("sh", _) if first.ends_with(ALERT_RULES) => Some(Self::AlertRules),
            ("promql", _) => Some(Self::Queries),
            ("haproxy", "backend hubgate") => Some(Self::HaproxyBackend),
            ("yaml", "# pod.yaml" | "# prometheus.yaml") => Some(Self::Resource),
            ("text", _) if first.starts_with("kubectl ") => Some(Self::ClusterCommands),
            ("yaml", "# certificate.yaml") => Some(Self::CertManager),
            ("haproxy", "# haproxy.cfg") => Some(Self::Haproxy),
            ("nginx", "# nginx.conf") => Some(Self::Nginx),
            ("sh", _) => Some(Self::Commands),
            ("bash", _) | ("ini", "[Service]") => Some(Self::Installation),
            ("json", _) if first.starts_with('{') => Some(Self::Json),
            ("text", _) if first.starts_with("hubgate demo: ") => Some(Self::DemoOutput),
            ("text", _) if first.starts_with("token: ") => Some(Self::TokenOutput),
            ("text", _) if first.starts_with("password_hash: ") => Some(Self::PasswordHash),
            ("text", _) if first.contains(" spokes write") => Some(Self::StatusOutput),
            ("text", "hubgate is ready." | "hubgate is healthy.") => Some(Self::Text),
            ("text", "the configuration is reloaded") => Some(Self::Text),
            ("text", _) if first.starts_with("# v2 (") => Some(Self::Text),
            ("text", _) if first.starts_with("HTTP/1.1 ") => Some(Self::Response),
            ("text", _) if first.starts_with("ts=") => Some(Self::LogLines),
            ("text", _) if first.starts_with("error: ") => Some(Self::Findings),
            ("text", _) if first.starts_with("warning: ") => Some(Self::Findings),
            ("text", _) if block.text.contains("-->") => Some(Self::Diagram),
            _ => None,
        }
    }

    /// The examples of this kind on a page.
    pub(super) fn on(self, page: &Page) -> Vec<Block> {
        let blocks = page.blocks().into_iter();
        blocks.filter(|it| Self::of(it) == Some(self)).collect()
    }

    /// The examples of this kind on all pages; there must be one.
    pub(super) fn everywhere(self) -> Vec<Block> {
        let blocks: Vec<_> = Page::all().iter().flat_map(|page| self.on(page)).collect();
        assert!(!blocks.is_empty(), "no example is {self:?}");
        blocks
    }
}

/// Writes the files that the configurations of the pages refer to.
pub(super) fn write_secrets(folder: &Path) {
    for subfolder in ["hub", "keys", "tokens", "tls"] {
        fs::create_dir(folder.join(subfolder)).unwrap();
    }
    let token = "a-token-of-enough-length\n";
    for file in ["hub/password", "hub/token", "tokens/production"] {
        fs::write(folder.join(file), token).unwrap();
    }
    let authority = Authority::new("authority");
    let subject = Subject {
        dns: &["hubgate.example.com"],
        ends_in: Some(90 * 24 * 3600),
        ..Subject::default()
    };
    let (certificate, key) = authority.issue(&subject);
    for (file, content) in [
        ("tls.crt", &certificate[..]),
        ("tls.key", &key),
        ("ca.crt", authority.pem()),
        ("ca.crl", &authority.revoke(&[])),
    ] {
        fs::write(folder.join("tls").join(file), content).unwrap();
    }
    write_certificates(&folder.join("hub"), "hubgate");
    let keys = jwks(&[&SigningKey::ec("key")]);
    fs::write(folder.join("keys/production.json"), keys).unwrap();
    fs::write(folder.join("keys/ca.pem"), authority.pem()).unwrap();
}

/// Writes the configurations of a page to the files that their first lines name, and the files that
/// they refer to. Returns the names of the files and their texts; several may have one name.
fn write_configurations(page: &Page, folder: &Path) -> Vec<(String, String)> {
    write_secrets(folder);
    for subfolder in ["config", "spokes.d"] {
        fs::create_dir(folder.join(subfolder)).unwrap();
    }
    let examples = Example::Configuration.on(page);
    let files = examples.iter().map(|example| {
        let file = example
            .text
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("# ");
        let mut text = example.text.clone();
        if file == "hubs.yaml" {
            text += SPARSE.lines().last().unwrap();
        }
        fs::write(folder.join(file), &text).unwrap();
        (file.to_owned(), text)
    });
    files.collect()
}

/// Writes the files `ca.crt`, `NAME.crt` and `NAME.key`.
fn write_certificates(folder: &Path, name: &str) {
    let authority = Authority::new("authority");
    let (certificate, key) = authority.issue(&Subject::default());
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    fs::write(folder.join(format!("{name}.crt")), certificate).unwrap();
    fs::write(folder.join(format!("{name}.key")), key).unwrap();
}

fn check_config(folder: &Path, file: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    command.args(["check-config", file]).current_dir(folder);
    command.output().unwrap()
}

fn promtool(folder: &Path, arguments: &[&str]) -> Output {
    let promtool = find_on_path("promtool").expect("promtool on PATH; run tests/run.sh");
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(folder);
    command.output().unwrap()
}

/// Fails with what the program said, unless it ended with code 0.
#[track_caller]
fn expect_success(place: &str, output: &Output) -> String {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{place}: {said}");
    said
}

#[test]
fn every_example_has_a_known_kind() {
    let blocks = Page::all().into_iter().flat_map(|page| page.blocks());
    let unknown = blocks.filter(|block| Example::of(block).is_none());
    let places: Vec<_> = unknown.map(|block| block.place).collect();
    assert!(
        places.is_empty(),
        "these blocks have no kind that is tested: {places:?}"
    );
}

#[test]
fn check_config_accepts_every_configuration() {
    let mut checked = 0;
    for page in Page::all() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_configurations(&page, folder.path());
        let is_part = |it: &&(String, String)| it.0.starts_with("config/");
        let folders = files.iter().filter(is_part).take(1);
        let folders = folders.map(|_| ("config", None));
        let alone = files.iter().filter(|(file, _)| !file.contains('/'));
        let alone = alone.map(|(file, text)| (file.as_str(), Some(text)));
        for (file, text) in alone.chain(folders) {
            if let Some(text) = text {
                fs::write(folder.path().join(file), text).unwrap();
            }
            let output = check_config(folder.path(), file);
            let place = format!("{} {file}", page.path.display());
            let summary = expect_success(&place, &output);
            assert!(summary.contains("\n  production: "), "{place}: {summary}");
            let staging = files.iter().any(|it| it.0.starts_with("spokes.d/"));
            if staging && file == "hubgate.yaml" {
                assert!(summary.contains("spokes: 2\n"), "{place}: {summary}");
                assert!(summary.contains("\n  staging: "), "{place}: {summary}");
            }
            checked += 1;
        }
    }
    assert!(checked > 0, "no page has a configuration");
}

#[test]
fn check_config_reports_what_the_page_shows() {
    let doubtful = Example::DoubtfulConfiguration.everywhere();
    let shown = Example::Findings.everywhere();
    assert_eq!(doubtful.len(), shown.len());
    for (doubtful, shown) in doubtful.iter().zip(shown) {
        let (heading, _) = doubtful.text.split_once('\n').unwrap();
        let file = heading.trim_start_matches("# ");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), &doubtful.text).unwrap();
        let output = check_config(folder.path(), file);
        let code = i32::from(shown.text.starts_with("error: "));
        assert_eq!(output.status.code(), Some(code), "{}", shown.place);
        // The limit of open files of this machine is another matter.
        let found = String::from_utf8_lossy(&output.stderr);
        let found = found.split_inclusive('\n');
        let found: String = found.filter(|it| !it.contains("ulimit")).collect();
        assert_eq!(found, shown.text, "{}", shown.place);
    }
}

#[test]
fn promtool_accepts_every_configuration_of_prometheus() {
    for example in Example::Prometheus.everywhere() {
        let folder = tempfile::tempdir().unwrap();
        write_secrets(folder.path());
        fs::write(folder.path().join("prometheus.yml"), &example.text).unwrap();
        // The files of tokens and passwords that it names do not exist.
        let output = promtool(
            folder.path(),
            &["check", "config", "--syntax-only", "prometheus.yml"],
        );
        expect_success(&example.place, &output);
    }
}

#[test]
fn resources_mount_the_token_that_prometheus_reads() {
    let page = Page::read("docs/kubernetes.md");
    let [configuration] = &Example::Configuration.on(&page)[..] else {
        panic!("one configuration");
    };
    let [prometheus] = &Example::Prometheus.on(&page)[..] else {
        panic!("one prometheus.yml");
    };
    let resources = Example::Resource.everywhere();
    assert_eq!(resources.len(), 2);
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(key));
        let line = line.unwrap_or_else(|| panic!("no {key} in {text}"));
        line.trim()[key.len()..].to_owned()
    };
    let read = value(&prometheus.text, "credentials_file: ");
    for resource in resources {
        let text = &resource.text;
        let events = granit_parser::Parser::new_from_str(text);
        assert!(events.into_iter().all(|event| event.is_ok()), "{text}");
        let mounted = format!("{}/{}", value(text, "mountPath: "), value(text, "path: "));
        assert_eq!(mounted, read, "{}", resource.place);
        let audience = |text| value(text, "audience: ");
        assert_eq!(audience(text), audience(&configuration.text));
        let namespace = value(text, "namespace: ");
        let subject = format!(
            "system:serviceaccount:{namespace}:{}",
            value(text, "serviceAccountName: ")
        );
        assert_eq!(subject, value(&configuration.text, "subject: "));
    }
    let operator = &Example::Resource.on(&page)[1].text;
    assert_eq!(value(operator, "credentialsFile: "), read);
}

#[test]
fn promtool_accepts_every_web_configuration() {
    for example in Example::PrometheusWeb.everywhere() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("web.yml"), &example.text).unwrap();
        write_certificates(folder.path(), "hub");
        let output = promtool(folder.path(), &["check", "web-config", "web.yml"]);
        expect_success(&example.place, &output);
    }
}

#[test]
fn the_command_for_alert_rules_makes_a_file_that_promtool_accepts() {
    for example in Example::AlertRules.everywhere() {
        let folder = tempfile::tempdir().unwrap();
        symlink(root().join("deploy"), folder.path().join("deploy")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-euc", &example.text]);
        let output = shell.current_dir(folder.path()).output().unwrap();
        expect_success(&example.place, &output);
        let output = promtool(folder.path(), &["check", "rules", "hubgate-alerts.yml"]);
        let said = expect_success(&example.place, &output);
        let rules = fs::read_to_string(folder.path().join("hubgate-alerts.yml")).unwrap();
        let rules = rules.matches("- alert: ").count() + rules.matches("- record: ").count();
        let found = format!("{rules} rules found");
        assert!(rules > 20 && said.contains(&found), "{said}");
    }
}

#[test]
fn promtool_parses_every_query() {
    for example in Example::Queries.everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let queries = example.text.trim_end().split("\n\n");
        let rules = queries.map(|query| format!("  - record: query\n    expr: {query:?}\n"));
        let rules: String = rules.collect();
        let file = format!("groups:\n- name: queries\n  rules:\n{rules}");
        fs::write(folder.path().join("queries.yml"), file).unwrap();
        let output = promtool(folder.path(), &["check", "rules", "queries.yml"]);
        expect_success(&example.place, &output);
    }
}

#[test]
fn haproxy_and_nginx_accept_their_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checked");
    let check = |block: &Block, text: String, mut program: Command| {
        fs::write(&file, text).unwrap();
        expect_success(&block.place, &program.output().unwrap());
    };
    for block in Example::Haproxy.everywhere() {
        let mut program = haproxy::command();
        program.arg("-c").arg("-f").arg(&file);
        check(&block, block.text.clone(), program);
    }
    for block in Example::Nginx.everywhere() {
        let nginx = find_on_path("nginx").expect("nginx on PATH; run tests/run.sh");
        let mut program = Command::new(nginx);
        program
            .arg("-t")
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(folder.path());
        program.arg("-c").arg(&file);
        check(&block, nginx::configuration_of(&block.text), program);
    }
}

#[test]
fn the_complete_example_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    write_configurations(&Page::read("docs/configuration.md"), folder.path());
    let load = |file: &str| config::load(&folder.path().join(file)).result.unwrap();
    let shown = load("hubgate.yaml");
    fs::write(folder.path().join("sparse.yaml"), SPARSE).unwrap();
    let default = load("sparse.yaml");
    assert_eq!(shown.cluster_label, default.cluster_label);
    assert_eq!(without_tls(shown.listen.rules), *default.listen.rules);
    assert_eq!(shown.listen.address, default.listen.address);
    assert_eq!(shown.listen.connections_max, default.listen.connections_max);
    assert_eq!(without_tls(shown.admin.rules), *default.admin.rules);
    assert_eq!(shown.admin.address, default.admin.address);
    assert_eq!(shown.hubs[..1], default.hubs);
    assert_eq!(shown.ack, default.ack);
    assert_eq!(shown.limits, default.limits);
    assert_eq!(shown.spokes[0].labels, default.spokes[0].labels);
    // The example names all of them.
    let limits = |spoke: &Spoke| SpokeLimits {
        named: LimitSet::EMPTY,
        ..spoke.limits
    };
    assert_eq!(limits(&shown.spokes[0]), default.spokes[0].limits);
    // The file of staging has no source ranges and limits, so `spoke_defaults` decides them.
    let staging = &shown.spokes[1];
    assert_eq!(staging.source_ranges, default.spokes[0].source_ranges);
    assert_eq!(limits(staging), default.spokes[0].limits);
}

fn without_tls(rules: Arc<ConnectionRules>) -> ConnectionRules {
    ConnectionRules {
        tls: None,
        ..ConnectionRules::clone(&rules)
    }
}
