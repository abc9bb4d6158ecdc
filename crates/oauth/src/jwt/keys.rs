//! Key sets (RFC 7517), leniently read: a key that is not understood is passed over, as
//! section 5 asks, so that a provider may add new kinds.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Alg, JwtError};

/// Longest key set, bytes.
pub const MAX_JWKS: usize = 256 * 1024;
/// Most keys looked at.
const MAX_KEYS: usize = 100;

/// Public keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Jwks(Vec<Key>);

/// One key that can check signatures.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    /// The only algorithm it may be used with, if it says so; the outer `None`: any that fits.
    alg: Option<Option<Alg>>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Jwks {
    /// Takes a key set apart. Symmetric, unknown, encryption and malformed keys are not in
    /// the result.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] when it is no key set at all, or too long.
    pub fn parse(document: &[u8]) -> Result<Self, JwtError> {
        if document.len() > MAX_JWKS {
            return Err(JwtError::Malformed);
        }
        let set: Value = serde_json::from_slice(document).map_err(|_| JwtError::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(JwtError::Malformed)?;
        Ok(Self(keys.iter().take(MAX_KEYS).filter_map(|key| Key::parse(key.as_object()?)).collect()))
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any usable key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys that may have made a signature.
    pub(super) fn candidates(&self, kid: Option<&str>, alg: Alg) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.fits(alg) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
    }
}

impl Key {
    fn parse(key: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str, most: usize| {
            let text = text(name).filter(|text| text.len() <= most * 2)?;
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|bytes| bytes.len() <= most)
        };
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(ops) = key.get("key_ops") {
            ops.as_array()?.iter().find(|op| op.as_str() == Some("verify"))?;
        }
        let point = |size: usize| {
            let (x, y) = (bytes("x", size)?, bytes("y", size)?);
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa { n: bytes("n", 1025)?, e: bytes("e", 8)? },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x", 32).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(Self { kid: text("kid").map(str::to_owned), alg: text("alg").map(Alg::parse), material })
    }

    /// The type of the key must fit the algorithm (RFC 8725, section 3.1).
    fn fits(&self, alg: Alg) -> bool {
        let kind = match (&self.material, alg) {
            (Material::Rsa { .. }, _) => rsa(alg).is_some(),
            (Material::P256(_), alg) => alg == Alg::Es256,
            (Material::P384(_), alg) => alg == Alg::Es384,
            (Material::Ed25519(_), alg) => alg == Alg::EdDsa,
        };
        kind && self.alg.is_none_or(|only| only == Some(alg))
    }

    /// True when this key made the signature with this algorithm.
    pub(super) fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(alg) {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => {
                rsa(alg).is_some_and(|how| RsaPublicKeyComponents { n, e }.verify(how, message, signature).is_ok())
            }
            Material::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
            }
            Material::P384(key) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(message, signature).is_ok()
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}

/// How an RSA key checks; keys of fewer than 2,048 bits are refused by all of them.
fn rsa(alg: Alg) -> Option<&'static RsaParameters> {
    Some(match alg {
        Alg::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Alg::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Alg::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Alg::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Alg::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Alg::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Alg::Es256 | Alg::Es384 | Alg::EdDsa => return None,
    })
}
