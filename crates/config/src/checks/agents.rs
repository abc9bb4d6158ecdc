//! Checks of agents (A27).

use bartizan_model::check_user_id;
use serde_json::Value;

use super::sign_in::{is_issuer, unique};
use crate::agents::{Agent, AgentAuth, Workload};
use crate::diagnostic::Diagnostic;
use crate::settings::File;

/// Longest id, bytes.
const MAX_ID: usize = 64;
/// Shortest secret, bytes.
const MIN_SECRET: usize = 16;

pub(super) fn run(file: &File, found: &mut Vec<Diagnostic>) {
    unique(
        file.agents.iter().map(|agent| agent.id.as_str()),
        |at| format!("agents[{at}].id"),
        "the id of an agent",
        found,
    );
    for (at, each) in file.agents.iter().enumerate() {
        let path = format!("agents[{at}]");
        // Both are named by `client_id` at the token endpoint.
        if file.clients.iter().any(|client| client.client_id == each.id) {
            let message = format!("`{}` is the `client_id` of a client already", each.id);
            found.push(Diagnostic::new(format!("{path}.id"), "duplicate_id", message));
        }
        agent(each, &path, found);
    }
}

fn agent(agent: &Agent, path: &str, found: &mut Vec<Diagnostic>) {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let id = agent.id.as_str();
    // That prefix is for clients that registered themselves.
    if !id.bytes().all(letter) || id.len() > MAX_ID || id.starts_with("bzd_") {
        let message = "the id of an agent has lower-case letters, digits, `-` and `_`, at most 64";
        found.push(Diagnostic::new(format!("{path}.id"), "bad_id", message));
    }
    if !check_user_id(&agent.owner).is_ok_and(|owner| owner.contains('@') && *owner == agent.owner) {
        let message = "the owner is not an e-mail address in lower case";
        let problem = Diagnostic::new(format!("{path}.owner"), "bad_owner", message);
        found.push(problem.suggest("name the person who answers for the agent, as in their sign-in"));
    }
    if agent.expires.as_deref().is_some_and(|text| crate::time::parse_rfc3339(text).is_none()) {
        let problem = Diagnostic::new(format!("{path}.expires"), "invalid_time", "this is not an RFC 3339 time");
        found.push(problem.suggest("write it like `2026-12-31T23:59:59Z`"));
    }
    match &agent.auth {
        // References are resolved and checked elsewhere.
        AgentAuth::ClientSecret(secret) if secret.len() < MIN_SECRET && !secret.contains("${") => {
            let message = "the secret of an agent has at least 16 characters";
            found.push(Diagnostic::new(format!("{path}.auth.client_secret"), "weak_secret", message));
        }
        AgentAuth::ClientSecret(_) => {}
        AgentAuth::Jwks(text) => {
            let set = serde_json::from_str::<Value>(text).ok();
            let keys = set.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
            if keys.is_none_or(Vec::is_empty) {
                let message = "`jwks` is not a JWK set: a JSON object with a list `keys` that is not empty";
                found.push(Diagnostic::new(format!("{path}.auth.jwks"), "bad_jwks", message));
            }
            if keys.is_some_and(|keys| keys.iter().any(|key| key.get("d").is_some() || key.get("k").is_some())) {
                let message = "`jwks` holds a private or shared key; only the public half belongs here";
                found.push(Diagnostic::new(format!("{path}.auth.jwks"), "private_key", message));
            }
        }
        AgentAuth::Workload(rule) => workload(rule, &format!("{path}.auth.workload"), found),
    }
}

fn workload(rule: &Workload, path: &str, found: &mut Vec<Diagnostic>) {
    for (name, url) in [("issuer", Some(&rule.issuer)), ("jwks_uri", rule.jwks_uri.as_ref())] {
        if url.is_some_and(|url| !is_issuer(url)) {
            let message =
                format!("the {name} is not an https URL, or http on this machine, without query and fragment");
            found.push(Diagnostic::new(format!("{path}.{name}"), "bad_url", message));
        }
    }
    if rule.audience.is_empty() {
        found.push(Diagnostic::new(format!("{path}.audience"), "missing_name", "the audience must not be empty"));
    }
    // A platform gives tokens to everybody who uses it.
    if rule.claims.is_empty() || rule.claims.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
        let message = "without claims every job of this platform would be the agent";
        let problem = Diagnostic::new(format!("{path}.claims"), "open_workload", message);
        found.push(problem.suggest("add e.g. `claims: {repository: acme/shop, ref: refs/heads/main}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let agents: Vec<Agent> = serde_json::from_str(text).unwrap();
        let mut found = Vec::new();
        run(&File { agents, ..File::default() }, &mut found);
        found.iter().map(|problem| problem.code).collect()
    }

    fn with_auth(auth: &str) -> Vec<&'static str> {
        codes(&format!(r#"[{{"id": "ci", "owner": "ana@corp.example", "auth": {auth}}}]"#))
    }

    #[test]
    fn a27_agents_are_checked() {
        let workload = |claims: &str| {
            format!(r#"{{"workload": {{"issuer": "https://ci.example", "audience": "a", "claims": {claims}}}}}"#)
        };
        assert!(with_auth(&workload(r#"{"repository": "acme/shop"}"#)).is_empty());
        assert_eq!(with_auth(&workload("{}")), ["open_workload"]);
        assert_eq!(with_auth(&workload(r#"{"ref": ""}"#)), ["open_workload"]);
        assert_eq!(with_auth(r#"{"client_secret": "short"}"#), ["weak_secret"]);
        assert!(with_auth(r#"{"client_secret": "${env:S}"}"#).is_empty());
        assert_eq!(with_auth(r#"{"jwks": "{\"keys\": []}"}"#), ["bad_jwks"]);
        assert_eq!(with_auth(r#"{"jwks": "{\"keys\": [{\"kty\": \"oct\", \"k\": \"x\"}]}"}"#), ["private_key"]);
        let one = |id: &str, owner: &str| {
            codes(&format!(
                r#"[{{"id": "{id}", "owner": "{owner}", "auth": {{"client_secret": "0123456789abcdef"}}}}]"#
            ))
        };
        assert!(one("ci_1-a", "ana@corp.example").is_empty());
        for bad in ["CI", "a b", "https://a", "bzd_x", "a:b"] {
            assert_eq!(one(bad, "ana@corp.example"), ["bad_id"], "{bad}");
        }
        for bad in ["", "ana", "Ana@corp.example", "ana@corp.example."] {
            assert_eq!(one("ci", bad), ["bad_owner"], "{bad}");
        }
    }
}
