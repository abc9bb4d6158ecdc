//! `auth_type: oauth` (feature row P16).

use bartizan_config::resources::{Server, Visibility};
use bartizan_model::Secret;

use super::Checked;
use crate::credential::{Credential, OauthConfig};

/// Most scopes, and longest text, bytes.
const MAX_SCOPES: usize = 64;
const MAX_TEXT: usize = 2048;

pub(super) fn credential(server: &Server, path: &str, checked: &mut Checked) -> Credential {
    let mut refuse = |at: &str, why: &str, hint: &str| {
        checked.error_hint(format!("{path}.{at}"), "credentials", why, hint);
    };
    if server.auth_credentials.is_some() {
        refuse(
            "auth_credentials",
            "`auth_credentials` are given, but `auth_type` is `oauth`",
            "remove them: every user connects an account of their own",
        );
    }
    if server.command.is_some() {
        refuse("auth_type", "a local server has no OAuth", "remove `auth_type: oauth`");
    }
    if server.visibility == Visibility::Public {
        refuse(
            "auth_type",
            "a public server has callers that are nobody in particular, and nobody's account to use",
            "set `visibility: private`",
        );
    }
    let config = server.auth_config.clone().unwrap_or_default();
    if config.client_secret.is_some() && config.client_id.is_none() {
        refuse("auth_config.client_secret", "`client_secret` is given without `client_id`", "add the `client_id`");
    }
    let texts =
        [("issuer", &config.issuer), ("client_id", &config.client_id), ("client_secret", &config.client_secret)];
    for (name, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            refuse(
                &format!("auth_config.{name}"),
                "this is empty, too long or has a control character",
                "look for a line break",
            );
        }
    }
    if config.issuer.as_ref().is_some_and(|issuer| !is_issuer(issuer)) {
        let hint = "write it like `https://login.example.com`, exactly as the authorization server does";
        refuse("auth_config.issuer", "this is not the URL of an authorization server", hint);
    }
    let token = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let bad = |scope: &String| scope.is_empty() || scope.len() > MAX_TEXT || !scope.bytes().all(token);
    if config.scopes.len() > MAX_SCOPES || config.scopes.iter().any(bad) {
        refuse("auth_config.scopes", "this is not a list of scopes", "at most 64 words without spaces, one per entry");
    }
    Credential::OauthUser(OauthConfig {
        issuer: config.issuer,
        client_id: config.client_id,
        client_secret: config.client_secret.map(Secret::new),
        scopes: config.scopes,
    })
}

/// `https`, or `http` to this machine; the authorization server's own document decides later.
fn is_issuer(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let plain = !text.contains(['#', '?', '@']);
    plain && (scheme == "https" || (scheme == "http" && loopback))
}
