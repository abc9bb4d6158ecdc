//! `auth_config`: which entries belong to which `auth_type`, and what they may hold (feature
//! rows P16, P17, P19).

use bartizan_config::resources::{
    AuthConfig, AuthType, IdentityProvider, Server, SubjectToken, TokenAuthMethod, Visibility,
};
use bartizan_config::secrets::UNRESOLVED;
use bartizan_model::Secret;
use bartizan_oauth::client_assertion::ClientKey;

use super::Checked;
use crate::credential::{
    AssertionConfig, Credential, OauthConfig, PatConfig, ProviderConfig, SigV4Config, TokenAuth, TokenConfig,
    is_usable_header,
};

/// Most scopes and groups, and longest text, bytes.
const MAX_LIST: usize = 64;
const MAX_TEXT: usize = 2048;
/// Longest session token of temporary AWS keys, bytes.
const MAX_SESSION: usize = 8192;

/// Entries every type with an authorization server takes.
const CLIENT: &[&str] = &["issuer", "client_id", "client_secret", "private_key", "private_key_id", "scopes"];

/// The entries of a type beside [`CLIENT`], and whether it takes those.
fn entries(kind: AuthType) -> (bool, &'static [&'static str]) {
    match kind {
        AuthType::Unauthenticated | AuthType::Bearer => (false, &[]),
        AuthType::Oauth => (true, &["admin_groups"]),
        AuthType::PatUser => (false, &["header", "prefix", "help_url"]),
        AuthType::ClientCredentials => {
            (true, &["token_endpoint", "token_endpoint_auth_method", "resource", "audience"])
        }
        AuthType::TokenExchange => (
            true,
            &[
                "token_endpoint",
                "token_endpoint_auth_method",
                "resource",
                "audience",
                "subject_token",
                "requested_token_type",
                "provider",
            ],
        ),
        AuthType::EntraObo => (true, &["token_endpoint", "token_endpoint_auth_method", "subject_token", "provider"]),
        AuthType::IdJag => {
            (true, &["token_endpoint", "token_endpoint_auth_method", "resource", "subject_token", "provider"])
        }
        AuthType::Assertion => (false, &["audience"]),
        AuthType::AwsSigv4 => (false, &["service", "region", "access_key_id", "secret_access_key", "session_token"]),
    }
}

/// The name of a type in files.
pub(crate) fn name_of(kind: AuthType) -> &'static str {
    match kind {
        AuthType::Unauthenticated => "unauthenticated",
        AuthType::Bearer => "bearer",
        AuthType::Oauth => "oauth",
        AuthType::PatUser => "pat_user",
        AuthType::ClientCredentials => "client_credentials",
        AuthType::TokenExchange => "token_exchange",
        AuthType::EntraObo => "entra_obo",
        AuthType::IdJag => "id_jag",
        AuthType::Assertion => "assertion",
        AuthType::AwsSigv4 => "aws_sigv4",
    }
}

/// Entries that are given, by name.
fn given(config: &AuthConfig) -> Vec<String> {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(config) else { return Vec::new() };
    let is_set = |value: &serde_json::Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    members.into_iter().filter(|(_, value)| is_set(value)).map(|(name, _)| name).collect()
}

/// Collects findings under one server.
struct Findings<'a> {
    path: &'a str,
    checked: &'a mut Checked,
}

impl Findings<'_> {
    fn refuse(&mut self, at: &str, why: impl Into<String>, hint: impl Into<String>) {
        self.checked.error_hint(format!("{}.{at}", self.path), "credentials", why, hint);
    }

    /// A text that is needed.
    fn need(&mut self, name: &str, text: Option<String>, kind: &str) -> String {
        if text.is_none() {
            self.refuse("auth_config", format!("`auth_type: {kind}` needs `{name}`"), format!("add `{name}`"));
        }
        text.unwrap_or_default()
    }
}

/// Compiles the credential of a type that reads `auth_config`.
pub(super) fn credential(
    server: &Server,
    providers: &[IdentityProvider],
    path: &str,
    checked: &mut Checked,
) -> Credential {
    let mut f = Findings { path, checked };
    let kind = server.auth_type;
    let name = name_of(kind);
    common(server, name, &mut f);
    let config = server.auth_config.clone().unwrap_or_default();
    texts(&config, &mut f);
    let (client, others) = entries(kind);
    for entry in given(&config) {
        let known = others.contains(&entry.as_str()) || (client && CLIENT.contains(&entry.as_str()));
        if !known {
            let at = format!("auth_config.{entry}");
            f.refuse(&at, format!("`{entry}` has no meaning with `auth_type: {name}`"), "remove it");
        }
    }
    match kind {
        AuthType::Unauthenticated | AuthType::Bearer => Credential::None,
        AuthType::Oauth => {
            if !server.on_behalf && config.admin_groups.is_empty() {
                let hint = "name the groups whose members connect the one account: `admin_groups: [platform]`";
                f.refuse("auth_config.admin_groups", "`on_behalf: false` needs somebody to connect the account", hint);
            }
            if server.on_behalf && !config.admin_groups.is_empty() {
                let why = "`admin_groups` are given, but every user connects an account of their own";
                f.refuse("auth_config.admin_groups", why, "remove them, or set `on_behalf: false`");
            }
            if config.client_secret.is_some() && config.issuer.is_none() {
                let why = "`client_secret` is given without `issuer`: the server would choose who is told the secret";
                f.refuse("auth_config.client_secret", why, "name the authorization server it is for: `issuer`");
            }
            if config.private_key.is_some() && config.issuer.is_none() {
                let why = "`private_key` is given without `issuer`: the server would choose for whom it signs";
                f.refuse("auth_config.private_key", why, "name the authorization server it is for: `issuer`");
            }
            let mut oauth = oauth(config, &mut f);
            oauth.shared = !server.on_behalf;
            Credential::OauthUser(oauth)
        }
        AuthType::PatUser => pat(config, &mut f),
        AuthType::ClientCredentials => Credential::ClientCredentials(token(config, kind, providers, &mut f)),
        AuthType::TokenExchange => Credential::TokenExchange(token(config, kind, providers, &mut f)),
        AuthType::EntraObo => Credential::EntraObo(token(config, kind, providers, &mut f)),
        AuthType::IdJag => Credential::IdJag(token(config, kind, providers, &mut f)),
        AuthType::Assertion => {
            let graphic = |text: &String| text.bytes().all(|b| b.is_ascii_graphic()) && text.len() <= 256;
            if config.audience.as_ref().is_some_and(|text| !graphic(text)) {
                f.refuse("auth_config.audience", "this is not a tag", "1 to 256 ASCII characters without spaces");
            }
            Credential::Assertion(AssertionConfig { audience: config.audience })
        }
        AuthType::AwsSigv4 => sigv4(config, &mut f),
    }
}

/// What holds for every type here.
fn common(server: &Server, name: &str, f: &mut Findings<'_>) {
    if server.auth_credentials.is_some() {
        let why = format!("`auth_credentials` are given, but `auth_type` is `{name}`");
        f.refuse("auth_credentials", why, "remove them");
    }
    if server.command.is_some() {
        f.refuse("auth_type", "a local server gets no headers", format!("remove `auth_type: {name}`"));
    }
    let personal = match server.auth_type {
        AuthType::Oauth => server.on_behalf,
        AuthType::PatUser | AuthType::TokenExchange | AuthType::EntraObo | AuthType::IdJag | AuthType::Assertion => {
            true
        }
        _ => false,
    };
    if server.visibility == Visibility::Public && personal {
        let why = "a public server has callers that are nobody in particular, and nobody's account to use";
        f.refuse("auth_type", why, "set `visibility: private`");
    }
    if !server.on_behalf && server.auth_type != AuthType::Oauth {
        f.refuse("on_behalf", format!("`on_behalf: false` has no meaning with `auth_type: {name}`"), "remove it");
    }
}

/// No text is empty, endless or has control characters; lists are short.
fn texts(config: &AuthConfig, f: &mut Findings<'_>) {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(config) else { return };
    for (name, value) in &members {
        // Of several lines, and looked at by itself.
        if name == "private_key" {
            continue;
        }
        let max = if name == "session_token" { MAX_SESSION } else { MAX_TEXT };
        if let Some(text) = value.as_str()
            && (text.is_empty() || text.len() > max || text.chars().any(char::is_control))
        {
            let why = "this is empty, too long or has a control character";
            f.refuse(&format!("auth_config.{name}"), why, "look for a line break");
        }
    }
    if config.issuer.as_ref().is_some_and(|issuer| !is_place(issuer, false)) {
        let hint = "write it like `https://login.example.com`, exactly as the authorization server does";
        f.refuse("auth_config.issuer", "this is not the URL of an authorization server", hint);
    }
    for (name, text) in [("token_endpoint", &config.token_endpoint), ("help_url", &config.help_url)] {
        if text.as_ref().is_some_and(|text| !is_place(text, true)) {
            f.refuse(&format!("auth_config.{name}"), "this is not an `https://` URL", "write the whole URL");
        }
    }
    let uri = |text: &String| text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()) && !text.contains('#');
    if config.resource.as_ref().is_some_and(|text| !uri(text)) {
        f.refuse("auth_config.resource", "this is not an absolute URI without fragment", "see RFC 8707");
    }
    let token = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let bad = |scope: &String| scope.is_empty() || scope.len() > MAX_TEXT || !scope.bytes().all(token);
    if config.scopes.len() > MAX_LIST || config.scopes.iter().any(bad) {
        let hint = "at most 64 words without spaces, one per entry";
        f.refuse("auth_config.scopes", "this is not a list of scopes", hint);
    }
    let bad = |group: &String| group.is_empty() || group.len() > MAX_TEXT || group.chars().any(char::is_control);
    if config.admin_groups.len() > MAX_LIST || config.admin_groups.iter().any(bad) {
        f.refuse("auth_config.admin_groups", "this is not a list of groups", "at most 64 names");
    }
}

fn oauth(config: AuthConfig, f: &mut Findings<'_>) -> OauthConfig {
    if config.client_secret.is_some() && config.client_id.is_none() {
        f.refuse("auth_config.client_secret", "`client_secret` is given without `client_id`", "add the `client_id`");
    }
    let client_key = config.private_key.map(Secret::new);
    if let Some(key) = &client_key {
        if config.client_id.is_none() {
            f.refuse("auth_config.private_key", "`private_key` is given without `client_id`", "add the `client_id`");
        }
        if config.client_secret.is_some() {
            let why = "a client proves itself with `client_secret` or with `private_key`, and both are given";
            f.refuse("auth_config.private_key", why, "remove one of them");
        }
        if key.expose() != UNRESOLVED
            && let Err(error) = ClientKey::from_pem(key, None)
        {
            let hint = "for example from `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";
            f.refuse("auth_config.private_key", error.to_string(), hint);
        }
    } else if config.private_key_id.is_some() {
        f.refuse("auth_config.private_key_id", "`private_key_id` is given without `private_key`", "add the key");
    }
    OauthConfig {
        issuer: config.issuer,
        client_id: config.client_id,
        client_secret: config.client_secret.map(Secret::new),
        client_key,
        client_key_id: config.private_key_id,
        scopes: config.scopes,
        shared: false,
        admin_groups: config.admin_groups,
    }
}

fn pat(config: AuthConfig, f: &mut Findings<'_>) -> Credential {
    let header = config.header.unwrap_or_else(|| "authorization".to_owned()).to_ascii_lowercase();
    if !is_usable_header(&header) {
        f.refuse("auth_config.header", "a credential may not set this header", "for example `header: X-Api-Key`");
    }
    let usual = if header == "authorization" { "Bearer" } else { "" };
    let prefix = config.prefix.unwrap_or_else(|| usual.to_owned());
    if !prefix.bytes().all(|b| b.is_ascii_graphic()) || prefix.len() > 64 {
        f.refuse("auth_config.prefix", "this is not one word", "for example `prefix: Bearer`");
    }
    Credential::PatUser(PatConfig { header, prefix, help_url: config.help_url })
}

fn token(mut config: AuthConfig, kind: AuthType, providers: &[IdentityProvider], f: &mut Findings<'_>) -> TokenConfig {
    let name = name_of(kind);
    f.need("client_id", config.client_id.clone(), name);
    if config.issuer.is_none() && config.token_endpoint.is_none() {
        let why = format!("`auth_type: {name}` needs `issuer` or `token_endpoint`: the server must not choose them");
        f.refuse("auth_config", why, "name the authorization server it is for: `issuer`");
    }
    let public = config.token_endpoint_auth_method == Some(TokenAuthMethod::None);
    let has_key = config.private_key.is_some();
    if config.client_secret.is_none()
        && !has_key
        && !public
        && matches!(kind, AuthType::ClientCredentials | AuthType::EntraObo)
    {
        f.need("client_secret", None, name);
    }
    if public && (config.client_secret.is_some() || has_key) {
        let why = "`token_endpoint_auth_method: none` sends no secret, but there is one";
        f.refuse("auth_config.token_endpoint_auth_method", why, "remove one of them");
    }
    if config.token_endpoint_auth_method.is_some() && config.token_endpoint.is_none() {
        let why = "`token_endpoint_auth_method` is given without `token_endpoint`";
        f.refuse("auth_config.token_endpoint_auth_method", why, "without it the server's own word counts: remove it");
    }
    let by_key = config.token_endpoint_auth_method == Some(TokenAuthMethod::PrivateKeyJwt);
    if config.token_endpoint_auth_method.is_some() && !public && by_key != has_key {
        let why = "`token_endpoint_auth_method` and what is given to prove the client do not fit";
        f.refuse("auth_config.token_endpoint_auth_method", why, "`private_key_jwt` goes with `private_key`");
    }
    if kind == AuthType::EntraObo && config.scopes.is_empty() {
        f.refuse("auth_config", "`auth_type: entra_obo` needs `scopes`", "for example `scopes: [api://ID/.default]`");
    }
    let auth = match config.token_endpoint_auth_method.take() {
        None | Some(TokenAuthMethod::PrivateKeyJwt) if has_key => TokenAuth::Key,
        None if config.client_secret.is_none() => TokenAuth::None,
        // What Microsoft documents for this shape.
        None if kind == AuthType::EntraObo => TokenAuth::Post,
        None | Some(TokenAuthMethod::ClientSecretBasic) => TokenAuth::Basic,
        Some(TokenAuthMethod::ClientSecretPost) => TokenAuth::Post,
        // Refused above.
        Some(TokenAuthMethod::PrivateKeyJwt) | Some(TokenAuthMethod::None) => TokenAuth::None,
    };
    let usual = if kind == AuthType::EntraObo { SubjectToken::AccessToken } else { SubjectToken::IdToken };
    let subject = config.subject_token.unwrap_or(usual);
    let allowed = match kind {
        AuthType::IdJag => matches!(subject, SubjectToken::IdToken | SubjectToken::RefreshToken),
        AuthType::EntraObo => matches!(subject, SubjectToken::IdToken | SubjectToken::AccessToken),
        _ => subject != SubjectToken::RefreshToken,
    };
    if !allowed {
        f.refuse("auth_config.subject_token", format!("`{name}` cannot use this token"), "see the reference");
    }
    let needs_provider = kind != AuthType::ClientCredentials && subject != SubjectToken::Assertion;
    let provider = if needs_provider { provider(config.provider.as_deref(), providers, f) } else { None };
    let (token_endpoint, resource) = (config.token_endpoint.take(), config.resource.take());
    let (audience, requested_token_type) = (config.audience.take(), config.requested_token_type.take());
    TokenConfig {
        client: oauth(config, f),
        token_endpoint,
        auth,
        resource,
        audience,
        subject,
        requested_token_type,
        provider,
    }
}

/// The named identity provider, or the only one.
fn provider(name: Option<&str>, providers: &[IdentityProvider], f: &mut Findings<'_>) -> Option<ProviderConfig> {
    let found = match (name, providers) {
        (Some(name), all) => all.iter().find(|provider| provider.id == name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let Some(provider) = found else {
        let why = match name {
            Some(_) => "there is no identity provider of this id",
            None => "which identity provider's token is meant?",
        };
        f.refuse("auth_config.provider", why, "give the `id` of one of `identity_providers`");
        return None;
    };
    Some(ProviderConfig {
        id: provider.id.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: provider.client_secret.clone().map(Secret::new),
    })
}

fn sigv4(config: AuthConfig, f: &mut Findings<'_>) -> Credential {
    let kind = name_of(AuthType::AwsSigv4);
    let service = f.need("service", config.service, kind);
    let region = f.need("region", config.region, kind);
    let access_key_id = f.need("access_key_id", config.access_key_id, kind);
    let secret_access_key = f.need("secret_access_key", config.secret_access_key, kind);
    let word = |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    for (name, text) in [("service", &service), ("region", &region)] {
        if !word(text) {
            f.refuse(&format!("auth_config.{name}"), "this is not such a name", "letters, digits and `-`");
        }
    }
    if !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        f.refuse("auth_config.access_key_id", "this is not an access key id", "letters and digits");
    }
    let graphic = |text: &String| text.bytes().all(|b| b.is_ascii_graphic());
    if !graphic(&secret_access_key) || !config.session_token.as_ref().is_none_or(graphic) {
        f.refuse("auth_config", "a key holds a space or a character outside ASCII", "look at the variable or file");
    }
    Credential::AwsSigv4(SigV4Config {
        service,
        region,
        access_key_id: Secret::new(access_key_id),
        secret_access_key: Secret::new(secret_access_key),
        session_token: config.session_token.map(Secret::new),
    })
}

/// `https`, or `http` to this machine; the authorization server's own document decides later.
fn is_place(text: &str, query: bool) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let plain = !text.contains(['#', '@']) && (query || !text.contains('?'));
    plain && (scheme == "https" || (scheme == "http" && loopback))
}
