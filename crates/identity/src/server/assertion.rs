//! `private_key_jwt` (RFC 7523 section 2.2, OpenID Connect Core section 9): signed by a key
//! of the client, for this server, once.

use std::sync::Arc;

use bartizan_oauth::jwt::{Alg, Claims, Expect, Jwks, JwtError, Typ, verify};
use bartizan_oauth::registration::ClientKeys;
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::replay;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Inner;
use super::client::Client;
use crate::secret;

/// `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// As the metadata document says.
const ALGORITHMS: [Alg; 4] = [Alg::EdDsa, Alg::Es256, Alg::Rs256, Alg::Ps256];
const LEEWAY_S: i64 = 60;
/// Longest life of an assertion, seconds; for that long its use is remembered.
const LONGEST_S: i64 = 600;
/// Longest `jti`, bytes.
const MAX_JTI: usize = 256;

/// The client that an assertion speaks of, before anything about it is believed.
pub(super) fn claimed_client(assertion: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

impl Inner {
    /// Whether an assertion proves the client.
    ///
    /// # Errors
    /// When keys or the memory of used assertions cannot be reached.
    pub(super) async fn is_asserted(&self, client: &Client, assertion: &str) -> Result<bool, OAuthError> {
        let Some(keys) = &client.keys else { return Ok(false) };
        let mut found = self.keys(keys, false).await?;
        let mut checked = self.check_assertion(&found, client, assertion);
        if matches!((&checked, keys), (Err(JwtError::UnknownKey), ClientKeys::Uri(_))) {
            found = self.keys(keys, true).await?;
            checked = self.check_assertion(&found, client, assertion);
        }
        let Ok(claims) = checked else { return Ok(false) };
        let now_s = self.now().div_euclid(1000);
        let (Some(jti), Some(exp)) = (claims.text("jti"), claims.seconds("exp")) else { return Ok(false) };
        let same = claims.text("sub") == Some(client.id.as_str());
        if !same || jti.is_empty() || jti.len() > MAX_JTI || exp > now_s.saturating_add(LONGEST_S + LEEWAY_S) {
            return Ok(false);
        }
        let marker = URL_SAFE_NO_PAD.encode(secret::hash(&format!("{}\n{jti}", client.id)));
        let until_ms = exp.saturating_add(LEEWAY_S + 1).saturating_mul(1000);
        let used = replay::consume(&self.deps.store, &format!("assertion:{marker}"), until_ms).await;
        used.map_err(|error| super::unavailable(&error))
    }

    /// `aud` is the issuer or the token endpoint, `typ` the ordinary one or its newer name.
    fn check_assertion(&self, keys: &Jwks, client: &Client, assertion: &str) -> Result<Claims, JwtError> {
        let endpoint = format!("{}/token", self.deps.issuer);
        let mut last = Err(JwtError::Malformed);
        for audience in [self.deps.issuer.as_str(), &endpoint] {
            for typ in [Typ::Plain, Typ::Exactly("client-authentication+jwt")] {
                let expect = Expect {
                    issuer: &client.id,
                    audience,
                    algs: &ALGORITHMS,
                    typ,
                    nonce: None,
                    now_s: self.now().div_euclid(1000),
                    leeway_s: LEEWAY_S,
                    max_age_s: None,
                };
                match verify(assertion, keys, &expect) {
                    Ok(claims) => return Ok(claims),
                    Err(JwtError::UnknownKey) => return Err(JwtError::UnknownKey),
                    Err(error) => last = Err(error),
                }
            }
        }
        last
    }

    async fn keys(&self, keys: &ClientKeys, again: bool) -> Result<Arc<Jwks>, OAuthError> {
        match keys {
            ClientKeys::Inline(text) => Ok(Arc::new(Jwks::parse(text.as_bytes()).unwrap_or_default())),
            ClientKeys::Uri(uri) => self.documents.keys(uri, self.now(), again).await.map_err(|error| {
                tracing::info!(%error, "a client's keys could not be fetched");
                OAuthError::new(OAuthCode::TemporarilyUnavailable, "the client's keys cannot be fetched")
            }),
        }
    }
}
