//! What goes on record about definitions.

use bartizan_audit::Audit;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind, ServerId};

/// Longest name in an event, characters.
const MAX_NAME: usize = 256;

/// One thing that happened to a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// `definition/new`, `definition/changed`, …
    pub(crate) method: &'static str,
    /// `tool/NAME`.
    pub(crate) target: String,
    pub(crate) pin: Option<String>,
    pub(crate) note: String,
}

/// `tool/NAME`, as targets of events are written.
pub(crate) fn target(kind: &str, name: &str) -> String {
    let name: String = name.chars().take(MAX_NAME).collect();
    format!("{kind}/{name}")
}

/// An event of the process itself.
pub(crate) fn event(server: &str, news: News, now_ms: i64) -> AuditEvent {
    let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
    let id = EventId::new(now_ms);
    let mut event = AuditEvent::new(id, now_ms, EventKind::System, PrincipalKind::Service, who, news.method);
    event.server = ServerId::parse(server).ok();
    event.target = Some(news.target);
    event.pin = news.pin;
    event.note = Some(news.note);
    event
}

/// Puts what happened on record; the thing itself has happened and is in the history too.
pub(crate) async fn tell(audit: Option<&Audit>, server: &str, news: Vec<News>, now_ms: i64) {
    let Some(audit) = audit else { return };
    for one in news {
        if let Err(error) = audit.append(event(server, one, now_ms)).await {
            tracing::error!(%error, server, "what happened to a definition is not in the audit record");
        }
    }
}
