//! From a running call to an HTTP answer: plain JSON when the first thing the call
//! says is its end, else a stream of events.

use std::sync::Arc;
use std::time::Duration;

use bartizan_gate::{CallHandle, CallOutput, CallReply};
use bartizan_model::{Era, ReasonCode};
use bartizan_wire::{Ask, AskAnswer, ClientProfile, LogLevel, RawJson, RequestId, RpcError, build, codes};
use tokio::sync::oneshot;

use crate::drain::Drain;
use crate::places::CallerTicket;
use crate::respond::{Asked, Reply};
use crate::sessions::{Batch, Running};
use crate::streams::{Channel, Gone};

/// A call in progress, with what is needed to tell its client about it.
pub(crate) struct Call {
    pub(crate) handle: CallHandle,
    pub(crate) asked: Asked,
    pub(crate) profile: Arc<ClientProfile>,
    /// Legacy only: the place where a cancellation and answers arrive.
    pub(crate) running: Option<Running>,
    /// Said already, not sent yet.
    pub(crate) first: Option<CallOutput>,
    /// One of the caller's places, shared with the stream of the answer.
    pub(crate) place: CallerTicket,
}

/// What became of a request while its response head was held back.
pub(crate) enum Work {
    /// One message, nothing else.
    Done(Reply),
    /// More than one message, or none yet.
    Running(Box<Call>),
    /// The client cancelled it: there is no answer.
    Cancelled,
    /// The credential it was made with is not good any more.
    Revoked,
}

enum Heard {
    Said(Option<CallOutput>),
    Cancelled,
    Late,
    Over,
}

impl Call {
    /// Waits for the first thing worth a response head, at most `hold`. With `events`
    /// false the client reads no stream: then the end is waited for, notifications are
    /// dropped and questions refused.
    pub(crate) async fn begin(mut self, hold: Duration, events: bool, drain: &Drain) -> Work {
        let late = tokio::time::sleep(hold);
        tokio::pin!(late);
        loop {
            let heard = {
                let cancelled = cancelled(self.running.as_ref());
                tokio::select! {
                    biased;
                    said = self.handle.next() => Heard::Said(said),
                    () = cancelled => Heard::Cancelled,
                    () = &mut late, if events => Heard::Late,
                    () = drain.over(), if !events => Heard::Over,
                }
            };
            match heard {
                Heard::Said(Some(CallOutput::Done(reply))) if is_revoked(&reply) => return Work::Revoked,
                Heard::Said(Some(CallOutput::Done(reply))) => return Work::Done(self.reply(reply)),
                Heard::Said(None) => return Work::Done(self.asked.lost()),
                Heard::Said(Some(CallOutput::Notify { method, params }))
                    if !events || !self.wants(&method, params.as_ref()) => {}
                Heard::Said(Some(CallOutput::Ask { asks, answers })) if !events => refuse(asks, answers),
                Heard::Said(first) => {
                    self.first = first;
                    return Work::Running(Box::new(self));
                }
                Heard::Cancelled => {
                    self.handle.cancel();
                    return Work::Cancelled;
                }
                Heard::Late => return Work::Running(Box::new(self)),
                Heard::Over => return Work::Done(self.asked.shut_down()),
            }
        }
    }

    /// Carries everything the call says onto a stream, until its end. The stream is
    /// not closed here: others may share it.
    pub(crate) async fn run(mut self, channel: &Channel, drain: &Drain) {
        if self.carry(channel, drain).await == Err(Gone) {
            // A modern client closed its stream: that cancels the call (protocol 3.10).
            self.handle.cancel();
        }
    }

    /// Takes back the questions that are still open: their answers help nobody now.
    fn withdraw(&self, channel: &Channel) {
        let Some(running) = &self.running else { return };
        for id in running.drop_asks() {
            let params = RawJson::object([("requestId", &id.to_raw())]);
            // A stream that is closed needs no word about its questions.
            let _ = channel.try_message(&build::notification("notifications/cancelled", Some(&params)));
        }
    }

    async fn carry(&mut self, channel: &Channel, drain: &Drain) -> Result<(), Gone> {
        let mut first = self.first.take();
        loop {
            let heard = match first.take() {
                Some(first) => Heard::Said(Some(first)),
                None => {
                    let cancelled = cancelled(self.running.as_ref());
                    tokio::select! {
                        biased;
                        said = self.handle.next() => Heard::Said(said),
                        () = cancelled => Heard::Cancelled,
                        () = channel.gone() => return Err(Gone),
                        () = drain.over() => Heard::Over,
                    }
                }
            };
            match heard {
                Heard::Said(Some(CallOutput::Notify { method, params })) => {
                    if self.wants(&method, params.as_ref()) {
                        channel.message(&build::notification(&method, params.as_ref())).await?;
                    }
                }
                Heard::Said(Some(CallOutput::Ask { asks, answers })) => self.ask(channel, asks, answers).await?,
                Heard::Said(Some(CallOutput::Done(reply))) => {
                    self.withdraw(channel);
                    return channel.message(&self.reply(reply).body).await;
                }
                Heard::Said(None) => {
                    self.withdraw(channel);
                    return channel.message(&self.asked.lost().body).await;
                }
                Heard::Over => {
                    self.handle.cancel();
                    self.withdraw(channel);
                    return channel.try_message(&self.asked.shut_down().body);
                }
                Heard::Cancelled | Heard::Late => {
                    self.handle.cancel();
                    self.withdraw(channel);
                    return Ok(());
                }
            }
        }
    }

    fn reply(&self, reply: CallReply) -> Reply {
        self.asked.reply(Some(self.handle.event_id()), reply)
    }

    /// Whether the client wants a notification: log messages only from the level it
    /// asked for; a modern client that named no level gets none (protocol 3.1).
    fn wants(&self, method: &str, params: Option<&RawJson>) -> bool {
        wants_log(&self.profile, method, params)
    }

    /// Sends questions as requests with ids of our own. What the client did not
    /// declare is refused in its name.
    async fn ask(
        &self,
        channel: &Channel,
        asks: Vec<Ask>,
        answers: oneshot::Sender<Vec<(String, AskAnswer)>>,
    ) -> Result<(), Gone> {
        let Some(running) = &self.running else {
            refuse(asks, answers);
            return Ok(());
        };
        let (open, undeclared): (Vec<_>, Vec<_>) = asks.into_iter().partition(|ask| ask.fits(&self.profile));
        let refused = undeclared.into_iter().map(refusal).collect();
        let batch = Batch::new(refused, open.len(), answers);
        for ask in open {
            let id: RequestId = running.session().ask(running.call, ask.key, Arc::clone(&batch));
            channel.message(&build::request(&id, &ask.method, ask.params.as_ref())).await?;
        }
        Ok(())
    }
}

/// Whether a log message is wanted; everything that is not one is.
pub(crate) fn wants_log(profile: &ClientProfile, method: &str, params: Option<&RawJson>) -> bool {
    if method != "notifications/message" {
        return true;
    }
    match (profile.era, profile.log_level) {
        (Era::Modern, None) => false,
        (Era::Legacy, None) => true,
        (_, Some(least)) => {
            let level = params.and_then(|params| params.get("level"));
            let level = level.as_ref().and_then(RawJson::as_string).and_then(|text| LogLevel::parse(&text));
            level.is_none_or(|level| level >= least)
        }
    }
}

fn refusal(ask: Ask) -> (String, AskAnswer) {
    let error = RpcError::new(codes::METHOD_NOT_FOUND, format!("The client does not offer {}", ask.method));
    (ask.key, AskAnswer::Error(error))
}

fn refuse(asks: Vec<Ask>, answers: oneshot::Sender<Vec<(String, AskAnswer)>>) {
    // The call may have ended meanwhile; then nobody wants the answers.
    let _ = answers.send(asks.into_iter().map(refusal).collect());
}

/// The call's credential stopped being good: while nothing is said yet, that is a 401.
fn is_revoked(reply: &CallReply) -> bool {
    matches!(reply, CallReply::Refused(refusal) if refusal.code == ReasonCode::Unauthenticated)
}

async fn cancelled(running: Option<&Running>) {
    match running {
        Some(running) => running.cancelled().await,
        None => std::future::pending().await,
    }
}
