//! A call that waits for somebody else: the client is told of the page on which its person sees
//! how it stands.

use std::sync::Arc;

use bartizan_approvals::Pass;
use bartizan_model::ReasonCode;
use bartizan_policy::Approval;
use tokio::time::Instant;

use super::{Subject, look, nobody, waits_for};
use crate::call::{CallReply, Refusal};
use crate::exchange::{Answer, Exchange, Reject};
use crate::stages::Stage;
use crate::stages::page::{self, Opened};

/// Name of the question to a modern client.
const KEY: &str = "approval";

/// Waits for an answer, as far as the client can wait.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn run(x: &mut Exchange, approval: &Approval, subject: &Subject, id: &str) -> Result<Pass, Reject> {
    let page = x.gate.approvals.get().and_then(|approvals| approvals.page(id));
    let Some(url) = page else { return Err(refused(x, approval, id, None)) };
    let message = format!("This call must be approved by {}. The page shows how it stands.", waits_for(approval));
    let opened = match page::open(x, KEY, &url, &message).await {
        Opened::Accepted { id, last } => match until(x, approval, subject, last).await? {
            Some(pass) => {
                x.elicitations.extend(id);
                return Ok(pass);
            }
            None if x.is_abandoned() => Opened::Gone,
            None => page::still_open(x, KEY, &url, &message),
        },
        opened => opened,
    };
    Err(match opened {
        Opened::Ask(raw) => {
            let reply = Answer::Reply(Box::new(CallReply::Result(raw)));
            Reject { answer: reply, ..nobody(Some(&approval.rule)) }.noted("waits for an approval")
        }
        Opened::Gone => Reject::abandoned(Stage::Approve),
        _ => refused(x, approval, id, Some(&url)),
    })
}

/// Looks until there is an answer; `None` when the time is over or nobody waits any more.
async fn until(x: &Exchange, approval: &Approval, subject: &Subject, last: Instant) -> Result<Option<Pass>, Reject> {
    let Some(approvals) = x.gate.approvals.get() else { return Ok(None) };
    loop {
        if let Some(pass) = look(x, approval, subject).await? {
            return Ok(Some(pass));
        }
        if Instant::now() >= last {
            return Ok(None);
        }
        tokio::select! {
            biased;
            () = x.abandoned() => return Ok(None),
            () = approvals.changed() => {}
            () = tokio::time::sleep_until(last) => {}
        }
    }
}

/// The refusal that names the page; a repeat of the same call goes on once it is approved.
pub(super) fn refused(x: &Exchange, approval: &Approval, id: &str, url: Option<&str>) -> Reject {
    let who = waits_for(approval);
    let where_to = url.map_or_else(String::new, |url| format!(" {url} shows how it stands."));
    let message = format!(
        "This call must be approved by {who}. It was asked as {id}.{where_to} \
         Call again with the same arguments once it is approved."
    );
    let refusal = Refusal {
        code: ReasonCode::ApprovalRequired,
        rule: Some(Arc::clone(&approval.rule)),
        event_id: x.id,
        retry_after_s: None,
        visible: true,
        message: Some(message),
        url: url.map(Arc::from),
    };
    let reply = Answer::Reply(Box::new(CallReply::Refused(refusal)));
    Reject { answer: reply, ..nobody(Some(&approval.rule)) }.noted(format!("waits for approval {id}"))
}
