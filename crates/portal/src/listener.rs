//! Accepting connections and speaking HTTP on them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::drain::{Connection, Drain};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Time to send a request head; also the longest idle time between requests.
    pub(crate) head: Duration,
    /// Connections served at once.
    pub(crate) connections: usize,
}

/// Bytes of a request head, and of the read buffer.
const HEAD_BYTES: usize = 64 * 1024;
/// Header bytes of one HTTP/2 request.
const H2_HEADER_BYTES: u32 = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 128;

/// Accepts until draining begins. Connections go on in tasks of their own, which
/// [`Drain::run`] waits for.
pub(crate) async fn serve<H, F>(listener: TcpListener, drain: Drain, bounds: Bounds, handle: H)
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.closing() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly out of file descriptors: wait for some to come back.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (connection, handle) = (drain.connection(), handle.clone());
        drain.spawn(async move {
            let _place = place;
            if let Err(error) = converse(stream, peer, bounds, connection, handle).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

async fn converse<H, F>(
    stream: TcpStream,
    peer: SocketAddr,
    bounds: Bounds,
    connection: Connection,
    handle: H,
) -> Result<(), hyper::Error>
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request, peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    if is_h2(&stream, bounds.head).await {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(H2_HEADER_BYTES)
            .keep_alive_interval(Some(Duration::from_secs(30)));
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut told = false;
        return std::future::poll_fn(|cx| {
            if !told && connection.poll_closing(cx) {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
            serving.as_mut().poll(cx)
        })
        .await;
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_BYTES);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut told = false;
    std::future::poll_fn(|cx| {
        if !told && connection.poll_closing(cx) {
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        Future::poll(serving.as_mut(), cx)
    })
    .await
}

/// Looks at the first bytes without taking them: HTTP/2 with prior knowledge starts
/// with `PRI`, which no HTTP/1 method does. One look per connection costs nothing per
/// request.
async fn is_h2(stream: &TcpStream, time: Duration) -> bool {
    let mut first = [0_u8; 3];
    let peeked = tokio::time::timeout(time, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(3))) && &first == b"PRI"
}
