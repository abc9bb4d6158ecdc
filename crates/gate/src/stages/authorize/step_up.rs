//! All that is missing is something the person can add (A16, A17): the client is told where,
//! and the call goes on once it is there. Nothing was sent before.

use std::sync::Arc;

use bartizan_policy::{Decision, Need};
use tokio::time::Instant;

use super::decide;
use crate::call::{CallReply, Refusal};
use crate::exchange::{Answer, Exchange, Reject};
use crate::stages::Stage;
use crate::stages::page::{self, Opened};

/// How many things one call asks its person for.
const ROUNDS: usize = 3;

/// A decision that needs nothing more of the person, or a refusal that says what is missing.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn run(x: &mut Exchange, mut decision: Decision) -> Result<Decision, Reject> {
    // What is remembered about the grant may be older than what the person just did.
    if decision.need.is_some() && renew(x).await {
        decision = decide(x);
    }
    for _ in 0..ROUNDS {
        let Some(need) = decision.need.clone() else { return Ok(decision) };
        let Some(url) = x.gate.step_ups.link(&x.caller, &need, &about(x)) else {
            return Err(Reject::refused(Stage::Authorize, need.code(), decision.rule));
        };
        let told = |x: &Exchange, decision: Decision, raw: Option<_>| {
            let reply = match raw {
                Some(raw) => CallReply::Result(raw),
                None => CallReply::Refused(refusal(x, &need, &decision, &url)),
            };
            let refused = Reject::refused(Stage::Authorize, need.code(), decision.rule);
            Reject { answer: Answer::Reply(Box::new(reply)), ..refused }.noted("the person was asked")
        };
        let (key, message) = question(&need);
        let opened = match page::open(x, key, &url, message).await {
            Opened::Accepted { id, last } => match wait(x, &need, last).await {
                Waited::Changed(changed) => {
                    x.elicitations.extend(id);
                    decision = changed;
                    continue;
                }
                Waited::Same => page::still_open(x, key, &url, message),
                Waited::Gone => Opened::Gone,
            },
            opened => opened,
        };
        return Err(match opened {
            Opened::Ask(raw) => told(x, decision, Some(raw)),
            Opened::Gone => Reject::abandoned(Stage::Authorize),
            _ => told(x, decision, None),
        });
    }
    Ok(decision)
}

/// What a waiting call sees.
enum Waited {
    /// This is no longer what is missing.
    Changed(Decision),
    /// It is, and the time is over.
    Same,
    /// Nobody waits any more.
    Gone,
}

async fn wait(x: &mut Exchange, need: &Need, last: Instant) -> Waited {
    loop {
        if renew(x).await {
            let decision = decide(x);
            if decision.need.as_ref() != Some(need) {
                return Waited::Changed(decision);
            }
        }
        if Instant::now() >= last {
            return Waited::Same;
        }
        if !page::pause(x, last).await {
            return Waited::Gone;
        }
    }
}

/// Takes over what the grant's sign-in tells now. True when that is something else.
async fn renew(x: &mut Exchange) -> bool {
    let Some(facts) = x.gate.step_ups.facts(&x.caller).await else { return false };
    let changed = x.caller.circumstances.facts.as_ref() != Some(&facts);
    // What was decided for the view was decided with the old ones.
    if changed && let Some(route) = &mut x.route {
        route.decision = None;
    }
    x.caller.circumstances.facts = Some(facts);
    x.decided_ms = x.decided_ms.max(x.gate.clock.now_ms());
    changed
}

/// What the person reads it is for: the name the client used, which the person may see.
fn about(x: &Exchange) -> String {
    x.asked_for().map_or_else(|| x.endpoint.label(), str::to_owned)
}

/// Key and text of the question. The keys differ, so that the answer to one is not taken for
/// the answer to the other.
fn question(need: &Need) -> (&'static str, &'static str) {
    match need {
        Need::Mfa { .. } => ("step_up", "Confirm with a second factor first."),
        Need::Purpose => ("purpose", "Say what you need this access for first."),
    }
}

fn refusal(x: &Exchange, need: &Need, decision: &Decision, url: &str) -> Refusal {
    Refusal {
        code: need.code(),
        rule: decision.rule.clone(),
        event_id: x.id,
        retry_after_s: None,
        visible: true,
        message: Some(format!("{} Open {url} and call again.", question(need).1)),
        url: Some(Arc::from(url)),
    }
}
