//! Reading an authorization request.

use bartizan_oauth::OAuthCode;
use bartizan_oauth::params::Params;
use bartizan_oauth::pkce::Challenge;
use bartizan_oauth::redirect::RedirectUri;
use bartizan_oauth::resource;
use bartizan_oauth::scope::ScopeSet;

use super::super::client::Client;
use super::super::scope;
use super::super::transaction::Request;

/// Scopes of OpenID Connect Core (sections 5.4 and 11), which clients send by habit.
const OPENID: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];
/// Longest `state`, bytes.
const MAX_STATE: usize = 4096;

/// The parts that decide whether an error may be sent to the client at all.
pub(super) struct Found {
    pub(super) params: Params,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
}

/// Reads a query; the error is for a page.
pub(super) fn read(query: &str) -> Result<Found, String> {
    let params = Params::parse(query.as_bytes()).map_err(|error| format!("The {error}."))?;
    let one = |name: &str| {
        if params.is_duplicate(name) {
            return Err(format!("The parameter {name} is there more than once."));
        }
        params.get(name).map(str::to_owned).ok_or_else(|| format!("The parameter {name} is missing."))
    };
    let (client_id, redirect_uri) = (one("client_id")?, one("redirect_uri")?);
    let state = params.get("state").map(str::to_owned);
    Ok(Found { params, client_id, redirect_uri, state })
}

/// An error for the client.
pub(super) struct Wrong {
    pub(super) code: OAuthCode,
    pub(super) text: String,
}

fn wrong(code: OAuthCode, text: impl Into<String>) -> Wrong {
    Wrong { code, text: text.into() }
}

/// `prompt` (OpenID Connect Core section 3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) none: bool,
    pub(super) login: bool,
    pub(super) consent: bool,
}

/// A request that is in order.
pub(super) struct Checked {
    pub(super) request: Request,
    pub(super) prompt: Prompt,
}

/// Whether a query asks for a new sign-in at the provider.
pub(super) fn wants_login(query: &str) -> bool {
    let params = Params::parse(query.as_bytes()).ok();
    params.is_some_and(|params| params.get("prompt").and_then(prompt).is_some_and(|prompt| prompt.login))
}

/// Checks the parameters of a known client.
pub(super) fn check(
    params: &Params,
    client: &Client,
    redirect: &RedirectUri,
    supported: &ScopeSet,
    issuer: &str,
    is_ours: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<Checked, Wrong> {
    use OAuthCode::{InvalidRequest, InvalidScope, InvalidTarget, UnsupportedResponseType};
    if params.is_duplicate("resource") {
        return Err(wrong(InvalidTarget, "a token is for one resource, name one"));
    }
    if let Some(name) = params.duplicate() {
        return Err(wrong(InvalidRequest, format!("the parameter {name} is there more than once")));
    }
    match params.get("response_type") {
        Some("code") => {}
        None => return Err(wrong(InvalidRequest, "response_type is missing")),
        Some(_) => return Err(wrong(UnsupportedResponseType, "only response_type code is supported")),
    }
    if params.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(wrong(InvalidRequest, "only response_mode query is supported"));
    }
    if params.get("request").is_some() || params.get("request_uri").is_some() {
        return Err(wrong(InvalidRequest, "request objects are not supported"));
    }
    let challenge = Challenge::from_request(params.get("code_challenge"), params.get("code_challenge_method"))
        .ok_or_else(|| wrong(InvalidRequest, "PKCE is required: code_challenge with code_challenge_method S256"))?;
    let state = params.get("state").map(str::to_owned);
    if state.as_ref().is_some_and(|state| state.len() > MAX_STATE) {
        return Err(wrong(InvalidRequest, "state is longer than 4096 bytes"));
    }
    let prompt = prompt(params.get("prompt").unwrap_or_default())
        .ok_or_else(|| wrong(InvalidRequest, "prompt none goes with no other"))?;
    let resource = target(params.get("resource"), issuer, is_ours)
        .ok_or_else(|| wrong(InvalidTarget, "resource is not an MCP endpoint of this server"))?;
    let asked = ScopeSet::parse(params.get("scope").unwrap_or_default())
        .map_err(|error| wrong(InvalidScope, error.to_string()))?;
    // What is not known is left out, and the token answer says so (RFC 6749 section 3.3).
    let granted = scope::known(&asked, supported);
    let granted = match granted.is_empty() {
        false => &granted,
        // Nothing of ours: as if there were no scope parameter.
        true if asked.iter().all(|scope| OPENID.contains(&scope)) => supported,
        true => return Err(wrong(InvalidScope, format!("known scopes are {supported}"))),
    };
    let request = Request {
        client_id: client.id.clone(),
        client_name: client.name.clone(),
        client_kind: client.kind.as_str().to_owned(),
        redirect_uri: redirect.as_str().to_owned(),
        redirect_host: redirect.host().to_owned(),
        state,
        scopes: granted.to_string(),
        resource,
        challenge: challenge.as_str().to_owned(),
    };
    Ok(Checked { request, prompt })
}

/// The resource a token will be for. Clients from before RFC 8707 name none and mean the
/// default portal.
pub(in super::super) fn target(
    resource: Option<&str>,
    issuer: &str,
    is_ours: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Option<String> {
    let canonical = match resource {
        Some(resource) => resource::canonical(resource)?,
        None => format!("{issuer}/mcp"),
    };
    is_ours(&canonical).then_some(canonical)
}

fn prompt(text: &str) -> Option<Prompt> {
    let mut prompt = Prompt::default();
    for word in text.split(' ') {
        match word {
            "none" => prompt.none = true,
            "login" | "select_account" => prompt.login = true,
            "consent" => prompt.consent = true,
            _ => {}
        }
    }
    (!prompt.none || !(prompt.login || prompt.consent)).then_some(prompt)
}
