//! The body side of a stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bartizan_telemetry::Metrics;
use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::channel::{Channel, Take};
use crate::credentials::Watch;
use crate::places::CallerTicket;

/// A comment line goes out when a stream was silent for this long, so that proxies
/// between do not close it and a dead connection is noticed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What an open stream has of its caller: one of their places, and the authority of
/// their credential. Counted among the open streams for as long as it lives.
pub(crate) struct Seat {
    _place: Option<CallerTicket>,
    /// The future comes first: it holds no lock, but the watch counts it.
    revoked: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Watch)>,
    patience: Patience,
    metrics: Metrics,
}

/// What a stream does when the credential ends.
enum Patience {
    /// Ends.
    None,
    /// The calls on it end with the credential; their last words still go out.
    Ready,
    /// Those words are waited for.
    Waiting(Pin<Box<Sleep>>),
}

/// A stream of calls ends this long after its credential at the latest.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Seat {
    pub(crate) fn new(place: Option<CallerTicket>, watch: Option<Watch>, metrics: &Metrics) -> Self {
        metrics.streams(1);
        let revoked = watch.map(|watch| (Box::pin(watch.revoked()), watch));
        Self { _place: place, revoked, patience: Patience::None, metrics: metrics.clone() }
    }

    /// The same for a stream that closes with the calls it carries.
    pub(crate) fn patient(mut self) -> Self {
        self.patience = Patience::Ready;
        self
    }

    fn is_revoked(&mut self, cx: &mut Context<'_>) -> bool {
        if let Patience::Waiting(until) = &mut self.patience {
            return until.as_mut().poll(cx).is_ready();
        }
        let revoked = self.revoked.as_mut().is_some_and(|(revoked, _)| revoked.as_mut().poll(cx).is_ready());
        if revoked && matches!(self.patience, Patience::Ready) {
            let mut until = Box::pin(tokio::time::sleep(LAST_WORDS));
            let over = until.as_mut().poll(cx).is_ready();
            self.patience = Patience::Waiting(until);
            return over;
        }
        revoked
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.streams(-1);
    }
}

/// Takes frames from a channel; detaches when dropped.
pub(crate) struct Reader {
    channel: Arc<Channel>,
    generation: u64,
    silence: Pin<Box<Sleep>>,
    seat: Seat,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads from the first event nobody has read.
    pub(crate) fn attach(channel: Arc<Channel>, seat: Seat) -> Self {
        let generation = channel.attach();
        Self::with(channel, generation, seat)
    }

    /// Reads what follows event number `after`.
    pub(crate) fn resume(channel: Arc<Channel>, after: u64, seat: Seat) -> Self {
        let generation = channel.attach_after(after);
        Self::with(channel, generation, seat)
    }

    fn with(channel: Arc<Channel>, generation: u64, seat: Seat) -> Self {
        Self { channel, generation, silence: Box::pin(tokio::time::sleep(KEEP_ALIVE)), seat }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // Before anything is taken: what was not read in time is not read any more.
        if self.seat.is_revoked(cx) {
            return Poll::Ready(None);
        }
        match self.channel.take(self.generation, cx.waker()) {
            Take::Frame(frame) => {
                self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                Poll::Ready(Some(frame))
            }
            Take::End => Poll::Ready(None),
            Take::Wait => {
                if self.silence.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                Poll::Ready(Some(Bytes::from_static(b":\n\n")))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.channel.detach(self.generation);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::streams::Kept;

    #[tokio::test(start_paused = true)]
    async fn p10_silence_is_filled_with_comments() {
        let channel = Arc::new(Channel::new(Kept::No));
        let mut reader = Reader::attach(Arc::clone(&channel), Seat::new(None, None, &Metrics::new()));
        let started = Instant::now();
        let comment = poll_fn(|cx| reader.poll_next(cx)).await.unwrap();
        assert_eq!(comment, ":\n\n");
        assert!(started.elapsed() >= KEEP_ALIVE);
        channel.message(b"{}").await.unwrap();
        assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await.unwrap(), "data: {}\n\n");
        channel.close();
        assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await, None);
    }

    #[tokio::test]
    async fn p10_dropping_the_body_detaches() {
        let channel = Arc::new(Channel::new(Kept::Replay(1)));
        let reader = Reader::attach(Arc::clone(&channel), Seat::new(None, None, &Metrics::new()));
        assert!(channel.is_attached());
        drop(reader);
        assert!(!channel.is_attached());
        channel.detached().await;
    }
}
