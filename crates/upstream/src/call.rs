//! One call on its way: no task of its own, everything happens in `next`.

mod open;
mod read;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_wire::translate::{self, Hop, InputRequired, ResultKind, Translated};
use bartizan_wire::{
    Ask, AskAnswer, ClientProfile, Kind, Message, RawJson, RequestId, RpcError, ask, build, codes, meta_key, splice,
};
use tokio::time::Instant;

use crate::breaker::Pass;
use crate::error::UpstreamError;
use crate::notes;
use crate::peer::Peer;
use crate::questions::Asked;
use crate::server::Server;
use crate::slots::Busy;
use crate::types::{Discovered, ServerNote, UpstreamEvent, UpstreamReply};

pub(crate) use open::{Options, open};
use read::Reading;

/// Questions of one call that wait for answers at once.
const MAX_ASKS: usize = translate::MAX_ASKS;
/// Time an explicit cancellation may take.
const CANCEL_TIME: Duration = Duration::from_secs(1);

/// A call under way. Dropping it cancels it upstream.
pub struct UpstreamCall {
    server: Arc<Server>,
    profile: Arc<ClientProfile>,
    method: Arc<str>,
    /// `uri` of resources/read, for errors that must name it.
    uri: Option<String>,
    id: i64,
    /// The client's progress token, while ours is sent.
    token: Option<RawJson>,
    /// Results are wanted as the server sent them.
    raw: bool,
    peer: Peer,
    /// Keeps the session from being ended meanwhile.
    _in_session: Option<Arc<()>>,
    said: Option<Arc<Discovered>>,
    reading: Reading,
    /// Questions that come on the session's own stream.
    asked: Option<Asked>,
    ready: VecDeque<Message>,
    /// Made here before anything was sent.
    premade: Option<UpstreamReply>,
    /// Open questions: key and the server's request id.
    asks: Vec<(String, RequestId)>,
    /// Moved by progress and answers.
    deadline: Instant,
    /// Not moved by anything.
    limit: Instant,
    started: Instant,
    done: bool,
    busy: Option<Busy>,
    pass: Option<Pass>,
}

impl UpstreamCall {
    /// Keeps the leave to try until the call shows how the server is.
    pub(crate) fn with(mut self, pass: Pass) -> Self {
        self.pass = Some(pass);
        self
    }

    /// The server's era.
    pub fn era(&self) -> Era {
        self.peer.revision().era()
    }

    /// Progress from now on belongs to another request of the client: the retry that took
    /// up a parked call. A retry without a token wants none.
    pub fn continue_for(&mut self, progress_token: Option<RawJson>) {
        self.token = progress_token;
    }

    /// The next thing that happens. After `Done` there is nothing more. Nothing is lost when
    /// the returned future is dropped.
    pub async fn next(&mut self) -> UpstreamEvent {
        if let Some(reply) = self.premade.take() {
            return self.end(reply);
        }
        if self.done {
            return UpstreamEvent::Done(UpstreamReply::Failed(UpstreamError::protocol("the call is over")));
        }
        loop {
            while let Some(message) = self.ready.pop_front() {
                if let Some(event) = self.take(&message) {
                    return event;
                }
            }
            let until = self.deadline.min(self.limit);
            let read = self.reading.read(&self.server.env, &self.peer, &mut self.ready);
            // The answer wins: after it nothing is asked any more.
            let read = tokio::select! {
                biased;
                read = tokio::time::timeout_at(until, read) => read,
                question = Asked::next(self.asked.as_mut()) => {
                    self.ready.push_back(question);
                    continue;
                }
            };
            match read {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.fail(error),
                Err(_) => return self.fail(UpstreamError::Timeout),
            }
        }
    }

    /// Gives the answer to an [`UpstreamEvent::Ask`] to the server and restarts the call's timer.
    ///
    /// # Errors
    /// When no such question is open, and when the answer cannot be delivered.
    pub async fn answer(&mut self, key: &str, answer: AskAnswer) -> Result<(), UpstreamError> {
        let at = self.asks.iter().position(|(open, _)| open == key);
        let at = at.ok_or_else(|| UpstreamError::protocol("no such question is open"))?;
        let (_, id) = self.asks.remove(at);
        let message = match &answer {
            AskAnswer::Result(result) => build::response(&id, result),
            AskAnswer::Error(error) => build::error(Some(&id), error),
        };
        self.deadline = Instant::now() + self.server.env.call_time();
        let sent = tokio::time::timeout(self.server.env.list_time(), self.peer.send(&self.server.env, message)).await;
        sent.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// Cancels the call and waits, at most one second, until the server was told.
    pub async fn cancel(mut self) {
        if let Some(message) = self.cancellation("cancelled by the client") {
            let sending = self.peer.send(&self.server.env, message);
            let _ = tokio::time::timeout(CANCEL_TIME, sending).await;
        }
    }

    /// The cancellation message, once, when one is due: legacy servers and every channel take
    /// one; a modern stream is just closed.
    fn cancellation(&mut self, reason: &str) -> Option<bytes::Bytes> {
        if std::mem::replace(&mut self.done, true) || matches!(self.peer, Peer::Modern(_)) {
            return None;
        }
        let id = RawJson::int(self.id);
        let params = RawJson::object([("requestId", &id), ("reason", &RawJson::string(reason))]);
        Some(build::notification("notifications/cancelled", Some(&params)))
    }

    fn hop(&self) -> Hop<'_> {
        Hop {
            client: &self.profile,
            upstream: self.peer.revision(),
            capabilities: self.said.as_ref().map(|said| &said.capabilities),
            server_info: self.said.as_ref().and_then(|said| said.server_info.as_ref()),
        }
    }

    /// One message; an event if the caller has to know.
    fn take(&mut self, message: &Message) -> Option<UpstreamEvent> {
        match message.kind() {
            Kind::Notification => self.notified(message),
            Kind::Request => self.asked(message),
            Kind::Response | Kind::Error => Some(self.answered(message)),
        }
    }

    fn answered(&mut self, message: &Message) -> UpstreamEvent {
        // An error without id is one the server could not relate to a request; on a stream
        // of our own it can only be ours.
        let ours = match message.id() {
            Some(id) => id.as_i64() == Some(self.id),
            None => message.kind() == Kind::Error,
        };
        if !ours {
            return self.fail(UpstreamError::protocol("an answer with an id nobody asked for"));
        }
        self.server.breaker.succeeded();
        let reply = match message.result() {
            Some(result) => self.result(result),
            None => {
                self.error(message.error().unwrap_or_else(|| RpcError::new(codes::INTERNAL_ERROR, "no error object")))
            }
        };
        if let Reading::Events { events, .. } = std::mem::replace(&mut self.reading, Reading::Over) {
            events.finish();
        }
        self.end(reply)
    }

    fn result(&self, result: RawJson) -> UpstreamReply {
        if self.raw {
            return UpstreamReply::Result(result);
        }
        if self.era() == Era::Modern {
            match translate::result_kind(&result) {
                ResultKind::Complete => {}
                ResultKind::InputRequired => {
                    return match InputRequired::parse(&result) {
                        Ok(InputRequired { asks, request_state }) => {
                            UpstreamReply::InputRequired { raw: result, asks, request_state }
                        }
                        Err(error) => UpstreamReply::Failed(UpstreamError::protocol(error.to_string())),
                    };
                }
                // Extensions a modern client declared itself are its own business.
                ResultKind::Task | ResultKind::Other(_) if self.profile.era == Era::Modern => {}
                ResultKind::Task | ResultKind::Other(_) => {
                    return UpstreamReply::Failed(UpstreamError::protocol("a result of unknown type"));
                }
            }
        }
        UpstreamReply::Result(translate::result_to(&self.hop(), &self.method, &result))
    }

    fn error(&self, error: RpcError) -> UpstreamReply {
        if self.raw {
            return UpstreamReply::Error(error);
        }
        match translate::error_to(&self.hop(), &self.method, self.uri.as_deref(), error) {
            Translated::Error(error) => UpstreamReply::Error(error),
            Translated::InputRequired(asks) => {
                UpstreamReply::InputRequired { raw: RawJson::empty_object(), asks, request_state: None }
            }
        }
    }

    fn notified(&mut self, message: &Message) -> Option<UpstreamEvent> {
        if let Some(note) = notes::of(message) {
            let heard = match self.reading.owner() {
                Some(principal) => self.server.watchers.tell(principal, note.clone()),
                None => false,
            };
            // Each message goes one way only; without a listener the caller at least learns
            // that what it keeps of a list is stale.
            if heard || !matches!(note, ServerNote::ListChanged(_)) {
                return None;
            }
        }
        let method = message.method()?;
        let params = message.params();
        let params = match method {
            "notifications/progress" => {
                // Progress restarts the timer; a token that is not ours belongs to nobody.
                let params = params.filter(|params| {
                    params.get(meta_key::PROGRESS_TOKEN).and_then(|token| token.as_i64()) == Some(self.id)
                })?;
                self.deadline = Instant::now() + self.server.env.call_time();
                Some(splice::set(&params, meta_key::PROGRESS_TOKEN, self.token.as_ref()?))
            }
            "notifications/cancelled" => {
                let id = params.and_then(|params| RequestId::from_raw(&params.get("requestId")?))?;
                self.asks.retain(|(_, open)| *open != id);
                return None;
            }
            _ => params,
        };
        let params = match params {
            Some(params) => Some(translate::notification(&self.hop(), method, &params)?),
            None => None,
        };
        Some(UpstreamEvent::Notification { method: method.to_owned(), params })
    }

    /// A request of the server (protocol reference 5.2, 5.3).
    fn asked(&mut self, message: &Message) -> Option<UpstreamEvent> {
        let id = message.id()?.clone();
        let method = message.method()?;
        if method == "ping" {
            self.send_aside(build::response(&id, &RawJson::empty_object()));
            return None;
        }
        let refuse = |code: i64, text: &str| build::error(Some(&id), &RpcError::new(code, text));
        let taken: Vec<&str> = self.asks.iter().map(|(key, _)| key.as_str()).collect();
        let key = ask::keys_for(std::slice::from_ref(&id), &taken).pop()?;
        let ask = Ask { key, method: method.to_owned(), params: message.params() };
        if self.era() == Era::Modern || ask.capability().is_none() || self.raw || self.asks.len() >= MAX_ASKS {
            // Modern servers may not ask this way; nobody may ask anything else.
            self.send_aside(refuse(codes::METHOD_NOT_FOUND, "not available here"));
            return None;
        }
        if let Some(required) = ask::missing_capabilities(&self.profile, std::slice::from_ref(&ask)) {
            self.send_aside(refuse(codes::METHOD_NOT_FOUND, "the client did not declare this capability"));
            if self.profile.era == Era::Modern {
                return Some(self.fail(UpstreamError::MissingCapability { required }));
            }
            return None;
        }
        let ask = translate::ask_to_modern(&ask, &self.profile);
        self.asks.push((ask.key.clone(), id));
        // A person may think for long: only the outer limit holds until the answer is given.
        self.deadline = self.limit;
        Some(UpstreamEvent::Ask(ask))
    }

    fn send_later(&self, message: bytes::Bytes) {
        self.peer.send_later(&self.server.env, message);
    }

    fn send_aside(&self, message: bytes::Bytes) {
        self.peer.send_aside(&self.server.env, message);
    }

    fn fail(&mut self, error: UpstreamError) -> UpstreamEvent {
        if matches!(error, UpstreamError::Timeout)
            && let Peer::Channel(channel) = &self.peer
            && !channel.is_process()
            && channel.heard.get() < self.started
        {
            // Nothing at all came since the call began: the event stream may be dead.
            channel.stop.cancel();
        }
        // One slow tool says nothing about the server; a broken connection does.
        if !matches!(error, UpstreamError::Timeout) {
            self.server.failed_on(&self.peer, &error);
        }
        if let Some(message) = self.cancellation("given up") {
            self.send_later(message);
        }
        self.end(UpstreamReply::Failed(error))
    }

    fn end(&mut self, reply: UpstreamReply) -> UpstreamEvent {
        self.done = true;
        self.reading = Reading::Over;
        self.asked = None;
        self.busy = None;
        self.pass = None;
        UpstreamEvent::Done(reply)
    }
}

impl Drop for UpstreamCall {
    fn drop(&mut self) {
        if let Some(message) = self.cancellation("cancelled by the client") {
            self.send_later(message);
        }
    }
}
