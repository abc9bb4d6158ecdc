//! What is put on record of questions and answers.

use std::sync::Arc;

use bartizan_audit::{Audit, AuditError};
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{Clock, EventId, PrincipalKind, ReasonCode, ServerId};
use bartizan_store::repo::approval::Approval as Row;

/// Writes events.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Who does it.
pub(crate) struct Actor<'a> {
    pub(crate) key: &'a str,
    pub(crate) groups: Vec<String>,
}

impl<'a> Actor<'a> {
    pub(crate) fn of(key: &'a str) -> Self {
        Self { key, groups: Vec::new() }
    }

    /// The process itself.
    pub(crate) fn process() -> Self {
        Self::of("service:bartizan")
    }

    fn kind(&self) -> PrincipalKind {
        match self.key.split(':').next() {
            Some("user") => PrincipalKind::User,
            Some("agent") => PrincipalKind::Agent,
            Some("service") => PrincipalKind::Service,
            _ => PrincipalKind::Anonymous,
        }
    }
}

/// One event.
pub(crate) struct Noted<'a> {
    pub(crate) method: &'static str,
    pub(crate) actor: Actor<'a>,
    pub(crate) code: Option<ReasonCode>,
    pub(crate) related: Option<EventId>,
    pub(crate) note: String,
}

impl Events {
    /// Puts it on record, durably.
    pub(crate) async fn write(&self, row: &Row, noted: Noted<'_>) -> Result<(), AuditError> {
        let now_ms = self.clock.now_ms();
        let kind = noted.actor.kind();
        let who = Who { principal: noted.actor.key.to_owned(), groups: noted.actor.groups, ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now_ms), now_ms, EventKind::Admin, kind, who, noted.method);
        let (place, name) = row.subject.split_once(':').unwrap_or(("", &row.subject));
        match place {
            "server" => event.server = ServerId::parse(name).ok(),
            "portal" => event.portal = bartizan_model::PortalId::parse(name).ok(),
            _ => {
                let (server, target) = name.split_once('/').unwrap_or((name, ""));
                event.server = ServerId::parse(server).ok();
                event.target = Some(target.to_owned());
            }
        }
        event.arguments_digest = Some(row.digest.clone()).filter(|digest| !digest.is_empty());
        event.related = noted.related;
        if let Some(code) = noted.code {
            event.verdict = Verdict::refused("approve", code, None);
            event.outcome = Outcome::Refused;
        }
        event.note = Some(format!("approval {}: {}", row.id, noted.note));
        self.audit.append_durable(event).await.map(drop)
    }
}
