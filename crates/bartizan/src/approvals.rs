//! Approvals (W12, A16), put together: who answers, and where somebody could be let in, for the
//! pages.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_approvals::Approvals;
use bartizan_catalog::Snapshot;
use bartizan_config::Live;
use bartizan_console::ApprovalPages;
use bartizan_gate::{Circumstances, Gate};
use bartizan_identity::BrowserSession;
use bartizan_model::{Principal, PrincipalKind};

/// The pages, by the same policies as calls.
pub(crate) fn pages(approvals: Approvals, gate: Gate, live: Arc<Live<Snapshot>>) -> ApprovalPages {
    ApprovalPages {
        approvals,
        who: Arc::new(move |session: &BrowserSession| {
            let principal = principal(session);
            let roles = live.load().roles.of(&principal);
            (principal, roles)
        }),
        entry: Arc::new(move |session: &BrowserSession, ip: Option<IpAddr>, subject: &str| {
            let circumstances = Circumstances { facts: Some(Arc::new(session.facts())), ..Circumstances::default() };
            gate.entry_for(&principal(session), &circumstances, ip, subject)
        }),
    }
}

/// The caller that the person's clients are.
fn principal(session: &BrowserSession) -> Arc<Principal> {
    let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
    Arc::new(Principal::new(PrincipalKind::User, session.person.email.as_str(), groups))
}
