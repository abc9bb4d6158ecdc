//! `subscriptions/listen` (protocol section 3.8): the acknowledgement first, then
//! nothing that was not asked for, at the end a result.

use std::sync::Arc;

use bartizan_wire::listen::{Filter, acknowledged, completed, with_subscription};
use bartizan_wire::{ClientProfile, Params, build};
use http::Response;

use crate::body::Body;
use crate::portal::{Arrival, Portal};
use crate::respond::{self, Asked, Problem, ProblemKind};
use crate::streams::{Channel, Gone, Kept, Reader};

/// Opens the stream.
pub(super) async fn open(
    portal: &Portal,
    arrival: &Arrival<'_>,
    profile: &Arc<ClientProfile>,
    params: &Params,
    asked: Asked,
) -> Result<Response<Body>, Problem> {
    let filter = params.notifications.as_ref().map(Filter::parse).transpose();
    let filter = filter.map_err(|error| ProblemKind::from(error).of(Some(&asked.id)))?.unwrap_or_default();
    let place = arrival.stream_place(portal).map_err(|crowded| crowded.of(Some(&asked.id)))?;
    let caller = arrival.caller(profile, None, Some(params));
    let mut notes = match portal.0.gate.subscribe(&arrival.endpoint, &caller, filter).await {
        Ok(notes) => notes,
        Err(reply) => return Ok(respond::single(asked.reply(None, reply))),
    };
    let channel = Arc::new(Channel::new(Kept::No));
    let answer = respond::events(Reader::attach(Arc::clone(&channel), arrival.seat(portal, Some(place))));
    let ack = acknowledged(&asked.id, notes.accepted());
    // The reader was attached just now: there is room.
    let _ = channel.try_message(&build::notification("notifications/subscriptions/acknowledged", Some(&ack)));
    let drain = portal.0.drain.clone();
    portal.0.drain.spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = channel.gone() => return,
                () = drain.closing() => break,
                note = notes.next() => {
                    let Some(note) = note else { break };
                    let params = with_subscription(&asked.id, note.params.as_ref());
                    let sent = channel.message(&build::notification(&note.method, Some(&params))).await;
                    if sent == Err(Gone) {
                        return;
                    }
                }
            }
        }
        let _ = channel.try_message(&asked.result(&completed(&asked.id)).body);
        channel.close();
    });
    Ok(answer)
}
