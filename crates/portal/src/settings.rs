//! What the portal takes from the configuration, prepared once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bartizan_config::settings::{File, WireLimits};
use ipnet::IpNet;

use crate::facts::ConnectionFacts;
use crate::geo::Countries;

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `public_url` is not `http(s)://host[:port][/path]`.
    #[error("public_url `{0}` must be http:// or https:// with a host, without query, fragment or user")]
    PublicUrl(String),
    /// An entry of `allowed_origins` is not an origin.
    #[error("allowed_origins: `{0}` is not an origin such as https://app.example.com")]
    Origin(String),
    /// `device_header` or `country_header` is not the name of a header.
    #[error("`{0}` is not the name of a header")]
    Header(String),
    /// An entry of `allowed_hosts` is not a host name.
    #[error("allowed_hosts: `{0}` is not a host name or address")]
    Host(String),
}

/// The portal's settings. Cheap to read on every request: all texts are normalised.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Public URL without trailing slash.
    pub public_url: String,
    /// Path of the public URL, without trailing slash; mostly empty.
    pub base_path: String,
    /// Host of the public URL, lower case, without port; IPv6 in brackets.
    pub public_host: String,
    /// Further accepted hosts, lower case, without port.
    pub allowed_hosts: Vec<String>,
    /// Accepted origins, lower case, including that of the public URL.
    pub allowed_origins: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where a client's device and country come from.
    pub facts: ConnectionFacts,
    /// Names of the loopback interface are accepted in Host and Origin: the listener
    /// is bound to it, so nobody from elsewhere can connect.
    pub loopback: bool,
    /// Sizes and times.
    pub limits: WireLimits,
    /// How long a response head may be held back for the first output of a call
    /// (protocol section 5.2).
    pub head_hold: Duration,
    /// What clients are told to wait before they reconnect, milliseconds.
    pub retry_ms: u64,
    /// Connections served at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How often it is asked whether the credentials of open streams are good still.
    pub credential_check: Duration,
}

impl Settings {
    /// Prepares settings for a listener at `listen`.
    ///
    /// # Errors
    /// [`SettingsError`] naming the first entry that cannot be used.
    pub fn new(file: &File, public_url: &str, listen: SocketAddr) -> Result<Self, SettingsError> {
        let bad = || SettingsError::PublicUrl(public_url.to_owned());
        let trimmed = public_url.trim_end_matches('/');
        let (origin, base_path) = split_url(trimmed).ok_or_else(bad)?;
        let public_host = host_of(origin.split_once("://").map_or("", |(_, rest)| rest)).ok_or_else(bad)?;
        let allowed_hosts = file
            .allowed_hosts
            .iter()
            .map(|host| host_of(host).ok_or_else(|| SettingsError::Host(host.clone())))
            .collect::<Result<_, _>>()?;
        let mut allowed_origins = vec![origin];
        for text in &file.allowed_origins {
            match split_url(text.trim_end_matches('/')) {
                Some((origin, path)) if path.is_empty() => allowed_origins.push(origin),
                _ => return Err(SettingsError::Origin(text.clone())),
            }
        }
        Ok(Self {
            public_url: trimmed.to_owned(),
            base_path,
            public_host,
            allowed_hosts,
            allowed_origins,
            trusted_proxies: file.trusted_proxies.clone(),
            facts: ConnectionFacts::new(file)?,
            loopback: listen.ip().is_loopback(),
            limits: file.limits.clone(),
            head_hold: Duration::from_secs(2),
            retry_ms: 1_000,
            max_connections: 16_384,
            credential_check: Duration::from_millis(500),
        })
    }

    /// The same with a file of countries.
    #[must_use]
    pub fn with_countries(mut self, countries: Option<Countries>) -> Self {
        self.facts.countries = countries;
        self
    }

    /// Time for a client to send a head or a body.
    pub fn client_read(&self) -> Duration {
        Duration::from_millis(self.limits.client_read_ms)
    }
}

/// Splits into lower-case origin (default port removed) and path.
fn split_url(text: &str) -> Option<(String, String)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.is_empty() || text.contains(['?', '#', '@', ' ', '\\', '"']) || text.chars().any(char::is_control) {
        return None;
    }
    host_of(authority)?;
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    Some((format!("{scheme}://{authority}"), path.to_owned()))
}

/// The host of `host[:port]`, lower case, IPv6 in brackets. None when it is not one.
pub(crate) fn host_of(authority: &str) -> Option<String> {
    split_port(authority).map(|(host, _)| host.to_ascii_lowercase())
}

/// Splits `host[:port]`; checks the characters of a host name or address.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        let (host, rest) = authority.split_at(end + 1);
        let inner = host.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else {
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            return None;
        }
        (host, port)
    };
    match port {
        Some(port) if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) => None,
        _ => Some((host, port)),
    }
}

/// Names that only reach this machine.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

/// True for an address literal: it cannot be pointed elsewhere by DNS.
pub(crate) fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &File, url: &str) -> Result<Settings, SettingsError> {
        Settings::new(file, url, SocketAddr::from(([127, 0, 0, 1], 7420)))
    }

    #[test]
    fn o10_public_url_is_taken_apart() {
        let made = settings(&File::default(), "https://MCP.Example.com:443/gw/").unwrap();
        assert_eq!(made.public_url, "https://MCP.Example.com:443/gw");
        assert_eq!(made.public_host, "mcp.example.com");
        assert_eq!(made.base_path, "/gw");
        assert_eq!(made.allowed_origins, ["https://mcp.example.com"]);
        assert!(made.loopback);
        let made = settings(&File::default(), "http://[::1]:7420").unwrap();
        assert_eq!(made.public_host, "[::1]");
        assert_eq!(made.allowed_origins, ["http://[::1]:7420"]);
    }

    #[test]
    fn o10_unusable_settings_are_named() {
        for bad in
            ["", "mcp.example.com", "ftp://a", "https://", "https://u@h", "https://h?q", "https://h#f", "http://a b"]
        {
            assert_eq!(settings(&File::default(), bad).unwrap_err(), SettingsError::PublicUrl(bad.to_owned()));
        }
        let file = File { allowed_origins: vec!["https://a/path".into()], ..File::default() };
        assert!(matches!(settings(&file, "http://h"), Err(SettingsError::Origin(_))));
        let file = File { allowed_hosts: vec!["a b".into()], ..File::default() };
        assert!(matches!(settings(&file, "http://h"), Err(SettingsError::Host(_))));
    }

    #[test]
    fn o10_authorities() {
        assert_eq!(split_port("a.example:80"), Some(("a.example", Some("80"))));
        assert_eq!(split_port("[::1]:80"), Some(("[::1]", Some("80"))));
        assert_eq!(split_port("[::1]"), Some(("[::1]", None)));
        for bad in ["", ":80", "a:", "a:x", "a:123456", "[::1", "[x]", "[::1]x", "a:80:80", "a/b", "ü.example", "u@h"]
        {
            assert_eq!(split_port(bad), None, "{bad}");
        }
    }
}
