//! A legacy client in front of a modern upstream: each `input_required` becomes real
//! requests to the client, all at once; the upstream is called again with the
//! answers (protocol.md 5.1, 5.2).

use std::sync::Arc;

use bartizan_model::EventId;
use bartizan_model::event::Outcome;
use bartizan_upstream::Resume;
use bartizan_wire::translate::{LegacyAsk, answer_to_modern, ask_to_legacy, elicitation_complete};
use bartizan_wire::{Ask, AskAnswer, RpcError, ask, codes};

use super::End;
use super::asks::ask_all;
use super::relay::Turn;
use crate::call::{CallOutput, CallReply};
use crate::exchange::Exchange;

/// Rounds of one call at most.
pub(crate) const MAX: usize = 8;

/// The end of a call whose upstream never stops asking.
pub(crate) fn too_many(x: &Exchange) -> End {
    let message = format!("the server asked more than {MAX} times, see event {}", x.id);
    End::Stopped {
        reply: CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, message)),
        outcome: Outcome::Unknown,
        code: None,
        note: "too many rounds",
    }
}

/// Asks the client; ends the call when it cannot or will not answer.
pub(crate) async fn ask(x: &mut Exchange, asks: Vec<Ask>, request_state: Option<String>) -> Turn {
    if asks.is_empty() {
        return Turn::Again(Resume { request_state, answers: Vec::new() });
    }
    let mut requests = Vec::with_capacity(asks.len());
    for question in &asks {
        let id = EventId::new(x.gate.clock.now_ms()).to_string();
        match ask_to_legacy(question, &x.caller.profile, &id) {
            LegacyAsk::Request(request) => requests.push(request),
            LegacyAsk::Link { message, url } => return Turn::End(End::for_reading(x, &message, &url)),
            LegacyAsk::Unsupported => return Turn::End(unsupported(x, question)),
        }
        if question.is_url_elicitation() {
            x.elicitations.push(id);
        }
    }
    let answered = tokio::select! {
        biased;
        answered = ask_all(x, requests) => answered,
        () = x.abandoned() => return Turn::End(End::Abandoned),
    };
    let Some(given) = answered else { return Turn::End(unanswered()) };
    let mut answers = Vec::with_capacity(asks.len());
    for question in asks {
        let Some((_, answer)) = given.iter().find(|(key, _)| *key == question.key) else {
            return Turn::End(unanswered());
        };
        match answer_to_modern(&question.method, answer) {
            Ok(answer) => answers.push((question.key, AskAnswer::Result(answer))),
            Err(error) => return Turn::End(End::Error(error)),
        }
    }
    Turn::Again(Resume { request_state, answers })
}

/// After the call went through, links that were opened for it are done.
pub(crate) async fn completed(x: &mut Exchange) {
    for id in std::mem::take(&mut x.elicitations) {
        let method = Arc::from("notifications/elicitation/complete");
        x.say(CallOutput::Notify { method, params: Some(elicitation_complete(&id)) }).await;
    }
}

/// The legacy era has no code for this, so the message names the capability.
fn unsupported(x: &Exchange, question: &Ask) -> End {
    let missing = ask::missing_capabilities(&x.caller.profile, std::slice::from_ref(question));
    let message = missing.map_or_else(
        || format!("the server asked for `{}`, which no client can answer", question.method),
        |missing| ask::missing_capability_error(&missing).message,
    );
    End::Error(RpcError::new(codes::INTERNAL_ERROR, message))
}

fn unanswered() -> End {
    let message = "the client did not answer the server's question";
    End::Stopped {
        reply: CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, message)),
        outcome: Outcome::Cancelled,
        code: None,
        note: "question not answered",
    }
}
