//! The person themself confirms a call, in the client where it can ask, on the page elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bartizan_approvals::{Answer as Decision, Decider, Pass};
use bartizan_model::{Era, EventId, PrincipalKind, RoleSet};
use bartizan_policy::Approval;
use bartizan_wire::translate::{LegacyAsk, ask_to_legacy};
use bartizan_wire::{Ask, AskAnswer, RawJson};

use super::{Subject, look, nobody, unavailable, wait};
use crate::call::CallReply;
use crate::exchange::{Answer, Exchange, Reject};
use crate::stages::Stage;
use crate::stages::forward::{End, ask_again, ask_all};

/// Longest text that a client is given, characters; what is longer is read on the page, because a
/// text must be complete.
const MOST: usize = 4_000;

/// Asks the person.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn run(x: &mut Exchange, approval: &Approval, subject: &Subject, id: &str) -> Result<Pass, Reject> {
    let approvals = x.gate.approvals.get().cloned().ok_or_else(|| nobody(Some(&approval.rule)))?;
    let record = approvals.get(id).await.ok().flatten().ok_or_else(|| nobody(Some(&approval.rule)))?;
    let text = format!("{}\nShall this call be made?", record.details.text());
    let key = format!("confirm-{id}");
    let params = RawJson::object([
        ("mode", &RawJson::string("form")),
        ("message", &RawJson::string(&text)),
        (
            "requestedSchema",
            &RawJson::object([("type", &RawJson::string("object")), ("properties", &RawJson::empty_object())]),
        ),
    ]);
    let ask = Ask { key: key.clone(), method: "elicitation/create".to_owned(), params: Some(params) };
    let person = x.caller.principal.kind == PrincipalKind::User;
    if !person || text.chars().count() > MOST || !ask.fits(&x.caller.profile) {
        return wait::run(x, approval, subject, id).await;
    }
    let answer = match x.era() {
        Era::Modern => match answered(x, &key) {
            Some(answer) => answer,
            None => return Err(told(x, approval, ask)),
        },
        Era::Legacy => match on_the_stream(x, &ask).await {
            Some(answer) => answer,
            None if x.is_abandoned() => return Err(Reject::abandoned(Stage::Approve)),
            // Neither yes nor no: the question stays open.
            None => return wait::run(x, approval, subject, id).await,
        },
    };
    let decider = Decider::Person { principal: Arc::clone(&x.caller.principal), roles: RoleSet::NONE };
    let decision = if answer { Decision::Call } else { Decision::Reject };
    match approvals.decide(&decider, id, &decision, None, None).await {
        // Answered elsewhere meanwhile: what was said there counts.
        Ok(_) | Err(bartizan_approvals::DecideError::Closed(_)) => {}
        Err(error) => return Err(unavailable(bartizan_approvals::AskError::Unavailable(error.to_string()))),
    }
    look(x, approval, subject).await?.ok_or_else(|| nobody(Some(&approval.rule)))
}

fn told(x: &Exchange, approval: &Approval, ask: Ask) -> Reject {
    match ask_again(x, vec![ask]) {
        End::InputRequired(raw) => {
            let reply = Answer::Reply(Box::new(CallReply::Result(raw)));
            Reject { answer: reply, ..nobody(Some(&approval.rule)) }.noted("the person was asked to confirm")
        }
        _ => nobody(Some(&approval.rule)),
    }
}

/// What a modern client's person said.
fn answered(x: &Exchange, key: &str) -> Option<bool> {
    x.resume.as_ref()?;
    let (_, answer) = x.params.input_responses.iter().flatten().find(|(name, _)| name == key)?;
    said(answer)
}

/// Closing a question without an answer is neither yes nor no.
fn said(answer: &RawJson) -> Option<bool> {
    match answer.get("action")?.as_string()?.as_ref() {
        "accept" => Some(true),
        "decline" => Some(false),
        _ => None,
    }
}

async fn on_the_stream(x: &Exchange, ask: &Ask) -> Option<bool> {
    let id = EventId::new(x.gate.clock.now_ms()).to_string();
    let LegacyAsk::Request(request) = ask_to_legacy(ask, &x.caller.profile, &id) else { return None };
    let answers = tokio::select! {
        biased;
        answers = ask_all(x, vec![request]) => answers,
        () = x.abandoned() => None,
        () = tokio::time::sleep(Duration::from_millis(x.gate.limits.park_ms)) => None,
    };
    match answers?.first() {
        Some((_, AskAnswer::Result(raw))) => said(raw),
        _ => None,
    }
}
