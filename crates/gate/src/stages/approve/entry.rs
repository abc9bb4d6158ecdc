//! Being let in for a while (A16): the person is sent to the page on which that is asked for.

use std::sync::Arc;

use bartizan_model::{PrincipalKind, ReasonCode};
use bartizan_policy::{Approval, Asks};
use tokio::time::Instant;

use super::{nobody, unavailable, waits_for};
use crate::call::{CallReply, Refusal};
use crate::exchange::{Answer, Exchange, Reject};
use crate::stages::Stage;
use crate::stages::page::{self, Opened};

/// Lets in whoever was let in and for whom that lasts.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn run(x: &mut Exchange, approval: &Approval) -> Result<(), Reject> {
    if is_in(x, approval).await? {
        return Ok(());
    }
    let Asks::Entry { subject, .. } = &approval.asks else { return Err(nobody(Some(&approval.rule))) };
    let person = x.caller.principal.kind == PrincipalKind::User;
    let url = x.gate.approvals.get().and_then(|approvals| approvals.entry_page(subject)).filter(|_| person);
    let Some(url) = url.filter(|_| !x.dry) else {
        return Err(nobody(Some(&approval.rule)).noted("is let in to nothing now"));
    };
    let message = format!("{} must let you in first. Ask on this page.", waits_for(approval));
    let opened = match page::open(x, "access", &url, &message).await {
        Opened::Accepted { id, last } => {
            if until(x, approval, last).await? {
                x.elicitations.extend(id);
                return Ok(());
            }
            if x.is_abandoned() { Opened::Gone } else { page::still_open(x, "access", &url, &message) }
        }
        opened => opened,
    };
    let reply = match opened {
        Opened::Gone => return Err(Reject::abandoned(Stage::Approve)),
        Opened::Ask(raw) => CallReply::Result(raw),
        _ => CallReply::Refused(Refusal {
            code: ReasonCode::ApprovalRequired,
            rule: Some(Arc::clone(&approval.rule)),
            event_id: x.id,
            retry_after_s: None,
            visible: true,
            message: Some(format!("{message} {url} Then call again.")),
            url: Some(Arc::from(url)),
        }),
    };
    let refused = Reject { answer: Answer::Reply(Box::new(reply)), ..nobody(Some(&approval.rule)) };
    Err(refused.noted("temporary access is asked for on a page"))
}

async fn is_in(x: &Exchange, approval: &Approval) -> Result<bool, Reject> {
    let approvals = x.gate.approvals.get().ok_or_else(|| nobody(Some(&approval.rule)))?;
    let until = approvals.entered(&x.caller.principal, approval).await.map_err(unavailable)?;
    Ok(until.is_some())
}

async fn until(x: &Exchange, approval: &Approval, last: Instant) -> Result<bool, Reject> {
    let Some(approvals) = x.gate.approvals.get() else { return Ok(false) };
    loop {
        if is_in(x, approval).await? {
            return Ok(true);
        }
        if Instant::now() >= last {
            return Ok(false);
        }
        tokio::select! {
            biased;
            () = x.abandoned() => return Ok(false),
            () = approvals.changed() => {}
            () = tokio::time::sleep_until(last) => {}
        }
    }
}
