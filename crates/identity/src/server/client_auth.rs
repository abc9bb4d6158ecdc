//! How a client proves who it is at the token endpoint (RFC 6749 section 2.3, RFC 7523).

use std::net::IpAddr;

use bartizan_model::Secret;
use bartizan_oauth::params::Params;
use bartizan_oauth::{OAuthCode, OAuthError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::client::{Client, ClientError};
use super::{Inner, assertion};
use crate::secret;

/// Longest credential, bytes.
const MAX: usize = 4096;

/// What a client brings.
pub(super) struct Presented {
    id: String,
    proof: Proof,
}

enum Proof {
    None,
    Secret(Secret<String>),
    Assertion(Secret<String>),
}

/// One answer for an unknown client, a wrong secret and a wrong way of proving it.
pub(super) fn invalid_client() -> OAuthError {
    OAuthError::new(
        OAuthCode::InvalidClient,
        "client authentication failed; register again if this client was known before",
    )
}

impl Presented {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// True when it brings no proof at all.
    pub(super) fn proves_nothing(&self) -> bool {
        matches!(self.proof, Proof::None)
    }

    /// Reads who the client says to be. More than one method is refused (section 2.3).
    pub(super) fn read(headers: &HeaderMap, params: &Params) -> Result<Self, OAuthError> {
        let wrong = |text: &str| OAuthError::new(OAuthCode::InvalidRequest, text);
        let basic = basic(headers)?;
        let in_body = params.get("client_secret");
        let (id, proof) = match (basic, in_body, params.get("client_assertion")) {
            // An empty secret is none (section 2.3.1): some public clients write it so.
            (Some((id, secret)), None, None) if secret.expose().is_empty() => (Some(id), Proof::None),
            (Some((id, secret)), None, None) => (Some(id), Proof::Secret(secret)),
            (None, Some(secret), None) => (None, Proof::Secret(Secret::new(secret.to_owned()))),
            (None, None, Some(assertion)) => {
                if params.get("client_assertion_type") != Some(assertion::TYPE) {
                    return Err(wrong("client_assertion_type must be the one of RFC 7523"));
                }
                (assertion::claimed_client(assertion), Proof::Assertion(Secret::new(assertion.to_owned())))
            }
            (None, None, None) => (None, Proof::None),
            _ => return Err(wrong("use one way of client authentication")),
        };
        let id = match (id, params.get("client_id")) {
            (Some(id), Some(named)) if id != named => {
                return Err(wrong("client_id differs from that of the client authentication"));
            }
            (Some(id), _) => id,
            (None, Some(named)) => named.to_owned(),
            (None, None) => return Err(wrong("client_id is missing")),
        };
        Ok(Self { id, proof })
    }
}

/// The credentials of an `Authorization: Basic` header, both parts form-encoded.
fn basic(headers: &HeaderMap) -> Result<Option<(String, Secret<String>)>, OAuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let mut read = || {
        if values.next().is_some() || value.len() > MAX {
            return None;
        }
        let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(text.trim()).ok()).flatten()?;
        let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let plain = |text: &str| {
            let params = Params::parse(format!("v={}", text.replace('&', "%26")).as_bytes()).ok()?;
            Some(params.get("v").unwrap_or_default().to_owned())
        };
        let id = plain(id).filter(|id| !id.is_empty())?;
        Some((id, Secret::new(plain(secret)?)))
    };
    read().map(Some).ok_or_else(invalid_client)
}

impl Inner {
    /// Checks the proof. A client with a secret or keys must prove it, a public one must
    /// bring none. Who fails to prove itself again and again has to wait: from one network,
    /// as one client. Nobody else waits for that.
    pub(super) async fn authenticate_client(&self, presented: &Presented, peer: IpAddr) -> Result<Client, OAuthError> {
        self.check_pace(presented, peer)?;
        let client = match self.client(&presented.id).await {
            Ok(client) => client,
            Err(ClientError::Store(error)) => return Err(super::unavailable(&error)),
            Err(ClientError::Fetch(error)) => {
                tracing::info!(%error, "a client's document could not be fetched");
                return Err(OAuthError::new(
                    OAuthCode::TemporarilyUnavailable,
                    "the client's document cannot be fetched",
                ));
            }
            Err(ClientError::Unknown | ClientError::Document(_)) => return Err(invalid_client()),
        };
        self.check_proof(&client, presented, peer).await?;
        Ok(client)
    }

    fn check_pace(&self, presented: &Presented, peer: IpAddr) -> Result<(), OAuthError> {
        if !presented.proves_nothing() && self.failures.is_full(peer, &presented.id, self.now()) {
            return Err(OAuthError::new(OAuthCode::SlowDown, "too many failures, try again in a minute"));
        }
        Ok(())
    }

    /// The same for a client that is known already.
    pub(super) async fn check_proof(
        &self,
        client: &Client,
        presented: &Presented,
        peer: IpAddr,
    ) -> Result<(), OAuthError> {
        self.check_pace(presented, peer)?;
        let good = match &presented.proof {
            Proof::None => client.is_public(),
            Proof::Secret(given) => {
                let hash = secret::hash(given.expose());
                client.secret.is_some_and(|known| secret::same(&known, &hash))
            }
            Proof::Assertion(given) => self.is_asserted(client, given.expose()).await?,
        };
        if good {
            return Ok(());
        }
        // Only what can be guessed is counted, so that invented names fill no memory.
        if !presented.proves_nothing() && !client.is_public() {
            self.failures.take(peer, &presented.id, self.now());
        }
        Err(invalid_client())
    }
}
