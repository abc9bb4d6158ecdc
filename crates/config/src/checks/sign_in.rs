//! Checks of identity providers, clients and lifetimes (A2, A7).

use std::collections::HashMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::is_host;
use crate::diagnostic::Diagnostic;
use crate::resources::{Client, IdentityProvider};
use crate::settings::{File, Lifetimes, ScimMatch};

/// Longest id, bytes.
const MAX_ID: usize = 64;
/// Provider of the break-glass account (A31).
const LOCAL: &str = "break-glass";
/// Most claims kept of a sign-in.
const MAX_KEPT: usize = 32;
/// Schemes that run or read something instead of leading to a client.
const BAD_SCHEMES: [&str; 8] = ["javascript", "data", "file", "vbscript", "blob", "about", "view-source", "ftp"];

pub(super) fn run(file: &File, found: &mut Vec<Diagnostic>) {
    let providers = file.identity_providers.iter().map(|provider| provider.id.as_str());
    unique(providers, |at| format!("identity_providers[{at}].id"), "the id of an identity provider", found);
    for (at, each) in file.identity_providers.iter().enumerate() {
        provider(each, &format!("identity_providers[{at}]"), file.identity_providers.len() > 1, found);
    }
    let clients = file.clients.iter().map(|client| client.client_id.as_str());
    unique(clients, |at| format!("clients[{at}].client_id"), "a `client_id`", found);
    for (at, each) in file.clients.iter().enumerate() {
        client(each, &format!("clients[{at}]"), found);
    }
    lifetimes(&file.sign_in.lifetimes, found);
    let by_subject = file.sign_in.scim.as_ref().is_some_and(|scim| scim.by == ScimMatch::ExternalId);
    if by_subject && file.identity_providers.len() > 1 {
        // A subject is unique at its issuer only (OpenID Connect Core, section 5.7).
        let message = "`external_id` needs one identity provider: at two, one subject may be two people";
        let problem = Diagnostic::new("sign_in.scim.match", "bad_match", message);
        found.push(problem.suggest("write `user_name` or `email`"));
    }
}

/// Issuers that speak for people of any company: without `email_domains` everybody with an
/// account there comes in.
const OPEN_TO_ALL: [&str; 5] = [
    "https://accounts.google.com",
    "https://login.microsoftonline.com/common/v2.0",
    "https://login.microsoftonline.com/organizations/v2.0",
    "https://login.microsoftonline.com/consumers/v2.0",
    "https://appleid.apple.com",
];

pub(super) fn warnings(file: &File) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (at, provider) in file.identity_providers.iter().enumerate() {
        let issuer = provider.issuer.trim_end_matches('/');
        let tenants = issuer.starts_with("https://login.microsoftonline.com/") && issuer.contains("{tenantid}");
        if !provider.email_domains.is_empty() || !(tenants || OPEN_TO_ALL.contains(&issuer)) {
            continue;
        }
        let message = "this provider knows people of any company, and all of them may sign in";
        let problem = Diagnostic::new(format!("identity_providers[{at}]"), "open_to_all", message);
        found.push(problem.suggest("add e.g. `email_domains: [example.com]`"));
    }
    found
}

pub(super) fn unique<'a>(
    ids: impl Iterator<Item = &'a str>,
    path: impl Fn(usize) -> String,
    what: &str,
    found: &mut Vec<Diagnostic>,
) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, id) in ids.enumerate() {
        if id.is_empty() {
            found.push(Diagnostic::new(path(at), "missing_id", format!("{what} must not be empty")));
        } else if let Some(before) = first.get(id) {
            let message = format!("{what} is used by {} already", path(*before));
            found.push(Diagnostic::new(path(at), "duplicate_id", message));
        } else {
            first.insert(id, at);
        }
    }
}

fn provider(provider: &IdentityProvider, path: &str, several: bool, found: &mut Vec<Diagnostic>) {
    let id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !provider.id.bytes().all(id) || provider.id.len() > MAX_ID {
        let message = "the id of an identity provider has letters, digits, `-` and `_`, at most 64";
        found.push(Diagnostic::new(format!("{path}.id"), "bad_id", message));
    }
    if provider.id == LOCAL {
        let message = "this id is the one of the installation's own account";
        found.push(Diagnostic::new(format!("{path}.id"), "bad_id", message));
    }
    if !is_issuer(&provider.issuer) {
        let message = "the issuer is not an https URL, or http on this machine, without query and fragment";
        let problem = Diagnostic::new(format!("{path}.issuer"), "bad_url", message);
        found.push(problem.suggest("copy `issuer` from the provider's discovery document"));
    }
    if provider.client_id.is_empty() {
        found.push(Diagnostic::new(format!("{path}.client_id"), "missing_id", "the `client_id` must not be empty"));
    }
    if several && provider.email_domains.is_empty() {
        let message = "with several identity providers each needs `email_domains`";
        let problem = Diagnostic::new(path, "missing_domains", message);
        found.push(problem.suggest("add e.g. `email_domains: [example.com]`"));
    }
    for (at, domain) in provider.email_domains.iter().enumerate() {
        if !is_host(domain) || domain.contains(':') || domain.ends_with('.') {
            let message = format!("`{}` is not a domain", domain.chars().take(60).collect::<String>());
            let problem = Diagnostic::new(format!("{path}.email_domains[{at}]"), "bad_host", message);
            found.push(problem.suggest("write e.g. `example.com`, without `@` and `*`"));
        }
    }
    let claims = &provider.claims;
    if claims.keep.len() > MAX_KEPT || claims.keep.iter().any(String::is_empty) {
        let message = format!("`keep` names at most {MAX_KEPT} claims, each by a name");
        found.push(Diagnostic::new(format!("{path}.claims.keep"), "out_of_range", message));
    }
    for (name, value) in [("email", &claims.email), ("name", &claims.name), ("groups", &claims.groups)] {
        if value.is_empty() {
            let message = "the name of a claim must not be empty";
            found.push(Diagnostic::new(format!("{path}.claims.{name}"), "missing_name", message));
        }
    }
}

fn client(client: &Client, path: &str, found: &mut Vec<Diagnostic>) {
    for (at, uri) in client.redirect_uris.iter().enumerate() {
        if let Err(why) = redirect(uri) {
            let problem = Diagnostic::new(format!("{path}.redirect_uris[{at}]"), "bad_redirect", why);
            found.push(problem.suggest("write e.g. `https://app.example.com/callback` or `http://127.0.0.1/callback`"));
        }
    }
    let is_set = |text: &String| {
        serde_json::from_str::<Value>(text).is_ok_and(|set| set.get("keys").is_some_and(Value::is_array))
    };
    if client.jwks.as_ref().is_some_and(|text| !is_set(text)) {
        let message = "`jwks` is not a JWK set: a JSON object with a list `keys`";
        found.push(Diagnostic::new(format!("{path}.jwks"), "bad_jwks", message));
    }
}

/// The form only; the authorization server compares exactly.
fn redirect(uri: &str) -> Result<(), &'static str> {
    if uri.contains(['#', '*', '\\']) || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a redirect URI has no fragment, no wildcard and only visible ASCII characters");
    }
    let Some((scheme, rest)) = uri.split_once(':') else { return Err("a redirect URI begins with a scheme") };
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match (scheme.as_str(), authority) {
        ("https", Some(authority)) if is_host(authority) => Ok(()),
        ("http", Some(authority)) if is_host(authority) && is_loopback(authority) => Ok(()),
        ("http" | "https", _) => {
            Err("a redirect URI on the web is https, or http on this machine, without a user name")
        }
        (bad, _) if BAD_SCHEMES.contains(&bad) => Err("this scheme does not lead to a client"),
        (own, _) if own.starts_with(|c: char| c.is_ascii_alphabetic()) && own.bytes().all(is_name) => Ok(()),
        _ => Err("a redirect URI begins with a scheme"),
    }
}

pub(super) fn is_issuer(url: &str) -> bool {
    if url.contains(['?', '#', '\\']) || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    let authority = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
    match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => is_host(&authority(rest)),
        (_, Some(rest)) => is_host(&authority(rest)) && is_loopback(&authority(rest)),
        _ => false,
    }
}

pub(super) fn is_loopback(authority: &str) -> bool {
    if authority.starts_with("[::1]") {
        return true;
    }
    let host = authority.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn lifetimes(lifetimes: &Lifetimes, found: &mut Vec<Diagnostic>) {
    let mut within = |name: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            let message = format!("{value} seconds cannot be used for `{name}`");
            let problem = Diagnostic::new(format!("sign_in.lifetimes.{name}"), "out_of_range", message);
            found.push(problem.suggest(format!("use {least} to {most}")));
        }
    };
    let year = 366 * 24 * 3600;
    within("access_token_s", lifetimes.access_token_s, 1, 24 * 3600);
    within("grant_s", lifetimes.grant_s, lifetimes.access_token_s.min(year), year);
    within("code_s", lifetimes.code_s, 1, 600);
    within("unused_client_s", lifetimes.unused_client_s, 1, 10 * year);
    within("person_max_age_s", lifetimes.person_max_age_s, 0, year);
    within("browser_session_s", lifetimes.browser_session_s, 1, 30 * 24 * 3600);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_a_provider_for_everybody_without_domains_is_a_warning() {
        let warned = |issuer: &str, domains: &[&str]| {
            let provider = serde_json::json!(
                {"id": "p", "issuer": issuer, "client_id": "c", "email_domains": domains});
            let identity_providers = vec![serde_json::from_value(provider).unwrap()];
            !warnings(&File { identity_providers, ..File::default() }).is_empty()
        };
        assert!(warned("https://accounts.google.com", &[]) && !warned("https://accounts.google.com", &["a.example"]));
        assert!(warned("https://login.microsoftonline.com/common/v2.0", &[]));
        assert!(!warned("https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0", &[]));
        assert!(!warned("https://idp.example", &[]));
    }

    #[test]
    fn a2_issuers_are_https_or_on_this_machine() {
        for good in [
            "https://idp.example",
            "https://idp.example/t/1/",
            "http://127.0.0.1:9",
            "http://localhost:9/x",
            "http://[::1]:9",
        ] {
            assert!(is_issuer(good), "{good}");
        }
        for bad in [
            "",
            "idp.example",
            "http://idp.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example",
            "https://u@idp.example",
            "https://",
            "https://idp.example?x",
            "https://idp.example#x",
            "https://idp.example/\n",
            "HTTPS://idp.example",
            "javascript:alert(1)",
            "https:\\\\idp.example",
        ] {
            assert!(!is_issuer(bad), "{bad}");
        }
    }

    #[test]
    fn a7_redirect_uris_of_known_clients() {
        for good in [
            "https://a.example/cb",
            "http://127.0.0.1/cb",
            "http://localhost:1/cb",
            "http://[::1]/",
            "com.example.app:/cb",
            "cursor://x/y",
        ] {
            assert_eq!(redirect(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/cb",
            "http://a.example/cb",
            "https://*.example/cb",
            "https://u@a.example/cb",
            "https://a.example/cb#x",
            "javascript:alert(1)",
            "JavaScript:x",
            "data:text/html,x",
            "https:",
            "1a:x",
            "a b:x",
            "https://a.example\\x",
        ] {
            assert!(redirect(bad).is_err(), "{bad}");
        }
    }
}
