//! Signing: client assertions (RFC 7523, `private_key_jwt`) and assertions to upstreams.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::Alg;

/// Algorithms that are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlg {
    /// The same among all algorithms.
    pub fn alg(self) -> Alg {
        match self {
            Self::Es256 => Alg::Es256,
            Self::EdDsa => Alg::EdDsa,
        }
    }
}

/// The key or the random generator cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign")]
pub struct SignError;

/// A private key with its name.
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A new private key in PKCS#8, to be sealed and kept.
    ///
    /// # Errors
    /// [`SignError`] without randomness.
    pub fn generate(alg: SigningAlg) -> Result<Secret<Vec<u8>>, SignError> {
        let random = SystemRandom::new();
        let document = match alg {
            SigningAlg::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
            SigningAlg::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
        };
        document.map(|document| Secret::new(document.as_ref().to_vec())).map_err(|_| SignError)
    }

    /// A key from PKCS#8.
    ///
    /// # Errors
    /// [`SignError`] when it is none of this algorithm.
    pub fn from_pkcs8(alg: SigningAlg, kid: &str, pkcs8: &Secret<Vec<u8>>) -> Result<Self, SignError> {
        let pair = match alg {
            SigningAlg::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose()).map(Pair::Ec)
            }
            SigningAlg::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map(Pair::Ed),
        };
        Ok(Self { kid: kid.to_owned(), pair: pair.map_err(|_| SignError)? })
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its algorithm.
    pub fn alg(&self) -> SigningAlg {
        match self.pair {
            Pair::Ec(_) => SigningAlg::Es256,
            Pair::Ed(_) => SigningAlg::EdDsa,
        }
    }

    /// The public half as JWK.
    pub fn public_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let alg = self.alg().alg().as_str();
        match &self.pair {
            Pair::Ec(pair) => {
                // Uncompressed: 0x04, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "use": "sig", "alg": alg, "kid": self.kid})
            }
            Pair::Ed(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": alg, "kid": self.kid})
            }
        }
    }

    /// Signs claims; the result is a token in compact form.
    ///
    /// # Errors
    /// [`SignError`] without randomness.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<Secret<String>, SignError> {
        let header = json!({"alg": self.alg().alg().as_str(), "typ": typ, "kid": self.kid});
        let part = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        let claims = serde_json::to_vec(claims).map_err(|_| SignError)?;
        let message = format!("{}.{}", part(header.to_string().into_bytes()), part(claims));
        let signature = match &self.pair {
            Pair::Ec(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| SignError)?.as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        Ok(Secret::new(format!("{message}.{}", part(signature))))
    }
}
