//! Resource indicators (RFC 8707) in one spelling.

use url::Url;

/// Longest indicator, bytes.
const MAX: usize = 2048;

/// The canonical spelling of a resource indicator: scheme and host in lower case, no
/// default port, no final slash. `None` when it is none: not an absolute http(s) URI, with
/// fragment (RFC 8707 section 2), user information or a query.
pub fn canonical(text: &str) -> Option<String> {
    if text.len() > MAX || !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
        return None;
    }
    // Exactly two slashes: a lenient parser would repair others.
    let (scheme, rest) = text.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) || rest.starts_with('/') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    if url.fragment().is_some() || url.query().is_some() || rest.split('/').next()?.contains('@') {
        return None;
    }
    url.host()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_one_spelling_of_a_resource() {
        for (text, want) in [
            ("https://h.example/mcp", "https://h.example/mcp"),
            ("HTTPS://H.Example:443/mcp", "https://h.example/mcp"),
            ("https://h.example/mcp/", "https://h.example/mcp"),
            ("https://h.example", "https://h.example"),
            ("https://h.example/", "https://h.example"),
            ("http://127.0.0.1:7420/portals/x/mcp", "http://127.0.0.1:7420/portals/x/mcp"),
            ("https://h.example/MCP", "https://h.example/MCP"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(want), "{text}");
        }
        for bad in [
            "",
            "mcp",
            "/mcp",
            "//h.example/mcp",
            "https:/h.example/mcp",
            "https:///h.example/mcp",
            "https:\\\\h.example\\mcp",
            "ftp://h.example/mcp",
            "urn:x",
            "https://h.example/mcp#",
            "https://h.example/mcp#x",
            "https://h.example/mcp?x=1",
            "https://h.example/mcp?",
            "https://u@h.example/mcp",
            "https://u:p@h.example/mcp",
            "https://@h.example/mcp",
            "https://h.example/m cp",
            "https://h.example/m\ncp",
            "https://h\u{e9}.example/mcp",
            "https://",
            "https://:80/",
        ] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
    }
}
