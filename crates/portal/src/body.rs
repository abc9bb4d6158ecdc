//! The one response body type.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::cluster::PassedBody;
use crate::places::CallerTicket;
use crate::streams::Reader;

/// A response body: whole bytes, a stream of server-sent events, or what another process
/// answers.
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    Full(Bytes),
    Stream(Box<Reader>),
    Passed(Box<Passed>),
}

struct Passed {
    body: PassedBody,
    _place: Option<CallerTicket>,
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passed")
    }
}

/// The process that answers went away in the middle. The connection is cut off, so that
/// nobody takes what came for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Inner::Full(Bytes::new()))
    }

    /// Exactly these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Full(bytes.into()))
    }

    pub(crate) fn passed(body: PassedBody, place: Option<CallerTicket>) -> Self {
        Self(Inner::Passed(Box::new(Passed { body, _place: place })))
    }

    pub(crate) fn stream(reader: Reader) -> Self {
        Self(Inner::Stream(Box::new(reader)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Stream(reader) => reader.poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Passed(passed) => {
                passed.body.as_mut().poll_frame(cx).map(|next| next.map(|frame| frame.map_err(|_| BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Stream(_) => false,
            Inner::Passed(passed) => passed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(_) => SizeHint::default(),
            Inner::Passed(passed) => passed.body.size_hint(),
        }
    }
}
