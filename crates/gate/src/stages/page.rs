//! A page that a person must open before a call can go on (section 1.2): the client is told
//! in the way it declared.

use std::time::Duration;

use bartizan_model::{Era, EventId};
use bartizan_wire::translate::{LegacyAsk, ask_to_legacy};
use bartizan_wire::{Ask, AskAnswer, RawJson};
use tokio::time::Instant;

use super::forward::{End, ask_again, ask_all};
use crate::exchange::Exchange;
use crate::request_state::Kind;

/// How often it is looked whether the person is through, while a call waits.
const LOOK: Duration = Duration::from_secs(1);

/// How long the next round of a modern client waits for its person: less than clients wait for
/// an answer. Clients ask again at once and only some rounds, and people need minutes.
#[cfg(not(test))]
const HOLD: Duration = Duration::from_secs(25);
#[cfg(test)]
const HOLD: Duration = Duration::from_millis(200);

/// What came of telling.
pub(crate) enum Opened {
    /// `input_required`.
    Ask(RawJson),
    /// The client is asked in no other way than by a refusal with the address.
    Refuse,
    /// Nobody waits any more.
    Gone,
    /// The person went to the page; the call waits until then.
    Accepted {
        /// Of the elicitation, where it has one.
        id: Option<String>,
        /// When the call gives up.
        last: Instant,
    },
}

/// Tells the client, and waits for a legacy client's person to go there. A modern client that
/// comes back with the answer to `key` is not told again.
pub(crate) async fn open(x: &Exchange, key: &str, url: &str, message: &str) -> Opened {
    let Some(ask) = question(x, key, url, message) else { return Opened::Refuse };
    match (x.era(), accepted(x, key)) {
        (Era::Legacy, _) => wait(x, &ask).await,
        (Era::Modern, None) => again(x, ask),
        (Era::Modern, Some(true)) => Opened::Accepted { id: None, last: Instant::now() + HOLD.min(park(x)) },
        (Era::Modern, Some(false)) => Opened::Refuse,
    }
}

/// What the client is told after a wait that came to nothing: a modern one once more, because
/// the person may still be at it.
pub(crate) fn still_open(x: &Exchange, key: &str, url: &str, message: &str) -> Opened {
    match question(x, key, url, message) {
        Some(ask) if x.era() == Era::Modern => again(x, ask),
        _ => Opened::Refuse,
    }
}

/// Waits between two looks; false when nobody waits for the answer any more.
pub(crate) async fn pause(x: &Exchange, last: Instant) -> bool {
    tokio::select! {
        biased;
        () = x.abandoned() => false,
        () = tokio::time::sleep_until(last.min(Instant::now() + LOOK)) => true,
    }
}

/// The question, if the client can be asked it.
fn question(x: &Exchange, key: &str, url: &str, message: &str) -> Option<Ask> {
    let params = RawJson::object([
        ("mode", &RawJson::string("url")),
        ("url", &RawJson::string(url)),
        ("message", &RawJson::string(message)),
    ]);
    let ask = Ask { key: key.to_owned(), method: "elicitation/create".to_owned(), params: Some(params) };
    // Only these can be asked once more after the answer.
    let asks = matches!(x.method(), "tools/call" | "prompts/get" | "resources/read");
    // The round of a call that was forwarded already stays what it is: the client comes back
    // with the same state, and nothing runs twice.
    let begun = x.resume.as_ref().is_some_and(|state| state.kind != Kind::Again);
    (asks && !begun && ask.fits(&x.caller.profile)).then_some(ask)
}

fn again(x: &Exchange, ask: Ask) -> Opened {
    match ask_again(x, vec![ask]) {
        End::InputRequired(raw) => Opened::Ask(raw),
        _ => Opened::Refuse,
    }
}

/// Whether the person of a modern client's next round agreed to open the page.
fn accepted(x: &Exchange, key: &str) -> Option<bool> {
    x.resume.as_ref()?;
    let (_, answer) = x.params.input_responses.iter().flatten().find(|(name, _)| name == key)?;
    Some(is_accept(answer))
}

fn is_accept(answer: &RawJson) -> bool {
    answer.get("action").is_some_and(|action| action.as_string().is_some_and(|action| action == "accept"))
}

fn park(x: &Exchange) -> Duration {
    Duration::from_millis(x.gate.limits.park_ms)
}

async fn wait(x: &Exchange, ask: &Ask) -> Opened {
    let id = EventId::new(x.gate.clock.now_ms()).to_string();
    let LegacyAsk::Request(request) = ask_to_legacy(ask, &x.caller.profile, &id) else { return Opened::Refuse };
    let last = Instant::now() + park(x);
    let answered = tokio::select! {
        biased;
        answered = ask_all(x, vec![request]) => answered,
        () = x.abandoned() => return Opened::Gone,
        () = tokio::time::sleep_until(last) => None,
    };
    let accepts = |answer: &AskAnswer| matches!(answer, AskAnswer::Result(raw) if is_accept(raw));
    let accepted = answered.iter().flatten().any(|(_, answer)| accepts(answer));
    // Accepting means to open the page, not to be through with it.
    if accepted { Opened::Accepted { id: Some(id), last } } else { Opened::Refuse }
}
