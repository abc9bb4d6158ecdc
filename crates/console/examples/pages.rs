//! Serves the pages on this machine, to look at them: `cargo run -p bartizan-console
//! --example pages -- 7499`. Everything in it is gone when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "an example")]

#[path = "../tests/support/mod.rs"]
mod support;

use hyper_util::rt::TokioIo;
use tower::ServiceExt as _;

#[tokio::main]
async fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(7499);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (app, _, _dir) = support::app(&url).await;
    println!("{url}");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let app = app.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| app.clone().oneshot(request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
