//! As which client bartizan asks an authorization server: configured, by document (CIMD),
//! or registered (RFC 7591). Everything is kept per issuer and never shown to another one.

use bartizan_catalog::OauthConfig;
use bartizan_model::Secret;
use bartizan_oauth::client_assertion::{ASSERTION_TYPE, ClientKey};
use bartizan_oauth::discovery::ServerMetadata;
use bartizan_oauth::params::Builder;
use bartizan_oauth::pkce;
use bartizan_oauth::registration::AuthMethod;
use bartizan_oauth::token_answer::{self, TokenAnswer, TokenAnswerError};
use bartizan_oauth::token_request::{ClientAuth, basic};
use bartizan_store::repo::sealed::Key;
use bartizan_vault::RecordsError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroize as _;

use crate::account::{ClientKind, Place};
use crate::accounts::{AccountError, Inner, hash};
use crate::discover::failed;
use crate::web::WebError;

/// Longest answer to a registration, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest client id and secret, bytes.
const MAX_TEXT: usize = 4096;
/// How a client proves itself with a key, in lists of methods.
const PRIVATE_KEY_JWT: &str = "private_key_jwt";
/// Errors of a token endpoint that does not know the client (any more).
const UNKNOWN_CLIENT: [&str; 2] = ["invalid_client", "unauthorized_client"];

/// A client of one authorization server.
pub(crate) struct Client {
    pub(crate) kind: ClientKind,
    pub(crate) id: String,
    proof: Proof,
}

/// What a client proves itself with.
pub(crate) enum Proof {
    /// Nothing.
    None,
    /// A secret that both know.
    Secret(Secret<String>, ClientAuth),
    /// Assertions to this authorization server, signed with the client's key (RFC 7523).
    Key { key: ClientKey, audience: String },
}

impl Proof {
    /// A secret if there is one.
    pub(crate) fn of(secret: Option<Secret<String>>, auth: ClientAuth) -> Self {
        match (auth, secret) {
            (ClientAuth::Basic | ClientAuth::Post, Some(secret)) => Self::Secret(secret, auth),
            _ => Self::None,
        }
    }

    /// The configured key, for the authorization server of this name.
    ///
    /// # Errors
    /// [`AccountError::Misconfigured`] without a usable one.
    pub(crate) fn key(config: &OauthConfig, audience: &str) -> Result<Self, AccountError> {
        let pem = config.client_key.as_ref();
        let pem = pem.ok_or_else(|| AccountError::Misconfigured("no private key is configured".to_owned()))?;
        let key = ClientKey::from_pem(pem, config.client_key_id.as_deref());
        let key = key.map_err(|error| AccountError::Misconfigured(format!("`auth_config.private_key`: {error}")))?;
        Ok(Self::Key { key, audience: audience.to_owned() })
    }
}

/// A registration at rest.
#[derive(Serialize, Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<String>,
    /// `token_endpoint_auth_method` as registered.
    method: String,
    /// End of the secret, milliseconds since the epoch.
    expires_ms: Option<i64>,
    issuer: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.client_secret.zeroize();
    }
}

/// What a registration answers (RFC 7591, section 3.2.1), as far as it is used.
#[derive(Deserialize)]
struct RegistrationAnswer {
    client_id: String,
    #[serde(default)]
    client_secret: Option<String>,
    #[serde(default)]
    client_secret_expires_at: Option<i64>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
}

/// Why there are no tokens.
pub(crate) enum Redeemed {
    Tokens(TokenAnswer),
    /// The endpoint answered, and refused.
    Refused(TokenAnswerError),
    /// It could not be asked.
    Failed(WebError),
    /// What bartizan has cannot be sent at all.
    Unusable,
}

/// Whether a configured client may be shown to this authorization server. Which one that is
/// may be the server's own word, and a secret is not for whomever a server likes to name.
///
/// # Errors
/// [`AccountError::Misconfigured`] with the setting that is missing.
pub fn trusted(config: &OauthConfig, issuer: &str) -> Result<(), AccountError> {
    match &config.issuer {
        Some(wanted) if *wanted == issuer => Ok(()),
        None if config.client_secret.is_none() && config.client_key.is_none() => Ok(()),
        Some(_) => Err(AccountError::Misconfigured(
            "the client of `auth_config` is for the authorization server of `auth_config.issuer`, not for this one"
                .to_owned(),
        )),
        None => Err(AccountError::Misconfigured(
            "`auth_config.client_secret` is sent to nobody without `auth_config.issuer`: name the authorization server"
                .to_owned(),
        )),
    }
}

/// Whether an error says that the client is not known.
pub(crate) fn is_unknown_client(error: &TokenAnswerError) -> bool {
    matches!(error, TokenAnswerError::Refused { code, .. } if UNKNOWN_CLIENT.contains(&code.as_str()))
}

impl Client {
    /// A client that the administrator registered.
    pub(crate) fn configured(id: String, proof: Proof) -> Self {
        Self { kind: ClientKind::Configured, id, proof }
    }
}

impl Inner {
    /// Where authorization servers send browsers back to.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("{}/oauth/callback", self.deps.public_url)
    }

    /// Name and place of our own client document.
    pub(crate) fn document_url(&self) -> String {
        format!("{}/.well-known/bartizan-client.json", self.deps.public_url)
    }

    pub(crate) fn client_document(&self) -> serde_json::Value {
        json!({
            "client_id": self.document_url(),
            "client_name": "bartizan",
            "client_uri": self.deps.public_url,
            "redirect_uris": [self.redirect_uri()],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "web",
        })
    }

    fn has_document(&self, metadata: &ServerMetadata) -> bool {
        metadata.client_id_metadata_document_supported && self.deps.public_url.starts_with("https://")
    }

    /// The client to begin with: configured, by document, registered before, registered now.
    /// `sure`: what is registered is known there, and need not be tried.
    pub(crate) async fn client(
        &self,
        place: &Place<'_>,
        metadata: &ServerMetadata,
        sure: bool,
    ) -> Result<Client, AccountError> {
        if place.config.client_id.is_some() {
            return self
                .known_client(place.config, metadata, ClientKind::Configured)
                .await?
                .ok_or(AccountError::LoginNeeded);
        }
        if self.has_document(metadata) {
            return Ok(self.by_document());
        }
        let lock = self.lock(&format!("client {}", metadata.issuer));
        let _turn = self.turn(&lock).await?;
        if let Some(client) = self.known_client(place.config, metadata, ClientKind::Registered).await? {
            if sure || self.is_known_there(metadata, &client).await {
                return Ok(client);
            }
            self.forget_client(&metadata.issuer, &client.id).await?;
        }
        self.register(metadata).await
    }

    fn by_document(&self) -> Client {
        Client { kind: ClientKind::Document, id: self.document_url(), proof: Proof::None }
    }

    /// A client that exists already.
    pub(crate) async fn known_client(
        &self,
        config: &OauthConfig,
        metadata: &ServerMetadata,
        kind: ClientKind,
    ) -> Result<Option<Client>, AccountError> {
        match kind {
            ClientKind::Document => Ok(Some(self.by_document())),
            ClientKind::Configured => {
                let Some(id) = &config.client_id else { return Ok(None) };
                trusted(config, &metadata.issuer)?;
                if config.client_key.is_some() {
                    let proof = key_proof(config, metadata)?;
                    return Ok(Some(Client { kind, id: id.clone(), proof }));
                }
                let secret = config.client_secret.as_ref().map(|secret| Secret::new(secret.expose().clone()));
                let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
                let unusable = "the authorization server takes no client secret in a way that bartizan knows";
                let auth = ClientAuth::choose(methods, secret.is_some())
                    .ok_or_else(|| AccountError::Misconfigured(unusable.to_owned()))?;
                Ok(Some(Client { kind, id: id.clone(), proof: Proof::of(secret, auth) }))
            }
            ClientKind::Registered => {
                let found = self.records.get(&self.client_key(&metadata.issuer)).await?;
                let Some((_, plain)) = found else { return Ok(None) };
                let registered: Option<Registered> = serde_json::from_slice(&plain).ok();
                let now = self.deps.clock.now_ms();
                let good = |r: &Registered| r.issuer == metadata.issuer && r.expires_ms.is_none_or(|end| end > now);
                Ok(registered.filter(good).map(|registered| client_of(&registered)))
            }
        }
    }

    fn client_key(&self, issuer: &str) -> Key {
        let id = hash("upstream client", &format!("{issuer}\n{}", self.redirect_uri()));
        Key { tenant: String::new(), kind: "upstream_client".to_owned(), id: URL_SAFE_NO_PAD.encode(id) }
    }

    /// Asks with a code that cannot be good: an authorization server that forgot the client
    /// would otherwise say so to the person, who can do nothing about it (A26).
    async fn is_known_there(&self, metadata: &ServerMetadata, client: &Client) -> bool {
        let (Some(code), Some(verifier)) = (pkce::new_verifier(), pkce::new_verifier()) else { return true };
        let form = Builder::new()
            .add("grant_type", "authorization_code")
            .add("code", code.expose())
            .add("code_verifier", verifier.expose())
            .add("redirect_uri", &self.redirect_uri());
        match self.redeem(metadata, client, form).await {
            Redeemed::Refused(error) => !is_unknown_client(&error),
            _ => true,
        }
    }

    /// Drops a registration, if it is still this one.
    pub(crate) async fn forget_client(&self, issuer: &str, id: &str) -> Result<(), AccountError> {
        let key = self.client_key(issuer);
        let Some((_, plain)) = self.records.get(&key).await? else { return Ok(()) };
        let same = serde_json::from_slice::<Registered>(&plain).is_ok_and(|known| known.client_id == id);
        if same {
            tracing::info!(issuer, "the authorization server does not know the registered client any more");
            self.records.delete(&key).await?;
        }
        Ok(())
    }

    /// Registers (RFC 7591).
    async fn register(&self, metadata: &ServerMetadata) -> Result<Client, AccountError> {
        let wrong = |why: String| AccountError::Misconfigured(why);
        let endpoint = metadata.registration_endpoint.as_ref().ok_or_else(|| {
            let callback = self.redirect_uri();
            wrong(format!(
                "the authorization server registers no clients: register one there with the redirect URI {callback} \
                 and set `auth_config.client_id`"
            ))
        })?;
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let lists = |method: AuthMethod| methods.is_none_or(|list| list.iter().any(|name| name == method.as_str()));
        let preferred = [AuthMethod::SecretBasic, AuthMethod::SecretPost, AuthMethod::None];
        let method = preferred.into_iter().find(|method| lists(*method));
        let method = method
            .ok_or_else(|| wrong("the authorization server wants a way to authenticate that bartizan lacks".into()))?;
        let kind = if self.deps.public_url.starts_with("https://") { "web" } else { "native" };
        let request = json!({
            "client_name": "bartizan",
            "redirect_uris": [self.redirect_uri()],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method.as_str(),
            "application_type": kind,
        });
        let sent = self.web.post_json(endpoint, request.to_string(), MAX_ANSWER).await;
        let answer = sent.map_err(|error| failed("registration", &error))?;
        if !answer.status.is_success() {
            let text = format!("the authorization server refused to register a client (status {})", answer.status);
            return Err(if answer.status.is_server_error() { AccountError::Unavailable(text) } else { wrong(text) });
        }
        let unusable = || wrong("the answer to the registration of a client cannot be used".into());
        let said: RegistrationAnswer = serde_json::from_slice(&answer.body).map_err(|_| unusable())?;
        let good =
            |text: &str| (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !good(&said.client_id) || said.client_secret.as_deref().is_some_and(|secret| !good(secret)) {
            return Err(unusable());
        }
        let registered = Registered {
            method: said.token_endpoint_auth_method.unwrap_or_else(|| match said.client_secret {
                Some(_) => method.as_str().to_owned(),
                None => AuthMethod::None.as_str().to_owned(),
            }),
            client_id: said.client_id,
            client_secret: said.client_secret,
            expires_ms: said.client_secret_expires_at.filter(|at| *at > 0).map(|at| at.saturating_mul(1000)),
            issuer: metadata.issuer.clone(),
        };
        let key = self.client_key(&metadata.issuer);
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&registered).map_err(|_| unusable())?);
        let old = self.records.get(&key).await?.map_or(0, |(version, _)| version);
        match self.records.put(&key, old, &plain).await {
            // Another process was faster: the last registration counts, for both.
            Err(RecordsError::Conflict) => {
                let (_, plain) = self.records.get(&key).await?.ok_or_else(unusable)?;
                let theirs: Registered = serde_json::from_slice(&plain).map_err(|_| unusable())?;
                Ok(client_of(&theirs))
            }
            other => other.map(|_| client_of(&registered)).map_err(Into::into),
        }
    }

    /// Asks the token endpoint as this client.
    pub(crate) async fn redeem(&self, metadata: &ServerMetadata, client: &Client, form: Builder) -> Redeemed {
        let Some(endpoint) = &metadata.token_endpoint else { return Redeemed::Unusable };
        match self.ask_as(endpoint, client, form).await {
            Some(Ok((status, body))) => match token_answer::parse(status, &body) {
                Ok(tokens) if tokens.token_type.eq_ignore_ascii_case("bearer") => Redeemed::Tokens(tokens),
                Ok(_) => Redeemed::Refused(TokenAnswerError::Member("token_type")),
                Err(error) => Redeemed::Refused(error),
            },
            Some(Err(error)) => Redeemed::Failed(error),
            None => Redeemed::Unusable,
        }
    }

    /// Posts a form with the client's own proof. `None` when that cannot be sent.
    pub(crate) async fn ask_as(
        &self,
        endpoint: &str,
        client: &Client,
        form: Builder,
    ) -> Option<Result<(u16, bytes::Bytes), WebError>> {
        let mut headers = HeaderMap::new();
        let form = match &client.proof {
            Proof::Secret(secret, ClientAuth::Basic) => {
                let mut value = HeaderValue::from_str(basic(&client.id, secret).expose()).ok()?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
                form
            }
            Proof::Secret(secret, _) => form.add("client_id", &client.id).add("client_secret", secret.expose()),
            Proof::Key { key, audience } => {
                let now_s = self.deps.clock.now_ms().div_euclid(1000);
                let assertion = key.assertion(&client.id, audience, now_s).ok()?;
                form.add("client_id", &client.id)
                    .add("client_assertion_type", ASSERTION_TYPE)
                    .add("client_assertion", assertion.expose())
            }
            Proof::None => form.add("client_id", &client.id),
        };
        let sent = self.web.post_form(endpoint, headers, form.finish(), token_answer::MAX_ANSWER).await;
        Some(sent.map(|answer| (answer.status.as_u16(), answer.body)))
    }
}

fn client_of(registered: &Registered) -> Client {
    let secret = registered.client_secret.clone().map(Secret::new);
    let auth = match (AuthMethod::parse(&registered.method), &secret) {
        (_, None) | (Some(AuthMethod::None), _) => ClientAuth::None,
        (Some(AuthMethod::SecretPost), _) => ClientAuth::Post,
        _ => ClientAuth::Basic,
    };
    Client { kind: ClientKind::Registered, id: registered.client_id.clone(), proof: Proof::of(secret, auth) }
}

/// The configured key, if the authorization server takes what it signs.
fn key_proof(config: &OauthConfig, metadata: &ServerMetadata) -> Result<Proof, AccountError> {
    let wrong = |why: &str| Err(AccountError::Misconfigured(why.to_owned()));
    let proof = Proof::key(config, &metadata.issuer)?;
    let lists = |list: &Option<Vec<String>>, name: &str| {
        list.as_ref().is_none_or(|list| list.iter().any(|entry| entry == name))
    };
    if !lists(&metadata.token_endpoint_auth_methods_supported, PRIVATE_KEY_JWT) {
        return wrong("the authorization server takes no assertions of clients (`private_key_jwt`)");
    }
    let Proof::Key { key, .. } = &proof else { return Ok(proof) };
    if !lists(&metadata.token_endpoint_auth_signing_alg_values_supported, key.alg().as_str()) {
        return wrong("the authorization server takes no assertions with the algorithm of `auth_config.private_key`");
    }
    Ok(proof)
}
