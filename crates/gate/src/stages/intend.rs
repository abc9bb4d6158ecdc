//! `intend`: without a record nothing is forwarded (L9). For a read the record only
//! has to be writable; anything else needs an intent that is durable already.

use bartizan_model::event::{EventKind, Outcome, Verdict};
use bartizan_model::{EventId, ReasonCode};

use super::Stage;
use super::record;
use crate::exchange::{Exchange, Reject};
use crate::request_state::Kind;

/// Writes the intent of anything but a read.
///
/// # Errors
/// [`Reject`] `audit_unavailable`.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    if !x.gate.audit.ready() {
        return Err(unavailable("the audit record is not writable"));
    }
    super::approve::use_up(x).await?;
    let Some(route) = &x.route else { return Ok(()) };
    let reads = !route.class.needs_grant();
    // A parked call was forwarded under the intent of its first round.
    let parked = x.resume.as_ref().is_some_and(|state| state.kind == Kind::Park);
    if reads || parked || x.dry || route.server().is_none() {
        return Ok(());
    }
    let id = EventId::new(x.gate.clock.now_ms());
    let mut event = record::event(x, id, EventKind::Intent);
    event.verdict = Verdict { rule: x.finish.rule.as_deref().map(str::to_owned), ..Verdict::allowed() };
    event.outcome = Outcome::Pending;
    event.related = Some(x.id);
    match x.gate.audit.append_durable(event).await {
        Ok(_) => {
            x.intent = Some(id);
            Ok(())
        }
        Err(error) => Err(unavailable(&error.to_string())),
    }
}

fn unavailable(note: &str) -> Reject {
    Reject::refused(Stage::Intend, ReasonCode::AuditUnavailable, None).noted(note)
}
