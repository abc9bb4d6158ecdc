//! One HTTP/2 connection to one process.

use std::sync::Arc;
use std::time::Duration;

use bartizan_egress::PeerDialer;
use bartizan_portal::{PassError, PassedBody};
use bartizan_tls::{ReplicaTls, replica_name};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Name lookup, dialling and handshake together.
pub(crate) const CONNECT: Duration = Duration::from_millis(1_000);
/// A process that is silent for so long is asked whether it lives, and given as much time: together with [`CONNECT`] a
/// process that is gone is known within two seconds, however it went.
const PING: Duration = Duration::from_millis(700);
/// What an answer may be ahead of its reader, bytes. The window of the whole connection is as large as HTTP/2 allows:
/// answers that nobody reads must not hold up the others.
const STREAM_WINDOW: u32 = 64 * 1024;
/// RFC 9113 section 6.9.1.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The connection to one process; made when it is needed.
#[derive(Default)]
pub(crate) struct Link(Mutex<Open>);

#[derive(Default)]
struct Open {
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Grows with every connection.
    generation: u64,
    /// When and why the last attempt failed.
    failed: Option<(Instant, String)>,
}

impl Link {
    /// Sends a request. Another connection is tried only when nothing of it was sent.
    pub(crate) async fn send(
        &self,
        dialer: &PeerDialer,
        tls: &ReplicaTls,
        node: &str,
        address: &str,
        request: Request<Bytes>,
    ) -> Result<Response<PassedBody>, PassError> {
        let mut request = request.map(Full::new);
        let mut broken = None;
        for fresh in [false, true] {
            let (mut sender, generation) = self.sender(dialer, tls, node, address, broken).await?;
            broken = Some(generation);
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer.map(|body| Box::pin(body.map_err(Into::into)) as PassedBody)),
                Err(mut error) => match error.take_message() {
                    Some(back) if !fresh => request = back,
                    Some(_) => return Err(PassError::Unreachable(error.into_error().to_string())),
                    None => return Err(PassError::Lost(error.into_error().to_string())),
                },
            }
        }
        Err(PassError::Unreachable("no connection".to_owned()))
    }

    /// The open connection, unless it is of the generation that is known to be broken, or a new one; with its
    /// generation.
    async fn sender(
        &self,
        dialer: &PeerDialer,
        tls: &ReplicaTls,
        node: &str,
        address: &str,
        broken: Option<u64>,
    ) -> Result<(SendRequest<Full<Bytes>>, u64), PassError> {
        let asked = Instant::now();
        // Held while dialling: many requests at once need one connection.
        let mut open = self.0.lock().await;
        if let Some(sender) = open.sender.as_ref().filter(|sender| !sender.is_closed())
            && broken.is_none_or(|broken| broken < open.generation)
        {
            return Ok((sender.clone(), open.generation));
        }
        // Who waited for an attempt that failed does not wait for another one.
        if let Some((_, why)) = open.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(PassError::Unreachable(why.clone()));
        }
        open.sender = None;
        match connect(dialer, tls, node, address).await {
            Ok(sender) => {
                open.sender = Some(sender.clone());
                open.generation += 1;
                open.failed = None;
                Ok((sender, open.generation))
            }
            Err(why) => {
                open.failed = Some((Instant::now(), why.clone()));
                Err(PassError::Unreachable(why))
            }
        }
    }
}

/// A new connection, or why there is none.
async fn connect(
    dialer: &PeerDialer,
    tls: &ReplicaTls,
    node: &str,
    address: &str,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let dialled = dialer.dial(address, &replica_name(node), tls.client()).await;
    let stream = dialled.map_err(|error| error.to_string())?;
    let handshake = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = tokio::time::timeout(CONNECT, handshake)
        .await
        .map_err(|_| "no answer to the handshake".to_owned())?
        .map_err(|error| error.to_string())?;
    let node: Arc<str> = node.into();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%node, %error, "connection to another process ended");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests;
