//! Paths of the data plane (P1, P6): `/mcp`, `/portals/{id}/mcp`, `/servers/{id}/mcp`.

use bartizan_gate::Endpoint;
use bartizan_model::{PortalId, ServerId};

/// The portal that `{public_url}/mcp` is.
pub(crate) const DEFAULT_PORTAL: &str = "default";

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path<'a> {
    /// `/mcp`: the default portal, or the one whose host name was used.
    Root,
    Portal(&'a str),
    Server(&'a str),
    Unknown,
}

/// Reads a path. `base` is the path of the public URL, which a proxy in front may or
/// may not have removed.
pub(crate) fn parse<'a>(path: &'a str, base: &str) -> Path<'a> {
    let inner = match path.strip_prefix(base) {
        Some(inner) if !base.is_empty() && inner.starts_with('/') => inner,
        _ => path,
    };
    let mut parts = inner.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some("mcp"), None, None, None) => Path::Root,
        (Some(""), Some("portals"), Some(id), Some("mcp"), None) => Path::Portal(id),
        (Some(""), Some("servers"), Some(id), Some("mcp"), None) => Path::Server(id),
        _ => Path::Unknown,
    }
}

impl Path<'_> {
    /// The endpoint; `host` is the portal whose own host name was used. None when the
    /// id cannot be one, or a portal's host name is used for something else.
    pub(crate) fn endpoint(self, host: Option<PortalId>) -> Option<Endpoint> {
        match (self, host) {
            (Self::Root, Some(portal)) => Some(Endpoint::Portal(portal)),
            (Self::Root, None) => PortalId::parse(DEFAULT_PORTAL).ok().map(Endpoint::Portal),
            (Self::Portal(id), None) => PortalId::parse(id).ok().map(Endpoint::Portal),
            (Self::Server(id), None) => ServerId::parse(id).ok().map(Endpoint::Server),
            (Self::Portal(id), Some(portal)) if portal.as_str() == id => Some(Endpoint::Portal(portal)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_p6_paths() {
        assert_eq!(parse("/mcp", ""), Path::Root);
        assert_eq!(parse("/portals/a/mcp", ""), Path::Portal("a"));
        assert_eq!(parse("/servers/a-b/mcp", ""), Path::Server("a-b"));
        for other in ["/", "", "mcp", "/mcp/", "//mcp", "/portals/a", "/portals//mcp/x", "/servers/a/mcp/", "/MCP"] {
            assert_eq!(parse(other, ""), Path::Unknown, "{other}");
        }
        assert_eq!(parse("/gw/mcp", "/gw"), Path::Root);
        assert_eq!(parse("/mcp", "/gw"), Path::Root);
        assert_eq!(parse("/gwmcp", "/gw"), Path::Unknown);
        assert_eq!(parse("/gw/servers/a/mcp", "/gw"), Path::Server("a"));
    }

    #[test]
    fn p1_p6_endpoints() {
        let portal = |id| PortalId::parse(id).unwrap();
        assert_eq!(Path::Root.endpoint(None), Some(Endpoint::Portal(portal("default"))));
        assert_eq!(Path::Root.endpoint(Some(portal("hr"))), Some(Endpoint::Portal(portal("hr"))));
        assert_eq!(Path::Portal("hr").endpoint(Some(portal("hr"))), Some(Endpoint::Portal(portal("hr"))));
        assert_eq!(Path::Portal("it").endpoint(Some(portal("hr"))), None);
        assert_eq!(Path::Server("it").endpoint(Some(portal("hr"))), None);
        assert_eq!(Path::Server("").endpoint(None), None);
        assert_eq!(Path::Server("A").endpoint(None), None);
        assert_eq!(Path::Server("..").endpoint(None), None);
        assert_eq!(Path::Unknown.endpoint(None), None);
    }
}
