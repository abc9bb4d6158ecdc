//! Going down in order (O3): not ready → wait → stop accepting → finish requests →
//! close streams with `retry` → deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not started completely.
    Starting,
    /// Serving.
    Serving,
    /// Still serving, but asking to be left alone: readiness is off and every
    /// response says `Connection: close`.
    Leaving,
    /// No new connections; requests in progress end.
    Closing,
}

/// Shared by the listeners, the streams and the operations listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: AtomicU8,
    closing: CancellationToken,
    /// The deadline passed: whatever still runs ends with an error.
    over: CancellationToken,
    connections: Mutex<HashMap<u64, Arc<AtomicWaker>>>,
    next: AtomicU64,
    tasks: TaskTracker,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Inner {
            phase: AtomicU8::new(0),
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        }))
    }
}

impl Drain {
    /// A process that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything is up.
    pub fn started(&self) {
        let _ = self.0.phase.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The phase at this moment.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Leaving,
            _ => Phase::Closing,
        }
    }

    /// Ends when connections and streams are to be closed.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Ends when the deadline of draining has passed.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }

    /// Connections open at the moment.
    pub fn connections(&self) -> usize {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Runs a task that draining waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// Goes through the phases and returns when everything ended or the deadline
    /// passed; true when everything ended by itself.
    pub async fn run(&self, wait: Duration, deadline: Duration) -> bool {
        self.0.phase.store(2, Ordering::Release);
        tokio::time::sleep(wait).await;
        self.0.phase.store(3, Ordering::Release);
        self.0.closing.cancel();
        self.wake_connections();
        self.0.tasks.close();
        let clean = tokio::time::timeout(deadline, self.0.tasks.wait()).await.is_ok();
        self.0.over.cancel();
        if !clean {
            // What is left says so on its stream; give those bytes a moment to leave.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.0.tasks.wait()).await;
        }
        clean
    }

    fn wake_connections(&self) {
        let wakers: Vec<_> = {
            let open = self.0.connections.lock().unwrap_or_else(PoisonError::into_inner);
            open.values().cloned().collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    pub(crate) fn connection(&self) -> Connection {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let waker = Arc::new(AtomicWaker::new());
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&waker));
        Connection { drain: self.clone(), number, waker }
    }
}

/// One open connection. It looks at the phase each time it is polled, which costs an
/// atomic load, where waiting on a shared token would cost locks on every request.
#[derive(Debug)]
pub(crate) struct Connection {
    drain: Drain,
    number: u64,
    waker: Arc<AtomicWaker>,
}

impl Connection {
    /// True when the connection is to be closed; else the task is woken when it is.
    pub(crate) fn poll_closing(&self, cx: &Context<'_>) -> bool {
        // Registered before the look, so that a change in between is not missed.
        self.waker.register(cx.waker());
        self.drain.phase() == Phase::Closing
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.drain.0.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn o3_phases_in_order() {
        let drain = Drain::new();
        assert_eq!(drain.phase(), Phase::Starting);
        drain.started();
        assert_eq!(drain.phase(), Phase::Serving);
        let task = {
            let drain = drain.clone();
            drain.spawn({
                let drain = drain.clone();
                async move { drain.closing().await }
            });
            tokio::spawn(async move { drain.run(Duration::from_secs(5), Duration::from_secs(30)).await })
        };
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(drain.phase(), Phase::Leaving);
        assert!(task.await.unwrap());
        assert_eq!(drain.phase(), Phase::Closing);
        drain.over().await;
        drain.started();
        assert_eq!(drain.phase(), Phase::Closing);
    }

    #[tokio::test(start_paused = true)]
    async fn o3_the_deadline_ends_what_does_not_end() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        let started = tokio::time::Instant::now();
        assert!(!drain.run(Duration::from_secs(5), Duration::from_secs(30)).await);
        assert!(started.elapsed() >= Duration::from_secs(35) && started.elapsed() < Duration::from_secs(37));
    }

    #[tokio::test]
    async fn o3_an_idle_connection_is_woken() {
        let drain = Drain::new();
        let connection = drain.connection();
        let task = tokio::spawn(async move {
            std::future::poll_fn(|cx| {
                if connection.poll_closing(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        });
        tokio::task::yield_now().await;
        assert_eq!(drain.connections(), 1);
        drain.run(Duration::ZERO, Duration::ZERO).await;
        task.await.unwrap();
        assert_eq!(drain.connections(), 0);
    }
}
