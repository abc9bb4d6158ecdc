//! The stand-alone GET stream: what servers say outside of any call. One task per
//! session listens at the gate and writes to the session's stream; it starts with the
//! first GET or subscription, and ends when nobody reads for a while.

use std::sync::Arc;
use std::time::Duration;

use bartizan_gate::{CallReply, Caller, Subscription, SubscriptionControl, Unknown};
use bartizan_wire::listen::Filter;
use bartizan_wire::{RawJson, Revision, RpcError, build, codes};
use http::Response;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::portal::{Arrival, Portal};
use crate::pump::wants_log;
use crate::respond::{self, Asked, Problem, ProblemKind, Reply};
use crate::sessions::{Feed, Session, Transport};
use crate::streams::Reader;

/// How often it is looked whether somebody still reads. A stream unread at two looks
/// in a row is given up; what it says until then is kept for a client that comes back.
const LOOK: Duration = Duration::from_secs(60);
/// Resources one session may subscribe to.
const MAX_SUBSCRIPTIONS: usize = 1_000;

/// Opens the stream; an older reader of it ends.
pub(super) async fn open(
    portal: &Portal,
    arrival: &Arrival<'_>,
    session: &Arc<Session>,
) -> Result<Response<Body>, Problem> {
    let place = arrival.stream_place(portal)?;
    let channel = session.get_stream();
    if session.revision() >= Revision::V2025_11_25 {
        channel.prime();
    }
    // Attached before the feed is looked at, so that the feed sees a reader.
    let answer = respond::events(Reader::attach(channel, arrival.seat(portal, Some(place))));
    let caller = arrival.caller(&session.profile(), Some(session), None);
    match listen(portal, session, &caller).await {
        Ok(_) => Ok(answer),
        Err(_) => Err(ProblemKind::Endpoint.into()),
    }
}

/// `resources/subscribe` and `resources/unsubscribe`.
pub(super) async fn subscribe(
    portal: &Portal,
    session: &Arc<Session>,
    caller: &Caller,
    asked: &Asked,
    uri: &str,
) -> Reply {
    let feed = match listen(portal, session, caller).await {
        Ok(feed) => feed,
        Err(reply) => return asked.reply(None, reply),
    };
    if asked.message.method() == Some("resources/unsubscribe") {
        if session.unsubscribe(uri) {
            feed.remove(uri).await;
        }
        return asked.result(&RawJson::empty_object());
    }
    if !session.may_subscribe(uri, MAX_SUBSCRIPTIONS) {
        let text = format!("More than {MAX_SUBSCRIPTIONS} subscriptions in one session");
        return asked.error(&RpcError::new(codes::INVALID_PARAMS, text));
    }
    match feed.subscribe(uri).await {
        Ok(true) => {
            session.subscribe(uri);
            asked.result(&RawJson::empty_object())
        }
        Ok(false) => asked.unknown(&Unknown::Resource(uri.to_owned())),
        Err(reply) => asked.reply(None, reply),
    }
}

/// The session's subscription at the gate; made when there is none.
pub(super) async fn listen(
    portal: &Portal,
    session: &Arc<Session>,
    caller: &Caller,
) -> Result<SubscriptionControl, CallReply> {
    let mut feed = session.feed.lock().await;
    if let Some(feed) = feed.as_ref().filter(|feed| *feed.who == *caller.principal) {
        return Ok(feed.control.clone());
    }
    // What was chosen for other groups is not for these.
    if let Some(former) = feed.take() {
        former.over.cancel();
    }
    let uris = session.subscribed().iter().map(|uri| String::from(&**uri)).collect();
    let filter = Filter { tools: true, prompts: true, resources: true, uris, task_ids: Vec::new() };
    let subscription = portal.0.gate.subscribe(&session.endpoint, caller, filter).await?;
    let control = subscription.control();
    let over = CancellationToken::new();
    *feed = Some(Feed { control: control.clone(), who: Arc::clone(&caller.principal), over: over.clone() });
    portal.0.drain.spawn(run(portal.clone(), Arc::clone(session), subscription, over));
    Ok(control)
}

/// Writes notes to the session's stream until the session, the process or the
/// client's interest ends, or somebody with other groups listens instead (`over`).
async fn run(portal: Portal, session: Arc<Session>, mut notes: Subscription, over: CancellationToken) {
    let drain = portal.0.drain.clone();
    let mut unread = false;
    let mut look = tokio::time::interval(LOOK);
    look.reset();
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = session.ended() => break,
            // The one stream of an old client also carries its answers; it ends later.
            () = drain.closing(), if session.transport == Transport::Sse => break,
            () = drain.closing() => {
                let channel = session.get_stream();
                channel.retry(portal.0.settings.retry_ms);
                channel.close();
                break;
            }
            note = notes.next() => {
                let Some(note) = note else {
                    // The endpoint is gone, or not this caller's any more. A client that
                    // comes back is told so.
                    session.get_stream().close();
                    session.drop_get();
                    break;
                };
                if wants_log(&session.profile(), &note.method, note.params.as_ref()) {
                    let message = build::notification(&note.method, note.params.as_ref());
                    // Closed only when the session ends, which is noticed above.
                    let _ = session.get_stream().try_message(&message);
                }
            }
            _ = look.tick() => {
                let mut feed = session.feed.lock().await;
                if over.is_cancelled() {
                    return;
                }
                if session.get_stream().is_attached() {
                    unread = false;
                } else if unread {
                    *feed = None;
                    session.drop_get();
                    return;
                } else {
                    unread = true;
                }
            }
        }
    }
    // It is cancelled under the lock: otherwise the feed is this one.
    let mut feed = session.feed.lock().await;
    if !over.is_cancelled() {
        *feed = None;
    }
}
