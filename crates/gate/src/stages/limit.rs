//! `limit`: rates, concurrency and bytes per address, user, client, portal, server
//! and tool (O11). Nothing is limited unless a limit is written down.

use std::sync::Arc;

use bartizan_model::ReasonCode;
use bartizan_policy::Action;

use super::Stage;
use crate::exchange::{Exchange, Reject};
use crate::limits::Subject;

/// Counts the call; concurrency slots are held until the exchange ends.
///
/// # Errors
/// [`Reject`] `rate_limited` with the id of the limit and the seconds to wait.
#[expect(clippy::unused_async, reason = "every stage is an async function over an exchange")]
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let current = x.gate.snapshot.load();
    let Some(limits) = x.gate.limiter.set(current.version, &current.rate_limits) else { return Ok(()) };
    drop(current);
    let subject = subject(x);
    let taken = if x.dry { limits.probe(&subject) } else { limits.take(&subject) };
    match taken {
        Ok(slots) => {
            x.slots = slots;
            Ok(())
        }
        Err(over) => Err(Reject {
            retry_after_s: (!over.never).then_some(over.retry_after_s),
            ..Reject::refused(Stage::Limit, ReasonCode::RateLimited, Some(over.limit))
        }),
    }
}

/// What the call is counted by.
fn subject(x: &Exchange) -> Subject<'_> {
    let route = x.route.as_ref();
    Subject {
        address: x.caller.ip,
        user: x.caller.principal.key(),
        client: x.caller.client.as_deref(),
        portal: x.endpoint.portal(),
        server: route.and_then(|r| r.server()).map(|spec| &spec.id),
        tool: route.filter(|r| r.action == Action::CallTool).map(|r| &*r.name),
        bytes: x.request_bytes,
    }
}

/// Ids of the limits that count the call, for explanations.
pub(crate) fn applicable(x: &Exchange) -> Vec<Arc<str>> {
    let current = x.gate.snapshot.load();
    let limits = x.gate.limiter.set(current.version, &current.rate_limits);
    limits.map(|limits| limits.applicable(&subject(x))).unwrap_or_default()
}
