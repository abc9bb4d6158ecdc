//! HTTP+SSE of 2024-11-05: one long event stream, messages by POST to its endpoint.

use std::sync::Arc;

use bartizan_egress::Url;
use bartizan_model::Era;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::Semaphore;

use super::{Channel, MAX_REPLIES, Out};
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::events::Events;
use crate::exchange::{Answer, judge, moved};
use crate::notes::NoteSink;

/// What a GET led to.
pub(crate) enum Opened {
    Channel(Arc<Channel>),
    /// The transport is not at this URL: HTTP 400, 404, 405, 406, or a page.
    NotHere(u16),
}

/// Opens the stream and waits for its `endpoint` event; the caller sets the time limit.
pub(crate) async fn open(
    env: &Arc<Env>,
    url: &Url,
    headers: &HeaderMap,
    notes: NoteSink,
) -> Result<Opened, UpstreamError> {
    let mut get = headers.clone();
    get.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    get.remove(CONTENT_TYPE);
    let response = env.client.send(url, Method::GET, get, Bytes::new()).await?;
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if (200..300).contains(&status) && !kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream") {
        return Ok(Opened::NotHere(status));
    }
    let mut events = match judge(env, response).await? {
        (_, Answer::Events(events)) => events,
        (_, Answer::Refused(refused)) if matches!(refused.status, 400 | 404 | 405 | 406) && !refused.is_modern() => {
            return Ok(Opened::NotHere(refused.status));
        }
        (_, Answer::Refused(refused)) => return Err(refused.to_upstream()),
        (_, Answer::Moved(_)) => return Err(moved(status)),
        (_, Answer::Json(_) | Answer::Accepted) => return Ok(Opened::NotHere(status)),
    };
    let (endpoint, early) = endpoint(&mut events, url).await?;
    let out = Out::Post { url: endpoint, headers: headers.clone(), replies: Arc::new(Semaphore::new(MAX_REPLIES)) };
    let channel = Channel::new(env, Era::Legacy, out, notes, None);
    for text in early {
        channel.receive(text);
    }
    tokio::spawn(read(Arc::clone(&channel), events));
    Ok(Opened::Channel(channel))
}

/// The POST URL, and messages that came right behind it.
async fn endpoint(events: &mut Events, url: &Url) -> Result<(Url, Vec<Bytes>), UpstreamError> {
    let mut found: Option<Url> = None;
    while let Some(batch) = events.next().await? {
        let mut early = Vec::new();
        for event in batch {
            if event.event.as_deref() == Some("endpoint") && found.is_none() {
                let text = std::str::from_utf8(&event.data).unwrap_or_default();
                let endpoint = url.join(text.trim())?;
                // Another origin would be given our credential, or be somebody's internal host.
                if !endpoint.same_origin(url) {
                    return Err(UpstreamError::Blocked { why: "the SSE endpoint is on another origin".to_owned() });
                }
                found = Some(endpoint);
            } else if event.is_message() && found.is_some() {
                early.push(event.data);
            }
        }
        if let Some(endpoint) = found {
            return Ok((endpoint, early));
        }
    }
    Err(UpstreamError::unavailable("the stream ended before its endpoint event"))
}

async fn read(channel: Arc<Channel>, mut events: Events) {
    let mut stopped = false;
    let error = loop {
        tokio::select! {
            biased;
            () = channel.stop.cancelled() => {
                stopped = true;
                break UpstreamError::unavailable("the connection was closed");
            }
            batch = events.next() => match batch {
                Ok(Some(batch)) => {
                    for event in batch.into_iter().filter(bartizan_wire::sse::Event::is_message) {
                        channel.receive(event.data);
                    }
                }
                Ok(None) => break UpstreamError::unavailable("the event stream ended"),
                Err(error) => break error,
            },
        }
    };
    if channel.close(error) && !stopped {
        channel.crashed.store(true, std::sync::atomic::Ordering::Release);
    }
    channel.stop.cancel();
    channel.gone.cancel();
}
