//! Which spoke a JSON Web Token proves. The tests of `jwt` cover signatures.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::Digest as _;

use super::*;
use crate::config::KeysPlace;
use crate::jwt::KeySet;
use crate::jwt::tests::signing::{ISSUER, SUBJECT, SigningKey, claims, jwks, now};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::ec("key"));
static OTHER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::ec("other"));

/// The credentials of some spokes, each with its audience and key. The second one has the static token
/// of [`STATIC_TOKEN`] as well.
struct Spokes {
    authenticator: Authenticator<Identity>,
    sources: Vec<Arc<Source>>,
}

static STATIC_TOKEN: LazyLock<String> =
    LazyLock::new(|| KEY.sign_with(&json!({"alg": "none"}), &json!({"exp": 0})));

impl Spokes {
    fn new(spokes: &[(&str, &SigningKey)]) -> Self {
        let source = |place: usize, key: &SigningKey| {
            let url = format!("https://issuer.example/{place}");
            let source = Source::new(&KeysPlace {
                url: config::KeysUrl::parse(&url).unwrap(),
                issuer: None,
                tls: None,
            });
            source.put(KeySet::parse(jwks(&[key]).as_bytes()).unwrap());
            source
        };
        let sources = spokes.iter().enumerate();
        let sources: Vec<_> = sources
            .map(|(place, (_, key))| source(place, key))
            .collect();
        let token = Secret::Token(sha2::Sha256::digest(&*STATIC_TOKEN).into());
        let mut credentials = vec![credential("static", token)];
        for (place, (audience, _)) in spokes.iter().enumerate() {
            let jwt = config::Jwt {
                issuer: ISSUER.to_owned(),
                audience: (*audience).to_owned(),
                subject: SUBJECT.to_owned(),
                algorithms: vec![crate::jwt::Algorithm::Es256],
                keys: config::JwtKeys::Remote(Box::new(sources[place].place().clone())),
            };
            credentials.push(credential(audience, Secret::Jwt(Box::new(jwt))));
        }
        let credentials = credentials
            .iter()
            .map(|(it, credential)| (it.clone(), credential));
        let passwords = Passwords::new().unwrap();
        let authenticator = Authenticator::new(credentials, &sources, &passwords).unwrap();
        Self {
            authenticator,
            sources,
        }
    }

    /// The name of the spoke that a bearer token proves.
    async fn identify(&self, token: &str) -> Result<String, NotIdentified> {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let identity = self
            .authenticator
            .identify(&headers, None, LOCALHOST)
            .await?;
        Ok(identity.spoke.name.clone())
    }

    fn remembers(&self, token: &str, seconds: i64) -> bool {
        let at = Duration::from_secs((now() + seconds).try_into().unwrap());
        self.authenticator.jwts.remembered_at(token, at).is_some()
    }
}

/// A credential of a spoke of this name.
fn credential(name: &str, secret: Secret) -> (Identity, Credential) {
    let mut config = config(&[format!("{{token_sha256: {TOKEN_SHA256}}}")]);
    config.spokes[0].name = name.to_owned();
    let spoke = Spoke::new(&config.spokes[0], &config.cluster_label, None).unwrap();
    let identity = Identity {
        spoke: Arc::new(spoke),
        credential: 0,
    };
    let credential = Credential {
        name: name.to_owned(),
        secret,
        not_after: None,
        may_capture: false,
    };
    (identity, credential)
}

fn refused(failure: AuthFailure) -> Result<String, NotIdentified> {
    Err(failure.into())
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims("a", 600);
    claims[name] = value;
    claims
}

#[tokio::test]
async fn each_claim_must_be_that_of_the_credential() {
    let spokes = Spokes::new(&[("a", &KEY)]);
    let now = now();
    use AuthFailure::{
        InvalidToken, WrongAlgorithm, WrongAudience, WrongIssuer, WrongSignature, WrongSubject,
    };
    let cases = [
        ("a good one", claims("a", 600), Ok("a".to_owned())),
        ("one audience", with("aud", json!("a")), Ok("a".to_owned())),
        (
            "two audiences",
            with("aud", json!(["b", "a"])),
            Ok("a".to_owned()),
        ),
        ("no nbf", with("nbf", Value::Null), Ok("a".to_owned())),
        (
            "expired within the leeway",
            claims("a", -25),
            Ok("a".to_owned()),
        ),
        ("expired", claims("a", -31), Err(NotIdentified::Expired)),
        ("no expiry", with("exp", Value::Null), refused(InvalidToken)),
        (
            "early within the leeway",
            with("nbf", json!(now + 25)),
            Ok("a".to_owned()),
        ),
        (
            "early",
            with("nbf", json!(now + 60)),
            Err(NotIdentified::NotYetValid),
        ),
        ("another audience", claims("b", 600), refused(WrongAudience)),
        (
            "the audience of the API server",
            claims(ISSUER, 600),
            refused(WrongAudience),
        ),
        (
            "a longer audience",
            claims("ab", 600),
            refused(WrongAudience),
        ),
        (
            "no audience",
            with("aud", Value::Null),
            refused(WrongAudience),
        ),
        (
            "an empty list of audiences",
            with("aud", json!([])),
            refused(WrongAudience),
        ),
        (
            "another issuer",
            with("iss", json!("https://issuer.example")),
            refused(WrongIssuer),
        ),
        (
            "a slash more",
            with("iss", json!(format!("{ISSUER}/"))),
            refused(WrongIssuer),
        ),
        ("no issuer", with("iss", Value::Null), refused(WrongIssuer)),
        (
            "another subject",
            with("sub", json!(format!("{SUBJECT}s"))),
            refused(WrongSubject),
        ),
        (
            "other letters",
            with("sub", json!(SUBJECT.to_uppercase())),
            refused(WrongSubject),
        ),
        (
            "no subject",
            with("sub", Value::Null),
            refused(WrongSubject),
        ),
    ];
    for (case, claims, expected) in cases {
        let token = KEY.sign(&claims);
        assert_eq!(spokes.identify(&token).await, expected, "{case}");
        let again = spokes.identify(&token).await;
        assert_eq!(again, expected, "{case}, once more");
        assert_eq!(spokes.remembers(&token, 0), expected.is_ok(), "{case}");
    }
    let forged = SigningKey::ec("key").sign(&claims("a", 600));
    assert_eq!(spokes.identify(&forged).await, refused(WrongSignature));
    let rsa = KEY.sign_with(&json!({"alg": "RS256", "kid": "key"}), &claims("a", 600));
    assert_eq!(spokes.identify(&rsa).await, refused(WrongAlgorithm));
}

#[tokio::test]
async fn clusters_whose_issuers_have_one_name_do_not_speak_for_each_other() {
    let spokes = Spokes::new(&[("a", &KEY), ("b", &OTHER)]);
    for (audience, key, expected) in [
        ("a", &KEY, Ok("a".to_owned())),
        ("b", &OTHER, Ok("b".to_owned())),
    ] {
        let token = key.sign(&claims(audience, 600));
        assert_eq!(spokes.identify(&token).await, expected);
    }
    // The other cluster can give out tokens for any audience, and name any key.
    let header = json!({"alg": "ES256", "kid": "key"});
    let token = OTHER.sign_with(&header, &claims("a", 600));
    let failure = refused(AuthFailure::WrongSignature);
    assert_eq!(spokes.identify(&token).await, failure);
    let both = KEY.sign(&with("aud", json!(["a", "b"])));
    let failure = refused(AuthFailure::WrongAudience);
    assert_eq!(spokes.identify(&both).await, failure, "whose is it?");
}

#[tokio::test]
async fn other_bearer_tokens_are_looked_up_as_they_stand() {
    let spokes = Spokes::new(&[("a", &KEY)]);
    assert_eq!(
        spokes.identify(&STATIC_TOKEN).await,
        Ok("static".to_owned())
    );
    for opaque in [
        "C793mcNdun4y6JxFNos3RWgG2PdZlyxmGf8jnfftMVg",
        "a.b.c",
        "..",
        "a.b",
    ] {
        let unknown = refused(AuthFailure::Unknown);
        assert_eq!(spokes.identify(opaque).await, unknown, "{opaque}");
    }
    let without_jwt = Spokes::new(&[]);
    let token = KEY.sign(&claims("a", 600));
    let unknown = refused(AuthFailure::Unknown);
    assert_eq!(without_jwt.identify(&token).await, unknown);
}

#[tokio::test]
async fn a_token_is_remembered_until_it_expires() {
    let spokes = Spokes::new(&[("a", &KEY)]);
    let token = KEY.sign(&claims("a", 600));
    assert!(!spokes.remembers(&token, 0));
    spokes.identify(&token).await.unwrap();
    for (seconds, remembered) in [(0, true), (600, true), (628, true), (632, false)] {
        assert_eq!(spokes.remembers(&token, seconds), remembered, "{seconds} s");
    }
    let (message, _) = token.rsplit_once('.').unwrap();
    assert!(
        !spokes.remembers(&format!("{message}.AA"), 0),
        "another one"
    );
}

#[tokio::test]
async fn a_token_whose_key_is_taken_back_proves_nothing() {
    let spokes = Spokes::new(&[("a", &KEY)]);
    let token = KEY.sign(&claims("a", 600));
    spokes.identify(&token).await.unwrap();
    let parsed = |keys: &[&SigningKey]| KeySet::parse(jwks(keys).as_bytes()).unwrap();
    spokes.sources[0].put(parsed(&[&KEY, &OTHER]));
    assert!(!spokes.remembers(&token, 0), "it is judged by the new keys");
    spokes.identify(&token).await.unwrap();
    let replaced = SigningKey::ec("key");
    spokes.sources[0].put(parsed(&[&replaced]));
    let failure = refused(AuthFailure::WrongSignature);
    assert_eq!(spokes.identify(&token).await, failure);
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_key_is_unknown_is_not_refused_for_it() {
    let spokes = Spokes::new(&[("a", &KEY)]);
    let token = OTHER.sign(&claims("a", 600));
    // Nothing fetches, as when the issuer cannot be reached.
    let unavailable = Err(NotIdentified::KeysUnavailable);
    assert_eq!(spokes.identify(&token).await, unavailable);
    let expired = OTHER.sign(&claims("a", -31));
    let failure = refused(AuthFailure::Expired);
    assert_eq!(
        spokes.identify(&expired).await,
        failure,
        "a stranger may say so"
    );
}
