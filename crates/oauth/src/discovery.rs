//! Where authorization servers and protected resources describe themselves, and what such
//! a description must hold before it is believed.

use serde::Deserialize;
use url::Url;

use crate::link::{is_endpoint, is_issuer, safe_link};

/// Longest document, bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// Most entries of a list in a document: a short text each takes many times its length in
/// memory, for as long as the document is believed.
pub const MAX_ENTRIES: usize = 256;

/// A description cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Longer than [`MAX_DOCUMENT`], or a list longer than [`MAX_ENTRIES`].
    #[error("the metadata document is too long")]
    TooLarge,
    /// Not JSON of the right form.
    #[error("the metadata document is not well-formed")]
    Malformed,
    /// It describes somebody else (RFC 8414, section 3.3; RFC 9728, section 3.3).
    #[error("the metadata document belongs to another `{0}`")]
    Other(&'static str),
    /// An endpoint that is neither `https` nor, on this machine, `http`.
    #[error("`{0}` of the metadata document is not an https URL")]
    Endpoint(&'static str),
    /// Something that is needed is missing.
    #[error("the metadata document has no `{0}`")]
    Missing(&'static str),
    /// PKCE with S256 is not offered.
    #[error("the authorization server does not offer PKCE with S256")]
    NoPkce,
}

/// URLs of the metadata of a protected resource (RFC 9728, section 3.1), in the order in
/// which they are tried: path inserted, then the root.
pub fn protected_resource_urls(resource: &str) -> Vec<String> {
    let Some((origin, path)) = split(resource) else { return Vec::new() };
    let root = format!("{origin}/.well-known/oauth-protected-resource");
    if path.is_empty() { vec![root] } else { vec![format!("{root}{path}"), root] }
}

/// URLs of the metadata of an authorization server, in the order in which they are tried:
/// RFC 8414 with the path inserted, OpenID Connect the same way, OpenID Connect appended.
pub fn authorization_server_urls(issuer: &str) -> Vec<String> {
    let Some((origin, path)) = split(issuer) else { return Vec::new() };
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    urls
}

/// URL of the description of an OpenID provider (OpenID Connect Discovery, section 4.1).
pub fn openid_configuration_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// A JSON object; the parser would also take a list of its members' values.
fn object<'a, T: Deserialize<'a>>(document: &'a [u8]) -> Result<T, DiscoveryError> {
    if document.len() > MAX_DOCUMENT {
        return Err(DiscoveryError::TooLarge);
    }
    if !document.trim_ascii_start().starts_with(b"{") {
        return Err(DiscoveryError::Malformed);
    }
    serde_json::from_slice(document).map_err(|_| DiscoveryError::Malformed)
}

/// Origin and path of a URL; the path without a final slash.
fn split(text: &str) -> Option<(String, String)> {
    let url = Url::parse(safe_link(text)?).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    Some((url.origin().ascii_serialization(), path))
}

/// What an authorization server says about itself, as far as it is used.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ServerMetadata {
    /// Its name.
    pub issuer: String,
    /// Where the browser is sent.
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are redeemed.
    pub token_endpoint: Option<String>,
    /// Its keys.
    pub jwks_uri: Option<String>,
    /// Where clients register (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// Claims about the person (OpenID Connect).
    pub userinfo_endpoint: Option<String>,
    /// Where the person signs out there (OpenID Connect RP-Initiated Logout). Gone when it
    /// is not a web link.
    pub end_session_endpoint: Option<String>,
    /// PKCE methods.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// Scopes.
    pub scopes_supported: Option<Vec<String>>,
    /// Grants.
    pub grant_types_supported: Option<Vec<String>>,
    /// How clients may authenticate at the token endpoint.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Algorithms for client assertions.
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// Algorithms of ID tokens.
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// Whether every answer carries `iss` (RFC 9207).
    pub authorization_response_iss_parameter_supported: bool,
    /// Whether a client may be named by the URL of its document.
    pub client_id_metadata_document_supported: bool,
    /// Grant profiles, for ID-JAG.
    pub authorization_grant_profiles_supported: Option<Vec<String>>,
}

impl ServerMetadata {
    /// Takes a document of the server `issuer`, whose name must be the same, byte for byte.
    ///
    /// # Errors
    /// [`DiscoveryError`].
    pub fn parse(document: &[u8], issuer: &str) -> Result<Self, DiscoveryError> {
        let mut metadata: Self = object(document)?;
        if metadata.lists().into_iter().flatten().any(|list| list.len() > MAX_ENTRIES) {
            return Err(DiscoveryError::TooLarge);
        }
        if metadata.issuer != issuer || !is_issuer(issuer) {
            return Err(DiscoveryError::Other("issuer"));
        }
        for (name, endpoint) in [
            ("authorization_endpoint", &metadata.authorization_endpoint),
            ("token_endpoint", &metadata.token_endpoint),
            ("jwks_uri", &metadata.jwks_uri),
            ("registration_endpoint", &metadata.registration_endpoint),
            ("revocation_endpoint", &metadata.revocation_endpoint),
            ("userinfo_endpoint", &metadata.userinfo_endpoint),
        ] {
            if endpoint.as_ref().is_some_and(|url| !is_endpoint(url, issuer)) {
                return Err(DiscoveryError::Endpoint(name));
            }
        }
        metadata.end_session_endpoint = metadata.end_session_endpoint.filter(|url| is_endpoint(url, issuer));
        Ok(metadata)
    }

    fn lists(&self) -> [Option<&Vec<String>>; 7] {
        [
            self.code_challenge_methods_supported.as_ref(),
            self.scopes_supported.as_ref(),
            self.grant_types_supported.as_ref(),
            self.token_endpoint_auth_methods_supported.as_ref(),
            self.token_endpoint_auth_signing_alg_values_supported.as_ref(),
            self.id_token_signing_alg_values_supported.as_ref(),
            self.authorization_grant_profiles_supported.as_ref(),
        ]
    }

    /// Room it takes in memory, bytes, about.
    pub fn weight(&self) -> usize {
        let texts = [
            self.authorization_endpoint.as_ref(),
            self.token_endpoint.as_ref(),
            self.jwks_uri.as_ref(),
            self.registration_endpoint.as_ref(),
            self.revocation_endpoint.as_ref(),
            self.userinfo_endpoint.as_ref(),
            self.end_session_endpoint.as_ref(),
        ];
        let entries = self.lists().into_iter().flatten().flatten().map(|text| text.capacity() + size_of::<String>());
        let texts = texts.into_iter().flatten().map(String::capacity);
        size_of::<Self>() + self.issuer.capacity() + texts.sum::<usize>() + entries.sum::<usize>()
    }

    /// PKCE with S256 must be listed: a server that does not know it would ignore it
    /// silently (MCP authorization, "authorization code protection").
    ///
    /// # Errors
    /// [`DiscoveryError::NoPkce`].
    pub fn require_s256(&self) -> Result<(), DiscoveryError> {
        let listed = self.code_challenge_methods_supported.as_ref();
        let listed = listed.is_some_and(|methods| methods.iter().any(|method| method == crate::pkce::METHOD));
        if listed { Ok(()) } else { Err(DiscoveryError::NoPkce) }
    }
}

/// What a protected resource says about itself (RFC 9728), as far as it is used.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ResourceMetadata {
    /// Its identifier.
    pub resource: String,
    /// Issuers of its authorization servers, at least one.
    pub authorization_servers: Vec<String>,
    /// Scopes.
    pub scopes_supported: Option<Vec<String>>,
}

impl ResourceMetadata {
    /// Takes a document found for the resource at `url`. It may describe exactly that URL, or
    /// a place above it at the same origin.
    ///
    /// # Errors
    /// [`DiscoveryError`].
    pub fn parse(document: &[u8], url: &str) -> Result<Self, DiscoveryError> {
        let metadata: Self = object(document)?;
        let scopes = metadata.scopes_supported.as_ref().map_or(0, Vec::len);
        if metadata.authorization_servers.len().max(scopes) > MAX_ENTRIES {
            return Err(DiscoveryError::TooLarge);
        }
        let (of, wanted) = (split(&metadata.resource), split(url));
        let above = of.zip(wanted).is_some_and(|((origin, path), (wanted_origin, wanted_path))| {
            let rest = wanted_path.strip_prefix(&path);
            origin == wanted_origin && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !above {
            return Err(DiscoveryError::Other("resource"));
        }
        if metadata.authorization_servers.is_empty() {
            return Err(DiscoveryError::Missing("authorization_servers"));
        }
        if !metadata.authorization_servers.iter().all(|issuer| is_issuer(issuer)) {
            return Err(DiscoveryError::Endpoint("authorization_servers"));
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_orders_of_well_known_urls() {
        assert_eq!(
            authorization_server_urls("https://as.example/t/1"),
            [
                "https://as.example/.well-known/oauth-authorization-server/t/1",
                "https://as.example/.well-known/openid-configuration/t/1",
                "https://as.example/t/1/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            authorization_server_urls("https://as.example/"),
            [
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            protected_resource_urls("https://rs.example:8443/a/mcp"),
            [
                "https://rs.example:8443/.well-known/oauth-protected-resource/a/mcp",
                "https://rs.example:8443/.well-known/oauth-protected-resource",
            ]
        );
        assert_eq!(protected_resource_urls("https://rs.example").len(), 1);
        assert_eq!(openid_configuration_url("https://a/b/"), "https://a/b/.well-known/openid-configuration");
        assert!(authorization_server_urls("javascript:x").is_empty() && protected_resource_urls("//x").is_empty());
    }

    fn server(extra: &str) -> Result<ServerMetadata, DiscoveryError> {
        let text = format!(r#"{{"issuer":"https://as.example","token_endpoint":"https://as.example/t"{extra}}}"#);
        ServerMetadata::parse(text.as_bytes(), "https://as.example")
    }

    #[test]
    fn a2_metadata_of_another_issuer_is_refused() {
        assert!(server("").is_ok());
        let text = br#"{"issuer":"https://as.example"}"#;
        for other in ["https://as.example/", "https://AS.example", "https://evil.example", "", "http://as.example"] {
            assert_eq!(ServerMetadata::parse(text, other), Err(DiscoveryError::Other("issuer")), "{other}");
        }
        assert_eq!(ServerMetadata::parse(b"{}", ""), Err(DiscoveryError::Other("issuer")));
        let plain = br#"{"issuer":"http://as.example"}"#;
        assert_eq!(ServerMetadata::parse(plain, "http://as.example"), Err(DiscoveryError::Other("issuer")));
    }

    #[test]
    fn a2_endpoints_without_tls_are_refused() {
        for name in ["authorization_endpoint", "jwks_uri", "registration_endpoint", "userinfo_endpoint"] {
            for bad in ["http://as.example/x", "http://127.0.0.1/x", "javascript:alert(1)", "file:///x", "/x", ""] {
                let error = server(&format!(r#","{name}":"{bad}""#)).unwrap_err();
                assert_eq!(error, DiscoveryError::Endpoint(name), "{name} {bad}");
            }
        }
        for bad in ["javascript:alert(1)", "data:text/html,x", "http://evil.example/"] {
            assert_eq!(server(&format!(r#","end_session_endpoint":"{bad}""#)).unwrap().end_session_endpoint, None);
        }
    }

    #[test]
    fn a2_documents_are_bounded_and_well_formed() {
        for bad in [&b""[..], b"[]", b"null", b"<html>", br#"{"issuer":1}"#, br#"{"issuer":"a","issuer":"a"}"#] {
            assert_eq!(ServerMetadata::parse(bad, "https://as.example"), Err(DiscoveryError::Malformed));
        }
        let huge = vec![b' '; MAX_DOCUMENT + 1];
        assert_eq!(ServerMetadata::parse(&huge, "https://as.example"), Err(DiscoveryError::TooLarge));
        assert_eq!(ResourceMetadata::parse(&huge, "https://rs.example"), Err(DiscoveryError::TooLarge));
    }

    #[test]
    fn a2_lists_are_bounded() {
        let list = |n: usize| serde_json::to_string(&vec!["x"; n]).unwrap();
        for member in ["scopes_supported", "grant_types_supported", "code_challenge_methods_supported"] {
            let of = |n: usize| server(&format!(r#","{member}":{}"#, list(n)));
            assert!(of(MAX_ENTRIES).is_ok(), "{member}");
            assert_eq!(of(MAX_ENTRIES + 1), Err(DiscoveryError::TooLarge), "{member}");
        }
        let resource = |servers: &str, scopes: &str| {
            let text = format!(
                r#"{{"resource":"https://rs.example","authorization_servers":{servers},"scopes_supported":{scopes}}}"#
            );
            ResourceMetadata::parse(text.as_bytes(), "https://rs.example").map(drop)
        };
        let servers = |n: usize| serde_json::to_string(&vec!["https://as.example"; n]).unwrap();
        assert_eq!(resource(&servers(MAX_ENTRIES), &list(MAX_ENTRIES)), Ok(()));
        assert_eq!(resource(&servers(MAX_ENTRIES + 1), "[]"), Err(DiscoveryError::TooLarge));
        assert_eq!(resource(&servers(1), &list(MAX_ENTRIES + 1)), Err(DiscoveryError::TooLarge));
        let heavy = server(&format!(r#","scopes_supported":{}"#, list(MAX_ENTRIES))).unwrap();
        assert!(heavy.weight() > server("").unwrap().weight() + MAX_ENTRIES * size_of::<String>());
    }

    #[test]
    fn a9_pkce_must_be_listed() {
        assert_eq!(server("").unwrap().require_s256(), Err(DiscoveryError::NoPkce));
        let plain = server(r#","code_challenge_methods_supported":["plain"]"#).unwrap();
        assert_eq!(plain.require_s256(), Err(DiscoveryError::NoPkce));
        assert_eq!(server(r#","code_challenge_methods_supported":["plain","S256"]"#).unwrap().require_s256(), Ok(()));
    }

    #[test]
    fn p16_resource_metadata_describes_the_place_it_was_found_for() {
        let parse = |resource: &str, url: &str| {
            let text = format!(r#"{{"resource":"{resource}","authorization_servers":["https://as.example"]}}"#);
            ResourceMetadata::parse(text.as_bytes(), url).map(drop)
        };
        for (resource, url) in [
            ("https://rs.example/mcp", "https://rs.example/mcp"),
            ("https://rs.example/mcp/", "https://rs.example/mcp"),
            ("https://rs.example", "https://rs.example/mcp"),
        ] {
            assert_eq!(parse(resource, url), Ok(()), "{resource}");
        }
        for resource in
            ["https://evil.example/mcp", "https://rs.example/m", "https://rs.example/mcp/x", "http://rs.example", ""]
        {
            assert_eq!(parse(resource, "https://rs.example/mcp"), Err(DiscoveryError::Other("resource")), "{resource}");
        }
        let none = br#"{"resource":"https://rs.example"}"#;
        assert!(ResourceMetadata::parse(none, "https://rs.example").is_err());
        let plain = br#"{"resource":"https://rs.example","authorization_servers":["http://as.example"]}"#;
        assert!(ResourceMetadata::parse(plain, "https://rs.example").is_err());
    }
}
