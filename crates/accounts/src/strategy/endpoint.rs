//! Asking token endpoints without a browser.

use std::sync::Arc;

use bartizan_catalog::{ServerSpec, TokenAuth, TokenConfig};
use bartizan_model::Secret;
use bartizan_oauth::params::Builder;
use bartizan_oauth::resource::canonical;
use bartizan_oauth::token_answer::{self, TokenAnswer, TokenAnswerError};
use bartizan_oauth::token_request::ClientAuth;

use crate::account::{ClientKind, Place};
use crate::accounts::{AccountError, Inner};
use crate::client::{Client, Proof};
use crate::discover::{Found, failed};

/// Where tokens for a server come from.
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) client: Client,
    /// Name of the authorization server; the endpoint itself where only that is known.
    pub(super) issuer: String,
    /// Resource indicator (RFC 8707).
    pub(super) resource: String,
    /// Possibly empty.
    pub(super) scopes: String,
}

fn wrong(why: &str) -> AccountError {
    AccountError::Misconfigured(why.to_owned())
}

fn own(secret: Option<&Secret<String>>) -> Option<Secret<String>> {
    secret.map(|secret| Secret::new(secret.expose().clone()))
}

/// The configured endpoint, or the one of the authorization server that the server names.
pub(super) async fn find(inner: &Inner, spec: &ServerSpec, config: &TokenConfig) -> Result<Endpoint, AccountError> {
    let place = Place::bare(spec, &config.client)?;
    let scopes = config.client.scopes.join(" ");
    if let Some(url) = &config.token_endpoint {
        let id = config.client.client_id.clone().ok_or_else(|| wrong("no client is configured"))?;
        // For whom assertions are: the authorization server, or its endpoint where only that is known.
        let audience = config.client.issuer.as_ref().unwrap_or(url);
        let secret = |auth| Proof::of(own(config.client.client_secret.as_ref()), auth);
        let proof = match config.auth {
            TokenAuth::Basic => secret(ClientAuth::Basic),
            TokenAuth::Post => secret(ClientAuth::Post),
            TokenAuth::Key => Proof::key(&config.client, audience)?,
            TokenAuth::None => Proof::None,
        };
        let client = Client::configured(id, proof);
        let resource = config.resource.clone().or_else(|| canonical(place.url));
        let issuer = config.client.issuer.clone().unwrap_or_else(|| url.clone());
        let resource = resource.unwrap_or_else(|| place.url.to_owned());
        return Ok(Endpoint { url: url.clone(), client, issuer, resource, scopes });
    }
    // What is exchanged is a person's: it goes to no server that the upstream itself chooses.
    if config.client.issuer.is_none() {
        return Err(wrong("nothing is exchanged without `auth_config.issuer` or `auth_config.token_endpoint`"));
    }
    let found = discover(inner, &place).await?;
    let metadata = &found.metadata;
    let url = metadata.token_endpoint.clone();
    let url = url.ok_or_else(|| wrong("the authorization server has no token endpoint"))?;
    let client = inner.known_client(place.config, metadata, ClientKind::Configured).await?;
    let client = client.ok_or_else(|| wrong("no client is configured"))?;
    let resource = config.resource.clone().unwrap_or_else(|| found.resource.clone());
    // Without a person there is nothing to refresh.
    let named = || found.scopes.split(' ').filter(|scope| *scope != "offline_access").collect::<Vec<_>>().join(" ");
    let scopes = if scopes.is_empty() { named() } else { scopes };
    Ok(Endpoint { url, client, issuer: metadata.issuer.clone(), resource, scopes })
}

async fn discover(inner: &Inner, place: &Place<'_>) -> Result<Arc<Found>, AccountError> {
    let name = format!("{} {}", place.server, place.spec_version);
    if let Some(found) = inner.strategies.found.get(&name) {
        return Ok(found);
    }
    let found = Arc::new(inner.directory.discover(place, None).await?);
    inner.strategies.found.insert(name, Arc::clone(&found));
    Ok(found)
}

/// Asks, and judges the answer. Redirects are not followed: what is sent is secret.
pub(super) async fn ask(inner: &Inner, url: &str, client: &Client, form: Builder) -> Result<TokenAnswer, AccountError> {
    let sent = inner.ask_as(url, client, form).await.ok_or_else(|| wrong("the client cannot be shown"))?;
    let (status, body) = sent.map_err(|error| failed("token endpoint", &error))?;
    if (300..400).contains(&status) {
        return Err(wrong("the token endpoint answered with a redirect, which is not followed"));
    }
    token_answer::parse(status, &body).map_err(|error| {
        // Its words may repeat what was sent.
        let text = match &error {
            TokenAnswerError::Refused { code, status, .. } => format!("the token endpoint refused ({code}, {status})"),
            other => other.to_string(),
        };
        let lasting = matches!(&error, TokenAnswerError::Refused { status, .. } if (400..500).contains(status));
        if lasting { AccountError::Misconfigured(text) } else { AccountError::Unavailable(text) }
    })
}

/// A token that can be shown as a bearer token.
pub(super) fn bearer(answer: TokenAnswer) -> Result<TokenAnswer, AccountError> {
    let good = answer.token_type.eq_ignore_ascii_case("bearer");
    if good { Ok(answer) } else { Err(wrong("the token endpoint gave a token that is no bearer token")) }
}
