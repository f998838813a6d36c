//! The spokes that a gate knows, and what they send with.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A spoke with its credential.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spoke {
    /// The value of the cluster label.
    pub(crate) name: String,
    /// The token protects nothing.
    pub(crate) token: String,
}

impl Spoke {
    /// Spoke `number`. Captured bodies are of the first one.
    pub(crate) fn new(number: usize) -> Self {
        let name = match number {
            0 => "production".to_owned(),
            number => format!("spoke-{number}"),
        };
        let token = format!("{number:08}0123456789abcdef01234567");
        Self { name, token }
    }

    /// The first spoke.
    pub(crate) fn first() -> Self {
        Self::new(0)
    }

    /// The element of `spokes` in the configuration of a gate.
    pub(crate) fn yaml(&self) -> String {
        let Self { name, token } = self;
        let digest = Sha256::digest(token);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("- name: {name}\n  credentials: [{{token_sha256: {digest}}}]\n")
    }
}
