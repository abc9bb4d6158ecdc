//! Links in messages: they name one question and one channel, are good for ten minutes and one
//! answer, and open a page that still wants the approver signed in.

use bartizan_vault::HandleSealer;
use serde::{Deserialize, Serialize};

/// How long a link is good, milliseconds (features section 1.3).
pub const LINK_MS: i64 = 600_000;

#[derive(Serialize, Deserialize)]
struct Payload {
    /// Own id, for single use.
    n: String,
    /// The question.
    a: String,
    /// The channel it was sent to.
    c: String,
    /// End, milliseconds since the epoch.
    e: i64,
}

/// What an authentic link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Own id.
    pub nonce: String,
    /// The channel it was sent to.
    pub channel: String,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
}

const PURPOSE: &str = "approval-link";

/// Makes a link for a question; `None` without randomness.
pub(crate) fn seal(handles: &HandleSealer, nonce: String, id: &str, channel: &str, now_ms: i64) -> Option<String> {
    let payload = Payload { n: nonce, a: id.to_owned(), c: channel.to_owned(), e: now_ms.saturating_add(LINK_MS) };
    handles.seal(PURPOSE, &serde_json::to_vec(&payload).ok()?).ok()
}

/// Opens a link; `None` when it is forged, too old or for another question.
pub(crate) fn open(handles: &HandleSealer, link: &str, id: &str, now_ms: i64) -> Option<Opened> {
    let payload: Payload = serde_json::from_slice(&handles.open(PURPOSE, link).ok()?).ok()?;
    let good = payload.a == id && payload.e > now_ms;
    good.then_some(Opened { nonce: payload.n, channel: payload.c, expires_ms: payload.e })
}
