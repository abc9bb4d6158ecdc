//! An HTTP/2 connection nobody uses is closed. HTTP/1 needs none of this: there the
//! time for the next head is also the idle time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BrokenOff};

/// After the polite end a connection that does not go is dropped.
const GRACE: Duration = Duration::from_secs(2);

/// Counts the requests of one connection that are open.
pub(super) struct Activity(Mutex<State>);

struct State {
    open: usize,
    /// When the last request ended, or the connection began.
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { open: 0, since: Instant::now() })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(self: &Arc<Self>) -> Open {
        self.lock().open += 1;
        Open(Arc::clone(self))
    }

    /// Since when nothing is open.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.open == 0).then_some(state.since)
    }
}

/// One open request.
pub(super) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open -= 1;
        state.since = Instant::now();
    }
}

/// A body that keeps its request open until it was sent.
pub(super) struct Counted {
    body: Body,
    _open: Open,
}

impl Counted {
    pub(super) fn new(body: Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// End it politely.
    Leave,
    /// It was told, and did not go.
    Drop,
}

/// Looks at a connection whenever it could be idle for too long, not at every request.
pub(super) struct Idle {
    activity: Arc<Activity>,
    after: Duration,
    look: Pin<Box<Sleep>>,
    told: bool,
}

impl Idle {
    pub(super) fn new(activity: Arc<Activity>, after: Duration) -> Self {
        Self { activity, after, look: Box::pin(tokio::time::sleep(after)), told: false }
    }

    /// What to do now; the task is woken when that may have changed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Verdict {
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = match self.activity.idle_since() {
                None => now + self.after.min(GRACE),
                Some(_) if self.told => return Verdict::Drop,
                Some(since) if now >= since + self.after => {
                    self.told = true;
                    self.look.as_mut().reset(now + GRACE);
                    return Verdict::Leave;
                }
                Some(since) => since + self.after,
            };
            self.look.as_mut().reset(next);
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(idle: &mut Idle) -> Verdict {
        poll_fn(|cx| match idle.poll(cx) {
            Verdict::Stay => Poll::Pending,
            other => Poll::Ready(other),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn o11_a_connection_is_idle_only_without_requests() {
        let (start, after) = (Instant::now(), Duration::from_secs(60));
        let activity = Activity::new();
        let mut idle = Idle::new(Arc::clone(&activity), after);
        let (first, second) = (activity.request(), activity.request());
        let ends = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(600)).await;
            drop(first);
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(second);
        });
        assert_eq!(next(&mut idle).await, Verdict::Leave);
        assert!(start.elapsed() >= Duration::from_secs(690) && start.elapsed() < Duration::from_secs(700));
        assert_eq!(next(&mut idle).await, Verdict::Drop);
        assert!(start.elapsed() < Duration::from_secs(710));
        ends.await.unwrap();
    }
}
