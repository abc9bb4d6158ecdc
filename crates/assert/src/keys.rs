//! The keys, and how they are kept: all of them are one sealed record, so that a change of
//! any is seen by all replicas as one.

use bartizan_model::Secret;
use bartizan_oauth::jwt::{SignError, SigningAlg, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use crate::schedule::{self, Dated};

/// Keys in the order of their making.
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Key>,
    /// Version of the record; 0 for none.
    pub(crate) version: i64,
}

pub(crate) struct Key {
    pub(crate) signing: SigningKey,
    pkcs8: Secret<Vec<u8>>,
    from_ms: i64,
}

impl Dated for Key {
    fn begin_ms(&self) -> i64 {
        self.from_ms
    }
}

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    kid: String,
    alg: String,
    from_ms: i64,
    /// base64url
    pkcs8: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

impl Key {
    /// A new key that signs from this time.
    pub(crate) fn generate(alg: SigningAlg, from_ms: i64) -> Result<Self, SignError> {
        let mut name = [0u8; 16];
        aws_lc_rs::rand::fill(&mut name).map_err(|_| SignError)?;
        Self::build(alg, &URL_SAFE_NO_PAD.encode(name), SigningKey::generate(alg)?, from_ms)
    }

    fn build(alg: SigningAlg, kid: &str, pkcs8: Secret<Vec<u8>>, from_ms: i64) -> Result<Self, SignError> {
        Ok(Self { signing: SigningKey::from_pkcs8(alg, kid, &pkcs8)?, pkcs8, from_ms })
    }

    fn stored(&self) -> Stored {
        Stored {
            kid: self.signing.kid().to_owned(),
            alg: self.signing.alg().alg().as_str().to_owned(),
            from_ms: self.from_ms,
            pkcs8: URL_SAFE_NO_PAD.encode(self.pkcs8.expose()),
        }
    }

    fn restore(stored: &Stored) -> Result<Self, SignError> {
        let alg = match stored.alg.as_str() {
            "ES256" => SigningAlg::Es256,
            "EdDSA" => SigningAlg::EdDsa,
            _ => return Err(SignError),
        };
        let pkcs8 = Secret::new(URL_SAFE_NO_PAD.decode(&stored.pkcs8).map_err(|_| SignError)?);
        Self::build(alg, &stored.kid, pkcs8, stored.from_ms)
    }
}

impl KeySet {
    pub(crate) fn empty() -> Self {
        Self { keys: Vec::new(), version: 0 }
    }

    /// Reads the record.
    pub(crate) fn restore(version: i64, plain: &[u8]) -> Result<Self, SignError> {
        let stored: Vec<Stored> = serde_json::from_slice(plain).map_err(|_| SignError)?;
        let keys = stored.iter().map(Key::restore).collect::<Result<_, _>>()?;
        Ok(Self { keys, version })
    }

    /// The record.
    pub(crate) fn plain(&self) -> Result<Zeroizing<Vec<u8>>, SignError> {
        let stored: Vec<Stored> = self.keys.iter().map(Key::stored).collect();
        serde_json::to_vec(&stored).map(Zeroizing::new).map_err(|_| SignError)
    }

    /// Without the keys whose time is over.
    pub(crate) fn without_old(mut self, now_ms: i64) -> Self {
        let keep: Vec<bool> = self.keys.iter().map(|key| schedule::is_published(&self.keys, key, now_ms)).collect();
        let mut keep = keep.into_iter();
        self.keys.retain(|_| keep.next().unwrap_or(true));
        self
    }

    /// The key that signs now.
    pub(crate) fn current(&self, now_ms: i64) -> Option<&SigningKey> {
        schedule::current(&self.keys, now_ms).map(|key| &key.signing)
    }

    /// The public halves, as a key set (RFC 7517 section 5).
    pub(crate) fn jwks(&self, now_ms: i64) -> Bytes {
        let published = self.keys.iter().filter(|key| schedule::is_published(&self.keys, key, now_ms));
        let keys: Vec<Value> = published.map(|key| key.signing.public_jwk()).collect();
        json!({ "keys": keys }).to_string().into()
    }
}
