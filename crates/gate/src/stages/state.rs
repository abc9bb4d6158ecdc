//! `state`: the kill switch and the status of the server, read from the newest
//! snapshot and not from the one the call began with, because a kill switch is
//! about now.

use bartizan_config::resources::ServerStatus;
use bartizan_model::ReasonCode;

use super::Stage;
use super::route::unknown;
use crate::exchange::{Exchange, Reject};

/// Refuses when the server was killed, switched off or removed since the call began.
/// The answer is the same as for an unknown target: what is off is not there.
///
/// # Errors
/// [`Reject`] with code `killed`, or without a code for a server that is just off.
#[expect(clippy::unused_async, reason = "every stage is an async function over an exchange")]
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let Some(spec) = x.route.as_ref().and_then(|route| route.server()) else { return Ok(()) };
    let current = x.gate.snapshot.load();
    let status = current.servers.get(&spec.id).map(|server| server.status);
    let (code, note) = match status {
        Some(ServerStatus::Enabled) => return Ok(()),
        Some(ServerStatus::Killed) => (Some(ReasonCode::Killed), "server killed"),
        Some(ServerStatus::Disabled) => (None, "server disabled"),
        None => (None, "server removed"),
    };
    drop(current);
    Err(Reject { stage: Stage::State, ..Reject::not_found(unknown(x), code, None).noted(note) })
}
