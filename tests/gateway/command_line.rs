//! The commands of hubgate beside `serve`, and how the commands take the configuration.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::find_on_path;
use crate::support::sender::Request;

const HUB: &str = "http://127.0.0.1:9/api/v1/write";

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A configuration with the spoke `production` and few connections.
fn valid() -> String {
    let listen = "listen: {connections_max: 10}";
    format!("{listen}\n{}", config(HUB, &[spoke("production", "")]))
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    command.args(arguments).current_dir(folder);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_warning_is_marked_and_fails_only_if_strict() {
    let text_of_config = valid().replace("/api/v1/write", "");
    let folder = folder(&[("hubgate.yaml", &text_of_config)]);
    let doubt = "hub.url: has no path, so every write would be answered 502; for a Prometheus, \
                 write http://127.0.0.1:9/api/v1/write\n";
    let lenient = run(folder.path(), &["check-config"]);
    assert_eq!(lenient.status.code(), Some(0));
    let warning = text(&lenient.stderr);
    assert!(warning.starts_with("warning: hubgate.yaml:") && warning.ends_with(doubt));
    assert!(text(&lenient.stdout).ends_with("the configuration is valid\n"));
    let strict = run(folder.path(), &["check-config", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let error = text(&strict.stderr);
    assert!(error.starts_with("error: hubgate.yaml:") && error.ends_with(doubt));
    assert_eq!(text(&strict.stdout), "");
}

#[test]
fn a_valid_configuration_passes_a_strict_check() {
    let folder = folder(&[("hubgate.yaml", &valid())]);
    let strict = run(folder.path(), &["check-config", "--strict"]);
    assert_eq!(text(&strict.stderr), "");
    assert_eq!(strict.status.code(), Some(0));
}

#[test]
fn a_low_limit_of_open_files_is_a_warning() {
    let folder = folder(&[("hubgate.yaml", &valid())]);
    let check = format!("exec {} check-config", env!("CARGO_BIN_EXE_hubgate"));
    // 10 connections of spokes, 256 to the hub, 256 to the admin port, and 64 others are 586.
    for (limit, wanted) in [
        (
            585,
            "warning: the limit of open files is 585, and up to 586 are needed; ",
        ),
        (586, ""),
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && {check}")]);
        let output = shell.current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{limit}");
        let said = text(&output.stderr);
        assert!(said.starts_with(wanted), "{limit}: {said}");
        assert_eq!(said.is_empty(), wanted.is_empty(), "{limit}: {said}");
    }
}

#[test]
fn every_command_takes_the_file_as_a_flag_or_as_an_argument() {
    // The file has an error, so `serve` ends too.
    let folder = folder(&[("hubgate.yaml", "ack: default"), ("a.yaml", "ack: given")]);
    for command in ["check-config", "serve"] {
        let ways: [(&[&str], &str); 4] = [
            (&[], "default"),
            (&["a.yaml"], "given"),
            (&["--config.file", "a.yaml"], "given"),
            (&["--config.file=a.yaml"], "given"),
        ];
        for (way, value) in ways {
            let arguments = [&[command], way].concat();
            let output = run(folder.path(), &arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let said = text(&output.stderr);
            assert!(said.contains(value), "{arguments:?}: {said}");
        }
        let both = run(folder.path(), &[command, "a.yaml", "--config.file=a.yaml"]);
        assert_eq!(both.status.code(), Some(2), "{command}");
        let said = text(&both.stderr);
        assert!(said.contains("cannot be used with"), "{command}: {said}");
    }
}

#[test]
fn the_version_has_the_form_of_prometheus() {
    let folder = folder(&[]);
    for flag in ["--version", "-V"] {
        let output = run(folder.path(), &[flag]);
        let printed = text(&output.stdout);
        let (first, rest) = printed.split_once('\n').unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let start = format!("hubgate, version {version} (branch: ");
        assert!(first.starts_with(&start), "{printed}");
        assert!(first.contains(", revision: "), "{printed}");
        let keys: Vec<_> = rest
            .lines()
            .map(|it| it.split(':').next().unwrap())
            .collect();
        assert_eq!(keys, ["  build date", "  rust version", "  platform"]);
    }
}

/// The commands that the help lists, beside `help`.
fn commands() -> Vec<String> {
    let help = text(&run(folder(&[]).path(), &["--help"]).stdout);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.map_while(|line| line.split_whitespace().next());
    let names = names.filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn every_shell_gets_a_script_that_completes_every_command() {
    let folder = folder(&[]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(folder.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("config.auto-reload-interval"), "{shell}");
    }
    let unknown = run(folder.path(), &["completions", "cmd"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let folder = folder(&[]);
    let script = run(folder.path(), &["completions", "bash"]).stdout;
    std::fs::write(folder.path().join("hubgate.bash"), script).unwrap();
    for (words, wanted) in [
        ("hubgate inspe", "inspect"),
        ("hubgate serve --shut", "--shutdown.delay"),
        ("hubgate inspect --output js", "json"),
    ] {
        let last = words.split(' ').count() - 1;
        let complete = format!(
            ". ./hubgate.bash; COMP_WORDS=({words}); COMP_CWORD={last}; _hubgate hubgate \
             \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &complete]).current_dir(folder.path());
        let output = bash.output().unwrap();
        assert_eq!(text(&output.stdout).trim(), wanted, "{words}: {output:?}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let folder = folder(&[]);
    let printed = text(&run(folder.path(), &["man"]).stdout);
    assert!(printed.contains(".TH hubgate 1"), "{printed}");
    assert!(!printed.contains("hubgate,"), "{printed}");
    let made = run(folder.path(), &["man", "--folder", "."]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let page = |name: &str| {
        let file = folder.path().join(format!("{name}.1"));
        std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert_eq!(page("hubgate"), printed);
    for command in commands() {
        let name = format!("hubgate-{command}");
        assert!(page(&name).contains(&format!(".TH {name} 1")), "{name}");
        let listed = format!("hubgate\\-{}(1)", command.replace('-', "\\-"));
        assert!(printed.contains(&listed), "{listed} in {printed}");
    }
    assert!(page("hubgate-serve").contains("shutdown.delay"));
    let missing = run(folder.path(), &["man", "--folder", "no/such"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("hubgate man: cannot write into no/such: "));
}

#[tokio::test]
async fn the_spoke_that_hubgate_token_prints_can_write() {
    let folder = folder(&[]);
    let arguments = ["token", "--spoke", "münchen \"1\"", "--expires-in", "1day"];
    let made = run(folder.path(), &arguments);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let (spoke, rest) = (text(&made.stdout), text(&made.stderr));
    let token = rest.lines().find_map(|line| line.strip_prefix("# token: "));
    let token = token.expect("a token on stderr");
    assert!(!spoke.contains(token), "{spoke}");

    let hub = ScriptedHub::start().await;
    let addresses = "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}";
    let hub_url = hub.url();
    let main = format!("{addresses}\nhub: {{url: \"{hub_url}\"}}\nspoke_files: [spoke.yaml]\n");
    std::fs::write(folder.path().join("hubgate.yaml"), main).unwrap();
    std::fs::write(folder.path().join("spoke.yaml"), &spoke).unwrap();
    std::fs::write(folder.path().join("prometheus.yml"), &rest).unwrap();
    let promtool = find_on_path("promtool").expect("promtool on PATH; run tests/run.sh");
    let mut promtool = Command::new(promtool);
    promtool.args(["check", "config", "prometheus.yml"]);
    let checked = promtool.current_dir(folder.path()).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");

    let gate = Gate::start_in(folder, "0s").await;
    gate.send(Request::up().token(token)).await.expect(204);
    let labels = hub.take_one().labels().remove(0);
    assert!(labels.contains("cluster=münchen \"1\""), "{labels}");
    let expiry = gate
        .sum("hubgate_credential_expiry_timestamp_seconds", &[])
        .await;
    assert!(expiry > 1e9, "{expiry}");
}

#[test]
fn hubgate_token_refuses_a_name_that_no_spoke_can_have() {
    let folder = folder(&[]);
    for (name, error) in [
        ("", "is empty"),
        ("unknown", "choose another name"),
        ("a\tb", "contains U+0009 as character 2"),
    ] {
        let refused = run(folder.path(), &["token", "--spoke", name]);
        assert_eq!(refused.status.code(), Some(2), "{name}");
        assert_eq!(text(&refused.stdout), "", "{name}");
        assert!(text(&refused.stderr).contains(error), "{refused:?}");
    }
}

#[test]
fn a_hashed_password_is_accepted_and_never_shown() {
    let folder = folder(&[("password", "one two three\n")]);
    let command = format!(
        "exec {} hash-password < password",
        env!("CARGO_BIN_EXE_hubgate")
    );
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &command]).current_dir(folder.path());
    let output = output.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    let hash = printed.strip_prefix("password_hash: \"");
    let hash = hash.and_then(|hash| hash.strip_suffix("\"\n"));
    assert!(
        hash.is_some_and(|hash| hash.starts_with("$argon2id$")),
        "{printed}"
    );
    assert!(!text(&output.stderr).contains("one"));
    let argument = run(folder.path(), &["hash-password", "secret"]);
    assert_eq!(argument.status.code(), Some(2));
}

#[test]
fn a_password_typed_at_a_terminal_is_not_shown() {
    for (second, code) in [("one two", 0), ("one too", 1)] {
        let mut terminal = Terminal::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
        command
            .arg("hash-password")
            .stdin(terminal.device.take().unwrap());
        let mut hubgate = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command has its own copy of the device.
        drop(command);
        let mut stderr = hubgate.stderr.take().unwrap();
        for (prompt, typed) in [("Password: ", "one two"), ("\nAgain: ", second)] {
            let mut asked = vec![0; prompt.len()];
            stderr.read_exact(&mut asked).unwrap();
            assert_eq!(text(&asked), prompt);
            terminal.screen.write_all(typed.as_bytes()).unwrap();
            terminal.screen.write_all(b"\n").unwrap();
        }
        let output = hubgate.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let printed = text(&output.stdout);
        assert_eq!(
            printed.starts_with("password_hash: \"$argon2id$"),
            code == 0
        );
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.contains("the passwords differ"), code == 1, "{rest}");
        assert_eq!(terminal.shown(), "");
    }
}

/// A terminal without a window.
struct Terminal {
    screen: File,
    /// What a program has as its stdin.
    device: Option<File>,
}

impl Terminal {
    fn new() -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let path = ptsname(&screen, Vec::new()).unwrap();
        let device = open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        Self {
            screen: screen.into(),
            device: Some(device.into()),
        }
    }

    /// What was shown until every program left the terminal.
    fn shown(&mut self) -> String {
        let mut shown = Vec::new();
        // The end is an error (EIO).
        let _ = self.screen.read_to_end(&mut shown);
        text(&shown)
    }
}
