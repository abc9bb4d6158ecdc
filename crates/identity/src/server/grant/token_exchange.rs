//! Token exchange (RFC 8693): an agent shows a token of the platform it runs on, such as the
//! OpenID Connect token of a CI job (A27).

use bartizan_config::agents::{AgentAuth, Workload};
use bartizan_oauth::jwt::{Claims, Typ};
use bartizan_oauth::params::Params;
use bartizan_oauth::{OAuthCode, OAuthError};
use serde_json::Value;

use super::super::Inner;
use super::super::authorize::request::target;
use super::super::client_auth::{Presented, invalid_client};
use super::super::machines::ACCESS_TOKEN;
use super::super::secrets::Pair;
use super::super::token::From;
use super::foreign::{Foreign, MAX, claimed_issuer};

/// Kinds of subject token.
const TYPES: [&str; 2] = ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
/// Longest life of a subject token, seconds: platforms make them as long as a job may run.
const LONGEST_S: i64 = 24 * 3600;

impl Inner {
    pub(in super::super) async fn token_exchange(
        &self,
        params: &Params,
        client: &Presented,
        from: &mut From,
    ) -> Result<Pair, OAuthError> {
        self.trust()?;
        let agent = self.agent(client.id()).ok_or_else(invalid_client)?;
        let AgentAuth::Workload(workload) = &agent.auth else { return Err(invalid_client()) };
        if !client.proves_nothing() {
            return Err(invalid_client());
        }
        let wrong = |text: &str| OAuthError::new(OAuthCode::InvalidRequest, text);
        if params.get("subject_token_type").is_none_or(|kind| !TYPES.contains(&kind)) {
            return Err(wrong("subject_token_type must be jwt or id_token"));
        }
        if params.get("requested_token_type").is_some_and(|kind| kind != ACCESS_TOKEN) {
            return Err(wrong("only access tokens are issued"));
        }
        if params.get("actor_token").is_some() {
            return Err(wrong("nobody acts for an agent: actor_token is not supported"));
        }
        if params.get("audience").is_some() {
            return Err(OAuthError::new(OAuthCode::InvalidTarget, "name the target as resource"));
        }
        let token = params.get("subject_token").ok_or_else(|| wrong("subject_token is missing"))?;
        if token.len() > MAX {
            return Err(from.refuse("malformed"));
        }
        // Nobody makes us fetch keys with a token that says to be of another issuer.
        if claimed_issuer(token).as_deref() != Some(workload.issuer.as_str()) {
            return Err(from.refuse("issuer"));
        }
        let foreign = Foreign {
            token,
            issuer: &workload.issuer,
            jwks_uri: workload.jwks_uri.as_deref(),
            audience: &workload.audience,
            typ: Typ::Plain,
            longest_s: LONGEST_S,
        };
        let said = self.believe(&foreign, from).await?;
        if let Some(name) = first_other(workload, &said) {
            let why = format!("claim {name}");
            return Err(from.refuse(&why));
        }
        let resource = target(params.get("resource"), &self.deps.issuer, &*self.deps.resources).ok_or_else(|| {
            OAuthError::new(OAuthCode::InvalidTarget, "resource is not an MCP endpoint of this server")
        })?;
        let scopes = self.wanted_by_agent(params.get("scope"))?;
        self.use_up(&foreign, &said, from).await?;
        self.issue_to_agent(&agent, resource, scopes, from, "token exchange").await
    }
}

/// The first configured claim that is not this text: exactly, and only text. A list with the
/// text in it is another claim.
fn first_other<'a>(workload: &'a Workload, said: &Claims) -> Option<&'a str> {
    let same = |name: &str, wanted: &str| matches!(said.get(name), Some(Value::String(text)) if text == wanted);
    // Configuration checks refuse an empty list; nobody gets in if they ever do not.
    if workload.claims.is_empty() {
        return Some("(none configured)");
    }
    workload.claims.iter().find(|(name, wanted)| !same(name, wanted)).map(|(name, _)| name.as_str())
}
