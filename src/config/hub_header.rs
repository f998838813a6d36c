//! Additional headers of the requests to a hub. Their values may contain the name of the spoke.
//!
//! A value may be a credential, so neither `Debug` nor an error shows one, and the value for a
//! request is marked as sensitive.

use std::fmt;

use http::{HeaderName, HeaderValue};

/// The variable that the name of the spoke replaces.
const SPOKE_VARIABLE: &str = "${spoke}";

/// The beginning of every variable.
const VARIABLE_START: &str = "${";

/// Longer than any token. Many servers accept no longer header.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubHeader {
    /// Its name. It is neither a header that hubgate sets itself nor one that belongs to the
    /// connection.
    pub name: HeaderName,
    /// Its value.
    pub value: HubHeaderValue,
}

/// The value of a header. The name of the spoke replaces each `${spoke}` in it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubHeaderValue {
    /// The texts before, between and after the variables, so there is one text more than there are
    /// variables. None contains a control character.
    texts: Vec<String>,
}

impl HubHeaderValue {
    /// Parses a value of the configuration. Messages do not quote it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give a value or leave the header out".to_owned());
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("contains a control character".to_owned());
        }
        if text.trim() != text {
            return Err("begins or ends with a space".to_owned());
        }
        let texts: Vec<_> = text.split(SPOKE_VARIABLE).map(str::to_owned).collect();
        if texts.iter().any(|text| text.contains(VARIABLE_START)) {
            return Err(format!(
                "contains an unknown variable {VARIABLE_START}...}}; allowed: {SPOKE_VARIABLE}"
            ));
        }
        Ok(Self { texts })
    }

    /// Returns the value for the requests of a spoke.
    ///
    /// # Panics
    ///
    /// If the name contains a control character. The name of a configured spoke contains none.
    pub fn value(&self, spoke: &str) -> HeaderValue {
        let mut value = HeaderValue::try_from(self.texts.join(spoke))
            .expect("neither the texts nor the name of a spoke contain a control character");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for HubHeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubHeaderValue(..)")
    }
}
