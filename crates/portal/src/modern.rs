//! Clients of 2026-07-28 and later: every request stands alone (protocol section 3).

mod listen;

use std::sync::Arc;

use bartizan_gate::{GovernedCall, ListCall, Unknown};
use bartizan_model::Era;
use bartizan_wire::{ClientProfile, Kind, Message, Params, headers, method};
use http::Response;

use crate::body::Body;
use crate::decode::{Decoded, Way};
use crate::portal::{Arrival, Portal};
use crate::pump::{Call, Work};
use crate::respond::{self, Asked, Problem, ProblemKind};
use crate::streams::{Channel, Kept, Reader};

/// One POSTed message.
pub(crate) async fn post(
    portal: &Portal,
    mut arrival: Arrival<'_>,
    decoded: Decoded,
    events: bool,
    bytes: u64,
) -> Result<Response<Body>, Problem> {
    let Decoded { message, params, way: Way::Modern(profile) } = decoded else {
        return Err(ProblemKind::Internal.into());
    };
    if message.kind() != Kind::Request {
        return Ok(respond::accepted());
    }
    let id = message.id().cloned().ok_or(ProblemKind::Internal)?;
    let asked = Asked { message: message.clone(), id, era: Era::Modern };
    let name = message.method().unwrap_or_default();
    let known = method::lookup(name);
    if known.is_some_and(|info| !info.modern || info.notification || info.from == method::From::Server) {
        return Ok(respond::single(asked.unknown(&Unknown::Method(name.to_owned()))));
    }
    params.check(name).map_err(|error| ProblemKind::from(error).of(Some(&asked.id)))?;
    arrival.select(portal).await.map_err(|problem| problem.of(Some(&asked.id)))?;
    match name {
        "server/discover" => {
            let caller = arrival.caller(&profile, None, Some(&params));
            let found = portal.0.gate.discover(&arrival.endpoint, &caller).await;
            Ok(respond::single(asked.listed(found.map(|found| found.result))))
        }
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            let caller = arrival.caller(&profile, None, Some(&params));
            let call = ListCall::new(arrival.endpoint.clone(), caller, message, params, bytes);
            Ok(arrival.single(portal, asked.listed(portal.0.gate.list(call).await)))
        }
        "subscriptions/listen" if !events => Err(ProblemKind::NotAcceptable.of(Some(&asked.id))),
        "subscriptions/listen" => listen::open(portal, &arrival, &profile, &params, asked).await,
        _ => call(portal, &arrival, profile, (message, params), asked, (events, bytes)).await,
    }
}

async fn call(
    portal: &Portal,
    arrival: &Arrival<'_>,
    profile: Arc<ClientProfile>,
    (message, params): (Message, Params),
    asked: Asked,
    (events, bytes): (bool, u64),
) -> Result<Response<Body>, Problem> {
    let place = arrival.call_place(portal).map_err(|crowded| crowded.of(Some(&asked.id)))?;
    let id = asked.id.clone();
    let caller = arrival.caller(&profile, None, Some(&params));
    let handle = portal.0.gate.call(GovernedCall {
        endpoint: arrival.endpoint.clone(),
        caller,
        message,
        params,
        param_headers: headers::forwarded(arrival.headers),
        request_bytes: bytes,
    });
    // Dropping the handle, as happens when the client goes away, cancels the call.
    let call = Call { handle, asked, profile, running: None, first: None, place: Arc::clone(&place) };
    let drain = &portal.0.drain;
    Ok(match call.begin(portal.0.settings.head_hold, events, drain).await {
        Work::Done(reply) => arrival.single(portal, reply),
        Work::Cancelled => respond::accepted(),
        Work::Revoked => return Err(arrival.revoked(portal).of(Some(&id))),
        Work::Running(call) => {
            let channel = Arc::new(Channel::new(Kept::No));
            let mut answer =
                respond::events(Reader::attach(Arc::clone(&channel), arrival.call_seat(portal, Some(place))));
            respond::set_request_id(&mut answer, call.handle.event_id());
            let drain = drain.clone();
            portal.0.drain.spawn(async move {
                call.run(&channel, &drain).await;
                channel.close();
            });
            answer
        }
    })
}
