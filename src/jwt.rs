//! JSON Web Tokens (RFC 7519): what a token says, and whether a key of its issuer signed it.
//!
//! Bytes in, values out: this room reads no file, asks no network and no clock. [`identify`] decides
//! which issuer, audience and subject make a spoke, and [`jwks`] gets the keys.
//!
//! What a token may decide is little (RFC 8725). It names an algorithm, which must be one that the
//! configuration allows and that the type of the key fits, so a public key never becomes the secret of
//! an HMAC and `none` is no algorithm. It names a key by its ID. A key, or the URL of one, in the
//! token itself is not looked at.
//!
//! [`identify`]: crate::identify
//! [`jwks`]: crate::jwks

mod algorithm;
mod keys;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub use algorithm::Algorithm;
pub use keys::{KEY_SET_BYTES_MAX, KeySet, KeySetError};
pub use token::{LEEWAY, Malformed, NotSigned, Token};
