//! Tests of what hubgate shows a hub to be let in.

use http::HeaderValue;

use super::DIGEST;
use super::files::Folder;
use crate::config::load;

const TOKEN: &str = "hub-0123456789";
const PASSWORD: &str = "pass: wörd";

fn folder(hub_keys: &str) -> Folder {
    let folder = Folder::new();
    folder.write("token", format!("{TOKEN}\n"));
    folder.write("password", format!(" {PASSWORD}\r\n"));
    set_keys(&folder, hub_keys);
    folder
}

fn set_keys(folder: &Folder, hub_keys: &str) {
    let text = format!(
        "hub: {{url: 'http://localhost/w', {hub_keys}}}\nspokes: [{{name: a, credentials: \
         [token_sha256: {DIGEST}]}}]\n"
    );
    folder.write("hubgate.yaml", text);
}

fn authorization(folder: &Folder) -> HeaderValue {
    let config = load(&folder.main()).result.expect("a valid configuration");
    let [hub] = &config.hubs[..] else {
        panic!("one hub");
    };
    let shown = format!("{hub:?}");
    assert!(shown.contains("authorization: Some(Sensitive)"), "{shown}");
    let value = hub.authorization.clone().expect("a credential");
    assert!(value.is_sensitive());
    value
}

#[test]
fn a_token_and_a_login_become_a_header() {
    let token = folder("credentials: {token_file: token}");
    assert_eq!(authorization(&token), "Bearer hub-0123456789");
    let basic = folder("credentials: {basic: {username: gate, password_file: password}}");
    // `printf 'gate:pass: wörd' | base64`
    assert_eq!(authorization(&basic), "Basic Z2F0ZTpwYXNzOiB3w7ZyZA==");
}

#[test]
fn a_renewed_secret_is_another_configuration() {
    for (keys, file) in [
        ("credentials: {token_file: token}", "token"),
        (
            "credentials: {basic: {username: gate, password_file: password}}",
            "password",
        ),
    ] {
        let folder = folder(keys);
        let before = load(&folder.main());
        assert!(before.fingerprint.is_current(), "{file}");
        folder.write(file, "renewed");
        assert!(!before.fingerprint.is_current(), "{file}");
        let after = load(&folder.main());
        assert_ne!(before.fingerprint, after.fingerprint, "{file}");
        assert_ne!(before.result, after.result, "{file}");
    }
}

#[test]
fn bad_credentials_of_a_hub_are_refused_without_quoting_them() {
    let table = "
{} => 1:47: hub.credentials: contains no credential; give one of: token_file, basic
[{token_file: token}] => 1:47: hub.credentials: wanted a mapping, found a list
token => 1:47: hub.credentials: wanted a mapping, found a single value
{token_file: token, basic: {username: a, password_file: password}} => 1:47: hub.credentials: contains token_file and basic at once; a hub gets one of them
{token_file: ''} => 1:60: hub.credentials.token_file: is empty; write the path of a file
{token_file: empty} => 1:60: hub.credentials.token_file: the file empty is empty; put a token into it
{token_file: words} => 1:60: hub.credentials.token_file: the file words is not one word of ASCII; put only the token into it
{token_file: long} => 1:60: hub.credentials.token_file: cannot read long: larger than 8192 bytes; a relative path starts at the folder of the file that contains it
{token_file: missing} => 1:60: hub.credentials.token_file: cannot read missing: No such file or directory (os error 2); a relative path starts at the folder of the file that contains it
{basic: {username: a}} => 1:55: hub.credentials.basic.password_file: required key is missing
{basic: {password_file: password}} => 1:55: hub.credentials.basic.username: required key is missing
{basic: {username: 'a:b', password_file: password}} => 1:66: hub.credentials.basic.username: must not contain a colon
{basic: {username: a, password_file: empty}} => 1:84: hub.credentials.basic.password_file: the file empty is empty; put a password into it
{basic: {username: a, password_file: lines}} => 1:84: hub.credentials.basic.password_file: the file lines contains a control character or a second line; put only the password into it
";
    for case in table.lines().filter(|line| !line.is_empty()) {
        let (credentials, expected) = case.split_once(" => ").unwrap();
        let folder = folder(&format!("credentials: {credentials}"));
        folder.write("empty", "\n");
        folder.write("words", "secret words");
        folder.write("lines", "secret\nlines");
        folder.write("long", "s".repeat(8193));
        let found = folder.errors();
        assert_eq!(found, format!("hubgate.yaml:{expected}"), "{credentials}");
    }
}

#[test]
fn two_values_of_authorization_are_refused() {
    let folder = folder("headers: {authorization: secret, a: b}, credentials: {token_file: token}");
    assert_eq!(
        folder.errors(),
        "hubgate.yaml:1:87: hub.credentials: headers has Authorization as well; give one of them"
    );
}

#[test]
fn a_secret_in_the_clear_is_doubtful() {
    let credentials = "credentials: {token_file: token}";
    let header = "headers: {Authorization: secret}";
    for (url, keys, doubtful) in [
        ("http://localhost:1/w", credentials, None),
        ("http://127.8.0.1:1/w", credentials, None),
        ("http://[::1]:1/w", header, None),
        ("http://hub/w", "headers: {X-Scope-OrgID: a}", None),
        ("http://hub/w", credentials, Some("hub.credentials")),
        ("http://203.0.113.1/w", header, Some("hub.headers")),
    ] {
        let folder = folder(keys);
        let text = std::fs::read_to_string(folder.main()).unwrap();
        folder.write("hubgate.yaml", text.replace("http://localhost/w", url));
        let load = load(&folder.main());
        load.result.expect("a valid configuration");
        let found: Vec<_> = load.warnings.iter().collect();
        let Some(key) = doubtful else {
            assert_eq!(found.len(), 0, "{url}: {found:?}");
            continue;
        };
        assert_eq!(found[0].key, key, "{url}: {found:?}");
        let doubt = "in the clear, since the url begins with http://";
        assert!(found[0].message.contains(doubt), "{url}: {found:?}");
    }
}
