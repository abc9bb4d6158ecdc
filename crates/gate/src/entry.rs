//! Where a person could be let in for a while (A16), for pages: by the same policies as calls.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_model::{PortalId, Principal, ServerId, ToolClass};
use bartizan_policy::{Action, Approval, Asks, Query};
use bartizan_wire::Revision;

use crate::call::{Caller, Circumstances};
use crate::gate::Gate;

impl Gate {
    /// The rule by which somebody may be let in to `portal:ID` or `server:ID`, and the name of the
    /// place. `None` when there is none for this person, who is not told whether the place exists.
    pub fn entry_for(
        &self,
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        subject: &str,
    ) -> Option<(Arc<Approval>, String)> {
        let snapshot = self.0.snapshot.load();
        let (kind, id) = subject.split_once(':')?;
        let (portal, server) = match kind {
            "portal" => (Some(PortalId::parse(id).ok()?), None),
            "server" => (None, Some(ServerId::parse(id).ok()?)),
            _ => return None,
        };
        let name = match (&portal, &server) {
            (Some(portal), _) => snapshot.portals.get(portal)?.name.to_string(),
            (_, Some(server)) => snapshot.servers.get(server)?.name.to_string(),
            _ => return None,
        };
        let action = if portal.is_some() { Action::UsePortal } else { Action::UseServer };
        let now_ms = self.0.clock.now_ms();
        // Of the eras either will do, as at a server's page.
        [Revision::V2026_07_28, Revision::V2025_11_25].into_iter().find_map(|revision| {
            let caller = Caller::of_page(principal, circumstances, ip, revision);
            let decision = snapshot.policies.decide(&Query {
                principal,
                action,
                portal: portal.as_ref(),
                server: server.as_ref(),
                name: "",
                class: ToolClass::Read,
                context: &caller.context(now_ms),
                args: None,
            });
            let asks = |approval: &Arc<Approval>| matches!(&approval.asks, Asks::Entry { subject: of, .. } if **of == *subject);
            Some((decision.approvals.into_iter().find(asks)?, name.clone()))
        })
    }
}
