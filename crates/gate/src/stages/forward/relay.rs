//! One conversation with an upstream: notifications pass, questions go to the
//! client in the form of its era, the last word ends it.

use std::sync::Arc;

use bartizan_catalog::ServerSpec;
use bartizan_model::Era;
use bartizan_upstream::{CallRequest, Resume, Target, UpstreamCall, UpstreamError, UpstreamEvent, UpstreamReply};
use bartizan_wire::{Ask, AskAnswer, RawJson};
use tokio::time::Instant;

use super::asks::{Pending, not_declared};
use super::modern::{self, Begin, Settling};
use super::{End, rounds};
use crate::call::CallOutput;
use crate::exchange::{Exchange, Route};
use crate::personal;
use crate::stages::credential::{self, SHARED};

/// An open conversation.
pub(crate) struct Line {
    pub(crate) call: UpstreamCall,
    /// Questions a legacy client has not answered yet.
    pub(crate) pending: Pending,
    /// Questions collected for a modern client.
    pub(crate) settling: Settling,
    /// Answers a modern client gave before the question.
    pub(crate) advance: Vec<(String, RawJson)>,
}

/// What a conversation led to.
pub(crate) enum Turn {
    /// The end of the call.
    End(End),
    /// The upstream wants the request again, with these answers.
    Again(Resume),
}

enum Happened {
    Upstream(UpstreamEvent),
    Answer(String, AskAnswer),
    Settled,
    Abandoned,
}

/// Runs the call to its end.
pub(crate) async fn run(x: &mut Exchange, route: &Route, spec: &Arc<ServerSpec>) -> End {
    let mut resume = None;
    let mut params = route.params.clone();
    match modern::begin(x, params.as_ref()).await {
        Begin::Fresh(fresh) => params = fresh,
        Begin::Line(line) => {
            return match converse(x, *line).await {
                Turn::End(end) => end,
                // Only modern upstreams ask for a repeat, and those never park.
                Turn::Again(_) => rounds::too_many(x),
            };
        }
        Begin::End(end) => return end,
    }
    // Without the stage `credential` everybody would share one upstream session.
    let target = x.target.clone().unwrap_or_else(|| Target {
        spec: Arc::clone(spec),
        principal: SHARED.into(),
        caller: SHARED.into(),
        authority: None,
    });
    let mut renewed = false;
    for _ in 0..=rounds::MAX {
        let request = CallRequest {
            method: x.method().into(),
            params: params.clone(),
            profile: Arc::clone(&x.caller.profile),
            param_headers: x.param_headers.clone(),
            input_schema: route.input_schema.clone(),
            traceparent: x.spans.upstream(),
            resume: resume.take(),
        };
        let mut opened = open(x, &target, request.clone()).await;
        // A person's own token may have been taken back: once, with another one.
        if let Some(Err(error)) = opened.take_if(|opened| !renewed && may_renew(x, opened)) {
            renewed = true;
            if let Err(end) = credential::refused(x, spec, error).await {
                return end;
            }
            opened = open(x, &target, request).await;
        }
        let call = match opened {
            Some(Ok(call)) => call,
            Some(Err(error)) => return End::Failed(error),
            None => return End::Abandoned,
        };
        let advance = modern::advance(x);
        let line = Line { call, pending: Pending::default(), settling: Settling::default(), advance };
        match converse(x, line).await {
            Turn::End(end) => return end,
            Turn::Again(next) => resume = Some(next),
        }
    }
    rounds::too_many(x)
}

/// Opens the call; `None` when nobody waits for it any more.
async fn open(x: &mut Exchange, target: &Target, request: CallRequest) -> Option<Result<UpstreamCall, UpstreamError>> {
    let since = Instant::now();
    let upstreams = x.gate.upstreams.clone();
    let opened = tokio::select! {
        biased;
        opened = upstreams.call(target, request) => opened,
        () = x.abandoned() => return None,
    };
    x.spent(since);
    Some(opened)
}

fn may_renew(x: &Exchange, opened: &Result<UpstreamCall, UpstreamError>) -> bool {
    x.account.is_some() && opened.as_ref().is_err_and(|error| personal::unauthorized(error).is_some())
}

async fn converse(x: &mut Exchange, mut line: Line) -> Turn {
    loop {
        let since = Instant::now();
        let upstreams_turn = line.pending.is_empty();
        let happened = tokio::select! {
            biased;
            // First: a server that never stops talking does not keep the call alive.
            _ = x.lapse.ended() => Happened::Abandoned,
            event = line.call.next() => Happened::Upstream(event),
            () = x.abandoned() => Happened::Abandoned,
            (key, answer) = line.pending.next() => Happened::Answer(key, answer),
            () = line.settling.over() => Happened::Settled,
        };
        if upstreams_turn {
            x.spent(since);
        }
        match happened {
            Happened::Upstream(UpstreamEvent::Notification { method, params }) => notify(x, method, params).await,
            Happened::Upstream(UpstreamEvent::Ask(ask)) => {
                if let Some(end) = asked(x, &mut line, ask).await {
                    line.call.cancel().await;
                    return Turn::End(end);
                }
            }
            Happened::Upstream(UpstreamEvent::Done(reply)) => return done(x, line.call.era(), reply).await,
            Happened::Answer(key, answer) => {
                // A failure to deliver shows up as the upstream's next event.
                let _ = line.call.answer(&key, answer).await;
            }
            Happened::Settled => return Turn::End(modern::park(x, line).await),
            Happened::Abandoned => {
                line.call.cancel().await;
                return Turn::End(End::Abandoned);
            }
        }
    }
}

/// A notification on the stream of the call. A changed list is dropped at once; a
/// modern client hears of it only on a stream it opened for that.
async fn notify(x: &Exchange, method: String, params: Option<RawJson>) {
    let server = x.route.as_ref().and_then(|route| route.server());
    let general = server.is_some_and(|spec| x.gate.heard(spec, &method));
    if !general || x.era() == Era::Legacy {
        x.say(CallOutput::Notify { method: method.into(), params }).await;
    }
}

/// A question; `Some` when it ends the call.
async fn asked(x: &Exchange, line: &mut Line, ask: Ask) -> Option<End> {
    let profile = &x.caller.profile;
    if !ask.fits(profile) {
        let key = ask.key.clone();
        let end = (x.era() == Era::Modern).then(|| modern::missing_capability(profile, ask));
        let _ = line.call.answer(&key, not_declared()).await;
        return end;
    }
    match x.era() {
        Era::Legacy => line.pending.ask(x, ask).await,
        Era::Modern => {
            let early = line.advance.iter().position(|(key, _)| *key == ask.key);
            match early.map(|index| line.advance.swap_remove(index)) {
                Some((key, answer)) => {
                    let _ = line.call.answer(&key, AskAnswer::Result(answer)).await;
                }
                None => line.settling.add(ask),
            }
        }
    }
    None
}

async fn done(x: &mut Exchange, upstream: Era, reply: UpstreamReply) -> Turn {
    Turn::End(match reply {
        UpstreamReply::Result(raw) => {
            rounds::completed(x).await;
            End::Result(raw)
        }
        UpstreamReply::Error(error) => End::Error(error),
        UpstreamReply::Failed(error) => End::Failed(error),
        UpstreamReply::InputRequired { raw, asks, request_state } => match (x.era(), upstream) {
            (Era::Modern, Era::Modern) => modern::wrap(x, raw, request_state),
            (Era::Modern, Era::Legacy) => modern::again(x, asks),
            (Era::Legacy, _) => return rounds::ask(x, asks, request_state).await,
        },
    })
}
