//! The selection page (P36), put together: what the gate knows, for the pages.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_console::{Selection, SelectionError, SelectionLine, SelectionPages};
use bartizan_gate::{Circumstances, Gate, LinkError, SelectionView};
use bartizan_identity::BrowserSession;
use bartizan_model::{Principal, PrincipalKind};

/// What a person may see and choose at a portal, by the same policies as calls.
pub(crate) fn pages(gate: Gate) -> SelectionPages {
    let looking = gate.clone();
    SelectionPages {
        look: Arc::new(move |session: &BrowserSession, ip: Option<IpAddr>, handle: &str| {
            let (gate, who, handle) = (looking.clone(), Who::of(session), handle.to_owned());
            Box::pin(async move { answer(gate.selection(&who.principal, &who.circumstances, ip, &handle).await) })
        }),
        choose: Arc::new(move |session: &BrowserSession, ip: Option<IpAddr>, handle: &str, on: Vec<String>| {
            let (gate, who, handle) = (gate.clone(), Who::of(session), handle.to_owned());
            Box::pin(async move { answer(gate.select(&who.principal, &who.circumstances, ip, &handle, &on).await) })
        }),
    }
}

/// The caller that the person's clients are.
struct Who {
    principal: Arc<Principal>,
    circumstances: Circumstances,
}

impl Who {
    fn of(session: &BrowserSession) -> Self {
        let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
        let principal = Arc::new(Principal::new(PrincipalKind::User, session.person.email.as_str(), groups));
        let facts = Some(Arc::new(session.facts()));
        Self { principal, circumstances: Circumstances { facts, ..Circumstances::default() } }
    }
}

fn answer(view: Result<SelectionView, LinkError>) -> Result<Selection, SelectionError> {
    let view = view.map_err(|error| match error {
        LinkError::Gone => SelectionError::Gone,
        LinkError::OtherPerson => SelectionError::OtherPerson,
        LinkError::Unavailable => SelectionError::Unavailable,
    })?;
    let line = |line: &bartizan_gate::ServerLine| SelectionLine {
        id: line.id.to_string(),
        name: line.name.clone(),
        on: line.on,
        fixed: !line.is_choice(),
        added: view.added.contains(&line.id),
        connect: line.url.is_some(),
    };
    Ok(Selection { servers: view.servers.iter().map(line).collect(), portal: view.name.clone() })
}
