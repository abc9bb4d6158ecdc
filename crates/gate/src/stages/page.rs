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
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// What came of telling.
pub(crate) enum Opened {
    /// `input_required`.
    Ask(RawJson),
    /// The client is asked in no other way than by a refusal with the address.
    Refuse,
    /// Nobody waits any more.
    Gone,
    /// The person went to the page; the call waits until then, and the client's question
    /// has this id.
    Accepted {
        /// Of the elicitation.
        id: String,
        /// When the call gives up.
        last: Instant,
    },
}

/// Tells the client, and waits for a legacy client's person to go there.
pub(crate) async fn open(x: &Exchange, key: &str, url: &str, message: &str) -> Opened {
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
    if !asks || begun || !ask.fits(&x.caller.profile) {
        return Opened::Refuse;
    }
    match x.era() {
        Era::Modern => match ask_again(x, vec![ask]) {
            End::InputRequired(raw) => Opened::Ask(raw),
            _ => Opened::Refuse,
        },
        Era::Legacy => wait(x, &ask).await,
    }
}

async fn wait(x: &Exchange, ask: &Ask) -> Opened {
    let id = EventId::new(x.gate.clock.now_ms()).to_string();
    let LegacyAsk::Request(request) = ask_to_legacy(ask, &x.caller.profile, &id) else { return Opened::Refuse };
    let last = Instant::now() + Duration::from_millis(x.gate.limits.park_ms);
    let answered = tokio::select! {
        biased;
        answered = ask_all(x, vec![request]) => answered,
        () = x.abandoned() => return Opened::Gone,
        () = tokio::time::sleep_until(last) => None,
    };
    let accepts = |answer: &AskAnswer| match answer {
        AskAnswer::Result(raw) => raw.get("action").and_then(|action| action.as_string().map(|a| a == "accept")),
        AskAnswer::Error(_) => None,
    };
    let accepted = answered.iter().flatten().any(|(_, answer)| accepts(answer) == Some(true));
    // Accepting means to open the page, not to be through with it.
    if accepted { Opened::Accepted { id, last } } else { Opened::Refuse }
}
