//! A tiny server that counts connections and requests, and a resolver that can be told to lie.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_config::settings;
use bartizan_egress::{Egress, EgressError, Resolve, Resolving};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub struct Server {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
}

type Reply = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// What a handler sees of a request.
pub struct Seen {
    pub parts: http::request::Parts,
    pub body: Bytes,
    pub number: usize,
}

pub async fn serve(handler: impl Fn(Seen) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = Server { addr, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
    let handler = Arc::new(handler);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
                    let handler = Arc::clone(&handler);
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(handler(Seen { parts, body, number }).await)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    server
}

pub fn text(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

pub fn redirect(status: u16, to: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).header("location", to).body(Full::default()).unwrap()
}

/// Names to lists of answers; each lookup takes the next list, the last one stays.
#[derive(Default)]
pub struct Names(pub Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Names {
    pub fn new(entries: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |ips: &&[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let map = entries.iter().map(|(n, answers)| ((*n).to_owned(), answers.iter().map(parse).collect())).collect();
        Arc::new(Self(Mutex::new(map)))
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let mut map = self.0.lock().unwrap();
            let answers = map
                .get_mut(name)
                .ok_or_else(|| EgressError::Dns { host: name.to_owned(), why: "no such name".to_owned() })?;
            Ok(if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() })
        })
    }
}

pub fn egress(allow: &[&str], names: Arc<Names>) -> Egress {
    let settings =
        settings::Egress { private_allow: allow.iter().map(|a| (*a).to_owned()).collect(), ..Default::default() };
    Egress::with_resolver(&settings, Duration::from_secs(2), names).unwrap()
}
