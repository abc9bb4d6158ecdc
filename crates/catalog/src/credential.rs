//! Credentials of servers (feature row P4): a raw token, or headers as JSON.

use bartizan_config::resources::SubjectToken;
use bartizan_model::Secret;
use serde::de::{Deserializer, MapAccess, Visitor};

/// What bartizan shows to a server.
pub enum Credential {
    /// Nothing.
    None,
    /// These headers on every request, name and value.
    Headers(Vec<(String, Secret)>),
    /// The account that each user has connected (P16), or the one of all (P19).
    OauthUser(OauthConfig),
    /// A token that each user has typed.
    PatUser(PatConfig),
    /// A token for bartizan itself (RFC 6749, section 4.4).
    ClientCredentials(TokenConfig),
    /// A token for each caller by exchange (RFC 8693).
    TokenExchange(TokenConfig),
    /// A token for each user, on behalf of (Microsoft Entra).
    EntraObo(TokenConfig),
    /// A token for each user by the company's provider (ID-JAG).
    IdJag(TokenConfig),
    /// A signed assertion about the caller with every request (A13).
    Assertion(AssertionConfig),
    /// A signature over every request.
    AwsSigv4(SigV4Config),
}

/// A header in which people's own tokens are sent.
pub struct PatConfig {
    /// Name, lower case.
    pub header: String,
    /// Word before the token; may be empty.
    pub prefix: String,
    /// Page on which people make such a token.
    pub help_url: Option<String>,
}

/// How bartizan gets tokens for a server from a token endpoint, without a browser.
pub struct TokenConfig {
    /// Issuer, client and scopes.
    pub client: OauthConfig,
    /// Where to ask; else the authorization server that the server names.
    pub token_endpoint: Option<String>,
    /// How the client proves itself at `token_endpoint`.
    pub auth: TokenAuth,
    /// Resource indicator (RFC 8707).
    pub resource: Option<String>,
    /// Logical name of the target (RFC 8693).
    pub audience: Option<String>,
    /// What is exchanged.
    pub subject: SubjectToken,
    /// Kind of token wanted (RFC 8693).
    pub requested_token_type: Option<String>,
    /// Whose token is exchanged; none for assertions.
    pub provider: Option<ProviderConfig>,
}

/// How a client proves itself at a configured token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAuth {
    /// The header `Authorization: Basic`.
    Basic,
    /// In the body.
    Post,
    /// With a signed assertion.
    Key,
    /// Not at all.
    None,
}

/// bartizan as a client of the company's identity provider.
pub struct ProviderConfig {
    /// Id of the provider.
    pub id: String,
    /// Its name for itself.
    pub issuer: String,
    /// bartizan's client there.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<Secret>,
}

/// Signed assertions (A13).
pub struct AssertionConfig {
    /// The tag of the server; else one is derived.
    pub audience: Option<String>,
}

/// Keys and names for signatures (AWS Signature Version 4).
pub struct SigV4Config {
    /// Service name.
    pub service: String,
    /// Region.
    pub region: String,
    /// Access key id.
    pub access_key_id: Secret,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Of temporary keys.
    pub session_token: Option<Secret>,
}

/// What the administrator says about OAuth at a server; the rest is discovered.
#[derive(Default)]
pub struct OauthConfig {
    /// The only authorization server to use.
    pub issuer: Option<String>,
    /// Client registered there by hand.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// Its private key in PEM, in place of a secret; checked.
    pub client_key: Option<Secret>,
    /// Name of that key.
    pub client_key_id: Option<String>,
    /// Scopes to ask for when the server names none.
    pub scopes: Vec<String>,
    /// One account for all callers (P19).
    pub shared: bool,
    /// Groups whose members connect that account.
    pub admin_groups: Vec<String>,
}

/// Header names a credential may not set, lower case: they frame the message, steer the
/// connection or belong to the protocol. `mcp-param-…` is reserved too.
pub const RESERVED_HEADERS: &[&str] = &[
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Credential {
    /// Reads `auth_credentials` of `auth_type: bearer`.
    ///
    /// # Errors
    /// What is wrong. The text never holds a part of the secret; header names are shown.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        let headers = if text.trim_start().starts_with('{') {
            parse_headers(text)?
        } else {
            vec![("authorization".to_owned(), Secret::new(bearer(text)?))]
        };
        Ok(Self::Headers(headers))
    }

    /// Names and values for a keyed hash.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        match self {
            Self::Headers(headers) => {
                headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.expose().as_bytes()]).collect()
            }
            _ => self.secrets().into_iter().map(|secret| secret.expose().as_bytes()).collect(),
        }
    }

    /// The secrets of it, in a fixed order.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::None | Self::PatUser(_) | Self::Assertion(_) => Vec::new(),
            Self::Headers(headers) => headers.iter().map(|(_, value)| value).collect(),
            Self::OauthUser(oauth) => oauth.client_secret.iter().chain(&oauth.client_key).collect(),
            Self::ClientCredentials(token)
            | Self::TokenExchange(token)
            | Self::EntraObo(token)
            | Self::IdJag(token) => {
                let provider = token.provider.iter().filter_map(|provider| provider.client_secret.as_ref());
                token.client.client_secret.iter().chain(&token.client.client_key).chain(provider).collect()
            }
            Self::AwsSigv4(keys) => {
                let fixed = [&keys.access_key_id, &keys.secret_access_key];
                fixed.into_iter().chain(&keys.session_token).collect()
            }
        }
    }

    /// Whether the server sees who calls, so that everybody has lists of their own.
    pub fn is_personal(&self) -> bool {
        match self {
            Self::None | Self::Headers(_) | Self::ClientCredentials(_) | Self::AwsSigv4(_) => false,
            Self::OauthUser(oauth) => !oauth.shared,
            Self::PatUser(_) | Self::TokenExchange(_) | Self::EntraObo(_) | Self::IdJag(_) | Self::Assertion(_) => true,
        }
    }

    /// The company's identity provider, where its tokens are exchanged.
    pub fn provider(&self) -> Option<&ProviderConfig> {
        match self {
            Self::TokenExchange(token) | Self::EntraObo(token) | Self::IdJag(token) => token.provider.as_ref(),
            _ => None,
        }
    }

    /// The name of the strategy (P17).
    pub fn strategy(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Headers(_) => "static",
            Self::OauthUser(_) => "oauth_user",
            Self::PatUser(_) => "pat_user",
            Self::ClientCredentials(_) => "client_credentials",
            Self::TokenExchange(_) => "token_exchange",
            Self::EntraObo(_) => "entra_obo",
            Self::IdJag(_) => "id_jag",
            Self::Assertion(_) => "assertion",
            Self::AwsSigv4(_) => "aws_sigv4",
        }
    }
}

/// Whether a credential may set a header, lower case.
pub(crate) fn is_usable_header(name: &str) -> bool {
    check_header(name, "x").is_ok()
}

fn bearer(token: &str) -> Result<String, String> {
    if token.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err("holds a line break or NUL (a file that ends with a newline?)".to_owned());
    }
    if token.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")) {
        return Err("must be the token alone, without `Bearer `".to_owned());
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("holds a space or a character outside ASCII; a token has neither".to_owned());
    }
    Ok(format!("Bearer {token}"))
}

fn parse_headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
    const FORM: &str = "is not of the form {\"headers\": {\"Name\": \"value\"}}";
    // The members are read by hand: a parse error of a JSON library may quote the text.
    let mut reader = serde_json::Deserializer::from_str(text);
    let headers = reader.deserialize_map(Outer).map_err(|_| FORM.to_owned())?;
    reader.end().map_err(|_| FORM.to_owned())?;
    if headers.is_empty() {
        return Err("has no header".to_owned());
    }
    let mut seen = Vec::with_capacity(headers.len());
    for (name, value) in &headers {
        check_header(name, value.expose())?;
        let folded = name.to_ascii_lowercase();
        if seen.contains(&folded) {
            return Err(format!("names header `{name}` twice"));
        }
        seen.push(folded);
    }
    Ok(headers)
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    // RFC 9110, section 5.6.2: token.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(is_token) {
        let shown: String = name.chars().take(40).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        return Err(format!("has a header name `{shown}` that is not one"));
    }
    let folded = name.to_ascii_lowercase();
    if RESERVED_HEADERS.contains(&folded.as_str()) || folded.starts_with("mcp-param-") {
        return Err(format!("may not set header `{name}`"));
    }
    // RFC 9110, section 5.5: visible characters, spaces and tabs within.
    if value.trim_matches([' ', '\t']) != value || value.is_empty() {
        return Err(format!("has an empty value, or spaces around the value, for header `{name}`"));
    }
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(format!("has a line break or control character in the value of header `{name}`"));
    }
    Ok(())
}

/// `{"headers": {…}}` and nothing else.
struct Outer;

impl<'de> Visitor<'de> for Outer {
    type Value = Vec<(String, Secret)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with `headers`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut headers = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "headers" || headers.is_some() {
                return Err(serde::de::Error::custom("unexpected member"));
            }
            headers = Some(map.next_value::<Pairs>()?.0);
        }
        headers.ok_or_else(|| serde::de::Error::custom("no `headers`"))
    }
}

/// Header pairs in order, doubles kept.
struct Pairs(Vec<(String, Secret)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    pairs.push((name, Secret::new(value)));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Vec<(String, String)> {
        match Credential::parse(text) {
            Ok(Credential::Headers(list)) => {
                list.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect()
            }
            Ok(_) => Vec::new(),
            Err(why) => panic!("{why}"),
        }
    }

    #[test]
    fn p4_a_raw_token_becomes_a_bearer_header() {
        for token in ["abc", "sk-live_1.2~3+4/5==", "a:b", "{", "t{}"].into_iter().filter(|token| *token != "{") {
            assert_eq!(headers(token), [("authorization".to_owned(), format!("Bearer {token}"))]);
        }
    }

    #[test]
    fn p4_headers_are_taken_as_they_are() {
        let text = r#" {"headers": {"X-Api-Key": "k 1", "Authorization": "Basic dTpw", "X-Uni": "ü"}} "#;
        let expected = [("X-Api-Key", "k 1"), ("Authorization", "Basic dTpw"), ("X-Uni", "ü")];
        assert_eq!(headers(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn p4_injection_and_nonsense_are_refused_without_showing_the_secret() {
        for text in [
            "",
            "  ",
            "hunter2\r\nX-Admin: 1",
            "hunter2\n",
            "hunter2\0",
            "hunter2 two",
            "hünter2",
            "Bearer hunter2",
            "bearer hunter2",
            "{",
            "{\"headers\":{}}",
            "{\"headers\":{\"a\":\"hunter2\"},\"x\":1}",
            "{\"headers\":{\"a\":\"hunter2\"},\"headers\":{\"b\":\"hunter2\"}}",
            "{\"headers\":{\"a\":\"hunter2\"}} x",
            "{\"headers\":{\"a\":1}}",
            "{\"headers\":{\"a\":[\"hunter2\"]}}",
            "{\"headers\":[\"hunter2\"]}",
            "{\"header\":{\"a\":\"hunter2\"}}",
            "{\"headers\":{\"a\":\"hunter2\\r\\nx: y\"}}",
            "{\"headers\":{\"a\":\"hunter2\\u0000\"}}",
            "{\"headers\":{\"a\":\" hunter2\"}}",
            "{\"headers\":{\"a\":\"\"}}",
            "{\"headers\":{\"a b\":\"hunter2\"}}",
            "{\"headers\":{\"a\\r\\nb\":\"hunter2\"}}",
            "{\"headers\":{\"\":\"hunter2\"}}",
            "{\"headers\":{\"ä\":\"hunter2\"}}",
            "{\"headers\":{\"a:\":\"hunter2\"}}",
            "{\"headers\":{\"X-Key\":\"hunter2\",\"x-key\":\"hunter2\"}}",
            "{\"headers\":{\"Host\":\"hunter2\"}}",
            "{\"headers\":{\"Content-Length\":\"hunter2\"}}",
            "{\"headers\":{\"Mcp-Session-Id\":\"hunter2\"}}",
            "{\"headers\":{\"Mcp-Param-Region\":\"hunter2\"}}",
        ] {
            match Credential::parse(text) {
                Ok(_) => panic!("accepted {text:?}"),
                Err(why) => assert!(!why.contains("hunter2"), "{why}"),
            }
        }
    }
}
