//! The commands of the documentation run, and print what the pages show.
//!
//! Every page gets a folder, a hub and a gate of its own. The addresses that the pages name are the
//! defaults; here they are replaced by those that the gate and the hub really have.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::examples::Example;
use super::page::{Block, Page, root};
use crate::support::DEADLINE;
use crate::support::body::{Protocol, Series, bare, encode, series, up};
use crate::support::config::{sha256, token};
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::find_on_path;
use crate::support::sender::Request;

/// How the pages start a gate.
const SERVE: &str = "hubgate serve --config.file=hubgate.yaml";

/// The page sends load for half a minute; one second is enough to test the command.
const SHORTER: (&str, &str) = ("--duration 30s", "--duration 1s");

/// Programs that a machine may lack. Their commands run only where they are installed; the output
/// that the page shows is tested everywhere.
const OPTIONAL_PROGRAMS: [&str; 2] = ["argon2", "htpasswd"];

/// The password that the page with hashes names.
const PASSWORD: &str = "JzFvnQrs3kUa0XwbmT5eZ7pLdHyC2oGi";

/// The body that the page about `hubgate inspect` shows.
fn inspected() -> [Series; 3] {
    // 2026-11-26T12:00:00Z
    let time = 1_795_694_400_000;
    [
        bare("__name__=up,cluster=production,instance=a:9100")
            .sample(1.0, time)
            .help("Whether the target is up."),
        bare("__name__=up,cluster=staging,instance=b:9100").sample(0.0, time),
        bare("__name__=latency_seconds,instance=a:9100")
            .histogram(time)
            .exemplar("trace_id=4bf92f35", time),
    ]
}

/// A folder with a running gate and its hub.
struct Setting {
    folder: TempDir,
    hub: ScriptedHub,
    gate: Served,
}

/// A gate that was started as the pages say.
struct Served {
    _child: Child,
    log: watch::Receiver<Vec<String>>,
    write: SocketAddr,
    admin: SocketAddr,
}

impl Setting {
    /// Starts a gate with one spoke, `production`, whose token is in the file `token`.
    async fn start() -> Self {
        let digest = sha256(&token("production"));
        let setting = Self::start_with(|hub| {
            format!(
                "hub: {{url: \"{hub}\"}}\nspokes: [{{name: production, credentials: \
                 [{{token_sha256: {digest}}}]}}]\n"
            )
        });
        let setting = setting.await;
        let folder = setting.folder.path();
        fs::write(folder.join("token"), token("production")).unwrap();
        fs::write(folder.join("body"), encode(Protocol::V2, &inspected())).unwrap();
        setting
    }

    /// Starts a gate with the configuration for a hub with this URL, on free ports.
    async fn start_with(configuration: impl FnOnce(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = ScriptedHub::start().await;
        let configuration = configuration(&hub.url());
        let addresses = "listen: {address: 127.0.0.1:0}\nadmin: {address: 127.0.0.1:0}\n";
        let text = format!("{configuration}{addresses}");
        fs::write(folder.path().join("hubgate.yaml"), text).unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let hubgate = env!("CARGO_BIN_EXE_hubgate");
        std::os::unix::fs::symlink(hubgate, programs.join("hubgate")).unwrap();
        let gate = Served::start(folder.path()).await;
        Self { folder, hub, gate }
    }

    /// Sends the requests whose traces the pages show: a refused write, a write with an unknown
    /// token, and a good write.
    async fn make_traces(&self) {
        let write = || Request::series(Protocol::V2, &up());
        let spoke = || write().token(&token("production"));
        let gzip = spoke().header("content-encoding", "gzip");
        gzip.send(self.gate.write).await.unwrap().expect(415);
        let stranger = write().token("the-token-of-a-stranger");
        stranger.send(self.gate.write).await.unwrap().expect(401);
        spoke().send(self.gate.write).await.unwrap().expect(204);
    }

    /// Runs commands in a shell that stops at the first failure.
    async fn run(&self, commands: &str) -> Output {
        let mut commands = commands.replace("127.0.0.1:9480", &self.gate.write.to_string());
        commands = commands.replace("127.0.0.1:9481", &self.gate.admin.to_string());
        commands = commands.replace(SHORTER.0, SHORTER.1);
        run(self.folder.path(), &commands).await
    }
}

async fn run(folder: &Path, commands: &str) -> Output {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.join("bin").display());
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", commands])
        .current_dir(folder)
        .env("PATH", path);
    shell.output().await.unwrap()
}

/// Standard output of commands that succeed.
#[track_caller]
fn expect_success(place: &str, output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{place}: {stdout}{stderr}");
    stdout
}

impl Served {
    async fn start(folder: &Path) -> Self {
        let mut words = SERVE.split(' ');
        assert_eq!(words.next(), Some("hubgate"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_hubgate"))
            .args(words)
            .current_dir(folder)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, log) = watch::channel(Vec::new());
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        let write = address(&logged(&log, "receiving remote writes").await);
        let admin = address(&logged(&log, "serving admin").await);
        Self {
            _child: child,
            log,
            write,
            admin,
        }
    }
}

/// The first line of a log that contains a text.
async fn logged(log: &watch::Receiver<Vec<String>>, text: &str) -> String {
    let mut waiting = log.clone();
    let seen = waiting.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
    match tokio::time::timeout(DEADLINE, seen).await {
        Ok(Ok(lines)) => lines
            .iter()
            .find(|line| line.contains(text))
            .unwrap()
            .clone(),
        _ => panic!("{text:?} is not in the log: {:#?}", *log.borrow()),
    }
}

fn address(line: &str) -> SocketAddr {
    let (_, address) = line.rsplit_once("address=").unwrap();
    address.split(' ').next().unwrap().parse().unwrap()
}

/// The commands of a block, with continued lines joined and comments left out.
fn commands(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", " ");
    let lines = joined
        .lines()
        .map(|line| line.split(" #").next().unwrap().trim());
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Checks the facts behind a command that takes too long to run here. Returns false for any other
/// command.
fn check_build_command(command: &str) -> bool {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let words: Vec<_> = command.split_whitespace().collect();
    match words[..] {
        ["cargo", "run", "--release", "--", "demo"] => {
            assert!(manifest.contains("[[bin]]\nname = \"hubgate\"\n"));
        }
        ["cargo", "install", "--locked", "--path", "."] => {
            assert!(manifest.contains("[[bin]]\nname = \"hubgate\"\n"));
            assert!(root().join("Cargo.lock").is_file());
        }
        ["cargo", "bench", "--bench", name] => {
            let bench = format!("[[bench]]\nname = \"{name}\"\n");
            assert!(manifest.contains(&bench), "{command}");
        }
        ["tests/run.sh"] => {
            let metadata = fs::metadata(root().join(words[0])).unwrap();
            assert!(metadata.permissions().mode() & 0o111 != 0, "{command}");
        }
        _ => return false,
    }
    true
}

/// True when the program that prints the result of a command is not on this machine.
fn is_missing(command: &str) -> bool {
    let programs = OPTIONAL_PROGRAMS.iter();
    let mut used = programs.filter(|program| command.split(' ').any(|word| word == **program));
    used.any(|program| find_on_path(program).is_none())
}

#[tokio::test]
async fn commands_run_and_print_what_the_pages_show() {
    let (mut ran, mut compared) = (0, 0);
    for page in Page::all() {
        if Example::Commands.on(&page).is_empty() {
            continue;
        }
        let setting = Setting::start().await;
        setting.make_traces().await;
        let mut printed = String::new();
        for block in page.blocks() {
            match Example::of(&block) {
                Some(Example::Commands) => {
                    printed.clear();
                    for command in commands(&block) {
                        let known = command == SERVE || check_build_command(&command);
                        if known || is_missing(&command) {
                            continue;
                        }
                        let output = setting.run(&command).await;
                        printed += &expect_success(&block.place, output);
                        ran += 1;
                    }
                }
                Some(Example::Text) => {
                    assert_eq!(block.text, printed, "{}", block.place);
                    compared += 1;
                }
                Some(Example::Response) => {
                    let shown = without_date(&block.text);
                    assert_eq!(shown, without_date(&printed), "{}", block.place);
                    compared += 1;
                }
                Some(Example::Json) => {
                    let shown: Value = serde_json::from_str(&block.text).expect(&block.place);
                    let printed: Value = serde_json::from_str(&printed).expect(&printed);
                    expect_shape(&block.place, &shown, &printed);
                    compared += 1;
                }
                _ => {}
            }
        }
    }
    assert!(
        ran > 8 && compared > 6,
        "{ran} commands, {compared} outputs"
    );
}

/// An HTTP response as curl prints it, with the date replaced.
fn without_date(response: &str) -> Vec<String> {
    let lines = response.trim_end().lines().map(|line| {
        let date = line.starts_with("date: ").then_some("date: ...");
        date.unwrap_or(line.trim_end()).to_owned()
    });
    lines.collect()
}

/// Fails unless both have the same keys, and values of the same kinds.
fn expect_shape(place: &str, shown: &Value, printed: &Value) {
    match (shown, printed) {
        (Value::Object(shown), Value::Object(printed)) => {
            let keys = |it: &serde_json::Map<_, _>| it.keys().cloned().collect::<Vec<String>>();
            assert_eq!(keys(shown), keys(printed), "{place}");
            for (key, shown) in shown {
                expect_shape(&format!("{place} {key}"), shown, &printed[key]);
            }
        }
        (Value::Array(shown), Value::Array(printed)) => {
            assert_eq!(shown.len(), printed.len(), "{place}: {shown:?} {printed:?}");
            for (shown, printed) in shown.iter().zip(printed) {
                expect_shape(place, shown, printed);
            }
        }
        _ => {
            let same = std::mem::discriminant(shown) == std::mem::discriminant(printed);
            assert!(same, "{place}: shown {shown}, printed {printed}");
        }
    }
}

#[tokio::test]
async fn the_first_spoke_of_the_readme_can_write() {
    let readme = Page::read("README.md");
    let made = Command::new(env!("CARGO_BIN_EXE_hubgate"))
        .arg("token")
        .output();
    let made = expect_success("hubgate token", made.await.unwrap());
    let value = |key: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {made}"))
            .to_owned()
    };
    let (token, digest) = (value("token: "), value("token_sha256: "));
    let [configuration] = &Example::Configuration.on(&readme)[..] else {
        panic!("the README has one configuration");
    };
    let shown = configuration.text.split("token_sha256: ").nth(1).unwrap();
    let configuration = configuration.text.replace(shown.trim(), &digest);
    let setting =
        Setting::start_with(|hub| configuration.replace("http://127.0.0.1:9090/api/v1/write", hub));
    let setting = setting.await;
    let write = Request::series(Protocol::V1, &[series("__name__=up,cluster=production")]);
    let response = write.token(&token).send(setting.gate.write).await.unwrap();
    response.expect(204);
    setting.hub.wait_for_requests(1).await;
}

#[tokio::test]
async fn the_log_has_the_lines_that_the_pages_show() {
    for example in Example::LogLines.everywhere() {
        let setting = Setting::start().await;
        setting.make_traces().await;
        let shown = example.text.replace("\n  ", " ");
        for line in shown.lines().map(comparable) {
            let (_, message) = line.split_once("message=").unwrap();
            let end = message.find([' ', '=']).unwrap();
            logged(&setting.gate.log, &message[..end]).await;
            let log = setting.gate.log.borrow().clone();
            let found = log.iter().any(|logged| comparable(logged) == line);
            assert!(found, "{}: no {line} in {log:#?}", example.place);
        }
    }
}

/// A line of the log without what is different each time.
fn comparable(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.split_once('=') {
        Some((
            key @ ("ts" | "address" | "revision" | "file" | "hubs" | "threads" | "user_agent"),
            _,
        )) => {
            format!("{key}=...")
        }
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn hubgate_demo_prints_what_the_readme_shows() {
    let demo = Command::new(env!("CARGO_BIN_EXE_hubgate"))
        .arg("demo")
        .output();
    let printed = expect_success("hubgate demo", demo.await.unwrap());
    let printed: Vec<_> = printed.lines().map(without_digits).collect();
    for example in Example::DemoOutput.everywhere() {
        let mut rest = printed.iter();
        for line in example.text.lines() {
            let wanted = without_digits(line);
            let found = match wanted.strip_suffix("...") {
                Some(start) => rest.any(|line| line.starts_with(start)),
                None => rest.any(|line| *line == wanted),
            };
            assert!(found, "{}: no {line:?} in {printed:#?}", example.place);
        }
    }
}

/// A line with every number replaced by `#`; the digit of a name such as `v1` is none.
fn without_digits(line: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for character in line.chars() {
        if !character.is_ascii_digit() || before.is_alphabetic() {
            out.push(character);
        } else if !before.is_ascii_digit() {
            out.push('#');
        }
        before = character;
    }
    out
}

#[tokio::test]
async fn hubgate_token_prints_what_the_page_shows() {
    let made = Command::new(env!("CARGO_BIN_EXE_hubgate"))
        .arg("token")
        .output();
    let printed = expect_success("hubgate token", made.await.unwrap());
    let shown = Example::TokenOutput.everywhere();
    for text in shown.iter().map(|it| &it.text).chain([&printed]) {
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .collect();
        let [("token", token), ("token_sha256", digest)] = lines[..] else {
            panic!("{text}");
        };
        assert_eq!(token.len(), 43, "{token}");
        assert_eq!(digest, sha256(token));
    }
}

#[tokio::test]
async fn hubgate_token_prints_the_file_of_a_spoke_as_the_page_shows() {
    let arguments = ["token", "--spoke", "production", "--expires-in", "90d"];
    let made = Command::new(env!("CARGO_BIN_EXE_hubgate"))
        .args(arguments)
        .output();
    let printed = expect_success("hubgate token --spoke", made.await.unwrap());
    let same = |text: &str| {
        let lines = text.lines().map(|line| {
            let (key, value) = line.split_once(": ").unwrap_or((line, ""));
            let value = if key == "name" { value } else { "..." };
            format!("{key}: {value}")
        });
        lines.collect::<Vec<_>>()
    };
    for shown in Example::SpokeFile.everywhere() {
        assert_eq!(same(&shown.text), same(&printed), "{}", shown.place);
    }
}

/// A configuration with one spoke, `production`, that has a password. The line gives its hash.
fn with_password_hash(hub: &str, line: &str) -> String {
    format!(
        "hub: {{url: \"{hub}\"}}\nspokes: [{{name: production, credentials: [{{basic: \
         {{username: production, {line}}}}}]}}]\n"
    )
}

#[tokio::test]
async fn the_password_hash_of_the_page_lets_a_spoke_write() {
    let page = Page::read("docs/configuration.md");
    let spans = page.code_spans();
    assert!(
        spans.iter().any(|span| span == PASSWORD),
        "the page names the password"
    );
    for example in Example::PasswordHash.everywhere() {
        let line = example.text.trim_end();
        let gate = Setting::start_with(|hub| with_password_hash(hub, line));
        let gate = gate.await.gate;
        let write = || Request::series(Protocol::V1, &up());
        let right = write().basic("production", PASSWORD).send(gate.write).await;
        right.unwrap().expect(204);
        let wrong = write().basic("production", "wrong").send(gate.write).await;
        wrong.unwrap().expect(401);
    }
}

#[tokio::test]
async fn hashes_made_by_the_commands_of_the_page_are_valid() {
    let page = Page::read("docs/configuration.md");
    let blocks = Example::Commands.on(&page).into_iter();
    let blocks = blocks.filter(|it| it.text.contains("password"));
    let setting = Setting::start().await;
    let folder = setting.folder.path();
    let mut hashes = 0;
    for (block, command) in
        blocks.flat_map(|it| commands(&it).into_iter().map(move |c| (it.clone(), c)))
    {
        let syntax = Command::new("sh")
            .args(["-nc", &command])
            .output()
            .await
            .unwrap();
        expect_success(&block.place, syntax);
        if is_missing(&command) {
            continue;
        }
        let printed = expect_success(&block.place, run(folder, &command).await);
        let line = match printed.trim() {
            "" => continue,
            hash if hash.starts_with('$') => format!("password_hash: \"{hash}\""),
            line => line.to_owned(),
        };
        let text = with_password_hash("http://hub/", &line);
        hubgate::config::parse(&text).unwrap_or_else(|errors| panic!("{line}: {errors}"));
        hashes += 1;
    }
    let password = fs::read_to_string(folder.join("password")).unwrap();
    assert_eq!(password.trim().len(), PASSWORD.len());
    assert!(hashes > 0, "no command makes a hash");
}

#[tokio::test]
async fn paths_in_diagrams_exist() {
    let setting = Setting::start().await;
    let mut found = 0;
    for diagram in Example::Diagram.everywhere() {
        for path in diagram
            .text
            .split([' ', '\n'])
            .filter(|word| word.starts_with('/'))
        {
            found += 1;
            let mut statuses = Vec::new();
            for address in [setting.gate.write, setting.gate.admin] {
                let response = Request::get(path).send(address).await.unwrap();
                statuses.push(response.status);
            }
            assert!(
                statuses.iter().any(|it| *it != 404),
                "{}: {path}",
                diagram.place
            );
        }
    }
    assert!(found > 0, "no diagram names a path");
}
