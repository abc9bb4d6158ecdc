//! The way of one governed call. This file is the list of stages and nothing else;
//! read it, then the file of the stage you are after. The first stage that refuses
//! ends the way, and [`record`](crate::stages::record) follows in every case.

use tokio::time::Instant;

use crate::exchange::{Exchange, Reject};
use crate::stages::{Stage, approve, authorize, credential, forward, intend, limit, route, state};

/// The stages in their order; `record` is not among them because it always runs.
pub(crate) const ORDER: [Stage; 8] = [
    Stage::Route,
    Stage::State,
    Stage::Limit,
    Stage::Authorize,
    Stage::Approve,
    Stage::Credential,
    Stage::Intend,
    Stage::Forward,
];

/// Runs the stages in order.
///
/// # Errors
/// The refusal of the first stage that refuses.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    for stage in ORDER {
        x.at = stage;
        let began = Instant::now();
        if x.enter(stage).await {
            let result = step(stage, x).await;
            x.spans.stage(stage, x.started, began, result.is_err());
            result?;
        }
    }
    Ok(())
}

/// Runs one stage.
///
/// # Errors
/// Its refusal.
pub(crate) async fn step(stage: Stage, x: &mut Exchange) -> Result<(), Reject> {
    match stage {
        // Exposed name → server and original name, by the caller's own view.
        Stage::Route => route::run(x).await,
        // Kill switch and server status, as they are now.
        Stage::State => state::run(x).await,
        // Rates, concurrency, bytes.
        Stage::Limit => limit::run(x).await,
        // Policies, with arguments.
        Stage::Authorize => authorize::run(x).await,
        // Somebody else has a say, where a policy says so.
        Stage::Approve => approve::run(x).await,
        // Whose authority goes upstream.
        Stage::Credential => credential::run(x).await,
        // A durable intent before anything but a read; no record, no forward.
        Stage::Intend => intend::run(x).await,
        // Upstream and back, in whatever eras the two sides speak.
        Stage::Forward => forward::run(x).await,
        // The audit event, exactly one; run by the task of the call.
        Stage::Record => Ok(()),
    }
}
