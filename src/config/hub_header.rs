//! Headers that go with every request to a hub, with the name of the spoke where it is wanted.
//!
//! A value may be a credential. Nothing shows one: neither `Debug` nor an error, and a value made
//! for a request is marked as sensitive.

use std::fmt;

use http::{HeaderName, HeaderValue};

/// What stands for the name of the spoke in a value.
const SPOKE: &str = "${spoke}";

/// What a variable begins with.
const VARIABLE: &str = "${";

/// Above any token; many servers take no more than this in a field.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubHeader {
    /// Its name; none that hubgate sets or that belongs to the connection.
    pub name: HeaderName,
    /// What it is set to.
    pub value: HubHeaderValue,
}

/// The value of a header, in which `${spoke}` stands for the name of the spoke.
#[derive(Clone, PartialEq, Eq)]
pub struct HubHeaderValue {
    /// The texts around each `${spoke}`, so one more than there are of it; none holds a control
    /// character.
    texts: Vec<String>,
}

impl HubHeaderValue {
    /// Reads a value as it is written. Messages do not quote it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give a value or leave the header out".to_owned());
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        if text.trim() != text {
            return Err("begins or ends with a space".to_owned());
        }
        let texts: Vec<_> = text.split(SPOKE).map(str::to_owned).collect();
        if texts.iter().any(|text| text.contains(VARIABLE)) {
            return Err(format!(
                "holds an unknown {VARIABLE}...}}; allowed: {SPOKE}"
            ));
        }
        Ok(Self { texts })
    }

    /// Returns the value for the requests of a spoke.
    ///
    /// # Panics
    ///
    /// If the name holds a control character, which the name of a configured spoke does not.
    pub fn value(&self, spoke: &str) -> HeaderValue {
        let mut value = HeaderValue::try_from(self.texts.join(spoke))
            .expect("no control character stands in the texts or in the name of a spoke");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for HubHeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubHeaderValue(..)")
    }
}
