//! `initialize`: answered from what the caller may see, opens a session.

use std::sync::Arc;

use bartizan_model::Era;
use bartizan_wire::{ClientProfile, Kind, Message, Params, headers};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::portal::{Arrival, Portal};
use crate::respond::{self, Asked, Problem, ProblemKind, Reply};
use crate::sessions::{About, Offered, Transport};

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
    let session = portal.0.sessions.open(&arrival.principal, arrival.endpoint.clone(), about, Transport::Streamable);
    let session = session.ok_or_else(|| ProblemKind::Internal.of(message.id()))?;
    let mut answer = respond::json(StatusCode::OK, reply.body);
    if let Ok(value) = HeaderValue::from_str(&session.id) {
        answer.headers_mut().insert(headers::SESSION_ID, value);
    }
    Ok(answer)
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
