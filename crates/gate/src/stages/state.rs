//! `state`: the kill switch and the status of the server, read from the newest
//! snapshot and not from the one the call began with, because a kill switch is
//! about now.

use std::sync::Arc;

use bartizan_catalog::pin::PinKind;
use bartizan_config::resources::ServerStatus;
use bartizan_model::ReasonCode;
use bartizan_policy::Action;
use bartizan_registry::Verdict;

use super::Stage;
use super::route::unknown;
use crate::exchange::{Exchange, Reject};
use crate::kills::{RETRY_S, Stop};

/// Refuses when the server was killed, switched off or removed since the call began.
/// The answer is the same as for an unknown target: what is off is not there.
///
/// # Errors
/// [`Reject`] with code `killed`, or without a code for a server that is just off.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    kill_switch(x).await?;
    let Some(spec) = x.route.as_ref().and_then(|route| route.server()) else { return Ok(()) };
    let current = x.gate.snapshot.load();
    let status = current.servers.get(&spec.id).map(|server| server.status);
    let (code, note) = match status {
        Some(ServerStatus::Enabled) => {
            drop(current);
            return definition(x).await;
        }
        Some(ServerStatus::Killed) => (Some(ReasonCode::Killed), "server killed"),
        Some(ServerStatus::Disabled) => (None, "server disabled"),
        None => (None, "server removed"),
    };
    drop(current);
    Err(Reject { stage: Stage::State, ..Reject::not_found(unknown(x), code, None).noted(note) })
}

/// Refuses what nobody approved, by what is decided now and not when the list was made (P44).
async fn definition(x: &Exchange) -> Result<(), Reject> {
    let Some((registry, route)) = x.gate.lists.registry().zip(x.route.as_ref()) else { return Ok(()) };
    let (Some(spec), Some(pin)) = (route.server(), &route.pin) else { return Ok(()) };
    let kind = if route.action == Action::CallTool { PinKind::Tool } else { PinKind::Prompt };
    // How new and changed definitions are judged is a setting, so the newest one counts.
    let newest = x.gate.snapshot.load().servers.get(&spec.id).cloned();
    let note = match registry.admits(newest.as_ref().unwrap_or(spec), kind, &route.name, pin).await {
        Ok(Verdict::Show) => return Ok(()),
        Ok(_) => format!("{} on {}: quarantined", route.name, spec.id),
        Err(error) => {
            tracing::warn!(%error, server = %spec.id, "a definition cannot be checked; its call is refused");
            format!("{} on {}: definitions cannot be checked", route.name, spec.id)
        }
    };
    let reject = Reject::not_found(unknown(x), None, Some("quarantine".into())).noted(note);
    Err(Reject { stage: Stage::State, ..reject })
}

/// Refuses what a switch stops, and has the call ended if one is set while it runs (G24).
async fn kill_switch(x: &mut Exchange) -> Result<(), Reject> {
    let route = x.route.as_ref();
    let name = route.filter(|route| route.action == Action::CallTool).map(|route| Arc::clone(&route.name));
    let target = route.and_then(|route| route.server()).map(|spec| (spec.id.clone(), name));
    let about = target.as_ref().map(|(server, name)| (server, name.as_deref()));
    if let Some(stop) = x.gate.kills.stops_call(&x.caller, &x.endpoint, about).await {
        let (code, rule) = (ReasonCode::Killed, stop.rule());
        return Err(match stop {
            // A stopped target is not there, as one that is switched off.
            Stop::Target(_) => Reject { stage: Stage::State, ..Reject::not_found(unknown(x), Some(code), rule) },
            Stop::Caller(_) => Reject::refused(Stage::State, code, rule),
            Stop::Unknown => {
                let retry_after_s = Some(RETRY_S);
                Reject { retry_after_s, ..Reject::refused(Stage::State, code, rule) }
                    .noted("kill switches could not be read")
            }
        });
    }
    if !x.dry {
        x.lapse.add(&x.gate.kills.revocation(&x.caller, &x.endpoint, target));
    }
    Ok(())
}
