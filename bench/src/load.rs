//! Closed-loop load over keep-alive connections.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What to send, again and again.
#[derive(Clone)]
pub(crate) struct Shot {
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Text that every good answer has.
    pub(crate) expect: &'static str,
}

impl Shot {
    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::post(&self.path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }

    /// Sends it once on a connection of its own.
    pub(crate) async fn once(&self) -> Result<(Response<()>, Bytes)> {
        let mut connection = connect(self.port).await?;
        send(&mut connection, self).await
    }
}

pub(crate) async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) async fn send(connection: &mut SendRequest<Full<Bytes>>, shot: &Shot) -> Result<(Response<()>, Bytes)> {
    connection.ready().await?;
    let response: Response<Incoming> = connection.send_request(shot.request()?).await?;
    let (head, body) = response.into_parts();
    Ok((Response::from_parts(head, ()), body.collect().await?.to_bytes()))
}

/// Sends `count` requests over `connections`; returns seconds taken and latencies in microseconds.
pub(crate) async fn run(shot: &Shot, connections: usize, count: usize) -> Result<(f64, Vec<f64>)> {
    let start = tokio::time::Instant::now();
    let mut workers = Vec::new();
    for _ in 0..connections {
        let (shot, share) = (shot.clone(), count / connections);
        workers.push(tokio::spawn(async move {
            let mut connection = connect(shot.port).await?;
            let mut latencies = Vec::with_capacity(share);
            for _ in 0..share {
                let start = tokio::time::Instant::now();
                let (head, body) = send(&mut connection, &shot).await?;
                latencies.push(start.elapsed().as_secs_f64() * 1e6);
                let good = head.status() == 200 && memmem(&body, shot.expect.as_bytes());
                ensure!(good, "{}: {}", head.status(), String::from_utf8_lossy(&body));
            }
            Ok(latencies)
        }));
    }
    let mut latencies = Vec::with_capacity(count);
    for worker in workers {
        latencies.extend(worker.await.context("load worker")??);
    }
    Ok((start.elapsed().as_secs_f64(), latencies))
}

fn memmem(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
