//! `approve`: somebody else has a say (W12, A16). A call that a policy wants approved waits for
//! its answer in the way its client can wait; what was answered is kept in the store, so that the
//! repeat of the same call goes on at any process.

mod confirm;
mod entry;
mod wait;

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bartizan_approvals::{AskError, Details, Pass, Standing};
use bartizan_catalog::ServerSpec;
use bartizan_model::{PrincipalKind, ReasonCode};
use bartizan_policy::{Action, Approval, Approver, Asks};

use super::Stage;
use crate::exchange::{Exchange, Reject, Route};
use crate::request_state::{Kind, exact, hex};

/// Lets a call go on that nobody has to approve, or somebody has.
///
/// # Errors
/// What the client is told instead of an answer.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    // A call that was forwarded already was approved in its first round.
    let begun = x.resume.as_ref().is_some_and(|state| state.kind != Kind::Again);
    for approval in x.approvals.clone() {
        match approval.asks {
            Asks::Entry { .. } => entry::run(x, &approval).await?,
            Asks::Call { .. } if begun => {}
            Asks::Call { .. } => call(x, &approval).await?,
        }
    }
    Ok(())
}

/// Uses up what lets the call go on, at the last moment before it is forwarded: a call that ends
/// before that costs nobody an approval.
///
/// # Errors
/// [`Reject`] when somebody else used it, or that cannot be told.
pub(crate) async fn use_up(x: &Exchange) -> Result<(), Reject> {
    if x.dry || x.passes.is_empty() {
        return Ok(());
    }
    let approvals = x.gate.approvals.get().ok_or_else(|| nobody(None))?;
    for pass in &x.passes {
        if !approvals.use_up(pass, &x.caller.principal, x.id).await.map_err(unavailable)? {
            return Err(nobody(None).noted(format!("approval {} was used or ended meanwhile", pass.id)));
        }
    }
    Ok(())
}

/// A refusal without a way on.
fn nobody(rule: Option<&Arc<str>>) -> Reject {
    Reject::refused(Stage::Approve, ReasonCode::ApprovalRequired, rule.cloned())
}

fn unavailable(error: AskError) -> Reject {
    match error {
        AskError::TooMany { retry_after_s } => {
            let rule: Arc<str> =
                format!("approvals: at most {} within one hour", bartizan_approvals::MOST_PER_HOUR).into();
            let refused = Reject::refused(Stage::Approve, ReasonCode::RateLimited, Some(rule));
            Reject { retry_after_s: Some(retry_after_s), ..refused }
        }
        AskError::Unavailable(why) => {
            tracing::error!(why, "approvals are not available");
            nobody(None).noted("approvals are not available")
        }
    }
}

/// A call as it is asked about.
struct Subject {
    /// `tool:SERVER/NAME`.
    name: String,
    /// Digest over everything an approval of this exact call is bound to.
    digest: String,
    /// Digest over what the call would run, whatever its arguments.
    definition: String,
}

impl Subject {
    fn of(x: &Exchange, route: &Route, spec: &ServerSpec) -> Self {
        let kind = match route.action {
            Action::GetPrompt => "prompt",
            Action::ReadResource => "resource",
            _ => "tool",
        };
        let name = format!("{kind}:{}/{}", spec.id, route.name);
        // Another definition or another server behind the same name is another call.
        let definition = digest_of(&[x.method(), &name, route.pin.as_deref().unwrap_or_default(), &spec.version]);
        let arguments = x.params.arguments.as_ref().map(exact).unwrap_or_default();
        let digest = digest_of(&[&definition, &arguments]);
        Self { name, digest, definition }
    }
}

/// SHA-256 over parts with their lengths, lower-case hex.
fn digest_of(parts: &[&str]) -> String {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(hash.finish().as_ref())
}

/// One rule that wants this call approved.
async fn call(x: &mut Exchange, approval: &Approval) -> Result<(), Reject> {
    let Some(route) = x.route.clone() else { return Err(nobody(Some(&approval.rule))) };
    // The portal's own tools only change what their caller sees.
    let Some(spec) = route.server() else { return Ok(()) };
    if matches!(route.action, Action::Complete | Action::Other) {
        // What it does is in members that nobody here knows, or it is asked with every key that is pressed: there is
        // no question that a person could answer.
        return Err(nobody(Some(&approval.rule)).noted("nobody can be asked about this method"));
    }
    let approvals = x.gate.approvals.get().cloned().ok_or_else(|| nobody(Some(&approval.rule)))?;
    if x.caller.principal.kind == PrincipalKind::Anonymous {
        return Err(nobody(Some(&approval.rule)));
    }
    let subject = Subject::of(x, &route, spec);
    let standing =
        approvals.standing(&x.caller.principal, approval, &subject.name, &subject.digest, &subject.definition).await;
    let id = match standing.map_err(unavailable)? {
        Standing::Open(id) => Some(id),
        Standing::Expired if x.resume.is_some() => return Err(ended(approval, &Standing::Expired)),
        Standing::Nothing | Standing::Expired => None,
        Standing::Granted(pass) => {
            x.passes.push(pass);
            return Ok(());
        }
        rejected @ Standing::Rejected(_) => return Err(ended(approval, &rejected)),
    };
    if x.dry {
        // Explaining asks nobody.
        return Err(nobody(Some(&approval.rule)).noted(format!("waits for {}", waits_for(approval))));
    }
    let id = match id {
        Some(id) => id,
        None => {
            let question = bartizan_approvals::CallQuestion {
                requester: &x.caller.principal,
                approval,
                subject: &subject.name,
                digest: &subject.digest,
                definition: &subject.definition,
                owner: x.caller.circumstances.owner.as_deref(),
                event: x.id,
                details: details(x, &route, spec, approval),
            };
            approvals.ask(question).await.map_err(unavailable)?
        }
    };
    let pass = if *approval.approvers == [Approver::Requester] {
        confirm::run(x, approval, &subject, &id).await?
    } else {
        wait::run(x, approval, &subject, &id).await?
    };
    x.passes.push(pass);
    // It may have waited for minutes: what was switched off meanwhile stays off.
    super::state::run(x).await
}

/// The facts of a call, as they are.
fn details(x: &Exchange, route: &Route, spec: &ServerSpec, approval: &Approval) -> Details {
    let caller = &x.caller;
    let client = caller.client.as_deref().map(|name| match caller.client_version.as_deref() {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    });
    let arguments = x.params.arguments.as_ref().map_or_else(|| "{}".to_owned(), |raw| raw.as_str().to_owned());
    Details {
        requester: caller.principal.key().to_string(),
        client,
        grant: caller.circumstances.grant.as_deref().map(str::to_owned),
        portal: x.endpoint.portal().map(ToString::to_string),
        server: Some(spec.id.clone()),
        target: route.name.to_string(),
        exposed: x.asked_for().filter(|asked| *asked != &*route.name).map(str::to_owned),
        class: Some(route.class),
        labels: Vec::new(),
        arguments: Some(arguments),
        rule: approval.rule.to_string(),
        ..Details::default()
    }
}

/// The approvers, for people.
fn waits_for(approval: &Approval) -> String {
    approval.who().join(" or ")
}

/// The refusal of a call that somebody said no to, or nobody answered.
fn ended(approval: &Approval, standing: &Standing) -> Reject {
    let (code, note) = match standing {
        Standing::Rejected(reason) => (ReasonCode::ApprovalRejected, reason.clone()),
        _ => (ReasonCode::ApprovalExpired, None),
    };
    let refused = Reject::refused(Stage::Approve, code, Some(Arc::clone(&approval.rule)));
    match note {
        Some(note) => refused.noted(note),
        None => refused,
    }
}

/// How a call stands that is waiting.
async fn look(x: &Exchange, approval: &Approval, subject: &Subject) -> Result<Option<Pass>, Reject> {
    let approvals = x.gate.approvals.get().ok_or_else(|| nobody(Some(&approval.rule)))?;
    let standing =
        approvals.standing(&x.caller.principal, approval, &subject.name, &subject.digest, &subject.definition).await;
    match standing.map_err(unavailable)? {
        Standing::Granted(pass) => Ok(Some(pass)),
        Standing::Open(_) => Ok(None),
        // Taken back, or used by another repeat of the call.
        Standing::Nothing => Err(nobody(Some(&approval.rule))),
        over => Err(ended(approval, &over)),
    }
}
