//! What pages may show of servers: the same policies as calls.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_accounts::AccountError;
use bartizan_catalog::ServerSpec;
use bartizan_config::resources::ServerStatus;
use bartizan_model::{PortalId, Principal, ServerId};
use bartizan_wire::{ClientProfile, Revision};
use futures_util::future::join_all;

use crate::call::{Caller, Circumstances, Endpoint};
use crate::gate::{Access, Gate, access, may_use};
use crate::portal_tools::ServerLine;
use crate::scopes::Scopes;
use crate::toggles::{Link, LinkError, Off, is_session};

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
    pub(crate) fn of_page(
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
            revocation: crate::Revocation::NEVER,
        }
    }
}

/// The selection page as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionView {
    /// Id of the portal.
    pub portal: PortalId,
    /// Name of the portal.
    pub name: String,
    /// Its servers that the person may use.
    pub servers: Vec<ServerLine>,
    /// Those of them that were not there when the person last saw the page.
    pub added: Vec<ServerId>,
}

/// Longest list of servers a person was shown that is kept, characters.
const MAX_SHOWN: usize = 256 * 1024;

impl Gate {
    /// What a link to the selection page shows.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn selection(
        &self,
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        handle: &str,
    ) -> Result<SelectionView, LinkError> {
        let link = self.open_link(principal, handle)?;
        let state = self.0.states.get(&link.holder()).await?;
        if state.is_none() && is_session(&link.holder()) {
            return Err(LinkError::Gone);
        }
        let off = state.map(|state| Arc::clone(&state.off)).unwrap_or_default();
        let mut view = self.seen(principal, circumstances, ip, &link, off)?;
        self.logins(principal, &mut view).await;
        let shown = self.0.states.shown(&principal.id, view.portal.as_str()).await?;
        if let Some(shown) = shown {
            let known: Vec<String> = serde_json::from_str(&shown).unwrap_or_default();
            let new = |line: &&ServerLine| !known.iter().any(|id| id == line.id.as_str());
            view.added = view.servers.iter().filter(new).map(|line| line.id.clone()).collect();
        }
        Ok(view)
    }

    /// Keeps what the person chose: `on` are the servers that stay on, of those the page lets the
    /// person choose. Uses the link up.
    ///
    /// # Errors
    /// [`LinkError`]; then nothing changed.
    pub async fn select(
        &self,
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        handle: &str,
        on: &[String],
    ) -> Result<SelectionView, LinkError> {
        let link = self.open_link(principal, handle)?;
        let view = self.seen(principal, circumstances, ip, &link, Off::default())?;
        self.0.states.use_up(&link).await?;
        // What the page does not show, or shows without a switch, stays as it is.
        let choices = view.servers.iter().filter(|line| line.is_choice());
        let (stay, go): (Vec<_>, Vec<_>) =
            choices.map(|line| &line.id).partition(|id| on.iter().any(|chosen| chosen == id.as_str()));
        let change = |before: &[ServerId]| {
            let kept = before.iter().filter(|id| !stay.contains(id));
            kept.chain(go.iter().copied()).cloned().collect()
        };
        let kept = self.0.states.switch(&link.holder(), change).await?.ok_or(LinkError::Gone)?;
        let ids: Vec<&str> = view.servers.iter().map(|line| line.id.as_str()).collect();
        let text = serde_json::to_string(&ids).unwrap_or_default();
        if text.len() <= MAX_SHOWN {
            self.0.states.show(&principal.id, view.portal.as_str(), &text).await?;
        }
        let mut view = self.seen(principal, circumstances, ip, &link, kept)?;
        self.logins(principal, &mut view).await;
        Ok(view)
    }

    /// Notes where an account must be connected first; what is off needs none yet.
    async fn logins(&self, principal: &Principal, view: &mut SelectionView) {
        let snapshot = self.0.snapshot.load_full();
        let asking = view.servers.iter_mut().filter(|line| line.on).map(async |line| {
            let Some(spec) = snapshot.servers.get(&line.id) else { return };
            if let Err(AccountError::LoginNeeded) = self.0.personal.ready(spec, principal).await {
                line.status = "login_needed";
                line.url = self.0.personal.login_url(spec);
            }
        });
        join_all(asking).await;
    }

    /// The servers of the link's portal that the person may use.
    fn seen(
        &self,
        principal: &Arc<Principal>,
        circumstances: &Circumstances,
        ip: Option<IpAddr>,
        link: &Link,
        off: Off,
    ) -> Result<SelectionView, LinkError> {
        let portal = link.portal().ok_or(LinkError::Gone)?;
        let snapshot = self.0.snapshot.load_full();
        let spec = snapshot.portals.get(&portal).ok_or(LinkError::Gone)?;
        let (now_ms, endpoint) = (self.0.clock.now_ms(), Endpoint::Portal(portal.clone()));
        let mut servers: Vec<ServerLine> = Vec::new();
        // Of the eras either will do, as at a server's page.
        for revision in [Revision::V2026_07_28, Revision::V2025_11_25] {
            let mut caller = Caller::of_page(principal, circumstances, ip, revision);
            caller.selection.off = Arc::clone(&off);
            if access(&snapshot, principal, &endpoint, &caller.context(now_ms)) != Access::Allowed {
                continue;
            }
            for line in self.0.server_lines(&snapshot, &caller, Some(&portal), now_ms) {
                if !servers.iter().any(|known| known.id == line.id) {
                    servers.push(line);
                }
            }
        }
        Ok(SelectionView { name: spec.name.to_string(), portal, servers, added: Vec::new() })
    }
}
