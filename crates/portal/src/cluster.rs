//! The way to the process that holds what a request is about (O17): a parked call, a
//! question of a call, a call to cancel. The request goes there whole, with its
//! credential, and is authenticated and decided there like any other; what this process
//! adds is only what the connection proved. A request takes this way once.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_tls::{DeviceCertificate, ReplicaTls};
use bartizan_wire::{Kind, RequestId, RpcError, codes};
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Body as HttpBody;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::Body;
use crate::decode::{Decoded, Incoming, Way};
use crate::listener::{Bounds, FromReplica, Security, serve};
use crate::portal::{Arrival, Portal};
use crate::respond::{self, Asked};
use crate::sessions::node_of;

/// What the receiving process saw of the client, for the process the request goes to. Taken from other processes
/// only; from a client they are nothing.
const PEER: HeaderName = HeaderName::from_static("bartizan-peer");
const DEVICE: HeaderName = HeaderName::from_static("bartizan-device");

/// Headers of one connection, not of the request (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Longest wait for a process to take a cancellation.
const CANCEL: Duration = Duration::from_secs(2);
/// Largest cancellation that is passed on, bytes: it goes to every process.
const MAX_CANCEL: usize = 4 * 1024;
/// Cancellations on their way to the other processes.
static TELLING: Semaphore = Semaphore::const_new(64);

/// The body of an answer from another process.
pub type PassedBody =
    Pin<Box<dyn HttpBody<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> + Send + Sync>>;
/// An answer that is on its way.
pub type Passing = Pin<Box<dyn Future<Output = Result<Response<PassedBody>, PassError>> + Send>>;

/// Why another process gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// It is gone or cannot be reached: the request was not sent.
    #[error("the process cannot be reached: {0}")]
    Unreachable(String),
    /// It went away after the request was sent: what became of it is not known.
    #[error("the process went away: {0}")]
    Lost(String),
}

/// The other processes of the installation.
pub trait Replicas: Send + Sync {
    /// Sends a request to a process, and tells within two seconds when it is gone.
    fn pass(&self, node: &str, request: Request<Bytes>) -> Passing;

    /// Those that live.
    fn others(&self) -> Vec<Arc<str>>;
}

/// Where a request came from, as far as another process must know it.
pub(crate) struct Passage<'r> {
    pub(crate) parts: &'r Parts,
    pub(crate) peer: SocketAddr,
    /// It came from another process already.
    pub(crate) passed: bool,
}

/// What another process saw of the client.
pub(crate) struct Seen {
    pub(crate) peer: SocketAddr,
    pub(crate) device: Option<Arc<str>>,
}

impl Seen {
    /// Of a request from another process; None when it does not say.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let peer = headers.get(PEER)?.to_str().ok()?.parse().ok()?;
        let device = headers.get(DEVICE).and_then(|device| device.to_str().ok()).map(Into::into);
        Some(Self { peer, device })
    }
}

impl Portal {
    /// Serves the other processes of the installation until draining closes the listener.
    pub async fn serve_replicas(&self, listener: TcpListener, tls: ReplicaTls) {
        let portal = self.clone();
        let bounds = Bounds {
            head: self.0.settings.client_read(),
            connections: 1_024,
            per_address: 1_024,
            idle: Duration::from_secs(600),
            // A process speaks for all of its clients, on one connection.
            streams: 16_384,
            resets: 16_384,
            uncounted: Vec::new(),
        };
        let drain = self.0.drain.clone();
        serve(listener, Security::Replicas(tls), drain, bounds, move |request, peer| {
            let portal = portal.clone();
            async move { portal.handle(request, peer).await }
        })
        .await;
    }

    /// Lets requests find their way to the other processes.
    pub fn connect(&self, replicas: Arc<dyn Replicas>) {
        // Set once, at the start.
        let _ = self.0.replicas.set(replicas);
    }
}

/// Whether a request came from another process of the installation.
pub(crate) fn is_passed(parts: &Parts) -> bool {
    let from = parts.extensions.get::<FromReplica>();
    if let Some(FromReplica(node)) = from {
        tracing::trace!(%node, "passed on by another process");
    }
    from.is_some()
}

/// The answer of the process that holds what a message is about; None when that is this one, or nobody.
pub(crate) async fn elsewhere(
    portal: &Portal,
    arrival: &Arrival<'_>,
    incoming: &Incoming,
    body: &Bytes,
) -> Option<Response<Body>> {
    let replicas = portal.0.replicas.get()?;
    let Incoming::One(decoded) = incoming else { return None };
    if arrival.passage.passed {
        return None;
    }
    let Decoded { message, params, way } = &**decoded;
    match (way, message.kind()) {
        (Way::Modern(_), Kind::Request) => {
            let sealed = params.request_state.as_deref()?;
            let node = portal.0.gate.parked_at(&arrival.endpoint, sealed)?;
            let place = arrival.call_place(portal).ok()?;
            let request = whole(portal, arrival, body)?;
            match replicas.pass(&node, request).await {
                Ok(answer) => Some(answer_of(answer, Some(place))),
                Err(PassError::Unreachable(why)) => {
                    // What happens here next is the plain refusal of a lost call, which is on record.
                    tracing::info!(node, why, "the holder of a parked call cannot be reached");
                    None
                }
                Err(PassError::Lost(why)) => {
                    tracing::warn!(node, why, "the holder of a parked call went away while it answered");
                    let id = message.id()?.clone();
                    let text = "the process that held this call ended while it answered; whether the call was \
                                finished is not known, and it was not run again";
                    let asked = Asked { message: message.clone(), id, era: Era::Modern };
                    Some(respond::single(asked.error(&RpcError::new(codes::INTERNAL_ERROR, text))))
                }
            }
        }
        (Way::Session(_), Kind::Response | Kind::Error) => {
            let node = node_of(message.id()?)?;
            if node == **portal.0.gate.node() {
                return None;
            }
            let request = whole(portal, arrival, body)?;
            match replicas.pass(&node, request).await {
                Ok(answer) => Some(answer_of(answer, None)),
                Err(error) => {
                    // An answer to a call that is gone is an answer to no open question.
                    tracing::info!(node, %error, "the process that asked cannot be reached");
                    None
                }
            }
        }
        (Way::Session(session), Kind::Notification) if message.method() == Some("notifications/cancelled") => {
            let id = params.request_id.as_ref().and_then(RequestId::from_raw)?;
            if !session.runs(&id) {
                tell_all(portal, replicas, arrival, body);
            }
            None
        }
        _ => None,
    }
}

/// A place among the cancellations on their way; none for one that is too large or too many.
fn may_tell<'s>(body: &Bytes, places: &'s Semaphore) -> Option<SemaphorePermit<'s>> {
    if body.len() > MAX_CANCEL { None } else { places.try_acquire().ok() }
}

/// Passes a cancellation to every other process; only one of them has the call, and nobody waits. A cancellation is a
/// wish (MCP 2025-11-25, cancellation): one too many is dropped.
fn tell_all(portal: &Portal, replicas: &Arc<dyn Replicas>, arrival: &Arrival<'_>, body: &Bytes) {
    for node in replicas.others() {
        let Some(place) = may_tell(body, &TELLING) else {
            tracing::debug!(%node, bytes = body.len(), "a cancellation was not passed on");
            return;
        };
        let Some(request) = whole(portal, arrival, body) else { return };
        let passing = replicas.pass(&node, request);
        portal.0.drain.spawn(async move {
            let _place = place;
            if !matches!(tokio::time::timeout(CANCEL, passing).await, Ok(Ok(_))) {
                tracing::debug!(%node, "a cancellation could not be passed on");
            }
        });
    }
}

/// The whole request, as it came.
fn whole(portal: &Portal, arrival: &Arrival<'_>, body: &Bytes) -> Option<Request<Bytes>> {
    let Passage { parts, peer, .. } = &arrival.passage;
    let host = match parts.headers.get(HOST) {
        Some(host) => host.to_str().ok()?,
        None => parts.uri.authority()?.as_str(),
    };
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::new(body.clone());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::builder().scheme("https").authority(host).path_and_query(path).build().ok()?;
    let mut headers = parts.headers.clone();
    // Those that the client names as its connection's, and those that always are.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name: &HeaderName| *name != http::header::AUTHORIZATION && *name != HOST)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&PEER, &DEVICE, &HOST]) {
        headers.remove(name);
    }
    headers.insert(PEER, HeaderValue::from_str(&peer.to_string()).ok()?);
    let device = parts.extensions.get::<DeviceCertificate>();
    if let Some(device) = device.and_then(|device| device.device(portal.0.clock.now_ms())) {
        headers.insert(DEVICE, HeaderValue::from_str(device).ok()?);
    }
    *request.headers_mut() = headers;
    Some(request)
}

fn answer_of(answer: Response<PassedBody>, place: Option<crate::places::CallerTicket>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    parts.version = http::Version::default();
    Response::from_parts(parts, Body::passed(body, place))
}

/// The address of a client as the process it reached saw it.
pub(crate) fn seen_by(parts: &Parts, peer: SocketAddr) -> Option<(SocketAddr, Option<Arc<str>>)> {
    if !is_passed(parts) {
        return Some((peer, None));
    }
    Seen::of(&parts.headers).map(|seen| (seen.peer, seen.device))
}

/// The device of a client: what its own connection proved, here or at the process it reached.
pub(crate) fn device(portal: &Portal, parts: &Parts, peer: SocketAddr) -> Option<Arc<str>> {
    let certificate = parts.extensions.get::<DeviceCertificate>();
    let seen = seen_by(parts, peer).and_then(|(_, device)| device);
    let now_ms = portal.0.clock.now_ms();
    portal.0.settings.facts.device(peer.ip(), &parts.headers, certificate, seen, now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o17_cancellations_on_their_way_are_small_and_few() {
        let (places, small) = (Semaphore::new(2), Bytes::from(vec![b' '; MAX_CANCEL]));
        assert!(may_tell(&Bytes::from(vec![b' '; MAX_CANCEL + 1]), &places).is_none());
        let first = may_tell(&small, &places);
        let second = may_tell(&small, &places);
        assert!(first.is_some() && second.is_some() && may_tell(&small, &places).is_none());
        drop(first);
        assert!(may_tell(&small, &places).is_some());
    }
}
