//! `initialize`: answered from what the caller may see, opens a session.

use std::sync::Arc;

use bartizan_model::Era;
use bartizan_wire::{ClientProfile, Kind, Message, Params, headers};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::portal::{Arrival, Portal};
use crate::respond::{self, Asked, Problem, ProblemKind};
use crate::sessions::Offered;

/// Opens a session. The version is the client's when bartizan speaks it, else the
/// latest legacy one.
pub(super) async fn initialize(
    portal: &Portal,
    arrival: &Arrival<'_>,
    message: &Message,
    params: &Params,
) -> Result<Response<Body>, Problem> {
    if message.kind() != Kind::Request {
        return Err(ProblemKind::Unexpected("initialize is a request").into());
    }
    let id = message.id().cloned().ok_or(ProblemKind::Internal)?;
    let asked = Asked { message: message.clone(), id, era: Era::Legacy };
    let profile = match ClientProfile::legacy(params) {
        Ok(profile) => profile,
        Err(error) => return Ok(respond::single(asked.error(&error))),
    };
    let shared = Arc::new(profile.clone());
    let caller = arrival.caller(&shared, None, Some(params));
    let result = match portal.0.gate.discover(&arrival.endpoint, &caller).await {
        Ok(found) => found.result,
        Err(reply) => return Ok(respond::single(asked.reply(None, reply))),
    };
    let offered = Offered::of(&result);
    let session = portal.0.sessions.open(&arrival.principal, arrival.endpoint.clone(), profile, offered);
    let session = session.ok_or_else(|| ProblemKind::Internal.of(Some(&asked.id)))?;
    let mut answer = respond::json(StatusCode::OK, asked.result(&result).body);
    if let Ok(value) = HeaderValue::from_str(&session.id) {
        answer.headers_mut().insert(headers::SESSION_ID, value);
    }
    Ok(answer)
}
