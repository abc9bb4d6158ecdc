use std::sync::atomic::{AtomicUsize, Ordering};

use bartizan_model::{Clock, ManualClock};
use bartizan_store::{Store, StoreUrl};
use bartizan_tls::{Authority, Kind};
use bartizan_vault::{KeyRing, Records, Vault};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use tokio::net::TcpListener;

use super::*;

/// Twice what a stream takes unread by default; eight of them are more than a connection takes.
const LARGE: usize = 4 * 1024 * 1024;

/// Certificates of `here` and `there`.
async fn tls() -> (ReplicaTls, ReplicaTls) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock)).await.unwrap();
    let records = Records::new(Vault::new(KeyRing::ephemeral().unwrap()).unwrap(), store);
    let issued = async |node| {
        let authority = Authority::open(&records, Arc::clone(&clock), Kind::Replicas).await.unwrap();
        ReplicaTls::new(authority, node, Arc::clone(&clock)).unwrap()
    };
    (issued("here").await, issued("there").await)
}

/// A process whose answers are `x`, and those of `/large` are large. Its address, and the connections it took.
async fn there(tls: ReplicaTls) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, taken) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok((stream, _)) = tls.accept(stream).await else { return };
                let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
                    let (piece, pieces) =
                        if request.uri().path() == "/large" { (16 * 1024, LARGE / 16 / 1024) } else { (1, 1) };
                    let piece = Bytes::from(vec![b'x'; piece]);
                    let frames = (0..pieces).map(move |_| Ok::<_, std::io::Error>(Frame::data(piece.clone())));
                    Ok::<_, std::io::Error>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
                });
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    (address, taken)
}

fn request(path: &str) -> Request<Bytes> {
    Request::post(format!("https://a{path}")).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn o17_readers_who_do_not_read_hold_up_nobody() {
    let (here, at_there) = tls().await;
    let (address, taken) = there(at_there).await;
    let (dialer, link) = (PeerDialer::new(CONNECT), Link::default());
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(link.send(&dialer, &here, "there", &address, request("/large")).await.unwrap());
    }
    let others = async {
        for _ in 0..50 {
            let answer = link.send(&dialer, &here, "there", &address, request("/")).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), others).await.expect("stalled");
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    // And what was not read is all there.
    let late = unread.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(late.len(), LARGE);
}

#[tokio::test]
async fn o17_who_waits_for_a_dial_that_fails_does_not_dial_again() {
    let (here, _) = tls().await;
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (dialer, link) = (PeerDialer::new(CONNECT), Link::default());
    let sent = (0..8).map(|_| link.send(&dialer, &here, "there", &address, request("/")));
    for outcome in futures_util::future::join_all(sent).await {
        assert!(matches!(outcome, Err(PassError::Unreachable(_))));
    }
    let mut dialled = 0;
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await {
        taken.unwrap();
        dialled += 1;
    }
    assert_eq!(dialled, 1);
}

#[tokio::test]
async fn o17_a_broken_connection_is_replaced_once() {
    let (here, at_there) = tls().await;
    let (address, taken) = there(at_there).await;
    let (dialer, link) = (PeerDialer::new(CONNECT), Link::default());
    let (_, first) = link.sender(&dialer, &here, "there", &address, None).await.unwrap();
    for _ in 0..3 {
        let (_, next) = link.sender(&dialer, &here, "there", &address, Some(first)).await.unwrap();
        assert_eq!(next, first + 1);
    }
    assert_eq!(taken.load(Ordering::SeqCst), 2);
}
