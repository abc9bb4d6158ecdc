//! The only place that builds error bodies, and the table of every refusal
//! (features section 1.2, protocol sections 3.5 and 3.6).

mod page;
mod problem;
mod reply;

use bartizan_model::EventId;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::streams::Reader;

pub(crate) use page::wants_page;
pub(crate) use problem::{Challenge, Problem, ProblemKind};
pub(crate) use reply::{Asked, Reply};

/// Names a request in answers, logs and the record.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::full(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(SNIFFING, HeaderValue::from_static("nosniff"));
    answer
}

/// Accepted, nothing to say.
pub(crate) fn accepted() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
}

/// A stream of events.
pub(crate) fn events(reader: Reader) -> Response<Body> {
    let mut answer = Response::new(Body::stream(reader));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, EVENTS);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    answer
}

/// The answer to one JSON-RPC request whose answer is a single message.
pub(crate) fn single(reply: Reply) -> Response<Body> {
    let mut answer = json(reply.status, reply.body);
    if let Some(seconds) = reply.retry_after_s {
        answer.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(event) = reply.event {
        set_request_id(&mut answer, event);
    }
    answer
}

/// Names the request in the answer.
pub(crate) fn set_request_id(answer: &mut Response<Body>, id: EventId) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(id.to_string())) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
}
