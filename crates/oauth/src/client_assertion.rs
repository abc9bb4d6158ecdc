//! `private_key_jwt`: a client proves itself with a signed assertion (RFC 7521 section 4.2,
//! RFC 7523 sections 2.2 and 3).

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

use crate::jwt::Alg;

/// `client_assertion_type` of a form with such an assertion.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Life of an assertion, seconds: it is made for one request.
pub const LIFE_S: i64 = 120;
/// Longest key in a configuration, bytes.
pub const MAX_PEM: usize = 16 * 1024;
/// Shortest modulus of an RSA key, bytes.
const MIN_RSA: usize = 256;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why a key cannot be used. The texts hold no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyError {
    /// Not one private key in PEM.
    #[error("this is not one private key in PEM (PKCS#8, `-----BEGIN PRIVATE KEY-----`)")]
    Pem,
    /// An algorithm or size that is not used.
    #[error("this is neither a P-256 nor an RSA key of at least 2048 bits")]
    Key,
    /// The random generator cannot be used.
    #[error("cannot sign")]
    Sign,
}

/// A client's private key.
pub struct ClientKey {
    kid: Option<String>,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("alg", &self.alg()).finish_non_exhaustive()
    }
}

impl ClientKey {
    /// Reads a key in PEM. What it is decides the algorithm: P-256 is `ES256`, RSA is `RS256`.
    ///
    /// # Errors
    /// [`ClientKeyError`].
    pub fn from_pem(pem: &Secret<String>, kid: Option<&str>) -> Result<Self, ClientKeyError> {
        let text = pem.expose();
        if text.len() > MAX_PEM || text.matches("-----BEGIN").count() != 1 {
            return Err(ClientKeyError::Pem);
        }
        let body = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(body, _)| body);
        let body = body.ok_or(ClientKeyError::Pem)?;
        let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| ClientKeyError::Pem)?);
        let pair = match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der) {
            Ok(pair) => Pair::Ec(pair),
            Err(_) => match RsaKeyPair::from_pkcs8(&der) {
                Ok(pair) if pair.public_modulus_len() >= MIN_RSA => Pair::Rsa(pair),
                _ => return Err(ClientKeyError::Key),
            },
        };
        Ok(Self { kid: kid.map(str::to_owned), pair })
    }

    /// What it signs with.
    pub fn alg(&self) -> Alg {
        match self.pair {
            Pair::Ec(_) => Alg::Es256,
            Pair::Rsa(_) => Alg::Rs256,
        }
    }

    /// An assertion of this client to one authorization server, good for [`LIFE_S`].
    ///
    /// # Errors
    /// [`ClientKeyError::Sign`] without randomness.
    pub fn assertion(&self, client_id: &str, audience: &str, now_s: i64) -> Result<Secret<String>, ClientKeyError> {
        let failed = |_| ClientKeyError::Sign;
        let mut jti = [0u8; 16];
        aws_lc_rs::rand::fill(&mut jti).map_err(failed)?;
        let mut header = json!({"alg": self.alg().as_str(), "typ": "JWT"});
        if let (Some(kid), Some(members)) = (&self.kid, header.as_object_mut()) {
            members.insert("kid".to_owned(), kid.as_str().into());
        }
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": now_s,
            "exp": now_s.saturating_add(LIFE_S),
            "jti": URL_SAFE_NO_PAD.encode(jti),
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
        };
        Ok(Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn pem(der: &[u8]) -> Secret<String> {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        Secret::new(format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")))
    }

    fn ec() -> EcdsaKeyPair {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
    }

    fn parts(token: &Secret<String>) -> (Value, Value, String, Vec<u8>) {
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
        (json(header), json(claims), message.to_owned(), decode(signature))
    }

    #[test]
    fn p24_both_kinds_of_keys_sign() {
        let pair = ec();
        let key = ClientKey::from_pem(&pem(pair.to_pkcs8v1().unwrap().as_ref()), Some("one")).unwrap();
        let token = key.assertion("me", "https://as.example", 100).unwrap();
        let (header, claims, message, signature) = parts(&token);
        assert_eq!(header, json!({"alg": "ES256", "typ": "JWT", "kid": "one"}));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
        for (name, wanted) in
            [("iss", json!("me")), ("sub", json!("me")), ("aud", json!("https://as.example")), ("exp", json!(220))]
        {
            assert_eq!(claims[name], wanted);
        }
        // Each is another one (RFC 7523, section 3, `jti`).
        assert_ne!(claims["jti"], parts(&key.assertion("me", "https://as.example", 100).unwrap()).1["jti"]);

        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let key = ClientKey::from_pem(&pem(der.as_ref()), None).unwrap();
        let (header, _, message, signature) = parts(&key.assertion("me", "a", 1).unwrap());
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
        assert!(!format!("{key:?}").contains("kid"));
    }

    #[test]
    fn p24_other_texts_are_no_keys() {
        let good = pem(ec().to_pkcs8v1().unwrap().as_ref());
        let twice = format!("{0}{0}", good.expose());
        let cut: String = good.expose().chars().filter(|c| *c != 'A').collect();
        for (text, error) in [
            ("", ClientKeyError::Pem),
            ("secret", ClientKeyError::Pem),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", ClientKeyError::Pem),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", ClientKeyError::Key),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", ClientKeyError::Pem),
            (&twice, ClientKeyError::Pem),
            (&"x".repeat(MAX_PEM + 1), ClientKeyError::Pem),
        ] {
            assert_eq!(ClientKey::from_pem(&Secret::new(text.to_owned()), None).unwrap_err(), error, "{text:.40}");
        }
        assert!(ClientKey::from_pem(&Secret::new(cut), None).is_err());
        // Another curve.
        let other = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let other = pem(other.to_pkcs8v1().unwrap().as_ref());
        assert_eq!(ClientKey::from_pem(&other, None).unwrap_err(), ClientKeyError::Key);
    }
}
