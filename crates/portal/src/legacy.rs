//! Clients of 2024-11-05 … 2025-11-25: handshake, sessions, two-way streams
//! (protocol section 2).

mod feed;
mod open;
pub(crate) mod sse;

use std::sync::Arc;
use std::time::Duration;

use bartizan_gate::{GovernedCall, ListCall, Unknown};
use bartizan_model::Era;
use bartizan_wire::{
    AskAnswer, Kind, LogLevel, Message, Params, RawJson, RequestId, Revision, RpcError, codes, headers,
};
use futures_util::future::join_all;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::decode::{Decoded, Way, accepts, single_header};
use crate::portal::{Arrival, Portal};
use crate::pump::{Call, Work};
use crate::respond::{self, Asked, Problem, ProblemKind, Reply};
use crate::sessions::{Session, Transport};
use crate::streams::{Reader, parse_event_id};

/// One POSTed message.
pub(crate) async fn post(
    portal: &Portal,
    arrival: Arrival<'_>,
    decoded: Decoded,
    events: bool,
    bytes: u64,
) -> Result<Response<Body>, Problem> {
    let Decoded { message, params, way } = decoded;
    let session = match way {
        Way::Session(session) => session,
        Way::Open => return open::initialize(portal, &arrival, &message, &params).await,
        Way::Modern(_) => return Err(ProblemKind::Internal.into()),
    };
    match message.kind() {
        Kind::Request => {}
        Kind::Notification => {
            notification(&session, &message, &params);
            return Ok(respond::accepted());
        }
        Kind::Response | Kind::Error => {
            answer(&session, &message);
            return Ok(respond::accepted());
        }
    }
    match request(
        portal,
        &arrival,
        &session,
        message,
        params,
        Wire { events, bytes, hold: portal.0.settings.head_hold },
    )
    .await?
    {
        Work::Done(reply) => Ok(arrival.single(portal, reply)),
        Work::Cancelled => Ok(respond::accepted()),
        Work::Revoked => Err(arrival.revoked(portal).into()),
        Work::Running(call) => Ok(stream(portal, &arrival, &session, Vec::new(), vec![*call])),
    }
}

/// How a request came and what its answer may be.
#[derive(Clone, Copy)]
struct Wire {
    /// The client reads streams.
    events: bool,
    /// Size of the request.
    bytes: u64,
    /// How long the answer's head may be held back.
    hold: Duration,
}

/// A batch of 2025-03-26: taken apart, answered together.
pub(crate) async fn batch(
    portal: &Portal,
    arrival: Arrival<'_>,
    messages: Vec<Message>,
    session: Arc<Session>,
    events: bool,
) -> Result<Response<Body>, Problem> {
    let mut requests = Vec::new();
    for message in messages {
        let params = Params::of(&message);
        match message.kind() {
            Kind::Request => requests.push((message, params)),
            Kind::Notification => {
                if let Ok(params) = params {
                    notification(&session, &message, &params);
                }
            }
            Kind::Response | Kind::Error => answer(&session, &message),
        }
    }
    if requests.is_empty() {
        return Ok(respond::accepted());
    }
    let (portal_ref, arrival, session_ref) = (portal, &arrival, &session);
    let hold = portal.0.settings.head_hold;
    let works = requests.into_iter().map(|(message, params)| async move {
        let bytes = message.raw().len() as u64;
        match params {
            Ok(params) => {
                request(portal_ref, arrival, session_ref, message, params, Wire { events, bytes, hold }).await
            }
            Err(error) => Ok(Work::Done(asked(&message)?.error(&error.to_rpc()))),
        }
    });
    let (mut replies, mut calls) = (Vec::new(), Vec::new());
    for work in join_all(works).await {
        match work? {
            Work::Done(reply) => replies.push(reply),
            Work::Running(call) => calls.push(*call),
            Work::Cancelled => {}
            Work::Revoked => return Err(arrival.revoked(portal).into()),
        }
    }
    if calls.is_empty() {
        let bodies: Vec<_> = replies.into_iter().map(|reply| reply.body).collect();
        return Ok(respond::json(StatusCode::OK, bartizan_wire::build::batch(&bodies)));
    }
    Ok(stream(portal, arrival, &session, replies, calls))
}

/// Answers on a stream of events: what is there already, then what the calls say. The
/// stream lives on without its reader; the client can come back for the rest.
fn stream(
    portal: &Portal,
    arrival: &Arrival<'_>,
    session: &Arc<Session>,
    replies: Vec<Reply>,
    calls: Vec<Call>,
) -> Response<Body> {
    let channel = session.open_post();
    if session.revision() >= Revision::V2025_11_25 {
        // So that a client that loses the connection early knows where to resume.
        channel.prime();
    }
    let first = calls.first();
    let event = first.map(|call| call.handle.event_id());
    let seat = arrival.call_seat(portal, first.map(|call| Arc::clone(&call.place)));
    let mut answer = respond::events(Reader::attach(Arc::clone(&channel), seat));
    if let Some(event) = event {
        respond::set_request_id(&mut answer, event);
    }
    let drain = portal.0.drain.clone();
    portal.0.drain.spawn(async move {
        for reply in replies {
            // A kept stream never turns a message away.
            let _ = channel.message(&reply.body).await;
        }
        join_all(calls.into_iter().map(|call| call.run(&channel, &drain))).await;
        channel.close();
    });
    answer
}

fn asked(message: &Message) -> Result<Asked, Problem> {
    let id = message.id().cloned().ok_or(ProblemKind::Internal)?;
    Ok(Asked { message: message.clone(), id, era: Era::Legacy })
}

/// One request within a session.
async fn request(
    portal: &Portal,
    arrival: &Arrival<'_>,
    session: &Arc<Session>,
    message: Message,
    params: Params,
    wire: Wire,
) -> Result<Work, Problem> {
    let asked = asked(&message)?;
    let method = message.method().unwrap_or_default();
    if let Err(error) = params.check(method) {
        return Ok(Work::Done(asked.error(&error.to_rpc())));
    }
    if !session.offered().has(method) {
        return Ok(Work::Done(asked.unknown(&Unknown::Method(method.to_owned()))));
    }
    let gate = &portal.0.gate;
    let profile = session.profile();
    let done = |result: &RawJson| Ok(Work::Done(asked.result(result)));
    match method {
        "ping" => done(&RawJson::empty_object()),
        "logging/setLevel" => match params.level.as_deref().and_then(LogLevel::parse) {
            Some(level) => {
                if gate.states().set_level(&session.holder, level).await.is_err() {
                    return Err(ProblemKind::StateUnavailable.of(Some(&asked.id)));
                }
                session.set_log_level(level);
                done(&RawJson::empty_object())
            }
            None => Ok(Work::Done(asked.error(&RpcError::new(codes::INVALID_PARAMS, "unknown log level")))),
        },
        "resources/subscribe" | "resources/unsubscribe" => {
            let uri = params.uri.as_deref().unwrap_or_default();
            let caller = arrival.caller(&profile, Some(session), Some(&params));
            Ok(Work::Done(feed::subscribe(portal, session, &caller, &asked, uri).await))
        }
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            let caller = arrival.caller(&profile, Some(session), Some(&params));
            let call = ListCall::new(arrival.endpoint.clone(), caller, message, params, wire.bytes);
            Ok(Work::Done(asked.listed(gate.list(call).await)))
        }
        // Methods of the other era.
        "server/discover" | "subscriptions/listen" | "initialize" => {
            Ok(Work::Done(asked.unknown(&Unknown::Method(method.to_owned()))))
        }
        _ => {
            let place = arrival.call_place(portal).map_err(|crowded| crowded.of(Some(&asked.id)))?;
            let running = session.running(asked.id.clone());
            let caller = arrival.caller(&profile, Some(session), Some(&params));
            let handle = gate.call(GovernedCall {
                endpoint: arrival.endpoint.clone(),
                caller,
                message,
                params,
                param_headers: Vec::new(),
                request_bytes: wire.bytes,
            });
            let call = Call { handle, asked, profile, running: Some(running), first: None, place };
            Ok(call.begin(wire.hold, wire.events, &portal.0.drain).await)
        }
    }
}

/// A notification of the client. What bartizan does not act on is nobody's business
/// upstream: sessions there are its own.
fn notification(session: &Session, message: &Message, params: &Params) {
    if message.method() == Some("notifications/cancelled")
        && let Some(id) = params.request_id.as_ref().and_then(RequestId::from_raw)
    {
        session.cancel(&id);
    }
}

/// The client's answer to a question.
fn answer(session: &Session, message: &Message) {
    let Some(id) = message.id() else { return };
    let answer = match (message.result(), message.error()) {
        (Some(result), _) => AskAnswer::Result(result),
        (None, Some(error)) => AskAnswer::Error(error),
        (None, None) => return,
    };
    if !session.answer(id, answer) {
        tracing::debug!("an answer to no open question");
    }
}

/// The session a GET or DELETE is about.
async fn session_of(portal: &Portal, arrival: &Arrival<'_>) -> Result<Arc<Session>, Problem> {
    let id = single_header(arrival.headers, &headers::SESSION_ID);
    // Without a session this is what a modern endpoint answers (protocol 3.4).
    let id = id.ok_or(ProblemKind::Method { allow: "POST", page: None })?;
    if let Some(version) = headers::protocol_version(arrival.headers)
        && Revision::parse(version).is_none_or(|revision| revision.era() != Era::Legacy)
    {
        return Err(ProblemKind::Unexpected("MCP-Protocol-Version is not that of a session").into());
    }
    Ok(arrival.session(portal, id, Transport::Streamable).await?)
}

/// The stand-alone stream, or the rest of one that broke.
pub(crate) async fn get(portal: &Portal, arrival: &Arrival<'_>) -> Result<Response<Body>, Problem> {
    let session = session_of(portal, arrival).await?;
    if !accepts(arrival.headers, "text/event-stream") {
        return Err(ProblemKind::NotAcceptable.into());
    }
    let last = single_header(arrival.headers, &headers::LAST_EVENT_ID).and_then(parse_event_id);
    if let Some((stream, after)) = last
        && let Some(channel) = session.stream(stream)
    {
        let seat = arrival.seat(portal, Some(arrival.stream_place(portal)?));
        return Ok(respond::events(Reader::resume(channel, after, seat)));
    }
    feed::open(portal, arrival, &session).await
}

/// Ends a session.
pub(crate) async fn delete(portal: &Portal, arrival: &Arrival<'_>) -> Result<Response<Body>, Problem> {
    let session = session_of(portal, arrival).await?;
    portal.0.sessions.end(&session).await.map_err(|_| ProblemKind::StateUnavailable)?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}
