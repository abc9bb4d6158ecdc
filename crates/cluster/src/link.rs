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

/// Name lookup, dialling and handshake together.
pub(crate) const CONNECT: Duration = Duration::from_millis(1_000);
/// A process that is silent for so long is asked whether it lives, and given as much time: together with [`CONNECT`] a
/// process that is gone is known within two seconds, however it went.
const PING: Duration = Duration::from_millis(700);

/// The connection to one process; made when it is needed.
#[derive(Default)]
pub(crate) struct Link(Mutex<Option<SendRequest<Full<Bytes>>>>);

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
        for fresh in [false, true] {
            let mut sender = self.sender(dialer, tls, node, address, fresh).await?;
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

    /// The open connection, or a new one.
    async fn sender(
        &self,
        dialer: &PeerDialer,
        tls: &ReplicaTls,
        node: &str,
        address: &str,
        fresh: bool,
    ) -> Result<SendRequest<Full<Bytes>>, PassError> {
        // Held while dialling: many requests at once need one connection.
        let mut open = self.0.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !fresh && !sender.is_closed()) {
            return Ok(sender.clone());
        }
        *open = None;
        let unreachable = |why: String| PassError::Unreachable(why);
        let stream = dialer
            .dial(address, &replica_name(node), tls.client())
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = tokio::time::timeout(CONNECT, handshake)
            .await
            .map_err(|_| unreachable("no answer to the handshake".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let node: Arc<str> = node.into();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%node, %error, "connection to another process ended");
            }
        });
        *open = Some(sender.clone());
        Ok(sender)
    }
}
