//! HTTP+SSE of 2024-11-05 for old clients (P8): a GET opens the one stream of a
//! session, whose first event names the place to POST to; every message to the client
//! goes onto that stream, every POST is answered 202. The session ends with its stream.

use std::sync::Arc;
use std::time::Duration;

use bartizan_wire::{ClientProfile, Kind, Limits, Message, Params, Revision};
use bytes::Bytes;
use http::Response;

use super::{Wire, answer, feed, notification, open, request};
use crate::body::Body;
use crate::decode::accepts;
use crate::drain::Drain;
use crate::portal::{Arrival, Portal};
use crate::pump::Work;
use crate::respond::{self, Problem, ProblemKind};
use crate::sessions::{About, Offered, Session, Transport};
use crate::streams::Reader;

/// Name of the query member that names the session.
const SESSION: &str = "sessionId";

/// Opens stream and session. `path` is where the client POSTs to.
pub(crate) async fn open(portal: &Portal, arrival: &Arrival<'_>, path: &str) -> Result<Response<Body>, Problem> {
    if !accepts(arrival.headers, "text/event-stream") {
        return Err(ProblemKind::NotAcceptable.into());
    }
    let nothing = About::new(ClientProfile::plain(Revision::V2024_11_05), Offered::default());
    let place = arrival.stream_place(portal)?;
    let session = open::open_session(portal, arrival, nothing, Transport::Sse).await?;
    let channel = session.get_stream();
    channel.named("endpoint", &format!("{path}?{SESSION}={}", session.id));
    let answer = respond::events(Reader::attach(Arc::clone(&channel), arrival.seat(portal, Some(place))));
    let drain = portal.0.drain.clone();
    let portal_clone = portal.clone();
    portal.0.drain.spawn(async move {
        tokio::select! {
            () = channel.detached() => {}
            () = session.ended() => {}
            () = drained(&drain, &session) => {}
        }
        // The row of one that cannot be ended goes when nobody used it for a day.
        if portal_clone.0.sessions.end(&session).await.is_err() {
            portal_clone.0.sessions.forget(&session);
        }
    });
    Ok(answer)
}

/// Ends when the process closes its streams and no call needs this one any more.
async fn drained(drain: &Drain, session: &Session) {
    drain.closing().await;
    while session.is_busy() {
        tokio::select! {
            () = drain.over() => {
                // The calls say so themselves, at this moment.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

/// One POSTed message.
pub(crate) async fn post(
    portal: &Portal,
    arrival: Arrival<'_>,
    query: &str,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    let ids = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == SESSION);
    let id = ids.map(|(_, id)| id).next().ok_or(ProblemKind::Unexpected("the query names no session"))?;
    let session = arrival.session(portal, id, Transport::Sse).await?;
    let limits = Limits { depth: portal.0.settings.limits.json_depth };
    let messages = if session.revision().has_batches() {
        Message::parse_batch(body, &limits)?
    } else {
        vec![Message::parse(body, &limits)?]
    };
    for message in messages {
        one(portal, &arrival, &session, message).await?;
    }
    Ok(respond::accepted())
}

async fn one(portal: &Portal, arrival: &Arrival<'_>, session: &Arc<Session>, message: Message) -> Result<(), Problem> {
    let failed = |kind: ProblemKind| kind.of(message.id());
    let channel = session.get_stream();
    match message.kind() {
        Kind::Response | Kind::Error => {
            answer(session, &message);
            return Ok(());
        }
        Kind::Notification => {
            let params = Params::of(&message).map_err(|error| failed(error.into()))?;
            notification(session, &message, &params);
            return Ok(());
        }
        Kind::Request => {}
    }
    let params = Params::of(&message).map_err(|error| failed(error.into()))?;
    if message.method() == Some("initialize") {
        let reply = match open::handshake(portal, arrival, &message, &params).await? {
            Ok((about, reply)) => {
                session.introduce(about);
                // What servers say by themselves goes onto the same stream.
                let caller = arrival.caller(&session.profile(), Some(session), None);
                let listening = feed::listen(portal, session, &caller).await;
                if listening.is_err() {
                    tracing::debug!("nothing to listen to for this session");
                }
                reply
            }
            Err(reply) => reply,
        };
        // A stream whose reader left ends the session; nobody misses the answer.
        let _ = channel.message(&reply.body).await;
        return Ok(());
    }
    let bytes = message.raw().len() as u64;
    // Nothing waits for a response head: the answer is not in it.
    let wire = Wire { events: true, bytes, hold: Duration::ZERO };
    match request(portal, arrival, session, message, params, wire).await? {
        Work::Done(reply) => {
            let _ = channel.message(&reply.body).await;
        }
        Work::Cancelled => {}
        Work::Revoked => return Err(arrival.revoked(portal).into()),
        Work::Running(call) => {
            let drain = portal.0.drain.clone();
            portal.0.drain.spawn(async move { call.run(&channel, &drain).await });
        }
    }
    Ok(())
}
