//! What pages may show of servers: the same policies as calls.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_catalog::ServerSpec;
use bartizan_config::resources::ServerStatus;
use bartizan_model::{Principal, ServerId};
use bartizan_wire::{ClientProfile, Revision};

use crate::call::{Caller, Circumstances, Endpoint, Scopes};
use crate::gate::{Access, Gate, access, may_use};

impl Gate {
    /// A server that a person may use at its own endpoint or at some portal, for pages. What
    /// only a client's request tells is not known there: a rule that looks at the client does
    /// not count, and of the eras either will do.
    pub fn server_for(
        &self,
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        server: &ServerId,
    ) -> Option<Arc<ServerSpec>> {
        let snapshot = self.0.snapshot.load();
        let spec = snapshot.servers.get(server).filter(|spec| spec.status == ServerStatus::Enabled)?;
        let now_ms = self.0.clock.now_ms();
        let usable = [Revision::V2026_07_28, Revision::V2025_11_25].into_iter().any(|revision| {
            let caller = Caller::of_page(principal, circumstances, ip, revision);
            let at = |endpoint: &Endpoint| {
                access(&snapshot, principal, endpoint, &caller.context(now_ms)) == Access::Allowed
                    && may_use(&snapshot, endpoint, &caller, spec, now_ms)
            };
            let portals = snapshot.portals.values().filter(|portal| portal.has(server));
            at(&Endpoint::Server(server.clone()))
                || portals.map(|portal| Endpoint::Portal(portal.id.clone())).any(|portal| at(&portal))
        });
        usable.then(|| Arc::clone(spec))
    }
}

impl Caller {
    /// A person in front of a page, as a client of this revision.
    fn of_page(
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        revision: Revision,
    ) -> Self {
        Self {
            principal: Arc::clone(principal),
            profile: Arc::new(ClientProfile::plain(revision)),
            ip,
            session: None,
            traceparent: None,
            trace_id: None,
            client: None,
            client_version: None,
            scopes: Scopes::ALL,
            circumstances: circumstances.clone(),
            selection: crate::Selection::default(),
        }
    }
}
