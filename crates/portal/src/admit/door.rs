//! Host and Origin (O10): the answer to DNS rebinding.

use http::header::{HOST, ORIGIN};
use http::request::Parts;

use crate::settings::{Settings, is_address, is_loopback_name, split_port};

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorError {
    /// No Host, several, or not a host.
    MalformedHost,
    /// The host is not one of this installation.
    Host,
    /// The origin is not allowed.
    Origin,
}

/// The hosts and origins one listener accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) settings: &'a Settings,
    /// Accept names of the loopback interface.
    pub(crate) loopback: bool,
    /// Accept any address literal as host: DNS cannot point it elsewhere. For the
    /// operations listener, where probes come by address.
    pub(crate) addresses: bool,
}

impl Door<'_> {
    /// Checks Host (and `:authority`), returns the host without port.
    /// `more` answers for host names that are not settings, such as those of portals.
    pub(crate) fn host<'p>(&self, parts: &'p Parts, more: impl Fn(&str) -> bool) -> Result<&'p str, DoorError> {
        let from_uri = parts.uri.authority().map(http::uri::Authority::as_str);
        let mut values = parts.headers.get_all(HOST).iter();
        let from_header = match (values.next(), values.next()) {
            (Some(only), None) => Some(only.to_str().map_err(|_| DoorError::MalformedHost)?),
            (None, _) => None,
            (Some(_), Some(_)) => return Err(DoorError::MalformedHost),
        };
        // Both may be there (absolute form); then both must be acceptable.
        let mut found = None;
        for authority in [from_header, from_uri].into_iter().flatten() {
            let (host, _) = split_port(authority).ok_or(DoorError::MalformedHost)?;
            if !self.accepts(host) && !more(host) {
                return Err(DoorError::Host);
            }
            if found.is_some_and(|other: &str| !other.eq_ignore_ascii_case(host)) {
                return Err(DoorError::MalformedHost);
            }
            found = Some(host);
        }
        found.ok_or(DoorError::MalformedHost)
    }

    fn accepts(&self, host: &str) -> bool {
        host.eq_ignore_ascii_case(&self.settings.public_host)
            || (self.loopback && is_loopback_name(host))
            || (self.addresses && (is_address(host) || is_loopback_name(host)))
            || self.settings.allowed_hosts.iter().any(|other| other.eq_ignore_ascii_case(host))
    }

    /// Checks Origin when present; returns it when it may read the answer.
    pub(crate) fn origin<'p>(
        &self,
        parts: &'p Parts,
        more: impl Fn(&str) -> bool,
    ) -> Result<Option<&'p str>, DoorError> {
        let mut values = parts.headers.get_all(ORIGIN).iter();
        let text = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(only), None) => only.to_str().map_err(|_| DoorError::Origin)?,
            (Some(_), Some(_)) => return Err(DoorError::Origin),
        };
        if self.settings.allowed_origins.iter().any(|other| other.eq_ignore_ascii_case(text)) {
            return Ok(Some(text));
        }
        let (scheme, authority) = text.split_once("://").ok_or(DoorError::Origin)?;
        let (host, port) = split_port(authority).ok_or(DoorError::Origin)?;
        let web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
        if web && self.loopback && is_loopback_name(host) {
            return Ok(Some(text));
        }
        // A portal's own host name is https on the default port.
        if scheme.eq_ignore_ascii_case("https") && port.is_none_or(|port| port == "443") && more(host) {
            return Ok(Some(text));
        }
        Err(DoorError::Origin)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bartizan_config::settings::File;
    use http::Request;

    use super::*;

    fn settings(listen: [u8; 4]) -> Settings {
        let file = File {
            allowed_hosts: vec!["Alias.example".into()],
            allowed_origins: vec!["https://app.example".into(), "http://dev.example:3000".into()],
            ..File::default()
        };
        Settings::new(&file, "https://mcp.example.com", SocketAddr::from((listen, 7420))).unwrap()
    }

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(settings: &Settings, uri: &str, headers: &[(&str, &str)]) -> Result<String, DoorError> {
        let door = Door { settings, loopback: settings.loopback, addresses: false };
        let portal = |host: &str| host == "portal.example";
        let parts = parts(uri, headers);
        door.origin(&parts, portal)?;
        door.host(&parts, portal).map(str::to_owned)
    }

    #[test]
    fn o10_accepted_hosts() {
        let public = settings([0, 0, 0, 0]);
        for good in
            ["mcp.example.com", "MCP.EXAMPLE.COM:443", "alias.example", "portal.example", "mcp.example.com:7420"]
        {
            assert!(check(&public, "/mcp", &[("host", good)]).is_ok(), "{good}");
        }
        for bad in
            ["evil.example", "mcp.example.com.evil.example", "localhost", "127.0.0.1", "[::1]:7420", "203.0.113.5"]
        {
            assert_eq!(check(&public, "/mcp", &[("host", bad)]), Err(DoorError::Host), "{bad}");
        }
        for bad in ["", "a b", "mcp.example.com:", "mcp.example.com:x", "u@mcp.example.com", "mcp.example.com/x"] {
            assert_eq!(check(&public, "/mcp", &[("host", bad)]), Err(DoorError::MalformedHost), "{bad}");
        }
    }

    #[test]
    fn o10_loopback_names_only_on_a_loopback_listener() {
        let local = settings([127, 0, 0, 1]);
        for good in ["localhost", "localhost:7420", "127.0.0.1:1", "[::1]:7420", "LOCALHOST"] {
            assert!(check(&local, "/mcp", &[("host", good)]).is_ok(), "{good}");
        }
        for bad in ["127.0.0.2", "localhost.evil.example", "evil.localhost", "0.0.0.0"] {
            assert_eq!(check(&local, "/mcp", &[("host", bad)]), Err(DoorError::Host), "{bad}");
        }
    }

    #[test]
    fn o10_missing_and_doubled_hosts() {
        let public = settings([0, 0, 0, 0]);
        assert_eq!(check(&public, "/mcp", &[]), Err(DoorError::MalformedHost));
        let twice = [("host", "mcp.example.com"), ("host", "evil.example")];
        assert_eq!(check(&public, "/mcp", &twice), Err(DoorError::MalformedHost));
        let absolute = "http://evil.example/mcp";
        assert_eq!(check(&public, absolute, &[("host", "mcp.example.com")]), Err(DoorError::Host));
        let absolute = "http://alias.example/mcp";
        assert_eq!(check(&public, absolute, &[("host", "mcp.example.com")]), Err(DoorError::MalformedHost));
        let absolute = "https://mcp.example.com/mcp";
        assert_eq!(check(&public, absolute, &[]).as_deref(), Ok("mcp.example.com"));
    }

    #[test]
    fn o10_origins() {
        let public = settings([0, 0, 0, 0]);
        let with = |origin: &str| check(&public, "/mcp", &[("host", "mcp.example.com"), ("origin", origin)]);
        for good in
            ["https://mcp.example.com", "https://app.example", "http://dev.example:3000", "https://portal.example"]
        {
            assert!(with(good).is_ok(), "{good}");
        }
        for bad in [
            "null",
            "",
            "https://evil.example",
            "http://mcp.example.com",
            "https://mcp.example.com:8443",
            "https://mcp.example.com.evil.example",
            "https://mcp.example.com/",
            "http://localhost:3000",
            "http://portal.example",
            "file://",
        ] {
            assert_eq!(with(bad), Err(DoorError::Origin), "{bad}");
        }
        let twice = [("host", "mcp.example.com"), ("origin", "https://app.example"), ("origin", "https://app.example")];
        assert_eq!(check(&public, "/mcp", &twice), Err(DoorError::Origin));
        let local = settings([127, 0, 0, 1]);
        let host = ("host", "localhost:7420");
        assert!(check(&local, "/mcp", &[host, ("origin", "http://localhost:3000")]).is_ok());
        assert!(check(&local, "/mcp", &[host, ("origin", "http://127.0.0.1:7420")]).is_ok());
        assert_eq!(check(&local, "/mcp", &[host, ("origin", "http://evil.example")]), Err(DoorError::Origin));
        assert_eq!(check(&local, "/mcp", &[host, ("origin", "chrome-extension://localhost")]), Err(DoorError::Origin));
    }
}
