//! Limits for what is no call: lists, `initialize` and `server/discover`, streams and
//! subscriptions (O11). They are counted once, on arrival, and never wait; a refusal is
//! on record under the id that the client is told.

use std::sync::Arc;

use bartizan_model::event::{EventKind, Outcome, Verdict};
use bartizan_model::{EventId, ReasonCode, ServerId};

use crate::call::{CallReply, Caller, Endpoint, Refusal};
use crate::gate::Inner;
use crate::kills;
use crate::limits::{Exceeded, Subject};
use crate::stages::{Stage, record};

/// Counts a request.
///
/// # Errors
/// [`Exceeded`] for the first limit without room.
pub(crate) fn count(gate: &Inner, endpoint: &Endpoint, caller: &Caller, bytes: u64) -> Result<(), Exceeded> {
    let current = gate.snapshot.load();
    let Some(limits) = gate.limiter.set(current.version, &current.rate_limits) else { return Ok(()) };
    let subject = Subject {
        address: caller.ip,
        user: caller.principal.key(),
        client: caller.client.as_deref(),
        portal: endpoint.portal(),
        server: server(endpoint),
        tool: None,
        bytes,
    };
    // A place is held only while it is counted: what is asked here is short, or waits
    // for servers.
    limits.take(&subject).map(drop)
}

fn server(endpoint: &Endpoint) -> Option<&ServerId> {
    match endpoint {
        Endpoint::Server(server) => Some(server),
        Endpoint::Portal(_) => None,
    }
}

/// The answer to a request over a limit.
pub(crate) fn refusal(over: &Exceeded, event_id: EventId) -> CallReply {
    CallReply::Refused(over_limit(over, event_id))
}

fn over_limit(over: &Exceeded, event_id: EventId) -> Refusal {
    Refusal {
        code: ReasonCode::RateLimited,
        rule: Some(Arc::clone(&over.limit)),
        retry_after_s: (!over.never).then_some(over.retry_after_s),
        ..record::withheld(event_id)
    }
}

/// Counts a request that has no record of its own, unless its caller is stopped (G24); only its
/// refusal is recorded.
///
/// # Errors
/// [`CallReply::Refused`] with `rate_limited` or `killed`; `audit_unavailable` when even that cannot
/// be written down.
pub(crate) async fn run(gate: &Inner, endpoint: &Endpoint, caller: &Caller, method: &str) -> Result<(), CallReply> {
    let stop = gate.kills.stops(caller, endpoint).await;
    let over = match &stop {
        Some(_) => None,
        None => count(gate, endpoint, caller, 0).err(),
    };
    let now_ms = gate.clock.now_ms();
    let id = EventId::new(now_ms);
    let (reply, stage) = match (&stop, &over) {
        (Some(stop), _) => (kills::refusal(stop, id), Stage::State),
        (None, Some(over)) => (over_limit(over, id), Stage::Limit),
        (None, None) => return Ok(()),
    };
    let mut event = record::caller_event(caller, id, now_ms, EventKind::List, method);
    event.portal = endpoint.portal().cloned();
    event.server = server(endpoint).cloned();
    event.policy_version = gate.snapshot.load().version;
    event.outcome = Outcome::Refused;
    event.verdict = Verdict {
        allow: false,
        code: Some(reply.code),
        rule: reply.rule.as_deref().map(str::to_owned),
        stage: Some(stage.as_str().to_owned()),
    };
    gate.metrics.refusal(reply.code);
    match gate.audit.append(event).await {
        Ok(_) => Err(CallReply::Refused(reply)),
        Err(error) => {
            tracing::error!(event_id = %id, %error, "a refusal could not be recorded");
            Err(CallReply::Refused(record::withheld(id)))
        }
    }
}
