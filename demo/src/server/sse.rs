//! Event streams.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Body;

/// A comment line is sent after this long without an event.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A response that ends when the sender is dropped. The channel is small, so a client
/// that does not read slows its own call down and nothing else.
pub(super) fn channel() -> (mpsc::Sender<Value>, Response<Body>) {
    let (sender, receiver) = mpsc::channel::<Value>(16);
    let events = stream::unfold(receiver, |mut receiver| async move {
        let bytes = match tokio::time::timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(None) => return None,
            Ok(Some(message)) => Bytes::from(format!("event: message\ndata: {message}\n\n")),
            Err(_) => Bytes::from_static(b": keep-alive\n\n"),
        };
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (sender, response)
}
