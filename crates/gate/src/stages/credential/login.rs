//! A person must connect an account first (P37): the client is told where, in the way it
//! declared, and the call goes on where it can.

use std::sync::Arc;

use bartizan_accounts::{AccountError, AccountKind, Accounts, Standing};
use bartizan_catalog::ServerSpec;
use bartizan_model::ReasonCode;
use bartizan_model::event::Outcome;
use bartizan_upstream::UpstreamError;
use bartizan_wire::RawJson;
use tokio::time::Instant;

use super::unusable;
use crate::call::{CallReply, Refusal};
use crate::exchange::{Answer, Exchange, Reject};
use crate::stages::Stage;
use crate::stages::forward::End;
use crate::stages::page::{self, Opened};

/// Key of the question.
const KEY: &str = "login";

/// What the client is told, or the token it waited for.
enum Way {
    /// The account is there now.
    Connected(Option<Standing>),
    /// `input_required`.
    Ask(RawJson),
    /// A refusal with the address.
    Refuse,
    /// Nobody waits any more.
    Gone,
    /// The account cannot be used.
    Unusable(AccountError),
}

/// Before anything was sent.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn login(x: &mut Exchange, spec: &Arc<ServerSpec>) -> Result<Option<Standing>, Reject> {
    let told = |reply, note: &str| {
        let refused = Reject::refused(Stage::Credential, ReasonCode::LoginRequired, None);
        Reject { answer: Answer::Reply(Box::new(reply)), ..refused }.noted(note)
    };
    match way(x, spec, None).await {
        Way::Connected(account) => Ok(account),
        Way::Ask(raw) => Err(told(CallReply::Result(raw), "input required")),
        Way::Refuse => Err(told(CallReply::Refused(refusal(x, spec)), "the account must be connected")),
        Way::Gone => Err(Reject::abandoned(Stage::Credential)),
        Way::Unusable(error) => Err(unusable(&error)),
    }
}

/// After the server answered 401, which means that nothing was executed. Returns when the
/// request may be sent once more.
///
/// # Errors
/// The end of the call.
pub(crate) async fn refused(x: &mut Exchange, spec: &Arc<ServerSpec>, error: UpstreamError) -> Result<(), End> {
    let (Some(challenge), Some(version)) = (crate::personal::unauthorized(&error), x.account) else {
        return Err(End::Failed(error));
    };
    let renewed = x.gate.personal.refused(spec, &x.caller.principal, version, challenge).await;
    let account = match renewed {
        Ok(account) => account,
        Err(AccountError::LoginNeeded) => match way(x, spec, Some(version)).await {
            Way::Connected(account) => account,
            Way::Ask(raw) => return Err(End::InputRequired(raw)),
            Way::Refuse => {
                return Err(End::Stopped {
                    reply: CallReply::Refused(refusal(x, spec)),
                    outcome: Outcome::Refused,
                    code: Some(ReasonCode::LoginRequired),
                    note: "the account must be connected",
                });
            }
            Way::Gone => return Err(End::Abandoned),
            Way::Unusable(_) => return Err(End::Failed(error)),
        },
        Err(_) => return Err(End::Failed(error)),
    };
    take(x, account);
    Ok(())
}

/// Notes whose account goes upstream.
pub(super) fn take(x: &mut Exchange, account: Option<Standing>) {
    if let Some(account) = account {
        x.account = Some(account.version);
        x.identity = Some(account.identity.to_string());
    }
}

fn message(spec: &ServerSpec) -> String {
    match Accounts::kind(spec) {
        AccountKind::SignIn { .. } => format!("Sign in again to use {}.", spec.name),
        _ => format!("Connect your account at {} first.", spec.name),
    }
}

fn refusal(x: &Exchange, spec: &ServerSpec) -> Refusal {
    let url = x.gate.personal.login_url(spec);
    let message = match &url {
        Some(url) => format!("{} Open {url} and call again.", message(spec)),
        None => message(spec),
    };
    Refusal {
        code: ReasonCode::LoginRequired,
        rule: None,
        event_id: x.id,
        retry_after_s: None,
        visible: true,
        message: Some(message),
        url: url.map(Into::into),
    }
}

/// `refused`: version of the token that the server did not take.
async fn way(x: &mut Exchange, spec: &Arc<ServerSpec>, refused: Option<i64>) -> Way {
    let Some(url) = x.gate.personal.login_url(spec) else { return Way::Refuse };
    let (id, last) = match page::open(x, KEY, &url, &message(spec)).await {
        Opened::Accepted { id, last } => (id, last),
        opened => return told(opened),
    };
    loop {
        match x.gate.personal.ready(spec, &x.caller.principal).await {
            // The one that was refused may still be there: it was too young to be given up.
            Ok(Some(account)) if Some(account.version) == refused => {}
            Ok(account) => {
                x.elicitations.extend(id);
                return Way::Connected(account);
            }
            Err(AccountError::LoginNeeded) => {}
            Err(error) => return Way::Unusable(error),
        }
        if Instant::now() >= last {
            return told(page::still_open(x, KEY, &url, &message(spec)));
        }
        if !page::pause(x, last).await {
            return Way::Gone;
        }
    }
}

fn told(opened: Opened) -> Way {
    match opened {
        Opened::Ask(raw) => Way::Ask(raw),
        Opened::Gone => Way::Gone,
        Opened::Refuse | Opened::Accepted { .. } => Way::Refuse,
    }
}
