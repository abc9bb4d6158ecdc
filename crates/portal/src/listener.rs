//! Accepting connections and speaking HTTP on them.

mod idle;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bartizan_tls::{DeviceCertificate, PublicTls, ReplicaTls};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::drain::{Connection, Drain};
use crate::places::{Places, Ticket, network};
use idle::{Activity, Counted, Idle, Verdict};

/// Bounds of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Time to send a request head; also the longest idle time between requests.
    pub(crate) head: Duration,
    /// Connections served at once.
    pub(crate) connections: usize,
    /// Connections of one peer network; loopback is not counted.
    pub(crate) per_address: usize,
    /// Time an HTTP/2 connection may be without an open request.
    pub(crate) idle: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub(crate) streams: u32,
    /// Requests reset before they were looked at that an HTTP/2 connection survives.
    pub(crate) resets: usize,
    /// Peers that speak for many: not counted.
    pub(crate) uncounted: Vec<IpNet>,
}

/// What is between the socket and HTTP.
#[derive(Clone)]
pub(crate) enum Security {
    /// Nothing.
    None,
    /// TLS for anybody (O8).
    Public(PublicTls),
    /// TLS for the other processes of the installation only (O17).
    Replicas(ReplicaTls),
}

/// The process at the other end of a connection, proved by its certificate. In the extensions of its requests, where
/// no client can put anything.
#[derive(Clone, Debug)]
pub(crate) struct FromReplica(pub(crate) Arc<str>);

/// Handshakes under way at once, and those of one peer network; more are closed at once.
const HANDSHAKES: usize = 1_024;
const HANDSHAKES_PER_ADDRESS: usize = 64;
/// When draining begins, a connection that has said nothing has so much time.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes of a request head, and of the read buffer.
const HEAD_BYTES: usize = 64 * 1024;
/// Header bytes of one HTTP/2 request.
const H2_HEADER_BYTES: u32 = 32 * 1024;
/// Requests at once on one HTTP/2 connection of a client.
pub(crate) const H2_STREAMS: u32 = 128;
/// Requests a client reset before they were looked at; more end the connection (rapid
/// reset, CVE-2023-44487).
pub(crate) const H2_RESETS: usize = 20;
/// Streams reset because of the client's errors; more end the connection.
const H2_ERRORS: usize = 128;
/// A peer that is silent for so long is asked whether it lives, and given as much time.
const H2_PING: Duration = Duration::from_secs(20);

/// Accepts until draining begins. Connections go on in tasks of their own, which
/// [`Drain::run`] waits for.
pub(crate) async fn serve<H, F>(listener: TcpListener, security: Security, drain: Drain, bounds: Bounds, handle: H)
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections));
    let peers = Places::new(bounds.per_address);
    let handshakes = Arc::new(Handshakes::new(HANDSHAKES, HANDSHAKES_PER_ADDRESS));
    let bounds = Arc::new(bounds);
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
        let Ok(own) = peer_place(&peers, peer.ip(), &bounds) else {
            tracing::debug!(%peer, "too many connections of this address");
            continue;
        };
        let (connection, handle, bounds) = (drain.connection(), handle.clone(), Arc::clone(&bounds));
        let (security, handshakes, closing) = (security.clone(), Arc::clone(&handshakes), drain.clone());
        drain.spawn(async move {
            let _places = (place, own);
            let ending = async {
                closing.closing().await;
                // What is on its way still arrives.
                tokio::time::sleep(LAST_WORDS).await;
            };
            let shaken = tokio::select! {
                biased;
                shaken = shake(stream, peer, &security, &handshakes, &bounds) => shaken,
                // Whoever has not said anything yet loses nothing.
                () = ending => return,
            };
            let Some((io, h2, facts)) = shaken else { return };
            let handle = move |mut request: Request<Incoming>, peer| {
                facts.tell(&mut request);
                handle(request, peer)
            };
            if let Err(error) = converse(io, h2, peer, &bounds, connection, handle).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

/// A connection HTTP is spoken on.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What the connection proves about its peer.
#[derive(Clone)]
enum Facts {
    None,
    Device(DeviceCertificate),
    Replica(FromReplica),
}

impl Facts {
    fn tell(&self, request: &mut Request<Incoming>) {
        match self {
            Self::None => {}
            Self::Device(device) => drop(request.extensions_mut().insert(device.clone())),
            Self::Replica(replica) => drop(request.extensions_mut().insert(replica.clone())),
        }
    }
}

/// Handshakes that have begun: they cost more than they look like, and nobody is known yet.
struct Handshakes {
    all: Arc<Semaphore>,
    peers: Arc<Places<IpAddr>>,
}

impl Handshakes {
    fn new(all: usize, per_address: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), peers: Places::new(per_address) }
    }

    /// A place. None when all are taken, or all of this peer's network.
    fn begin(&self, ip: IpAddr, bounds: &Bounds) -> Option<(Permit, Option<Ticket<IpAddr>>)> {
        let own = peer_place(&self.peers, ip, bounds).ok()?;
        Some((Arc::clone(&self.all).try_acquire_owned().ok()?, own))
    }
}

/// Whatever comes before HTTP, within bounds of time and number. None when the connection is to be closed.
async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    security: &Security,
    handshakes: &Handshakes,
    bounds: &Bounds,
) -> Option<(Box<dyn Io>, bool, Facts)> {
    if matches!(security, Security::None) {
        let h2 = is_h2(&stream, bounds.head).await;
        return Some((Box::new(stream), h2, Facts::None));
    }
    let Some(_place) = handshakes.begin(peer.ip(), bounds) else {
        tracing::debug!(%peer, "too many handshakes");
        return None;
    };
    let shaken = tokio::time::timeout(HANDSHAKE.min(bounds.head), async {
        match security {
            Security::None => Err(std::io::Error::other("no TLS")),
            Security::Public(tls) => tls.accept(stream).await.map(|accepted| {
                let facts = accepted.device.map_or(Facts::None, Facts::Device);
                (Box::new(accepted.stream) as Box<dyn Io>, accepted.h2, facts)
            }),
            Security::Replicas(tls) => tls.accept(stream).await.map(|(stream, node)| {
                (Box::new(stream) as Box<dyn Io>, true, Facts::Replica(FromReplica(node.into())))
            }),
        }
    });
    match shaken.await {
        Ok(Ok(shaken)) => Some(shaken),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            None
        }
    }
}

/// A place of the peer's network; none is needed where one address is many clients.
/// An error when it has all of its places.
fn peer_place(peers: &Arc<Places<IpAddr>>, ip: IpAddr, bounds: &Bounds) -> Result<Option<Ticket<IpAddr>>, PeerIsFull> {
    let ip = ip.to_canonical();
    if ip.is_loopback() || bounds.uncounted.iter().any(|net| net.contains(&ip)) {
        return Ok(None);
    }
    peers.take(&network(ip)).map(Some).ok_or(PeerIsFull)
}

#[derive(Debug)]
struct PeerIsFull;

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, SocketAddr, Permit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

async fn converse<H, F>(
    io: Box<dyn Io>,
    h2: bool,
    peer: SocketAddr,
    bounds: &Bounds,
    connection: Connection,
    handle: H,
) -> Result<(), hyper::Error>
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    if h2 {
        let activity = Activity::new();
        let mut idle = Idle::new(Arc::clone(&activity), bounds.idle);
        let service = service_fn(move |request| {
            let (open, answer) = (activity.request(), handle(request, peer));
            async move { Ok::<_, Infallible>(answer.await.map(|body| Counted::new(body, open))) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(bounds.streams)
            .max_header_list_size(H2_HEADER_BYTES)
            .max_pending_accept_reset_streams(bounds.resets)
            .max_local_error_reset_streams(H2_ERRORS)
            .keep_alive_interval(Some(H2_PING))
            .keep_alive_timeout(H2_PING);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
        let mut told = false;
        return std::future::poll_fn(|cx| {
            if !told && connection.poll_closing(cx) {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
            match idle.poll(cx) {
                Verdict::Stay => {}
                Verdict::Leave => serving.as_mut().graceful_shutdown(),
                Verdict::Drop => return Poll::Ready(Ok(())),
            }
            serving.as_mut().poll(cx)
        })
        .await;
    }
    let service = service_fn(move |request| {
        let answer = handle(request, peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_BYTES);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds {
            head: Duration::from_secs(1),
            connections: 100,
            per_address: 2,
            idle: Duration::from_secs(1),
            streams: H2_STREAMS,
            resets: H2_RESETS,
            uncounted: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    #[test]
    fn o8_handshakes_are_bounded_in_number() {
        let handshakes = Handshakes::new(3, 2);
        let begin = |ip: &str| handshakes.begin(ip.parse().unwrap(), &bounds());
        let first = (begin("192.0.2.1").unwrap(), begin("192.0.2.1").unwrap());
        assert!(begin("192.0.2.1").is_none(), "all of this address");
        let other = begin("192.0.2.2").unwrap();
        assert!(begin("192.0.2.3").is_none() && begin("10.0.0.1").is_none(), "all there are");
        drop(first);
        assert!(begin("10.0.0.1").is_some() && begin("192.0.2.1").is_some());
        drop(other);
    }

    #[test]
    fn o11_connections_of_one_address_are_bounded() {
        let bounds = bounds();
        let peers = Places::new(bounds.per_address);
        let connect = |ip: &str| peer_place(&peers, ip.parse().unwrap(), &bounds);
        let open = (connect("192.0.2.1").unwrap(), connect("192.0.2.1").unwrap());
        assert!(open.0.is_some() && open.1.is_some());
        assert!(connect("192.0.2.1").is_err());
        assert!(connect("::ffff:192.0.2.1").is_err(), "the same peer");
        let other = connect("192.0.2.2").unwrap();
        assert!(other.is_some());
        let six = (connect("2001:db8::1").unwrap(), connect("2001:db8::2").unwrap());
        assert!(connect("2001:db8::3").is_err(), "one network");
        assert!(connect("2001:db8:0:1::3").is_ok());
        for many in ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3"] {
            for _ in 0..5 {
                assert!(connect(many).unwrap().is_none(), "{many} is not counted");
            }
        }
        drop((open, six));
        assert!(connect("192.0.2.1").is_ok() && connect("2001:db8::3").is_ok());
    }
}
