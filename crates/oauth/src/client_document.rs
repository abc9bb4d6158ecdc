//! Client ID metadata documents (draft-ietf-oauth-client-id-metadata-document-00): a client
//! whose id is the URL of a document about itself.

use url::Url;

use crate::registration::{AuthMethod, ClientKeys, ClientMetadata, Raw};

/// Longest document, bytes.
pub const MAX_DOCUMENT: usize = 5 * 1024;
/// Longest client id that is a URL, bytes.
const MAX_URL: usize = 1024;

/// Why a client id or its document is refused; for people, on a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The URL breaks a rule of section 3 of the draft.
    #[error("the client id {0}")]
    Url(&'static str),
    /// Longer than [`MAX_DOCUMENT`].
    #[error("the document is over 5 KiB")]
    TooLarge,
    /// `client_id` in the document is not the URL of the document.
    #[error("the document is about another client id")]
    Mismatch,
    /// It holds a secret, or names a method that needs one.
    #[error("the document holds or needs a client secret; a public document cannot")]
    Secret,
    /// `private_key_jwt` without keys, or keys that are not where they may be.
    #[error("the document needs jwks, or a jwks_uri with https, for private_key_jwt")]
    Keys,
    /// No JSON object, or metadata that is refused.
    #[error("the document is refused: {0}")]
    Metadata(String),
}

/// Whether a client id is meant as the URL of a document, well-formed or not.
pub fn is_url(client_id: &str) -> bool {
    client_id
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http"))
}

/// A client id that may be fetched. Compared as plain text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentUrl {
    text: String,
    host: String,
}

impl DocumentUrl {
    /// Checks the grammar: https, a path, no fragment, no user information, no dot
    /// segments, nothing that a URL parser would repair.
    ///
    /// # Errors
    /// [`DocumentError::Url`].
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let bad = |why| Err(DocumentError::Url(why));
        if text.len() > MAX_URL {
            return bad("is longer than 1024 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
            return bad("has characters that no URL has");
        }
        let Some(rest) = text.strip_prefix("https://") else { return bad("must be an https URL") };
        if text.contains('#') {
            return bad("must not have a fragment");
        }
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.contains('@') {
            return bad("must not have a user name or password");
        }
        if path.split('?').next().is_none_or(|path| path.len() < 2) {
            return bad("must have a path");
        }
        // A URL parser removes dot segments, in plain and in percent-encoded spelling.
        match Url::parse(text) {
            Ok(url) if url.as_str() == text => {
                let host = url.host_str().unwrap_or_default().to_owned();
                Ok(Self { text: text.to_owned(), host })
            }
            _ => bad("is not in its plain spelling (dot segments, capitals in the host, default port)"),
        }
    }

    /// As sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, for people and for the list of allowed ones.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is one of these: `example.com`, or `*.example.com` for those below.
    pub fn is_within(&self, domains: &[String]) -> bool {
        domains.iter().any(|domain| match domain.strip_prefix("*.") {
            Some(parent) => {
                let parent = parent.to_ascii_lowercase();
                self.host.strip_suffix(parent.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            None => domain.eq_ignore_ascii_case(&self.host),
        })
    }
}

/// Reads a document that was fetched from `url`.
///
/// # Errors
/// [`DocumentError`].
pub fn parse(url: &DocumentUrl, body: &[u8]) -> Result<ClientMetadata, DocumentError> {
    if body.len() > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge);
    }
    let raw: Raw = serde_json::from_slice(body)
        .map_err(|_| DocumentError::Metadata("it is no JSON object of client metadata".to_owned()))?;
    if raw.client_id.as_deref() != Some(url.as_str()) {
        return Err(DocumentError::Mismatch);
    }
    let secret_method =
        raw.token_endpoint_auth_method.as_deref().is_some_and(|method| method.starts_with("client_secret"));
    if raw.client_secret.is_some() || raw.client_secret_expires_at.is_some() || secret_method {
        return Err(DocumentError::Secret);
    }
    if raw.client_name.as_deref().is_none_or(|name| name.trim().is_empty()) {
        return Err(DocumentError::Metadata("client_name is missing".to_owned()));
    }
    let client = raw.check().map_err(|error| DocumentError::Metadata(error.description))?;
    let keys_ok = match &client.keys {
        Some(ClientKeys::Uri(uri)) => {
            Url::parse(uri).is_ok_and(|url| url.scheme() == "https" && url.username().is_empty())
        }
        Some(ClientKeys::Inline(_)) => true,
        None => client.auth_method != AuthMethod::PrivateKeyJwt,
    };
    if keys_ok { Ok(client) } else { Err(DocumentError::Keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://client.example/mcp/client.json";

    fn url() -> DocumentUrl {
        DocumentUrl::parse(URL).unwrap()
    }

    #[test]
    fn a8_client_ids_that_may_be_fetched() {
        for good in [URL, "https://client.example/c", "https://client.example:8443/a/b", "https://c.example/c?v=1"] {
            assert!(DocumentUrl::parse(good).is_ok(), "{good}");
        }
        let long = format!("https://client.example/{}", "a".repeat(MAX_URL));
        for bad in [
            "",
            "client",
            "http://client.example/c",
            "HTTPS://client.example/c",
            "https://client.example",
            "https://client.example/",
            "https://client.example?x",
            "https://client.example/?x",
            "https://client.example/c#x",
            "https://client.example/c#",
            "https://u@client.example/c",
            "https://u:p@client.example/c",
            "https://client.example/a/../c",
            "https://client.example/./c",
            "https://client.example/%2e%2e/c",
            "https://client.example/a/..",
            "https://Client.example/c",
            "https://client.example:443/c",
            "https://client.example\\@evil.example/c",
            "https:///client.example/c",
            "https://0x7f.1/c",
            "https://client.example/c d",
            "https://cl\u{ef}ent.example/c",
            "javascript:alert(1)//https://x/y",
            &long,
        ] {
            assert!(DocumentUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a8_domains_are_matched_by_label() {
        let within = |domain: &str| url().is_within(&[domain.to_owned()]);
        assert!(within("client.example") && within("*.example") && within("CLIENT.example"));
        for other in
            ["example", "*.client.example", "lient.example", "*.lient.example", "*.", "", "client.example.evil"]
        {
            assert!(!within(other), "{other}");
        }
    }

    #[test]
    fn a8_a_document_is_about_itself_and_holds_no_secret() {
        let document = |more: &str| {
            format!(r#"{{"client_id":"{URL}","client_name":"C","redirect_uris":["http://127.0.0.1/cb"]{more}}}"#)
        };
        let client = parse(&url(), document("").as_bytes()).unwrap();
        assert_eq!((client.name.as_str(), client.auth_method), ("C", AuthMethod::None));
        let keys = r#","token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[]}"#;
        assert_eq!(parse(&url(), document(keys).as_bytes()).unwrap().auth_method, AuthMethod::PrivateKeyJwt);
        let other = document("").replace("client.json", "client.json/");
        let no_name = document("").replace(r#""client_name":"C","#, "");
        let no_uris = document("").replace("redirect_uris", "x");
        let script = document("").replace("http://127.0.0.1/cb", "javascript:alert(1)");
        let big = document(&format!(r#","x":"{}""#, "a".repeat(MAX_DOCUMENT)));
        for (body, want) in [
            (other.as_str(), "Mismatch"),
            ("{}", "Mismatch"),
            ("", "Metadata"),
            ("<html>", "Metadata"),
            ("[]", "Metadata"),
            (no_name.as_str(), "Metadata"),
            (no_uris.as_str(), "Metadata"),
            (script.as_str(), "Metadata"),
            (big.as_str(), "TooLarge"),
            (&document(r#","client_secret":"x""#), "Secret"),
            (&document(r#","client_secret_expires_at":0"#), "Secret"),
            (&document(r#","token_endpoint_auth_method":"client_secret_basic""#), "Secret"),
            (&document(r#","token_endpoint_auth_method":"client_secret_jwt""#), "Secret"),
            (&document(r#","token_endpoint_auth_method":"private_key_jwt""#), "Keys"),
            (&document(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"http://x/y""#), "Keys"),
        ] {
            let error = parse(&url(), body.as_bytes()).expect_err(body);
            assert!(format!("{error:?}").starts_with(want), "{body}: {error:?}");
        }
    }
}
