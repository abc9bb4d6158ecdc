//! Signed tokens (RFC 7515, 7517, 7519): key sets, verification, signing.
//!
//! Only asymmetric algorithms exist here. `none` and the `HS` family have no name in
//! [`Alg`], so no list of accepted algorithms can hold them, and a public key can never be
//! taken for a shared secret (RFC 8725, sections 2.1 and 3.1).

mod claims;
mod keys;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::Claims;
pub use keys::{Jwks, MAX_JWKS};
pub use sign::{SignError, SigningAlg, SigningKey};
pub use verify::{Expect, Typ, verify};

/// Longest token, bytes.
pub const MAX_TOKEN: usize = 256 * 1024;

/// Signature algorithms (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in headers and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of a name, exactly.
    pub fn parse(name: &str) -> Option<Self> {
        // RFC 9864 gives EdDSA with this curve a name of its own.
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Self::ALL.into_iter().find(|alg| alg.as_str() == name)
    }
}

/// Why a token is not believed. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of base64url with JSON objects in them, or too long.
    #[error("the token is not well-formed")]
    Malformed,
    /// An algorithm that is not in the list.
    #[error("the token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// A `crit` header, which nothing here understands (RFC 7515, section 4.1.11).
    #[error("the token has critical headers that are not known")]
    Critical,
    /// Another kind of token.
    #[error("the token is of another type")]
    Type,
    /// No key of this name and algorithm; the keys may have rolled over.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// For somebody else, or authorised for somebody else.
    #[error("the token is for somebody else")]
    Audience,
    /// Its time is over.
    #[error("the token is expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is from the future")]
    Future,
    /// Not the nonce that was sent.
    #[error("the token has another nonce")]
    Nonce,
    /// The person authenticated longer ago than was asked for.
    #[error("the person did not authenticate recently enough")]
    TooOld,
    /// A needed claim is missing or of another type.
    #[error("`{0}` of the token cannot be used")]
    Claim(&'static str),
}

impl JwtError {
    /// Stable word for the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Future => "future",
            Self::Nonce => "nonce",
            Self::TooOld => "too_old",
            Self::Claim(_) => "claim",
        }
    }
}
