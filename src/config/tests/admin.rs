//! Tests of the credentials of the admin port. Each is checked as one of a spoke.

use super::values::refuses_each;
use super::{BCRYPT, DIGEST, with_spoke};

#[test]
fn bad_credentials_of_the_admin_port_are_refused() {
    let table = "
[] => 1:22: admin.credentials => is empty; leave the key out to let everybody use the admin port
a => 1:22: admin.credentials => wanted a list
[{}] => 1:23: admin.credentials[0] => give one of: token_sha256, token_file, basic
[{certificate: {dns: a}}] => 1:24: admin.credentials[0] => write client_auth: required into tls of admin
[{jwt: {issuer: a}}] => 1:24: admin.credentials[0] => takes tokens and passwords, and no JSON Web Tokens
[{token_sha256: a}] => 1:38: admin.credentials[0].token_sha256 => 64 hex digits
[{not_after: never, basic: {username: b, password_hash: BCRYPT}}] => 1:35: admin.credentials[0].not_after => is not a time
[{captures: true, basic: {username: b, password_hash: BCRYPT}}] => 1:34: admin.credentials[0].captures => unknown value; allowed: off, allow
[{captures: allow}] => 1:23: admin.credentials[0] => give one of: token_sha256, token_file, basic
[{token_sha256: DIGEST}] => 5:31: spokes[0].credentials[0].token_sha256 => is already used at config:1:38 (admin.credentials[0].token_sha256)
";
    refuses_each(table, |credentials| {
        let credentials = credentials
            .replace("DIGEST", DIGEST)
            .replace("BCRYPT", BCRYPT);
        let spoke = with_spoke(&format!("  credentials: [token_sha256: {DIGEST}]"));
        format!("admin: {{credentials: {credentials}}}\n{spoke}")
    });
}
