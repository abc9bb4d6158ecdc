//! The servers a name can belong to. Only their lists are needed to resolve it, so a
//! call never waits for a server that has nothing to do with it.

use std::sync::Arc;

use bartizan_catalog::{PortalSpec, ServerSpec, Snapshot, View};
use bartizan_config::resources::Prefix;
use bartizan_upstream::ListKind;

use crate::call::Endpoint;
use crate::exchange::Exchange;
use crate::slot::Need;
use crate::views::{Seen, Wanted};

/// The longest tail that a name can have got in place of its own end: `_` and 24 hex
/// digits (catalog names).
const LONGEST_TAIL: usize = 25;

/// The caller's view of the servers a name can belong to; none when there is no such
/// server. Found names are those of [`View::tool`] or [`View::prompt`].
pub(super) async fn view(x: &Exchange, kind: ListKind, name: &str) -> Option<Arc<Seen>> {
    let servers = servers(&x.snapshot, &x.endpoint, name);
    if servers.is_empty() {
        return None;
    }
    let wanted = Wanted {
        snapshot: &x.snapshot,
        endpoint: &x.endpoint,
        caller: &x.caller,
        kind,
        need: Need::Route,
        servers: &servers,
        whole: false,
        reads_only: false,
        kills: x.gate.kills.known(),
    };
    let owner = |view: &View| match kind {
        ListKind::Tools => view.tool(name).map(|tool| tool.server.id.clone()),
        _ => view.prompt(name).map(|prompt| prompt.server.id.clone()),
    };
    Some(x.gate.views.get_for(&x.gate, &wanted, x.gate.clock.now_ms(), owner).await)
}

/// The servers of the endpoint whose entries can have the name, in the order of lists,
/// whatever their status.
pub(super) fn servers(snapshot: &Snapshot, endpoint: &Endpoint, name: &str) -> Vec<Arc<ServerSpec>> {
    match endpoint {
        Endpoint::Server(id) => snapshot.servers.get(id).into_iter().cloned().collect(),
        Endpoint::Portal(id) => match snapshot.portals.get(id) {
            Some(portal) if portal.prefix == Prefix::Never => portal.servers.clone(),
            Some(portal) => prefixed(snapshot, portal, name),
            None => Vec::new(),
        },
    }
}

fn prefixed(snapshot: &Snapshot, portal: &PortalSpec, name: &str) -> Vec<Arc<ServerSpec>> {
    let kept = portal.max_tool_name.saturating_sub(LONGEST_TAIL);
    if kept <= 32 {
        // Names may be cut inside the server id.
        let fits = |spec: &&Arc<ServerSpec>| {
            let prefix = [spec.id.as_str(), "_"].concat();
            let cut = prefix.get(..kept).unwrap_or(&prefix);
            name.starts_with(cut)
        };
        return portal.servers.iter().filter(fits).cloned().collect();
    }
    let mut found: Vec<Arc<ServerSpec>> = name
        .match_indices('_')
        .take_while(|(at, _)| *at <= 32)
        .filter_map(|(at, _)| snapshot.servers.get(name.get(..at)?))
        .filter(|spec| portal.has(&spec.id))
        .cloned()
        .collect();
    if found.len() > 1 {
        // Everything else goes by the order of lists, so this must too.
        let place = |spec: &Arc<ServerSpec>| portal.servers.iter().position(|each| each.id == spec.id);
        found.sort_by_key(place);
    }
    found
}
