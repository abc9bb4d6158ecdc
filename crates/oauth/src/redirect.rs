//! Redirect URIs: which may be registered (A7), and which requested one is a registered one.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Longest redirect URI, bytes.
pub const MAX: usize = 2048;

/// Schemes that run or show what the URI itself holds, and those that belong to browsers.
const NEVER: [&str; 16] = [
    "about",
    "blob",
    "chrome",
    "chrome-extension",
    "content",
    "data",
    "file",
    "filesystem",
    "ftp",
    "intent",
    "jar",
    "javascript",
    "mailto",
    "vbscript",
    "view-source",
    "ws",
];

/// The rule that a redirect URI breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Longer than [`MAX`] or empty.
    Length,
    /// Spaces, control characters, backslashes, quotes, anything beyond ASCII.
    Characters,
    /// No `scheme:`.
    Relative,
    /// `#` (RFC 6749 section 3.1.2).
    Fragment,
    /// `user@` or `user:password@`.
    Credentials,
    /// A `*`, or a host that no two parsers read alike.
    Host,
    /// `.` or `..` segments, also percent-encoded.
    DotSegments,
    /// A scheme that is dangerous in a browser.
    Scheme,
    /// `http` other than to this machine.
    PlainHttp,
    /// `http://localhost` is switched off.
    Localhost,
    /// `http://127.0.0.1` and `http://[::1]` are switched off.
    Loopback,
    /// Not in the list of allowed URIs.
    NotListed,
    /// A web application's redirect to the user's own machine (OpenID Connect Dynamic
    /// Client Registration 1.0, section 2, `application_type`).
    WebOnLoopback,
    /// A web application's redirect to a custom scheme.
    WebOnCustomScheme,
}

impl Rule {
    /// For the developer or administrator who meets it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Length => "a redirect URI has 1 to 2048 bytes",
            Self::Characters => "only the printable ASCII characters of a URI are allowed, percent-encode others",
            Self::Relative => "it must be absolute, with a scheme",
            Self::Fragment => "it must not have a fragment (#)",
            Self::Credentials => "it must not have a user name or password",
            Self::Host => "the host must be one plain lower-case name or address, without wildcard",
            Self::DotSegments => "the path must not have . or .. segments",
            Self::Scheme => "this scheme is never allowed",
            Self::PlainHttp => "http is only allowed to localhost, 127.0.0.1 and [::1]; use https",
            Self::Localhost => "http://localhost is switched off (sign_in.registration.allow_any_on_localhost)",
            Self::Loopback => {
                "http://127.0.0.1 and http://[::1] are switched off (sign_in.registration.allow_any_on_loopback)"
            }
            Self::NotListed => "it is not listed in sign_in.registration.allowed_uris; ask the administrator",
            Self::WebOnLoopback => "application_type web must not redirect to this machine; register as native",
            Self::WebOnCustomScheme => "application_type web must redirect to https; register as native",
        }
    }
}

/// A refused redirect URI: names the URI and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// As sent, shortened.
    pub uri: String,
    /// What it breaks.
    pub rule: Rule,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirect URI {}: {}", self.uri, self.rule.text())
    }
}

fn refuse(uri: &str, rule: Rule) -> Refusal {
    Refusal { uri: uri.chars().take(200).collect(), rule }
}

/// Where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `https://…`.
    Https,
    /// `http://localhost…`.
    Localhost,
    /// `http://127.0.0.1…` or `http://[::1]…`.
    Loopback,
    /// An application's own scheme.
    Custom,
}

/// A redirect URI of acceptable form. Equal only as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    kind: Kind,
    /// Scheme, host and port, or the scheme with its colon.
    origin: String,
    /// Where in `text` an explicit port is, with its colon.
    port: Option<(usize, usize)>,
    host: String,
}

impl RedirectUri {
    /// Checks the form, not yet whether anybody allows it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        parse(text).map_err(|rule| refuse(text, rule))
    }

    /// As sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True when it stays on the user's machine by address.
    pub fn is_loopback(&self) -> bool {
        matches!(self.kind, Kind::Localhost | Kind::Loopback)
    }

    /// True when any program on the user's machine can wait for the answer: loopback, also
    /// with TLS, and custom schemes.
    pub fn stays_on_device(&self) -> bool {
        if self.kind != Kind::Https {
            return true;
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
        address.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
            || host.eq_ignore_ascii_case("localhost")
            || host.to_ascii_lowercase().ends_with(".localhost")
    }

    /// Host for people; for a custom scheme the scheme with its colon. Without a port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `scheme://host[:port]`, or `scheme:`: a source expression for `form-action` of a
    /// Content-Security-Policy.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a request for `requested` may be answered when this one is registered: the
    /// same text; on loopback any port (RFC 8252 section 7.3).
    pub fn matches(&self, requested: &Self) -> bool {
        if self.text == requested.text {
            return true;
        }
        self.is_loopback() && requested.is_loopback() && self.without_port() == requested.without_port()
    }

    fn without_port(&self) -> (&str, &str) {
        let (from, to) = self.port.unwrap_or((self.text.len(), self.text.len()));
        match self.port {
            Some(_) => (self.text.get(..from).unwrap_or_default(), self.text.get(to..).unwrap_or_default()),
            None => {
                let at = self.origin.len().min(self.text.len());
                (self.text.get(..at).unwrap_or_default(), self.text.get(at..).unwrap_or_default())
            }
        }
    }
}

fn parse(text: &str) -> Result<RedirectUri, Rule> {
    if text.is_empty() || text.len() > MAX {
        return Err(Rule::Length);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
        return Err(Rule::Characters);
    }
    let (scheme, rest) = text.split_once(':').ok_or(Rule::Relative)?;
    let mut letters = scheme.bytes();
    let is_scheme = letters.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    if !is_scheme {
        // Upper case as well: two spellings of one URI would not be equal as text.
        return Err(if scheme.contains(['/', '?', '#']) || scheme.is_empty() { Rule::Relative } else { Rule::Scheme });
    }
    if text.contains('#') {
        return Err(Rule::Fragment);
    }
    if NEVER.contains(&scheme) || scheme == "wss" {
        return Err(Rule::Scheme);
    }
    let before_query = rest.split('?').next().unwrap_or_default();
    let authority = before_query.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(Rule::Credentials);
    }
    if before_query.split('/').any(is_dots) {
        return Err(Rule::DotSegments);
    }
    match scheme {
        "https" | "http" => web(text, scheme, authority.ok_or(Rule::Host)?),
        _ => {
            // At least something behind the colon, and nothing that looks like a wildcard.
            let wild = authority.is_some_and(|authority| authority.contains(['*', '%']));
            if rest.is_empty() || wild || Url::parse(text).is_err() {
                return Err(Rule::Host);
            }
            let origin = format!("{scheme}:");
            Ok(RedirectUri { text: text.to_owned(), kind: Kind::Custom, host: origin.clone(), origin, port: None })
        }
    }
}

fn is_dots(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase().replace("%2e", ".");
    // `%2f` and `%5c` would hide a segment from whoever compares paths.
    lower == "." || lower == ".." || lower.contains("..%2f") || lower.contains("%2f..") || lower.contains("%5c")
}

fn web(text: &str, scheme: &str, authority: &str) -> Result<RedirectUri, Rule> {
    let url = Url::parse(text).map_err(|_| Rule::Host)?;
    let host = url.host_str().ok_or(Rule::Host)?;
    // The parser repairs hosts (octal addresses, percent-encoding, capitals); a browser
    // does so in its own way. Only what needs no repair is taken.
    let behind = authority.strip_prefix(host).ok_or(Rule::Host)?;
    let named = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let good = match url.host() {
        Some(Host::Domain(name)) => {
            named(name) && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..")
        }
        Some(_) => true,
        None => false,
    };
    let port_ok = behind.is_empty()
        || behind.strip_prefix(':').is_some_and(|port| {
            !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    if !good || !port_ok {
        return Err(Rule::Host);
    }
    let kind = match (scheme, url.host()) {
        ("https", _) => Kind::Https,
        (_, Some(Host::Domain("localhost"))) => Kind::Localhost,
        (_, Some(Host::Ipv4(ip))) if ip == std::net::Ipv4Addr::LOCALHOST => Kind::Loopback,
        (_, Some(Host::Ipv6(ip))) if ip == std::net::Ipv6Addr::LOCALHOST => Kind::Loopback,
        _ => return Err(Rule::PlainHttp),
    };
    let start = scheme.len() + 3 + host.len();
    let port = (!behind.is_empty()).then_some((start, start + behind.len()));
    let origin = format!("{scheme}://{authority}");
    Ok(RedirectUri { text: text.to_owned(), kind, origin, port, host: host.to_owned() })
}

/// What an administrator lets clients register.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    any_on_localhost: bool,
    any_on_loopback: bool,
    exact: Vec<RedirectUri>,
    /// `https://host/path/`: everything below.
    below: Vec<String>,
}

impl Rules {
    /// From settings. `allowed`: https URIs, which may end in `/*`, and custom schemes exactly.
    ///
    /// # Errors
    /// Names the first entry that allows nothing that could be registered.
    pub fn new(any_on_localhost: bool, any_on_loopback: bool, allowed: &[String]) -> Result<Self, Refusal> {
        let mut rules = Self { any_on_localhost, any_on_loopback, ..Self::default() };
        for entry in allowed {
            match entry.strip_suffix("/*") {
                Some(start) => {
                    let below = RedirectUri::parse(&format!("{start}/")).map_err(|r| refuse(entry, r.rule))?;
                    if below.kind != Kind::Https || start.contains('?') {
                        return Err(refuse(entry, Rule::Host));
                    }
                    rules.below.push(below.text);
                }
                None => rules.exact.push(RedirectUri::parse(entry)?),
            }
        }
        Ok(rules)
    }

    /// Whether a client may register this one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, uri: &RedirectUri) -> Result<(), Refusal> {
        let listed = self.exact.iter().any(|exact| exact.matches(uri))
            || self.below.iter().any(|start| uri.text.starts_with(start.as_str()));
        let rule = match uri.kind {
            _ if listed => return Ok(()),
            Kind::Localhost if self.any_on_localhost => return Ok(()),
            Kind::Loopback if self.any_on_loopback => return Ok(()),
            Kind::Localhost => Rule::Localhost,
            Kind::Loopback => Rule::Loopback,
            Kind::Https | Kind::Custom => Rule::NotListed,
        };
        Err(refuse(&uri.text, rule))
    }

    /// The same for a client that is known by its document (A8): https needs no entry,
    /// because the document's owner vouches for it and the page of consent shows the host.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_document(&self, uri: &RedirectUri) -> Result<(), Refusal> {
        if uri.kind == Kind::Https { Ok(()) } else { self.check(uri) }
    }
}

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod tests;
