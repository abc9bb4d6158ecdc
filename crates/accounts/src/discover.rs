//! Which authorization server issues tokens for a server, and what to ask it for
//! (MCP authorization; RFC 9728, RFC 8414).

use std::sync::Arc;
use std::time::Duration;

use bartizan_egress::Egress;
use bartizan_oauth::challenge::{self, Challenge};
use bartizan_oauth::discovery::{self, MAX_DOCUMENT, ResourceMetadata, ServerMetadata};
use bartizan_oauth::resource::canonical;
use bartizan_oauth::scope::ScopeSet;
use bartizan_oauth::{is_issuer, safe_link};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use moka::sync::Cache;

use crate::account::Place;
use crate::accounts::AccountError;
use crate::trace::{Step, Trace};
use crate::web::{Web, WebError};

/// How long a description of an authorization server is believed.
const FRESH: Duration = Duration::from_secs(600);
/// Descriptions kept, bytes.
const MOST_KNOWN: u64 = 8 * 1024 * 1024;
/// Asks for a refresh token (OpenID Connect Core, section 11).
const OFFLINE: &str = "offline_access";

/// What discovery found.
pub struct Found {
    /// What the authorization server says about itself.
    pub metadata: Arc<ServerMetadata>,
    /// Resource indicator to ask for.
    pub resource: String,
    /// Scopes to ask for; possibly none.
    pub scopes: String,
}

/// Discovery for an MCP server that is in no configuration, as its clients do it. `challenge`
/// is the `WWW-Authenticate` that it just sent.
///
/// # Errors
/// Why no authorization server can be used.
pub async fn discover(egress: &Egress, url: &str, challenge: Option<&str>) -> Result<Found, AccountError> {
    let wanted = Wanted { url, issuer: None, scopes: &[] };
    Directory::new(Web::new(egress.clone())).find(&wanted, challenge).await
}

/// The same for a server of a configuration, with notes of every step (U7). `trace.step()`
/// is where it ended.
///
/// # Errors
/// Why no authorization server can be used.
pub async fn discover_traced(
    egress: &Egress,
    url: &str,
    issuer: Option<&str>,
    scopes: &[String],
    trace: &Trace,
) -> Result<Found, AccountError> {
    let wanted = Wanted { url, issuer, scopes };
    Directory::new(Web::traced(egress.clone(), trace.clone())).find(&wanted, None).await
}

/// What is known before.
struct Wanted<'a> {
    url: &'a str,
    issuer: Option<&'a str>,
    scopes: &'a [String],
}

/// Finds authorization servers and keeps what they say about themselves.
pub(crate) struct Directory {
    web: Web,
    known: Cache<String, Arc<ServerMetadata>>,
}

fn wrong(why: impl Into<String>) -> AccountError {
    AccountError::Misconfigured(why.into())
}

/// A failed request: lasting when a rule forbids it.
pub(crate) fn failed(what: &str, error: &WebError) -> AccountError {
    let text = format!("{what}: {error}");
    if error.is_lasting() { AccountError::Misconfigured(text) } else { AccountError::Unavailable(text) }
}

impl Directory {
    pub(crate) fn new(web: Web) -> Self {
        let weigh = |name: &String, of: &Arc<ServerMetadata>| {
            u32::try_from(name.capacity().saturating_add(of.weight())).unwrap_or(u32::MAX)
        };
        Self { web, known: Cache::builder().max_capacity(MOST_KNOWN).weigher(weigh).time_to_live(FRESH).build() }
    }

    /// Discovery for a server, from the beginning. `challenge` is what it just said, if it did.
    pub(crate) async fn discover(&self, place: &Place<'_>, challenge: Option<&str>) -> Result<Found, AccountError> {
        self.find(
            &Wanted { url: place.url, issuer: place.config.issuer.as_deref(), scopes: &place.config.scopes },
            challenge,
        )
        .await
    }

    async fn find(&self, place: &Wanted<'_>, challenge: Option<&str>) -> Result<Found, AccountError> {
        let challenge = match challenge.and_then(|text| bearer(std::iter::once(text))) {
            Some(challenge) => Some(challenge),
            None => {
                self.web.at(Step::Challenge);
                self.knock(place.url).await?
            }
        };
        self.web.at(Step::ResourceMetadata);
        let described = self.resource(place.url, challenge.as_ref()).await?;
        let issuer = issuer(place, described.as_ref())?;
        self.web.at(Step::ServerMetadata);
        let metadata = self.metadata(&issuer).await?;
        let said = challenge.as_ref().and_then(|challenge| challenge.get("scope"));
        let supported = described.as_ref().and_then(|described| described.scopes_supported.as_deref());
        let scopes = scopes(place, said, supported, &metadata);
        let resource = match described {
            Some(described) => described.resource,
            None => canonical(place.url).unwrap_or_else(|| place.url.to_owned()),
        };
        Ok(Found { metadata, resource, scopes })
    }

    /// The challenge of a server that is called without a token.
    async fn knock(&self, url: &str) -> Result<Option<Challenge>, AccountError> {
        let (status, headers) = self.web.knock(url).await.map_err(|error| failed("the server", &error))?;
        if status.is_server_error() {
            return Err(AccountError::Unavailable(format!("the server answered with status {status}")));
        }
        if status != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        Ok(of_headers(&headers))
    }

    /// The description of the resource: where the challenge says, else at the well-known places.
    async fn resource(
        &self,
        url: &str,
        challenge: Option<&Challenge>,
    ) -> Result<Option<ResourceMetadata>, AccountError> {
        if let Some(link) = challenge.and_then(|challenge| challenge.get("resource_metadata")) {
            // Nobody on the way of a plain http answer may choose where people sign in.
            let downgrade = url.starts_with("https://") && !link.starts_with("https://");
            if safe_link(link).is_none() || downgrade {
                return Err(wrong("the server names no usable place for its resource metadata"));
            }
            let answer = self.web.get(link, MAX_DOCUMENT).await.map_err(|error| failed("resource metadata", &error))?;
            if answer.status != StatusCode::OK {
                return Err(unexpected("resource metadata", answer.status));
            }
            let parsed = ResourceMetadata::parse(&answer.body, url);
            return parsed.map(Some).map_err(|error| wrong(format!("resource metadata of the server: {error}")));
        }
        for link in discovery::protected_resource_urls(url) {
            let answer =
                self.web.get(&link, MAX_DOCUMENT).await.map_err(|error| failed("resource metadata", &error))?;
            if answer.status.is_server_error() {
                return Err(unexpected("resource metadata", answer.status));
            }
            if answer.status == StatusCode::OK
                && let Ok(parsed) = ResourceMetadata::parse(&answer.body, url)
            {
                return Ok(Some(parsed));
            }
        }
        Ok(None)
    }

    /// What the authorization server of this name says about itself.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Arc<ServerMetadata>, AccountError> {
        if let Some(known) = self.known.get(issuer) {
            return Ok(known);
        }
        let mut last = wrong("the authorization server does not describe itself");
        for link in discovery::authorization_server_urls(issuer) {
            let answer =
                self.web.get(&link, MAX_DOCUMENT).await.map_err(|error| failed("authorization server", &error))?;
            if answer.status.is_server_error() {
                return Err(unexpected("authorization server", answer.status));
            }
            if answer.status != StatusCode::OK {
                continue;
            }
            match ServerMetadata::parse(&answer.body, issuer) {
                Ok(metadata) => {
                    let metadata = Arc::new(metadata);
                    self.known.insert(issuer.to_owned(), Arc::clone(&metadata));
                    return Ok(metadata);
                }
                Err(error) => last = wrong(format!("authorization server: {error}")),
            }
        }
        Err(last)
    }
}

fn unexpected(what: &str, status: StatusCode) -> AccountError {
    let text = format!("{what}: status {status}");
    if status.is_server_error() { AccountError::Unavailable(text) } else { wrong(text) }
}

pub(crate) fn bearer<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    values.filter_map(|value| challenge::parse(value).ok()).flatten().find(Challenge::is_bearer)
}

fn of_headers(headers: &HeaderMap) -> Option<Challenge> {
    bearer(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
}

/// The configured authorization server if the resource names it, else the first it names;
/// without a description of the resource, the server's own origin.
fn issuer(place: &Wanted<'_>, described: Option<&ResourceMetadata>) -> Result<String, AccountError> {
    match (described, place.issuer) {
        (Some(described), Some(wanted)) => {
            let named = described.authorization_servers.iter().any(|server| server == wanted);
            if named { Ok(wanted.to_owned()) } else { Err(wrong("the server does not name the configured `issuer`")) }
        }
        (Some(described), None) => described
            .authorization_servers
            .first()
            .cloned()
            .ok_or_else(|| wrong("the server names no authorization server")),
        (None, Some(wanted)) => Ok(wanted.to_owned()),
        (None, None) => {
            let end = place.url.find("://").and_then(|at| {
                let rest = place.url.get(at + 3..)?;
                Some(at + 3 + rest.find(['/', '?']).unwrap_or(rest.len()))
            });
            let origin = end.and_then(|end| place.url.get(..end)).filter(|origin| is_issuer(origin));
            origin.map(str::to_owned).ok_or_else(|| wrong("the server says nothing about its authorization server"))
        }
    }
}

/// The challenge's scopes, else the configured ones, else all the resource has, else none;
/// and what it takes to be given a refresh token.
fn scopes(place: &Wanted<'_>, said: Option<&str>, supported: Option<&[String]>, metadata: &ServerMetadata) -> String {
    let said = said.and_then(|text| ScopeSet::parse(text).ok()).filter(|set| !set.is_empty());
    let configured = || place.scopes.iter().map(String::as_str).collect::<ScopeSet>();
    let all = || ScopeSet::parse(&supported.unwrap_or_default().join(" ")).unwrap_or_default();
    let mut set = said.unwrap_or_else(configured);
    if set.is_empty() {
        set = all();
    }
    let offers = metadata.scopes_supported.as_ref().is_some_and(|scopes| scopes.iter().any(|scope| scope == OFFLINE));
    if offers {
        set = set.union(&std::iter::once(OFFLINE).collect());
    }
    set.to_string()
}
