//! Who a client is: configured, registered, or known by its document.

use bartizan_oauth::client_document::{self, DocumentUrl};
use bartizan_oauth::redirect::RedirectUri;
use bartizan_oauth::registration::{AuthMethod, ClientKeys, ClientMetadata};
use bartizan_store::StoreError;
use bartizan_store::repo::oauth_client;
use serde::{Deserialize, Serialize};

use super::document::FetchError;
use super::{ClientKind, Inner};
use crate::secret;

/// Longest `client_id` that is looked up, bytes.
const MAX_ID: usize = 1024;

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: ClientKind,
    /// Host of its document.
    pub(super) host: Option<String>,
    pub(super) redirect_uris: Vec<RedirectUri>,
    /// Hash of its secret.
    pub(super) secret: Option<[u8; 32]>,
    /// Keys of its assertions.
    pub(super) keys: Option<ClientKeys>,
}

impl Client {
    /// True when it proves nothing at the token endpoint.
    pub(super) fn is_public(&self) -> bool {
        self.secret.is_none() && self.keys.is_none()
    }

    /// The registered redirect URI that a requested one is.
    pub(super) fn allows(&self, requested: &RedirectUri) -> bool {
        self.redirect_uris.iter().any(|registered| registered.matches(requested))
    }

    /// True when any program on the user's machine can pose as it there: its id is known to
    /// all, it proves nothing, and the code does not leave the machine.
    pub(super) fn is_anybody_at(&self, requested: &RedirectUri) -> bool {
        self.kind != ClientKind::Registered && self.is_public() && requested.stays_on_device()
    }
}

/// Why there is no client.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody knows it (any more).
    Unknown,
    /// Its document is refused by rule.
    Document(String),
    /// Its document cannot be had now.
    Fetch(FetchError),
    /// The store does not answer.
    Store(StoreError),
}

/// What is stored of a registration.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    redirect_uris: Vec<String>,
}

/// The text to store for a registration.
pub(super) fn stored(client: &ClientMetadata) -> String {
    let redirect_uris = client.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect();
    let stored = Stored { name: client.name.clone(), redirect_uris };
    serde_json::to_string(&stored).unwrap_or_default()
}

/// Uris that are well-formed; others can never match a request.
fn uris<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<RedirectUri> {
    texts.filter_map(|text| RedirectUri::parse(text).ok()).collect()
}

impl Inner {
    /// The client with this id. May fetch a document: only call it for somebody who signed
    /// in, or brought a code or token of this client. Strangers must not make bartizan send
    /// requests.
    pub(super) async fn client(&self, id: &str) -> Result<Client, ClientError> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(ClientError::Unknown);
        }
        if let Some(client) = (self.deps.clients)().iter().find(|client| client.client_id == id) {
            return Ok(Client {
                id: client.client_id.clone(),
                name: client.name.clone(),
                kind: ClientKind::Preregistered,
                host: None,
                redirect_uris: uris(client.redirect_uris.iter()),
                secret: client.client_secret.as_deref().map(secret::hash),
                keys: client.jwks.clone().map(ClientKeys::Inline),
            });
        }
        if client_document::is_url(id) {
            return self.documented(&self.document_url(id)?).await;
        }
        let found = oauth_client::by_id(&self.deps.store, id).await.map_err(ClientError::Store)?;
        let row = found.ok_or(ClientError::Unknown)?;
        let stored: Stored = serde_json::from_str(&row.metadata).map_err(|_| ClientError::Unknown)?;
        Ok(Client {
            id: row.id,
            name: stored.name,
            kind: ClientKind::Registered,
            host: None,
            redirect_uris: uris(stored.redirect_uris.iter()),
            secret: None,
            keys: None,
        })
    }

    /// What can be said about a client id that is a URL without fetching it.
    pub(super) fn document_url(&self, id: &str) -> Result<DocumentUrl, ClientError> {
        let settings = &self.deps.settings.client_metadata;
        if !settings.enabled {
            return Err(ClientError::Document("client ID metadata documents are switched off here".to_owned()));
        }
        let url = DocumentUrl::parse(id).map_err(|error| ClientError::Document(error.to_string()))?;
        if !self.is_accepted(&url) {
            return Err(ClientError::Document(format!("documents of {} are not accepted here", url.host())));
        }
        Ok(url)
    }

    fn is_accepted(&self, url: &DocumentUrl) -> bool {
        let domains = &self.deps.settings.client_metadata.allowed_domains;
        domains.is_empty() || url.is_within(domains)
    }

    async fn documented(&self, url: &DocumentUrl) -> Result<Client, ClientError> {
        let document = self.documents.get(url, self.now()).await.map_err(ClientError::Fetch)?;
        if let Some(ClientKeys::Uri(uri)) = &document.keys
            && !DocumentUrl::parse(uri).is_ok_and(|uri| self.is_accepted(&uri))
        {
            return Err(ClientError::Document("keys at the host of its jwks_uri are not accepted here".to_owned()));
        }
        // The rules are asked each time, because settings are newer than what is remembered.
        let allowed = document.redirect_uris.iter().filter(|uri| self.rules.check_document(uri).is_ok());
        Ok(Client {
            id: url.as_str().to_owned(),
            name: document.name.clone(),
            kind: ClientKind::Document,
            host: Some(url.host().to_owned()),
            redirect_uris: allowed.cloned().collect(),
            secret: None,
            keys: document.keys.clone().filter(|_| document.auth_method == AuthMethod::PrivateKeyJwt),
        })
    }

    /// Whether a client id is the URL of a document (and nothing an administrator configured).
    pub(super) fn is_documented(&self, id: &str) -> bool {
        client_document::is_url(id) && !(self.deps.clients)().iter().any(|client| client.client_id == id)
    }
}
