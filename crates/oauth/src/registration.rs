//! Client metadata (RFC 7591), from a registration request or a client's document.

use serde::Deserialize;

use crate::error::{OAuthCode, OAuthError};
use crate::redirect::{Kind, RedirectUri, Refusal, Rule};

/// Longest registration request, bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Most redirect URIs of a client.
pub const MAX_REDIRECTS: usize = 16;
/// Longest name of a client, characters.
const MAX_NAME: usize = 80;

/// How a client proves who it is at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// Not at all: a public client.
    None,
    /// A secret, by HTTP Basic (RFC 6749 section 2.3.1).
    SecretBasic,
    /// A secret in the body.
    SecretPost,
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::SecretBasic, Self::SecretPost, Self::PrivateKeyJwt].into_iter().find(|m| m.as_str() == text)
    }
}

/// `application_type`: where a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationType {
    /// On a web server.
    Web,
    /// On the user's machine.
    Native,
}

impl ApplicationType {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Native => "native",
        }
    }
}

/// Public keys of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientKeys {
    /// A JWK set, as JSON text.
    Inline(String),
    /// Where it is.
    Uri(String),
}

/// What a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetadata {
    /// Name for people; cleaned.
    pub name: String,
    /// At least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs; from the redirect URIs when it does not say.
    pub application_type: ApplicationType,
    /// How it asked to authenticate.
    pub auth_method: AuthMethod,
    /// Keys for `private_key_jwt`.
    pub keys: Option<ClientKeys>,
}

/// The members that are looked at; all others are ignored (RFC 7591 section 2).
#[derive(Deserialize)]
pub(crate) struct Raw {
    pub(crate) client_id: Option<String>,
    pub(crate) client_name: Option<String>,
    pub(crate) redirect_uris: Option<Vec<String>>,
    pub(crate) application_type: Option<String>,
    pub(crate) token_endpoint_auth_method: Option<String>,
    pub(crate) grant_types: Option<Vec<String>>,
    pub(crate) response_types: Option<Vec<String>>,
    pub(crate) client_secret: Option<serde_json::Value>,
    pub(crate) client_secret_expires_at: Option<serde_json::Value>,
    pub(crate) jwks: Option<serde_json::Value>,
    pub(crate) jwks_uri: Option<String>,
}

fn invalid(text: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidClientMetadata, text)
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        Self::new(OAuthCode::InvalidRedirectUri, refusal.to_string())
    }
}

/// Reads the body of a registration request. Which redirect URIs are allowed is the
/// caller's question ([`crate::redirect::Rules`]).
///
/// # Errors
/// `invalid_client_metadata` or `invalid_redirect_uri` (RFC 7591 section 3.2.2).
pub fn parse_request(body: &[u8]) -> Result<ClientMetadata, OAuthError> {
    if body.len() > MAX_REQUEST {
        return Err(invalid("the registration request is over 16 KiB"));
    }
    let raw: Raw = serde_json::from_slice(body)
        .map_err(|_| invalid("the registration request is no JSON object of client metadata"))?;
    raw.check()
}

impl Raw {
    /// The checks that hold for requests and documents.
    pub(crate) fn check(self) -> Result<ClientMetadata, OAuthError> {
        if self.response_types.as_ref().is_some_and(|types| !types.iter().any(|t| t == "code")) {
            return Err(invalid("response_types must hold code"));
        }
        if self.grant_types.as_ref().is_some_and(|types| !types.iter().any(|t| t == "authorization_code")) {
            return Err(invalid("grant_types must hold authorization_code"));
        }
        let auth_method = match self.token_endpoint_auth_method.as_deref() {
            None => AuthMethod::None,
            Some(text) => AuthMethod::parse(text)
                .ok_or_else(|| invalid("token_endpoint_auth_method must be none or private_key_jwt"))?,
        };
        let redirect_uris = self.redirects()?;
        let application_type = match self.application_type.as_deref() {
            None if redirect_uris.iter().all(|uri| uri.kind() == Kind::Https) => ApplicationType::Web,
            None | Some("native") => ApplicationType::Native,
            Some("web") => {
                check_web(&redirect_uris)?;
                ApplicationType::Web
            }
            Some(_) => return Err(invalid("application_type must be web or native")),
        };
        let keys = match (self.jwks, self.jwks_uri) {
            (Some(_), Some(_)) => return Err(invalid("jwks and jwks_uri must not both be there")),
            (Some(keys), None) => Some(ClientKeys::Inline(keys.to_string())),
            (None, Some(uri)) => Some(ClientKeys::Uri(uri)),
            (None, None) => None,
        };
        let name = self.client_name.as_deref().map(clean_name).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| redirect_uris.first().map(|uri| uri.host().to_owned()).unwrap_or_default());
        Ok(ClientMetadata { name, redirect_uris, application_type, auth_method, keys })
    }

    fn redirects(&self) -> Result<Vec<RedirectUri>, OAuthError> {
        let given = self.redirect_uris.as_deref().unwrap_or_default();
        if given.is_empty() || given.len() > MAX_REDIRECTS {
            return Err(OAuthError::new(OAuthCode::InvalidRedirectUri, "1 to 16 redirect_uris are needed"));
        }
        Ok(given.iter().map(|uri| RedirectUri::parse(uri)).collect::<Result<_, _>>()?)
    }
}

fn check_web(uris: &[RedirectUri]) -> Result<(), Refusal> {
    for uri in uris {
        let rule = match uri.kind() {
            Kind::Https => continue,
            Kind::Localhost | Kind::Loopback => Rule::WebOnLoopback,
            Kind::Custom => Rule::WebOnCustomScheme,
        };
        return Err(Refusal { uri: uri.as_str().to_owned(), rule });
    }
    Ok(())
}

/// A name that cannot pretend to be something else on a page: no control characters, no
/// marks that turn the direction of writing or take no room, one line, at most 80 characters.
pub fn clean_name(name: &str) -> String {
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let visible: String =
        name.chars().filter(|c| !hidden(*c)).map(|c| if c.is_control() { ' ' } else { c }).take(4 * MAX_NAME).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_NAME).collect()
}

/// The answer to a registration that was accepted (RFC 7591 section 3.2.1): what is
/// registered, which may be less than what was asked for.
pub fn answer(client_id: &str, issued_at_s: i64, client: &ClientMetadata) -> Vec<u8> {
    let uris: Vec<&str> = client.redirect_uris.iter().map(RedirectUri::as_str).collect();
    let body = serde_json::json!({
        "client_id": client_id,
        "client_id_issued_at": issued_at_s,
        "client_name": client.name,
        "redirect_uris": uris,
        "application_type": client.application_type.as_str(),
        "token_endpoint_auth_method": AuthMethod::None.as_str(),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<ClientMetadata, OAuthError> {
        parse_request(json.as_bytes())
    }

    #[test]
    fn a7_a_registration_as_clients_send_it() {
        let client = request(
            r#"{"client_name":"Inspector","redirect_uris":["http://localhost:6274/cb"],"grant_types":["authorization_code",
            "refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post","scope":"x",
            "software_id":"y","contacts":[1,2]}"#,
        )
        .unwrap();
        assert_eq!((client.name.as_str(), client.application_type), ("Inspector", ApplicationType::Native));
        assert_eq!(client.auth_method, AuthMethod::SecretPost);
        let answer = String::from_utf8(answer("c", 5, &client)).unwrap();
        assert!(answer.contains(r#""token_endpoint_auth_method":"none""#) && !answer.contains("secret"), "{answer}");
        let web = request(r#"{"redirect_uris":["https://app.example/cb"]}"#).unwrap();
        assert_eq!((web.name.as_str(), web.application_type), ("app.example", ApplicationType::Web));
    }

    #[test]
    fn a7_registrations_that_are_refused() {
        use OAuthCode::{InvalidClientMetadata as Metadata, InvalidRedirectUri as Uri};
        let many = format!(r#"{{"redirect_uris":[{}]}}"#, vec![r#""http://localhost/""#; 17].join(","));
        let long = format!(r#"{{"redirect_uris":["http://localhost/"],"x":"{}"}}"#, "a".repeat(MAX_REQUEST));
        for (json, code) in [
            ("", Metadata),
            ("[]", Metadata),
            ("{", Metadata),
            ("null", Metadata),
            (long.as_str(), Metadata),
            (r#"{"redirect_uris":"http://localhost/"}"#, Metadata),
            (r#"{"redirect_uris":[1]}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"redirect_uris":["https://evil.example/"]}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"response_types":["token"]}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"grant_types":["implicit"]}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"grant_types":["password"]}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"token_endpoint_auth_method":"tls_client_auth"}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"application_type":"robot"}"#, Metadata),
            (r#"{"redirect_uris":["http://localhost/"],"jwks":{},"jwks_uri":"https://x/"}"#, Metadata),
            ("{}", Uri),
            (r#"{"redirect_uris":[]}"#, Uri),
            (many.as_str(), Uri),
            (r#"{"redirect_uris":["http://localhost/","javascript:alert(1)"]}"#, Uri),
            (r#"{"redirect_uris":["http://localhost/"],"application_type":"web"}"#, Uri),
            (r#"{"redirect_uris":["app:/cb"],"application_type":"web"}"#, Uri),
        ] {
            assert_eq!(request(json).map_err(|error| error.code).err(), Some(code), "{json}");
        }
    }

    #[test]
    fn a19_a_name_cannot_pretend() {
        assert_eq!(clean_name("Cl\u{202e}au\u{200b}de\n\u{0}<b>"), "Claude <b>");
        assert_eq!(clean_name(&"x".repeat(500)).len(), 80);
        assert_eq!(clean_name(" \u{feff} \u{e0041} "), "");
    }
}
