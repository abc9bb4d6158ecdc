//! Idle connections of one origin.
//!
//! A connection is not driven by a task of its own: whoever uses it polls it. That saves
//! two wake-ups per request, and dropping the user of a connection closes it, which is
//! what cancellation means on HTTP/1.1.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::stream::Stream;

/// Idle connections kept per origin.
const MAX_IDLE: usize = 64;
/// Longest idle time; shorter when the server says so by `Keep-Alive: timeout=`.
pub(crate) const IDLE: Duration = Duration::from_secs(50);

type Driver = Connection<TokioIo<Stream>, Full<Bytes>>;

/// One HTTP/1.1 connection with its driver.
pub(crate) struct Conn {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
    done: bool,
}

impl Conn {
    pub(crate) fn new(sender: SendRequest<Full<Bytes>>, driver: Driver) -> Self {
        Self { sender, driver: Box::pin(driver), done: false }
    }

    /// Lets the connection read and write. `Ready` once it is over; why it ended reaches the
    /// user through the response or body future.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        match self.driver.as_mut().poll(cx) {
            Poll::Ready(_) => {
                self.done = true;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// True when the connection is open and waits for a request. Also notices an end of
    /// stream, or bytes nobody asked for, that arrived while it was idle.
    pub(crate) fn is_reusable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_drive(&mut cx).is_pending() && self.sender.is_ready()
    }
}

struct Idle {
    conn: Conn,
    until: Instant,
}

/// Idle connections to one scheme, host and port.
#[derive(Default)]
pub(crate) struct Origin {
    idle: Mutex<Vec<Idle>>,
}

impl Origin {
    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most recently used connection that still works.
    pub(crate) fn take(&self) -> Option<Conn> {
        loop {
            let mut idle = self.lock().pop()?;
            if idle.until > Instant::now() && idle.conn.is_reusable() {
                return Some(idle.conn);
            }
        }
    }

    /// Takes a connection back if it can be used again.
    pub(crate) fn give(&self, mut conn: Conn, keep: Duration) {
        if !conn.is_reusable() {
            return;
        }
        let idle = Idle { conn, until: Instant::now() + keep };
        let mut list = self.lock();
        if list.len() < MAX_IDLE {
            list.push(idle);
        }
    }

    /// Closes what is dead or too old; true when nothing is left.
    pub(crate) fn sweep(&self) -> bool {
        let mut list = self.lock();
        let now = Instant::now();
        list.retain_mut(|idle| idle.until > now && idle.conn.is_reusable());
        list.is_empty()
    }
}

/// Where a used connection goes back to.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) origin: Weak<Origin>,
    pub(crate) keep: Duration,
}

impl Home {
    pub(crate) fn new(origin: &Arc<Origin>, keep: Duration) -> Self {
        Self { origin: Arc::downgrade(origin), keep }
    }

    pub(crate) fn give(&self, conn: Conn) {
        if let Some(origin) = self.origin.upgrade() {
            origin.give(conn, self.keep);
        }
    }
}
