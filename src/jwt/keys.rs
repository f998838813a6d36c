//! The public keys of an issuer: a JWK Set (RFC 7517).
//!
//! A key that cannot verify a signature of an [`Algorithm`] is skipped, as the RFC asks for: of another
//! type, for encryption, private or symmetric, or too short. A set in which no key is left is an
//! error, because it is hardly what its issuer means.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::Algorithm;

/// The longest set that is read. A key takes about 500 bytes, and a certificate in it a few KiB.
pub const KEY_SET_BYTES_MAX: usize = 256 << 10;

/// The most keys in a set. Issuers have two or three.
const KEYS_MAX: usize = 100;

/// The longest ID of a key, in bytes. Longer ones are in no token that is read.
const KEY_ID_BYTES_MAX: usize = 1024;

/// Bits of the modulus of an RSA key: from what NIST SP 800-131A allows to what takes 1 ms.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of the exponent of an RSA key. The usual one, 65537, has 3.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

const ED25519_BYTES: usize = 32;
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;

/// The keys of an issuer; at least one.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: usize,
    /// What the set was read from.
    text: Box<[u8]>,
}

/// Why bytes are not the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// They are not a JSON object with a list `keys`.
    #[error(
        "is not a JWK Set; wanted a JSON object such as {{\"keys\": [{{\"kty\": \"RSA\", ...}}]}}"
    )]
    NotAKeySet,
    /// There are more than [`KEY_SET_BYTES_MAX`].
    #[error("is larger than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    /// There are more than `KEYS_MAX` keys.
    #[error("has more than {KEYS_MAX} keys")]
    TooManyKeys,
    /// No key can verify a signature.
    #[error(
        "has no key that can verify a signature; wanted public keys of RSA (2048 to 8192 bits), \
         EC (P-256, P-384) or OKP (Ed25519)"
    )]
    NoUsableKey,
}

/// A key and what it is for.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// A key as its issuer writes it. Numbers are in base64url.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    intended_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part. Whoever publishes it has no secret to sign with.
    d: Option<Value>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK Set.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let set: Set = serde_json::from_slice(text).map_err(|_| KeySetError::NotAKeySet)?;
        let listed = set.keys.len();
        if listed > KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let keys = set.keys.into_iter();
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<Key> = keys.filter_map(Key::new).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self {
            skipped: listed - keys.len(),
            keys,
            text: text.into(),
        })
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of keys that were skipped.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Always false: a set has a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is a key that may have signed a token which names this key.
    pub fn has(&self, key_id: Option<&str>) -> bool {
        self.named(key_id).next().is_some()
    }

    /// The keys that may have signed a token which names a key or none: those with this ID. A key
    /// without an ID, and a token without one, fit all.
    fn named<'k>(&'k self, key_id: Option<&'k str>) -> impl Iterator<Item = &'k Key> {
        let fits = move |key: &&Key| match (key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        self.keys.iter().filter(fits)
    }

    /// The keys among these with which an algorithm can be used.
    pub(super) fn for_token<'k>(
        &'k self,
        key_id: Option<&'k str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'k Key> {
        let keys = self.named(key_id);
        keys.filter(move |key| key.algorithms.contains(&algorithm))
    }
}

/// Sets from the same text are equal.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for KeySet {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| key.id.as_deref());
        f.debug_list().entries(ids).finish()
    }
}

impl Key {
    /// The key that a JWK holds, if it can verify signatures.
    fn new(jwk: Jwk) -> Option<Self> {
        let for_signatures = jwk.intended_use.as_deref().is_none_or(|it| it == "sig");
        let operations = jwk.key_ops.as_deref();
        let verifies = operations.is_none_or(|them| them.iter().any(|it| it == "verify"));
        let id_is_short = jwk
            .kid
            .as_ref()
            .is_none_or(|id| id.len() <= KEY_ID_BYTES_MAX);
        if !for_signatures || !verifies || !id_is_short || jwk.d.is_some() {
            return None;
        }
        let (mut algorithms, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (RSA_ALGORITHMS.to_vec(), rsa(&jwk)?),
            ("EC", Some("P-256")) => (vec![Algorithm::Es256], ec(&jwk, P256_BYTES)?),
            ("EC", Some("P-384")) => (vec![Algorithm::Es384], ec(&jwk, P384_BYTES)?),
            ("OKP", Some("Ed25519")) => (vec![Algorithm::EdDsa], ed25519(&jwk)?),
            _ => return None,
        };
        if let Some(only) = jwk.alg {
            algorithms.retain(|algorithm| algorithm.name() == only);
        }
        (!algorithms.is_empty()).then_some(Self {
            id: jwk.kid,
            algorithms,
            key,
        })
    }
}

const RSA_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
];

fn rsa(jwk: &Jwk) -> Option<DecodingKey> {
    let modulus = decode(jwk.n.as_deref())?;
    let exponent = decode(jwk.e.as_deref())?;
    let modulus = without_zeros(&modulus);
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let exponent = without_zeros(&exponent);
    let odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !RSA_BITS.contains(&bits) || !odd || exponent.len() > RSA_EXPONENT_BYTES_MAX {
        return None;
    }
    Some(DecodingKey::from_rsa_raw_components(modulus, exponent))
}

fn ec(jwk: &Jwk, coordinate_bytes: usize) -> Option<DecodingKey> {
    let (x, y) = (decode(jwk.x.as_deref())?, decode(jwk.y.as_deref())?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return None;
    }
    // An uncompressed point (SEC 1 section 2.3.3).
    let point = [&[4][..], &x, &y].concat();
    Some(DecodingKey::from_ec_der(&point))
}

fn ed25519(jwk: &Jwk) -> Option<DecodingKey> {
    let x = decode(jwk.x.as_deref())?;
    (x.len() == ED25519_BYTES).then(|| DecodingKey::from_ed_der(&x))
}

fn decode(text: Option<&str>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text?).ok()
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
