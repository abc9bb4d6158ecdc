//! Tests that look inside: the written form, the queue, and disks that fail.

mod disk;
mod form;
mod outage;
mod queue;
mod verify;

use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind};

/// 2026-01-01T00:00:00Z
const NOW: i64 = 1_767_225_600_000;

fn who(name: &str) -> Who {
    Who { principal: format!("user:{name}"), ..Who::default() }
}

fn event(kind: EventKind, name: &str) -> AuditEvent {
    AuditEvent::new(EventId::new(NOW), NOW, kind, PrincipalKind::User, who(name), "tools/call")
}
