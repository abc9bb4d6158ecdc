//! Links of other servers: which may be given to a browser, and which are endpoints.

use std::net::IpAddr;

use url::{Host, Url};

/// Longest URL, bytes.
const MAX: usize = 2048;

/// The text itself when it is an absolute `http` or `https` URL that a browser may be given:
/// never `javascript:` and the like, no user information, nothing a browser would correct
/// silently.
pub fn safe_link(text: &str) -> Option<&str> {
    parse(text).map(|_| text)
}

/// True for an endpoint of an authorization server: `https`, without a fragment (RFC 6749,
/// section 3.1). Plain `http` only when the server itself is reached so on this machine.
pub(crate) fn is_endpoint(text: &str, of_issuer: &str) -> bool {
    let loopback = |url: &Url| url.scheme() == "http" && is_loopback(url);
    let Some(url) = parse(text).filter(|url| url.fragment().is_none()) else { return false };
    url.scheme() == "https" || (loopback(&url) && parse(of_issuer).as_ref().is_some_and(loopback))
}

/// True for an issuer (RFC 8414, section 2): `https`, no query, no fragment; `http` only on
/// loopback.
pub fn is_issuer(text: &str) -> bool {
    let Some(url) = parse(text) else { return false };
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    scheme && url.query().is_none() && url.fragment().is_none()
}

fn parse(text: &str) -> Option<Url> {
    let plain = text.len() <= MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let lower = text.get(..8)?.to_ascii_lowercase();
    if !plain || !(lower.starts_with("http://") || lower == "https://") {
        return None;
    }
    let authority = text.split_once("://")?.1.split(['/', '?', '#']).next()?;
    // The parser would take further slashes and an empty host for something else.
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    Url::parse(text).ok().filter(|url| url.has_host())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_only_web_links_reach_a_browser() {
        for bad in [
            "",
            "javascript:alert(1)",
            "JavaScript://x/%0aalert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "//evil.example",
            "/path",
            "https:evil.example",
            "https:/evil.example",
            "https:///evil.example",
            "http:\\\\evil.example",
            "https://a\\b",
            "https://user@evil.example",
            "https://user:p@evil.example",
            "https://",
            "https://?x",
            " https://a",
            "https://a b",
            "https://a\n",
            "https://\u{e9}.example",
            "view-source:https://a",
            "httpsx://a",
        ] {
            assert_eq!(safe_link(bad), None, "{bad:?}");
        }
        for good in ["https://a.example/x?y#z", "http://127.0.0.1:8/", "HTTPS://A.example"] {
            assert_eq!(safe_link(good), Some(good));
        }
        assert_eq!(safe_link(&format!("https://a/{}", "x".repeat(2048))), None);
    }

    #[test]
    fn a2_endpoints_are_https() {
        let https = "https://idp.example";
        assert!(is_endpoint("https://other.example/token?tenant=1", https));
        assert!(!is_endpoint("http://idp.example/token", https));
        // A provider on the net cannot point at a port of this machine in plain text.
        assert!(!is_endpoint("http://127.0.0.1:1/token", https));
        assert!(!is_endpoint("https://idp.example/token#x", https));
        assert!(is_endpoint("http://127.0.0.1:1/token", "http://localhost:1"));
        assert!(is_endpoint("http://[::1]:1/token", "http://127.0.0.1:1"));
        assert!(!is_endpoint("http://localhost.evil.example/token", "http://127.0.0.1:1"));
        assert!(!is_endpoint("http://10.0.0.1/token", "http://127.0.0.1:1"));
        for bad in ["http://idp.example", "https://idp.example?x", "https://idp.example#x", "idp.example"] {
            assert!(!is_issuer(bad), "{bad}");
        }
        for good in ["https://idp.example", "https://idp.example/tenant/", "http://127.0.0.1:8", "http://localhost"] {
            assert!(is_issuer(good), "{good}");
        }
    }
}
