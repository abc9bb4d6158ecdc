//! Strictly parsed target URLs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::HeaderValue;
use http::uri::PathAndQuery;

use crate::error::EgressError;

/// Longest URL taken, in bytes.
const MAX_URL: usize = 8 * 1024;

/// Host part of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name, lower case, without a final dot.
    Name(String),
    /// A literal address in its canonical spelling.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// An `http` or `https` URL that is safe to hand on: no user information, no unusual
/// spelling of an address, no fragment. Cheap to clone.
#[derive(Clone)]
pub struct Url(Arc<Parts>);

struct Parts {
    https: bool,
    host: Host,
    port: u16,
    path: PathAndQuery,
    host_header: HeaderValue,
    /// `scheme://host:port`, the port always written: key of the connection pool.
    origin: Arc<str>,
}

impl Url {
    /// Parses an absolute URL. A fragment is cut off.
    ///
    /// # Errors
    /// [`EgressError::Url`] with the reason.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        check_text(text)?;
        let (https, rest) = if let Some(rest) = strip_scheme(text, "https") {
            (true, rest)
        } else if let Some(rest) = strip_scheme(text, "http") {
            (false, rest)
        } else {
            return Err(EgressError::Url("only http:// and https:// are allowed"));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = parse_authority(authority, https)?;
        Self::build(https, host, port, path)
    }

    fn build(https: bool, host: Host, port: u16, path: &str) -> Result<Self, EgressError> {
        let path = path.split('#').next().unwrap_or_default();
        let path = match path.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{path}"),
            _ => path.to_owned(),
        };
        let path = PathAndQuery::try_from(path).map_err(|_| EgressError::Url("the path has forbidden characters"))?;
        let scheme = if https { "https" } else { "http" };
        let default = if https { 443 } else { 80 };
        let host_header = if port == default { host.to_string() } else { format!("{host}:{port}") };
        let host_header =
            HeaderValue::try_from(host_header).map_err(|_| EgressError::Url("the host has forbidden characters"))?;
        let origin = format!("{scheme}://{host}:{port}").into();
        Ok(Self(Arc::new(Parts { https, host, port, path, host_header, origin })))
    }

    /// Resolves a reference against this URL (RFC 3986 section 5.2).
    ///
    /// # Errors
    /// [`EgressError::Url`] when the result is not an acceptable URL.
    pub fn join(&self, reference: &str) -> Result<Self, EgressError> {
        if reference.is_empty() {
            return Ok(self.clone());
        }
        check_text(reference)?;
        let reference = reference.split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        let path = if reference.is_empty() {
            self.0.path.as_str().to_owned()
        } else if reference.starts_with('/') {
            without_dots(reference)
        } else if reference.starts_with('?') {
            format!("{}{reference}", self.0.path.path())
        } else {
            let base = self.0.path.path();
            let folder = base.rfind('/').map_or("/", |at| base.get(..=at).unwrap_or("/"));
            without_dots(&format!("{folder}{reference}"))
        };
        Self::build(self.0.https, self.0.host.clone(), self.0.port, &path)
    }

    /// This URL with other text after the origin, which must begin with `/`.
    ///
    /// # Errors
    /// [`EgressError::Url`] when the path is not acceptable.
    pub fn with_path(&self, path: &str) -> Result<Self, EgressError> {
        check_text(path)?;
        if !path.starts_with('/') {
            return Err(EgressError::Url("a path begins with a slash"));
        }
        Self::build(self.0.https, self.0.host.clone(), self.0.port, path)
    }

    /// True when scheme, host and port are equal.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.0.origin == other.0.origin
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.0.https { "https" } else { "http" }
    }

    /// True for `https`.
    pub fn is_https(&self) -> bool {
        self.0.https
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The port, the scheme's default when none was given.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Path without the query.
    pub fn path(&self) -> &str {
        self.0.path.path()
    }

    /// Path with the query.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.0.path
    }

    /// `scheme://host:port`, the port always written.
    pub fn origin(&self) -> &Arc<str> {
        &self.0.origin
    }

    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_header.to_str().unwrap_or_default();
        write!(f, "{}://{host}{}", self.scheme(), self.0.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Url {
    fn eq(&self, other: &Self) -> bool {
        self.0.origin == other.0.origin && self.0.path == other.0.path
    }
}

impl Eq for Url {}

fn check_text(text: &str) -> Result<(), EgressError> {
    if text.len() > MAX_URL {
        return Err(EgressError::Url("longer than 8192 bytes"));
    }
    // Browsers read `\` as `/`, other parsers do not: no spelling may mean two things.
    if text.bytes().any(|b| !(0x21..=0x7e).contains(&b) || b == b'\\') {
        return Err(EgressError::Url("only printable ASCII without blanks and backslashes is allowed"));
    }
    Ok(())
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_once("://")?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn has_scheme(reference: &str) -> bool {
    let Some((head, _)) = reference.split_once(':') else { return false };
    head.starts_with(|c: char| c.is_ascii_alphabetic())
        && head.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn parse_authority(authority: &str, https: bool) -> Result<(Host, u16), EgressError> {
    if authority.contains('@') {
        return Err(EgressError::Url("user information is not allowed"));
    }
    if authority.contains('%') {
        return Err(EgressError::Url("escapes and zone ids in the host are not allowed"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, after) = rest.split_once(']').ok_or(EgressError::Url("unclosed IPv6 literal"))?;
            let ip: Ipv6Addr = literal.parse().map_err(|_| EgressError::Url("bad IPv6 literal"))?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or(EgressError::Url("text after the IPv6 literal"))?),
            };
            (Host::Ip(IpAddr::V6(ip)), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (parse_host(host)?, Some(port)),
            None => (parse_host(authority)?, None),
        },
    };
    let port = match port {
        None => {
            if https {
                443
            } else {
                80
            }
        }
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => match text.parse::<u16>() {
            Ok(0) | Err(_) => return Err(EgressError::Url("bad port")),
            Ok(port) => port,
        },
        Some(_) => return Err(EgressError::Url("bad port")),
    };
    Ok((host, port))
}

/// A DNS name or a dotted-quad address. Any other spelling of an address (`0x7f.1`,
/// `2130706433`, `127.1`, `0177.0.0.1`) is refused, because resolvers disagree about it.
pub(crate) fn parse_host(text: &str) -> Result<Host, EgressError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > 253 {
        return Err(EgressError::Url("the host is empty or too long"));
    }
    let ok_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !text.split('.').all(ok_label) {
        return Err(EgressError::Url("the host is not a DNS name or address"));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric {
        let ip: Ipv4Addr =
            text.parse().map_err(|_| EgressError::Url("addresses are only taken as four decimal numbers"))?;
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

/// Removes `.` and `..` segments of an absolute path (RFC 3986 section 5.2.4); the query stays.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                out.pop();
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    let mut joined = format!("/{}", out.join("/"));
    if let Some(query) = query {
        joined.push('?');
        joined.push_str(query);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_url_spellings_refused() {
        for bad in [
            "ftp://x.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "gopher://x",
            "//x.example",
            "x.example",
            "http:x.example",
            "http:///x",
            "http://",
            "http://user@x.example/",
            "http://user:pw@x.example/",
            "http://x.example@127.0.0.1/",
            "http://127.0.0.1\\@x.example/",
            "http://x.example:0/",
            "http://x.example:65536/",
            "http://x.example:8o/",
            "http://x.example:+80/",
            "http://x.example:/",
            "http://0x7f.0.0.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://127.0.0.0x1/",
            "http://127.0.0.01/",
            "http://1.2.3.4.5/",
            "http://256.1.1.1/",
            "http://%31%32%37.0.0.1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://127。0。0。1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[fe80::1%25eth0]/",
            "http://[v1.x]/",
            "http://[127.0.0.1]/",
            "http://-x.example/",
            "http://x..example/",
            "http://.example/",
            "http://x.example/a b",
            "http://x.example/a\r\nHost: y",
            "http://x.example/\t",
            "http://xn--\u{e9}.example/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        assert!(Url::parse(&format!("http://x.example/{}", "a".repeat(MAX_URL))).is_err());
    }

    #[test]
    fn o9_equal_spellings_become_equal() {
        let url = Url::parse("HTTP://X.Example:80").unwrap();
        assert_eq!(url.to_string(), "http://x.example/");
        assert_eq!(url, Url::parse("http://x.example./").unwrap());
        assert_eq!(Url::parse("http://[0:0:0:0:0:0:0:1]:7/").unwrap().to_string(), "http://[::1]:7/");
        assert_eq!(Url::parse("https://x.example?q=1#frag").unwrap().to_string(), "https://x.example/?q=1");
        assert_eq!(Url::parse("http://127.0.0.1./").unwrap().host(), &Host::Ip("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn join_follows_rfc_3986() {
        let base = Url::parse("http://x.example:81/a/b/c?q").unwrap();
        for (reference, want) in [
            ("", "http://x.example:81/a/b/c?q"),
            ("#f", "http://x.example:81/a/b/c?q"),
            ("d", "http://x.example:81/a/b/d"),
            ("./d/.", "http://x.example:81/a/b/d/"),
            ("../d", "http://x.example:81/a/d"),
            ("../../../../d", "http://x.example:81/d"),
            ("..", "http://x.example:81/a/"),
            ("/d?x=/../y", "http://x.example:81/d?x=/../y"),
            ("/d/../e", "http://x.example:81/e"),
            ("?n", "http://x.example:81/a/b/c?n"),
            ("//y.example/z", "http://y.example/z"),
            ("https://y.example", "https://y.example/"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), want, "{reference}");
        }
        for bad in ["javascript:alert(1)", "data:text/plain,x", "\\\\y.example\\x", "/a b", "//u@y.example/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn p8_same_origin_needs_scheme_host_and_port() {
        let base = Url::parse("http://x.example/sse").unwrap();
        for (other, same) in [
            ("http://x.example:80/m", true),
            ("http://X.example/m", true),
            ("https://x.example/m", false),
            ("http://x.example:81/m", false),
            ("http://y.example/m", false),
            ("http://x.example.y.example/m", false),
        ] {
            assert_eq!(base.same_origin(&Url::parse(other).unwrap()), same, "{other}");
        }
    }
}
