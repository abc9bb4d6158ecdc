//! An event stream with its body.

use bartizan_egress::Body;
use bartizan_wire::sse::{Decoder, Event};

use http::HeaderValue;

use crate::error::UpstreamError;

/// Longest event id that is sent back, in bytes.
const MAX_EVENT_ID: usize = 1024;

/// Reads events. Dropping it closes the stream.
pub(crate) struct Events {
    body: Body,
    decoder: Decoder,
    /// `retry` of the stream, in milliseconds.
    pub(crate) retry_ms: Option<u64>,
}

impl Events {
    /// `max` bounds one event, in bytes.
    pub(crate) fn new(body: Body, max: usize) -> Self {
        Self { body, decoder: Decoder::new(max), retry_ms: None }
    }

    /// The events of the next piece that has any; `None` at the end of the stream. Nothing
    /// is lost when the returned future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Event>>, UpstreamError> {
        loop {
            let Some(chunk) = self.body.chunk().await? else { return Ok(None) };
            let events = self.decoder.push(&chunk).map_err(|_| UpstreamError::TooLarge)?;
            if let Some(ms) = events.iter().filter_map(|event| event.retry).next_back() {
                self.retry_ms = Some(ms);
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }

    /// Everything wanted has come; the server should end the stream now.
    pub(crate) fn finish(self) {
        self.body.finish();
    }

    /// For `Last-Event-ID`; none when it is too long or cannot be in a header.
    pub(crate) fn last_event_id(&self) -> Option<HeaderValue> {
        let id = self.decoder.last_event_id().filter(|id| !id.is_empty() && id.len() <= MAX_EVENT_ID)?;
        HeaderValue::from_bytes(id.as_bytes()).ok()
    }
}
