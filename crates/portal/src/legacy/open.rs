//! `initialize`: answered from what the caller may see, opens a session.

use std::sync::Arc;

use bartizan_model::Era;
use bartizan_wire::{ClientProfile, Kind, Message, Params, RpcError, codes, headers};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::portal::{Arrival, Portal};
use crate::respond::{self, Asked, Problem, ProblemKind, Reply};
use crate::sessions::{About, Closed, Offered, Session, Transport};

/// Opens a session.
pub(super) async fn initialize(
    portal: &Portal,
    arrival: &Arrival<'_>,
    message: &Message,
    params: &Params,
) -> Result<Response<Body>, Problem> {
    let (about, reply) = match handshake(portal, arrival, message, params).await? {
        Ok(agreed) => agreed,
        Err(reply) => return Ok(respond::single(reply)),
    };
    let session = open_session(portal, arrival, about, Transport::Streamable).await;
    let session = session.map_err(|problem| problem.of(message.id()))?;
    let mut answer = respond::json(StatusCode::OK, reply.body);
    if let Ok(value) = HeaderValue::from_str(&session.id) {
        answer.headers_mut().insert(headers::SESSION_ID, value);
    }
    Ok(answer)
}

/// A session of this caller.
pub(super) async fn open_session(
    portal: &Portal,
    arrival: &Arrival<'_>,
    about: About,
    transport: Transport,
) -> Result<Arc<Session>, ProblemKind> {
    let counted = arrival.owner();
    let opened = portal.0.sessions.open(arrival.asker(), counted, about, transport).await;
    opened.map_err(|closed| match closed {
        Closed::Full => ProblemKind::Crowded("sessions"),
        Closed::NoRandomness => ProblemKind::Internal,
        Closed::TooLarge => {
            ProblemKind::bad(RpcError::new(codes::INVALID_PARAMS, "The client says too much about itself"))
        }
        Closed::Unavailable => ProblemKind::StateUnavailable,
    })
}

/// What both sides say to each other, and the answer to the client; or the answer
/// when there is no session. The version is the client's when bartizan speaks it, else
/// the latest legacy one.
pub(super) async fn handshake(
    portal: &Portal,
    arrival: &Arrival<'_>,
    message: &Message,
    params: &Params,
) -> Result<Result<(About, Reply), Reply>, Problem> {
    if message.kind() != Kind::Request {
        return Err(ProblemKind::Unexpected("initialize is a request").into());
    }
    let id = message.id().cloned().ok_or(ProblemKind::Internal)?;
    let asked = Asked { message: message.clone(), id, era: Era::Legacy };
    let profile = match ClientProfile::legacy(params) {
        Ok(profile) => profile,
        Err(error) => return Ok(Err(asked.error(&error))),
    };
    let shared = Arc::new(profile.clone());
    let caller = arrival.caller(&shared, None, Some(params));
    Ok(match portal.0.gate.discover(&arrival.endpoint, &caller).await {
        Ok(found) => Ok((About::new(profile, Offered::of(&found.result)), asked.result(&found.result))),
        Err(reply) => Err(asked.reply(None, reply)),
    })
}
