//! Paths of the data plane (P1, P6): `/mcp`, `/portals/{id}/mcp`, `/servers/{id}/mcp`,
//! the same with `/sse` for clients of 2024-11-05 (P8), and the metadata of each.

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
    /// The administration, of which only the metadata is found here.
    Administration,
    Unknown,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The endpoint itself.
    Mcp,
    /// Its form for HTTP+SSE.
    Sse,
    /// Its protected resource metadata (RFC 9728).
    Metadata,
}

/// What comes before the path of a resource in the path of its metadata.
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Path of the administration, a resource that people get tokens for like for endpoints.
pub(crate) const ADMINISTRATION: &str = "/api/v1";

/// The name that Cloudflare's portals use for the same (A1).
const ALIAS: &str = "/.well-known/cloudflare-access-protected-resource";

/// Reads a path. `base` is the path of the public URL, which a proxy in front may or
/// may not have removed.
pub(crate) fn parse<'a>(path: &'a str, base: &str) -> (Path<'a>, Place) {
    if let Some(resource) = path.strip_prefix(WELL_KNOWN).or_else(|| path.strip_prefix(ALIAS)) {
        let resource = without(resource, base);
        return match parse_plain(resource) {
            _ if resource.is_empty() => (Path::Root, Place::Metadata),
            _ if resource == ADMINISTRATION => (Path::Administration, Place::Metadata),
            (path, Place::Mcp) => (path, Place::Metadata),
            _ => (Path::Unknown, Place::Metadata),
        };
    }
    parse_plain(without(path, base))
}

pub(crate) fn without<'a>(path: &'a str, base: &str) -> &'a str {
    match path.strip_prefix(base) {
        Some(inner) if !base.is_empty() && (inner.is_empty() || inner.starts_with('/')) => inner,
        _ => path,
    }
}

fn parse_plain(path: &str) -> (Path<'_>, Place) {
    let place = |last: &str| match last {
        "mcp" => Some(Place::Mcp),
        "sse" => Some(Place::Sse),
        _ => None,
    };
    let mut parts = path.split('/');
    let found = match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some(last), None, None, None) => place(last).map(|place| (Path::Root, place)),
        (Some(""), Some("portals"), Some(id), Some(last), None) => place(last).map(|place| (Path::Portal(id), place)),
        (Some(""), Some("servers"), Some(id), Some(last), None) => place(last).map(|place| (Path::Server(id), place)),
        _ => None,
    };
    found.unwrap_or((Path::Unknown, Place::Mcp))
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
        let mcp = |path, base| match parse(path, base) {
            (path, Place::Mcp) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(mcp("/mcp", ""), Path::Root);
        assert_eq!(mcp("/portals/a/mcp", ""), Path::Portal("a"));
        assert_eq!(mcp("/servers/a-b/mcp", ""), Path::Server("a-b"));
        for other in ["/", "", "mcp", "/mcp/", "//mcp", "/portals/a", "/portals//mcp/x", "/servers/a/mcp/", "/MCP"] {
            assert_eq!(mcp(other, ""), Path::Unknown, "{other}");
        }
        assert_eq!(mcp("/gw/mcp", "/gw"), Path::Root);
        assert_eq!(mcp("/mcp", "/gw"), Path::Root);
        assert_eq!(mcp("/gwmcp", "/gw"), Path::Unknown);
        assert_eq!(mcp("/gw/servers/a/mcp", "/gw"), Path::Server("a"));
    }

    #[test]
    fn p8_paths_of_the_old_transport() {
        assert_eq!(parse("/sse", ""), (Path::Root, Place::Sse));
        assert_eq!(parse("/gw/portals/a/sse", "/gw"), (Path::Portal("a"), Place::Sse));
        assert_eq!(parse("/servers/a/sse", ""), (Path::Server("a"), Place::Sse));
    }

    #[test]
    fn a18_paths_of_metadata() {
        let of = |rest: &str, base| {
            let path = format!("{WELL_KNOWN}{rest}");
            let (path, place) = parse(&path, base);
            assert_eq!(place, Place::Metadata);
            format!("{path:?}")
        };
        assert_eq!(of("", ""), "Root");
        assert_eq!(of("/mcp", ""), "Root");
        assert_eq!(of("/gw/servers/a/mcp", "/gw"), "Server(\"a\")");
        assert_eq!(of("/gw", "/gw"), "Root");
        assert_eq!(of("/api/v1", ""), "Administration");
        assert_eq!(of("/gw/api/v1", "/gw"), "Administration");
        for other in ["/api", "/api/v1/", "/api/v1/servers", "/api/v2"] {
            assert_eq!(of(other, ""), "Unknown", "{other}");
        }
        // The administration itself is the pages'.
        assert_eq!(parse("/api/v1", ""), (Path::Unknown, Place::Mcp));
        assert_eq!(Path::Administration.endpoint(None), None);
        assert_eq!(of("/sse", ""), "Unknown");
        assert_eq!(of("x", ""), "Unknown");
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
