//! Where the messages of a call come from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bartizan_egress::Body;
use bartizan_wire::Message;
use bartizan_wire::headers::LAST_EVENT_ID;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::channel::InFlight;
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::events::Events;
use crate::exchange::{Answer, judge, parse};
use crate::peer::{LegacyHttp, Peer};

/// Wait before a broken stream is resumed, when the server did not say.
const RETRY: Duration = Duration::from_secs(1);
/// Least wait; it doubles up to [`RETRY`] while nothing comes but new breaks.
const MIN_RETRY: Duration = Duration::from_millis(50);
/// Longest wait a server may ask for.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// Resumptions without a single event between them.
const MAX_BARREN: u32 = 5;

/// The source of a call's messages.
pub(crate) enum Reading {
    /// One JSON body.
    Json { body: Body, first: Bytes, rest: BytesMut },
    /// An event stream; of a legacy session it can be resumed.
    Events { events: Box<Events>, owner: Arc<str>, resume: Resume },
    /// A broken stream that waits to be resumed.
    Broken { owner: Arc<str>, resume: Resume, at: Instant },
    /// A shared connection.
    Channel { call: InFlight, owner: Arc<str> },
    /// Nothing more.
    Over,
}

/// What resuming needs (protocol reference 2, "SSE on POST").
#[derive(Clone, Default)]
pub(crate) struct Resume {
    last: Option<HeaderValue>,
    retry: Option<Duration>,
    barren: u32,
    /// Resumptions since the last message.
    idle: u32,
}

impl Reading {
    pub(crate) fn json(body: Body) -> Self {
        Self::Json { body, first: Bytes::new(), rest: BytesMut::new() }
    }

    pub(crate) fn events(events: Events, owner: Arc<str>) -> Self {
        Self::Events { events: Box::new(events), owner, resume: Resume::default() }
    }

    /// Whose notes come along here.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            Self::Events { owner, .. } | Self::Broken { owner, .. } | Self::Channel { owner, .. } => Some(owner),
            Self::Json { .. } | Self::Over => None,
        }
    }

    /// Reads on until there are messages, or the source has changed.
    pub(crate) async fn read(
        &mut self,
        env: &Env,
        peer: &Peer,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), UpstreamError> {
        match self {
            Self::Json { body, first, rest } => {
                let text = collect(body, first, rest, env.limits.upstream_body).await?;
                *self = Self::Over;
                ready.extend(parse(env, text)?);
                Ok(())
            }
            Self::Events { events, owner, resume } => {
                let read = events.next().await;
                resume.note(events);
                match read {
                    Ok(Some(batch)) => {
                        resume.barren = 0;
                        if batch.iter().any(|event| event.is_message() && !event.data.is_empty()) {
                            resume.idle = 0;
                        }
                        for event in batch.into_iter().filter(|event| event.is_message() && !event.data.is_empty()) {
                            ready.extend(parse(env, event.data)?);
                        }
                        Ok(())
                    }
                    Ok(None) => {
                        let (owner, resume) = (Arc::clone(owner), resume.clone());
                        self.broken(
                            peer,
                            owner,
                            resume,
                            UpstreamError::unavailable("the stream ended without an answer"),
                        )
                    }
                    Err(error @ UpstreamError::Unavailable { .. }) => {
                        let (owner, resume) = (Arc::clone(owner), resume.clone());
                        self.broken(peer, owner, resume, error)
                    }
                    Err(error) => Err(error),
                }
            }
            Self::Broken { owner, resume, at } => {
                tokio::time::sleep_until(*at).await;
                let Peer::Legacy(session) = peer else { return Err(UpstreamError::unavailable("the stream ended")) };
                let outcome = reopen(env, session, resume).await;
                let (owner, mut resume) = (Arc::clone(owner), resume.clone());
                match outcome {
                    Ok(events) => {
                        resume.barren += 1;
                        *self = Self::Events { events: Box::new(events), owner, resume };
                        Ok(())
                    }
                    Err(error @ (UpstreamError::Unavailable { .. } | UpstreamError::Refused { .. })) => {
                        resume.barren += 1;
                        self.broken(peer, owner, resume, error)
                    }
                    Err(error) => Err(error),
                }
            }
            Self::Channel { call, .. } => {
                ready.push_back(call.next().await?);
                Ok(())
            }
            Self::Over => Err(UpstreamError::protocol("the answer has another id, or none came")),
        }
    }

    /// Goes on by GET where the protocol allows it, else fails.
    fn broken(
        &mut self,
        peer: &Peer,
        owner: Arc<str>,
        resume: Resume,
        error: UpstreamError,
    ) -> Result<(), UpstreamError> {
        if !matches!(peer, Peer::Legacy(_)) || resume.last.is_none() || resume.barren >= MAX_BARREN {
            return Err(error);
        }
        // A server may want to be asked often, but not without end and at once.
        let least = (MIN_RETRY * (1 << resume.idle.min(8))).min(RETRY);
        let at = Instant::now() + resume.retry.unwrap_or(RETRY).max(least);
        let resume = Resume { idle: resume.idle.saturating_add(1), ..resume };
        *self = Self::Broken { owner, resume, at };
        Ok(())
    }
}

impl Resume {
    fn note(&mut self, events: &Events) {
        if let Some(id) = events.last_event_id() {
            self.last = Some(id);
        }
        if let Some(ms) = events.retry_ms {
            self.retry = Some(Duration::from_millis(ms).min(MAX_RETRY));
        }
    }
}

async fn reopen(env: &Env, session: &LegacyHttp, resume: &Resume) -> Result<Events, UpstreamError> {
    let mut headers = session.headers.clone();
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some(last) = &resume.last {
        headers.insert(LAST_EVENT_ID, last.clone());
    }
    let response = env.client.send(&session.url, Method::GET, headers, Bytes::new()).await?;
    match judge(env, response).await? {
        (_, Answer::Events(events)) => Ok(events),
        (_, Answer::Refused(refused)) => {
            if refused.status == 404 {
                crate::server::lost(session);
            }
            Err(UpstreamError::protocol(format!("the stream cannot be resumed (HTTP {})", refused.status)))
        }
        _ => Err(UpstreamError::protocol("the stream cannot be resumed")),
    }
}

/// The whole body, kept outside of the future so that nothing is lost when it is dropped.
async fn collect(body: &mut Body, first: &mut Bytes, rest: &mut BytesMut, max: usize) -> Result<Bytes, UpstreamError> {
    while let Some(data) = body.chunk().await? {
        if first.len() + rest.len() + data.len() > max {
            return Err(UpstreamError::TooLarge);
        }
        if first.is_empty() && rest.is_empty() {
            *first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if body.is_empty() {
            break;
        }
    }
    if rest.is_empty() {
        return Ok(std::mem::take(first));
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(first);
    whole.extend_from_slice(rest);
    Ok(whole.freeze())
}
