//! Which spoke a credential proves. The tests of `passwords` cover how many checks run.

mod jwt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::config::{self, Config};

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

const TOKEN_SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn user(name: &str, hash: &str) -> String {
    format!("{{basic: {{username: {name}, password_hash: \"{hash}\"}}}}")
}

fn config(credentials: &[String]) -> Config {
    let credentials = credentials.join(", ");
    let hub = "hub: {url: \"http://hub/api/v1/write\"}";
    let spokes = format!("spokes: [{{name: production, credentials: [{credentials}]}}]");
    config::parse(&format!("{hub}\n{spokes}\n")).unwrap()
}

fn authenticator(config: &Config, passwords: &Arc<Passwords>) -> Authenticator<Identity> {
    let spoke = &config.spokes[0];
    let run = Arc::new(Spoke::new(spoke, &config.cluster_label, None).unwrap());
    Authenticator::new(Identity::each(spoke, &run), &[], passwords).unwrap()
}

async fn identify(
    authenticator: &Authenticator<Identity>,
    pair: &str,
) -> Result<usize, NotIdentified> {
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let value = HeaderValue::try_from(value).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let identity = authenticator.identify(&headers, None, LOCALHOST).await?;
    Ok(identity.credential)
}

#[test]
fn debug_shows_no_secret() {
    let hash = hash("password");
    let token = format!("{{token_sha256: {TOKEN_SHA256}}}");
    let config = config(&[token, user("basic", &hash)]);
    let authenticator = authenticator(&config, &Passwords::new().unwrap());
    let digest = match &config.spokes[0].credentials[0].secret {
        Secret::Token(digest) => format!("{digest:?}"),
        _ => unreachable!("the first credential is a token"),
    };
    for shown in [format!("{authenticator:?}"), format!("{config:?}")] {
        for secret in [TOKEN_SHA256, &digest, &hash] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_credential_of_any_kind_proves_nothing_after_its_end() {
    let passwords = Passwords::new().unwrap();
    let token = format!("{{token_sha256: {TOKEN_SHA256}}}");
    let mut config = config(&[token, user("basic", &hash("password"))]);
    let pair = BASE64_STANDARD.encode("basic:password");
    for (value, place) in [("Bearer test".to_owned(), 0), (format!("Basic {pair}"), 1)] {
        let value = HeaderValue::try_from(value).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let hour = std::time::Duration::from_secs(3600);
        let expired = Err(NotIdentified::Expired);
        for (not_after, expected) in [
            (None, Ok(place)),
            (Some(SystemTime::now() + hour), Ok(place)),
            (Some(SystemTime::now() - hour), expired),
        ] {
            config.spokes[0].credentials[place].not_after = not_after;
            let authenticator = authenticator(&config, &passwords);
            let identity = authenticator.identify(&headers, None, LOCALHOST).await;
            let found = identity.map(|identity| identity.credential);
            assert_eq!(found, expected, "{place}: {not_after:?}");
        }
    }
}

#[tokio::test]
async fn after_a_reload_only_a_changed_password_is_checked_again() {
    let same = hash("same");
    let of = |changed: &str| config(&[user("same", &same), user("changed", changed)]);
    let passwords = Passwords::new().unwrap();
    let before = authenticator(&of(&hash("old")), &passwords);
    assert_eq!(identify(&before, "same:same").await.unwrap(), 0);
    assert_eq!(identify(&before, "changed:old").await.unwrap(), 1);

    let after = authenticator(&of(&hash("new")), &passwords);
    identify(&after, "changed:old").await.unwrap_err();
    assert_eq!(identify(&after, "changed:new").await.unwrap(), 1);
    passwords.stop();
    let remembered = identify(&after, "same:same").await;
    assert_eq!(remembered.unwrap(), 0, "the password is not checked again");
}

/// A test cannot compare times, so it compares the checks that take the time.
#[tokio::test]
async fn the_password_of_an_unknown_user_is_checked_against_the_hash_of_a_known_one() {
    let hashes = [hash("first"), hash("second")];
    let config = config(&[user("first", &hashes[0]), user("second", &hashes[1])]);
    let passwords = Passwords::new().unwrap();
    let authenticator = authenticator(&config, &passwords);
    let names: Vec<_> = (0..100).map(|n| format!("unknown{n}")).collect();
    let decoys = || {
        names
            .iter()
            .map(|name| authenticator.users.decoy(name).unwrap())
    };
    for hash in &hashes {
        assert!(
            decoys().any(|decoy| **decoy == **hash),
            "every hash is used"
        );
    }
    assert!(decoys().eq(decoys()), "the decoy of a name never changes");
    // The right password of a decoy does not identify an unknown user.
    for name in &names[..10] {
        for password in ["first", "second"] {
            let refused = identify(&authenticator, &format!("{name}:{password}")).await;
            let unknown = matches!(
                refused,
                Err(NotIdentified::Unauthenticated(AuthFailure::Unknown))
            );
            assert!(unknown, "{refused:?}");
        }
    }
    passwords.stop();
    let busy = identify(&authenticator, "somebody:new").await;
    assert!(
        matches!(busy, Err(NotIdentified::Busy)),
        "the password is checked: {busy:?}"
    );
}
