//! Modern clients: questions end the exchange with `input_required`; the next round
//! is a request of its own that brings `requestState` back (protocol.md 3.7, 5.3).

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::EventId;
use bartizan_model::event::{EventKind, Outcome, Verdict};
use bartizan_model::{Era, ReasonCode};
use bartizan_wire::translate::{InputRequired, answer_fits, strip_retry};
use bartizan_wire::{Ask, AskAnswer, ClientProfile, RawJson, RpcError, ask, codes, splice};
use tokio::time::Instant;

use super::End;
use super::asks::Pending;
use super::relay::Line;
use crate::call::{CallReply, Refusal};
use crate::exchange::Exchange;
use crate::gate::Inner;
use crate::park::{ParkId, Parked};
use crate::request_state::{Binding, Kind, State, StateError, call_digest, purpose};
use crate::revocation::Ended;
use crate::stages::{Stage, record};

/// Wait after the last question for more.
const SETTLE: Duration = Duration::from_millis(50);
/// Longest wait after the first question.
const SETTLE_MAX: Duration = Duration::from_millis(200);
/// An abandoned upstream call is told so within this time.
const CANCEL: Duration = Duration::from_secs(1);

/// How the forward begins.
pub(crate) enum Begin {
    /// A new request upstream, with these params.
    Fresh(Option<RawJson>),
    /// A parked call goes on.
    Line(Box<Line>),
    /// It does not go on.
    End(End),
}

/// Questions of a legacy upstream, collected for a short time.
#[derive(Default)]
pub(crate) struct Settling {
    asks: Vec<Ask>,
    first: Option<Instant>,
    until: Option<Instant>,
}

impl Settling {
    /// One more question.
    pub(crate) fn add(&mut self, ask: Ask) {
        let now = Instant::now();
        let latest = *self.first.get_or_insert(now) + SETTLE_MAX;
        self.until = Some((now + SETTLE).min(latest));
        self.asks.push(ask);
    }

    /// Resolves when nothing more is expected; never without a question.
    pub(crate) async fn over(&self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

/// Looks at the request state, which `route` has opened and compared already.
pub(crate) async fn begin(x: &mut Exchange, params: Option<&RawJson>) -> Begin {
    let Some(state) = x.resume.clone() else {
        // Only modern clients have rounds: whatever a legacy one puts there was sealed by nobody.
        let legacy = x.era() == Era::Legacy;
        return Begin::Fresh(if legacy { params.map(strip_retry) } else { params.cloned() });
    };
    if let Err(error) = x.gate.replays.consume(&x.gate, &state).await {
        return Begin::End(refuse_state(error));
    }
    x.related = EventId::parse(&state.first_event);
    match state.kind {
        Kind::Wrap => Begin::Fresh(params.map(|params| match &state.inner {
            Some(inner) => splice::set(params, "requestState", &RawJson::string(inner)),
            None => splice::remove(params, "requestState"),
        })),
        Kind::Again => Begin::Fresh(params.map(strip_retry)),
        Kind::Park => take_up(x, &state).await,
    }
}

/// Answers given without a `requestState`: for questions the upstream is yet to ask.
pub(crate) fn advance(x: &Exchange) -> Vec<(String, RawJson)> {
    match (x.era(), &x.resume, &x.params.input_responses) {
        (Era::Modern, None, Some(responses)) => responses.clone(),
        _ => Vec::new(),
    }
}

async fn take_up(x: &mut Exchange, state: &State) -> Begin {
    let parked = if state.node == *x.gate.node { x.gate.parks.take(&state.id) } else { None };
    let Some(parked) = parked else { return Begin::End(lost()) };
    let responses = x.params.input_responses.clone().unwrap_or_default();
    let answer = |key: &str| responses.iter().find(|(known, _)| known == key).map(|(_, answer)| answer.clone());
    let complete = parked.asks.iter().all(|ask| answer(&ask.key).is_some_and(|given| answer_fits(&ask.method, &given)));
    if !complete {
        // Not an error: the same questions again, under the next round's state.
        return Begin::End(put_aside(x, Parked { park: parked.park.next(), ..parked }).await);
    }
    let mut call = parked.call;
    call.continue_for(x.params.meta.as_ref().and_then(|meta| meta.progress_token.clone()));
    for ask in &parked.asks {
        if let Some(answer) = answer(&ask.key) {
            let _ = call.answer(&ask.key, AskAnswer::Result(answer)).await;
        }
    }
    x.park = Some((parked.park.next(), parked.first));
    Begin::Line(Box::new(Line {
        call,
        pending: Pending::default(),
        settling: Settling::default(),
        advance: Vec::new(),
    }))
}

/// Puts the call aside and tells the client what is asked.
pub(crate) async fn park(x: &mut Exchange, line: Line) -> End {
    let (park, first) = match x.park.take() {
        Some(known) => known,
        None => (ParkId::new(EventId::new(x.gate.clock.now_ms()).to_string()), x.id),
    };
    let mut abandoned = record::event(x, EventId::new(x.gate.clock.now_ms()), EventKind::Call);
    abandoned.outcome = Outcome::Unknown;
    abandoned.verdict = Verdict { stage: Some(Stage::Forward.as_str().to_owned()), ..Verdict::allowed() };
    abandoned.note = Some("parked call was never taken up again".to_owned());
    abandoned.related = Some(first);
    let principal = Arc::clone(x.caller.principal.key());
    let parked =
        Parked { call: line.call, asks: line.settling.asks, park, first, abandoned: Box::new(abandoned), principal };
    put_aside(x, parked).await
}

async fn put_aside(x: &Exchange, parked: Parked) -> End {
    let id = parked.park.text();
    let asks = parked.asks.clone();
    let Some(sealed) = seal(x, Kind::Park, id.clone(), parked.first, None) else { return unsealed() };
    let gate = Arc::clone(&x.gate);
    let taken = match gate.parks.put(parked) {
        Ok(taken) => taken,
        Err(parked) => {
            let _ = tokio::time::timeout(CANCEL, parked.call.cancel()).await;
            return End::Stopped {
                reply: CallReply::Refused(Refusal {
                    code: ReasonCode::RateLimited,
                    rule: Some("parked_calls".into()),
                    event_id: x.id,
                    retry_after_s: Some(x.gate.limits.park_ms.div_ceil(1000)),
                    visible: true,
                    message: Some("too many calls of yours wait for an answer".to_owned()),
                    url: None,
                }),
                outcome: Outcome::Cancelled,
                code: Some(ReasonCode::RateLimited),
                note: "too many parked calls",
            };
        }
    };
    gate.metrics.parked(gate.parks.len());
    let life = Duration::from_millis(gate.limits.park_ms);
    let tasks = gate.tasks.clone();
    let lapse = x.lapse.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = taken.notified() => {}
            () = tokio::time::sleep(life) => abandon(&gate, &id, None).await,
            () = gate.closing.cancelled() => abandon(&gate, &id, None).await,
            ended = lapse.ended() => abandon(&gate, &id, Some(ended)).await,
        }
        gate.metrics.parked(gate.parks.len());
    });
    End::InputRequired(InputRequired { asks, request_state: Some(sealed) }.to_raw())
}

/// Ends a parked call that nobody takes up, or nobody may.
async fn abandon(gate: &Inner, id: &str, ended: Option<Ended>) {
    let Some(mut parked) = gate.parks.take(id) else { return };
    let _ = tokio::time::timeout(CANCEL, parked.call.cancel()).await;
    if let Some(ended) = ended {
        parked.abandoned.verdict.code = Some(ended.code);
        parked.abandoned.verdict.rule = ended.rule.as_deref().map(str::to_owned);
        parked.abandoned.note = Some(format!("parked call ended: {}", ended.note));
    }
    parked.abandoned.at_ms = gate.clock.now_ms();
    if let Err(error) = gate.audit.append(*parked.abandoned).await {
        tracing::error!(%error, "the end of a parked call could not be recorded");
    }
}

/// An upstream's own `input_required`, with its state inside ours.
pub(crate) fn wrap(x: &Exchange, raw: RawJson, request_state: Option<String>) -> End {
    let Some(inner) = request_state else { return End::InputRequired(raw) };
    let id = EventId::new(x.gate.clock.now_ms()).to_string();
    let first = x.related.unwrap_or(x.id);
    match seal(x, Kind::Wrap, id, first, Some(inner)) {
        Some(sealed) => End::InputRequired(splice::set(&raw, "requestState", &RawJson::string(&sealed))),
        None => unsealed(),
    }
}

/// Questions of an upstream that does not wait for the answers (URL elicitation of a
/// legacy one): the next round is the same call again.
pub(crate) fn again(x: &Exchange, asks: Vec<Ask>) -> End {
    let id = EventId::new(x.gate.clock.now_ms()).to_string();
    match seal(x, Kind::Again, id, x.id, None) {
        Some(sealed) => End::InputRequired(InputRequired { asks, request_state: Some(sealed) }.to_raw()),
        None => unsealed(),
    }
}

/// -32021: the upstream asks for what the client did not declare.
pub(crate) fn missing_capability(profile: &ClientProfile, question: Ask) -> End {
    match ask::missing_capabilities(profile, std::slice::from_ref(&question)) {
        Some(missing) => End::Error(ask::missing_capability_error(&missing)),
        // Not a question any client could answer.
        None => End::Error(RpcError::new(codes::INTERNAL_ERROR, "the server asked something unknown")),
    }
}

fn seal(x: &Exchange, kind: Kind, id: String, first: EventId, inner: Option<String>) -> Option<String> {
    let server = &x.route.as_ref()?.server()?.id;
    let digest = call_digest(x.method(), &x.params);
    let binding = Binding {
        endpoint: &x.endpoint,
        server,
        principal: x.caller.principal.key(),
        method: x.method(),
        digest: &digest,
    };
    let life = i64::try_from(x.gate.limits.park_ms).unwrap_or(i64::MAX);
    let expires = x.gate.clock.now_ms().saturating_add(life);
    let mut state = State::new(kind, &binding, id, &x.gate.node, expires, first.to_string());
    state.inner = inner;
    x.gate.handles.seal(&purpose(&x.endpoint), &state.encode()).ok()
}

/// -32602 for every cause; the record says which.
pub(crate) fn state_error() -> RpcError {
    RpcError::new(codes::INVALID_PARAMS, "invalid or expired requestState")
}

fn refuse_state(error: StateError) -> End {
    let (error, note) = match error {
        StateError::Used => (state_error(), "request state was used before"),
        StateError::Unchecked => {
            let message = "the answer cannot be taken at the moment; nothing was forwarded, try again";
            (RpcError::new(codes::INTERNAL_ERROR, message), "replay markers cannot be reached")
        }
        _ => (state_error(), "request state refused"),
    };
    End::Stopped { reply: CallReply::Error(error), outcome: Outcome::Refused, code: None, note }
}

fn lost() -> End {
    let message = "the call that waited for this answer has expired or its node is gone; it was not run again";
    End::Stopped {
        reply: CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, message)),
        outcome: Outcome::Refused,
        code: None,
        note: "parked call lost",
    }
}

fn unsealed() -> End {
    End::Stopped {
        reply: CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, "the request state could not be sealed")),
        outcome: Outcome::Unknown,
        code: None,
        note: "sealing failed",
    }
}
