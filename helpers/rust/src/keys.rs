//! The gateway's public keys (RFC 7517), and what each of them verifies.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// A key and the one algorithm it is good for: that of the key, whatever an assertion says.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// P-256, as an uncompressed point.
    Es256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    pub(crate) fn is_for(&self, algorithm: &str) -> bool {
        match self {
            Self::Es256(_) => algorithm == "ES256",
            Self::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match self {
            Self::Es256(key) => (&ECDSA_P256_SHA256_FIXED, key),
            Self::Ed25519(key) => (&ED25519, key),
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set by id. What is not known is left out: sets may hold more than we verify with.
pub(crate) fn read(text: &str) -> Option<HashMap<String, Key>> {
    let set: Set = serde_json::from_str(text).ok()?;
    Some(set.keys.into_iter().filter_map(|jwk| Some((jwk.kid.clone()?, key(&jwk)?))).collect())
}

fn key(jwk: &Jwk) -> Option<Key> {
    let number = |text: &Option<String>| {
        let bytes = URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?;
        (bytes.len() == 32).then_some(bytes)
    };
    match (jwk.kty.as_deref()?, jwk.crv.as_deref()?) {
        ("EC", "P-256") => Some(Key::Es256([vec![4], number(&jwk.x)?, number(&jwk.y)?].concat())),
        ("OKP", "Ed25519") => Some(Key::Ed25519(number(&jwk.x)?)),
        _ => None,
    }
}
