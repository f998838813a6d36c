//! Why senders are not identified.

use super::UNKNOWN;

/// Why a sender was not identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// The client certificate has names of several spokes.
    AmbiguousCertificate,
    /// The credential is no longer valid.
    Expired,
    /// The bearer token is a JWT that nobody could judge.
    InvalidToken,
    /// The Authorization header cannot be read.
    Malformed,
    /// There is neither an Authorization header nor a client certificate.
    Missing,
    /// No spoke has this credential.
    Unknown,
    /// No spoke has a name of the client certificate.
    UnknownCertificate,
    /// The algorithm of a JWT is not allowed.
    WrongAlgorithm,
    /// A JWT is for someone else.
    WrongAudience,
    /// A JWT is from an issuer that no spoke has.
    WrongIssuer,
    /// No key of its issuer signed a JWT.
    WrongSignature,
    /// A JWT is about a subject that no spoke has.
    WrongSubject,
}

impl AuthFailure {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 12] = [
        Self::AmbiguousCertificate,
        Self::Expired,
        Self::InvalidToken,
        Self::Malformed,
        Self::Missing,
        Self::Unknown,
        Self::UnknownCertificate,
        Self::WrongAlgorithm,
        Self::WrongAudience,
        Self::WrongIssuer,
        Self::WrongSignature,
        Self::WrongSubject,
    ];

    /// The value of the label `reason` of `hubgate_auth_failures_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AmbiguousCertificate => "ambiguous_certificate",
            Self::Expired => "expired",
            Self::InvalidToken => "invalid_token",
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::Unknown => UNKNOWN,
            Self::UnknownCertificate => "unknown_certificate",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::WrongAudience => "wrong_audience",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongSignature => "wrong_signature",
            Self::WrongSubject => "wrong_subject",
        }
    }

    /// True when the sender has a token that was good, or looks like one.
    pub fn is_of_token(self) -> bool {
        match self {
            Self::Expired
            | Self::InvalidToken
            | Self::WrongAlgorithm
            | Self::WrongAudience
            | Self::WrongIssuer
            | Self::WrongSignature
            | Self::WrongSubject => true,
            Self::AmbiguousCertificate
            | Self::Malformed
            | Self::Missing
            | Self::Unknown
            | Self::UnknownCertificate => false,
        }
    }

    /// True when the sender may be looking for a credential that it does not have.
    pub fn may_be_guess(self) -> bool {
        match self {
            Self::Unknown | Self::WrongSignature => true,
            Self::AmbiguousCertificate
            | Self::Expired
            | Self::InvalidToken
            | Self::Malformed
            | Self::Missing
            | Self::UnknownCertificate
            | Self::WrongAlgorithm
            | Self::WrongAudience
            | Self::WrongIssuer
            | Self::WrongSubject => false,
        }
    }

    /// What is wrong and what the people behind the sender can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AmbiguousCertificate => {
                "the client certificate has names of several spokes; use one with the names of one"
            }
            Self::Expired => {
                "the credential has expired; give the sender another one, move its not_after, or let \
                 the spoke read the renewed file (credentials_file)"
            }
            Self::InvalidToken => {
                "the JWT cannot be judged; it needs the claims iss, sub, aud and exp, each once, and \
                 no header crit"
            }
            Self::Malformed => {
                "the Authorization header cannot be read; send Bearer <token> or Basic <base64>"
            }
            Self::Missing => {
                "no credential; set authorization, basic_auth or the certificate in tls_config in the \
                 spoke's remote_write"
            }
            Self::Unknown => "no spoke has this credential; check the token or password",
            Self::UnknownCertificate => {
                "no spoke has a name of this client certificate; add one to the spoke's credentials"
            }
            Self::WrongAlgorithm => {
                "the alg of the JWT is not among jwt.algorithms of the spoke's credential"
            }
            Self::WrongAudience => {
                "the JWT is for another audience; ask for the jwt.audience of the spoke's credential"
            }
            Self::WrongIssuer => {
                "no spoke has a credential with the iss of the JWT; compare it with jwt.issuer"
            }
            Self::WrongSignature => {
                "no key of the issuer signed the JWT; check that the jwks are those of the spoke's \
                 cluster"
            }
            Self::WrongSubject => {
                "no spoke has a credential with the sub of the JWT; compare it with jwt.subject"
            }
        }
    }
}
