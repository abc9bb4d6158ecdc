//! Response bodies that carry their connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::EgressError;
use crate::pool::{Conn, Home};

/// How long the end of a body is waited for after its content was used.
const LINGER: Duration = Duration::from_millis(250);
/// How much may still come, in bytes.
const MAX_LINGER: usize = 4096;

/// A response body. Dropping it before its end closes the connection.
pub struct Body {
    incoming: Incoming,
    conn: Option<Conn>,
    home: Home,
    host: Arc<str>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, conn: Conn, home: Home, host: Arc<str>) -> Self {
        let mut body = Self { incoming, conn: Some(conn), home, host };
        body.release_at_end();
        body
    }

    /// The connection goes back as soon as the last byte is there, not when the caller asks
    /// for more and learns that there is none.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(conn) = self.conn.take()
        {
            self.home.give(conn);
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.conn = None;
                Poll::Ready(Some(Err(self.broken(&error))))
            }
            Poll::Ready(None) => {
                if let Some(conn) = self.conn.take() {
                    self.home.give(conn);
                }
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn broken(&self, why: &dyn fmt::Display) -> EgressError {
        EgressError::Io { host: self.host.to_string(), why: why.to_string() }
    }

    /// True when the end is known to be reached: no byte will come any more.
    pub fn is_empty(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// For a caller who has all it wants and expects the end at once: when the end is there,
    /// or comes within a quarter of a second, the connection is used again.
    pub fn finish(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut self).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(_))) if self.conn.is_some() => {}
                Poll::Ready(_) => return,
                Poll::Pending => break,
            }
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Whatever comes of it: only the connection is wanted back.
                let _rest = tokio::time::timeout(LINGER, self.collect_bytes(MAX_LINGER)).await;
            });
        }
    }

    /// The whole body, at most `max` bytes.
    ///
    /// # Errors
    /// [`EgressError::TooLarge`], before reading when the declared length says so already;
    /// [`EgressError::Io`] when the connection breaks.
    pub async fn collect_bytes(mut self, max: usize) -> Result<Bytes, EgressError> {
        let too_large = || EgressError::TooLarge { limit: max };
        if self.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(too_large());
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(data) = self.chunk().await? {
            if first.len() + rest.len() + data.len() > max {
                return Err(too_large());
            }
            if rest.is_empty() && first.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// The next piece of the body; `None` at its end. Empty pieces are skipped.
    ///
    /// # Errors
    /// [`EgressError::Io`] when the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        loop {
            match self.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.poll_incoming(cx) {
            return Poll::Ready(frame);
        }
        let Some(conn) = this.conn.as_mut() else { return Poll::Pending };
        let over = conn.poll_drive(cx).is_ready();
        // The driver may have put something into the body just now.
        match this.poll_incoming(cx) {
            Poll::Pending if over => {
                this.conn = None;
                Poll::Ready(Some(Err(this.broken(&"closed"))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
