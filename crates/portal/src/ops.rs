//! The operations listener (O5, O10): `/livez`, `/readyz`, `/startupz`, `/metrics`.
//! Never on the public port.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::admit::Door;
use crate::body::Body;
use crate::drain::{Drain, Phase};
use crate::listener::{Bounds, H2_RESETS, H2_STREAMS, Security, serve};
use crate::settings::Settings;

/// One dependency the process needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `store`, `key`, `config`, `audit`.
    pub name: &'static str,
    /// None when it works; else a short reason without secrets.
    pub problem: Option<String>,
}

impl Check {
    /// A dependency that works.
    pub fn ok(name: &'static str) -> Self {
        Self { name, problem: None }
    }

    /// A dependency that does not.
    pub fn failed(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: Some(problem.into()) }
    }
}

/// Asks every dependency. Called at most five times per second, given two seconds.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync>;
/// The Prometheus text of the process.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What the operations listener needs.
#[derive(Clone)]
pub struct OpsDeps {
    /// Accepted hosts and origins.
    pub settings: Arc<Settings>,
    /// Phase of the process.
    pub drain: Drain,
    /// Dependencies.
    pub readiness: Readiness,
    /// Metrics.
    pub metrics: MetricsText,
}

/// The operations listener. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    deps: OpsDeps,
    last: Mutex<Option<(Instant, Vec<Check>)>>,
}

const PROBE_TIME: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(200);
const CONNECTIONS: usize = 256;

impl Ops {
    /// An operations listener over these dependencies.
    pub fn new(deps: OpsDeps) -> Self {
        Self(Arc::new(Inner { deps, last: Mutex::default() }))
    }

    /// Serves until draining closes connections.
    pub async fn serve(&self, listener: TcpListener) {
        let ops = self.clone();
        let bounds = Bounds {
            head: Duration::from_secs(10),
            connections: CONNECTIONS,
            // Those who watch are few, and their listener is not public.
            per_address: CONNECTIONS,
            idle: Duration::from_secs(60),
            streams: H2_STREAMS,
            resets: H2_RESETS,
            uncounted: Vec::new(),
        };
        let security = Security::None;
        serve(
            listener,
            security,
            self.0.deps.drain.clone(),
            bounds,
            move |request: Request<Incoming>, _peer: SocketAddr| {
                let ops = ops.clone();
                async move { ops.handle(request).await }
            },
        )
        .await;
    }

    /// Answers one request; the body is not read.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body> {
        let (parts, _body) = request.into_parts();
        let door = Door { settings: &self.0.deps.settings, loopback: true, addresses: true };
        if door.host(&parts, |_| false).is_err() || door.origin(&parts, |_| false).is_err() {
            return text(StatusCode::FORBIDDEN, "host or origin not allowed\n");
        }
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match parts.uri.path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/startupz" if self.0.deps.drain.phase() == Phase::Starting => {
                text(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
            }
            "/startupz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz().await,
            "/metrics" => metrics((self.0.deps.metrics)()),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn readyz(&self) -> Response<Body> {
        let phase = match self.0.deps.drain.phase() {
            Phase::Serving => None,
            Phase::Starting => Some("starting"),
            Phase::Leaving | Phase::Closing => Some("draining"),
        };
        let mut checks = vec![Check { name: "phase", problem: phase.map(str::to_owned) }];
        checks.extend(self.probe().await);
        let mut out = String::new();
        for check in &checks {
            let line = match &check.problem {
                None => writeln!(out, "{}: ok", check.name),
                Some(problem) => writeln!(out, "{}: {}", check.name, one_line(problem)),
            };
            debug_assert!(line.is_ok());
        }
        let ready = checks.iter().all(|check| check.problem.is_none());
        text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, out)
    }

    /// Asks the dependencies, or repeats what they said a moment ago.
    async fn probe(&self) -> Vec<Check> {
        let mut last = self.0.last.lock().await;
        if let Some((at, checks)) = last.as_ref()
            && at.elapsed() < PROBE_EVERY
        {
            return checks.clone();
        }
        let checks = tokio::time::timeout(PROBE_TIME, (self.0.deps.readiness)())
            .await
            .unwrap_or_else(|_elapsed| vec![Check::failed("dependencies", "no answer within 2 s")]);
        *last = Some((Instant::now(), checks.clone()));
        checks
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::full(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn metrics(body: String) -> Response<Body> {
    let mut answer = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use bartizan_config::settings::File;
    use http_body_util::BodyExt;

    use super::*;

    struct World {
        ops: Ops,
        drain: Drain,
        broken: Arc<AtomicBool>,
        asked: Arc<AtomicUsize>,
    }

    fn world() -> World {
        let settings = Settings::new(&File::default(), "https://mcp.example.com", ([0, 0, 0, 0], 1).into()).unwrap();
        let (broken, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let drain = Drain::new();
        let readiness: Readiness = {
            let (broken, asked) = (Arc::clone(&broken), Arc::clone(&asked));
            Arc::new(move || {
                asked.fetch_add(1, Ordering::SeqCst);
                let broken = broken.load(Ordering::SeqCst);
                Box::pin(async move {
                    vec![
                        Check::ok("key"),
                        if broken { Check::failed("store", "gone\naway") } else { Check::ok("store") },
                    ]
                })
            })
        };
        let metrics: MetricsText = Arc::new(|| "# EOF\n".to_owned());
        let deps = OpsDeps { settings: Arc::new(settings), drain: drain.clone(), readiness, metrics };
        World { ops: Ops::new(deps), drain, broken, asked }
    }

    async fn get(ops: &Ops, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::builder().uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:7421");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = ops.handle(request.body(()).unwrap()).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn o5_each_dependency_failure_flips_only_readiness() {
        let world = world();
        assert_eq!(get(&world.ops, "/startupz", &[]).await.0, 503);
        assert_eq!(get(&world.ops, "/readyz", &[]).await.0, 503);
        world.drain.started();
        assert_eq!(get(&world.ops, "/startupz", &[]).await.0, 200);
        assert_eq!(get(&world.ops, "/readyz", &[]).await, (200, "phase: ok\nkey: ok\nstore: ok\n".into()));
        world.broken.store(true, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(get(&world.ops, "/readyz", &[]).await, (503, "phase: ok\nkey: ok\nstore: gone away\n".into()));
        assert_eq!(get(&world.ops, "/livez", &[]).await.0, 200);
        assert_eq!(get(&world.ops, "/startupz", &[]).await.0, 200);
        assert_eq!(get(&world.ops, "/metrics", &[]).await.0, 200);
        world.broken.store(false, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(get(&world.ops, "/readyz", &[]).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn o3_draining_is_not_ready_but_alive() {
        let world = world();
        world.drain.started();
        let task = tokio::spawn({
            let drain = world.drain.clone();
            async move { drain.run(Duration::from_secs(5), Duration::from_secs(30)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(get(&world.ops, "/readyz", &[]).await.0, 503);
        assert_eq!(get(&world.ops, "/livez", &[]).await.0, 200);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn o5_probes_are_not_repeated_at_will() {
        let world = world();
        for _ in 0..50 {
            get(&world.ops, "/readyz", &[]).await;
        }
        assert_eq!(world.asked.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        get(&world.ops, "/readyz", &[]).await;
        assert_eq!(world.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn o10_forged_host_and_origin_on_the_operations_listener() {
        let ops = world().ops;
        for host in ["evil.example", "localhost.evil.example", "a b"] {
            assert_eq!(get(&ops, "/metrics", &[("host", host)]).await.0, 403, "{host}");
        }
        for host in ["10.1.2.3:7421", "[fd00::1]:7421", "localhost", "mcp.example.com"] {
            assert_eq!(get(&ops, "/livez", &[("host", host)]).await.0, 200, "{host}");
        }
        assert_eq!(get(&ops, "/metrics", &[("origin", "https://evil.example")]).await.0, 403);
    }

    #[tokio::test]
    async fn o5_other_paths_and_methods() {
        let ops = world().ops;
        assert_eq!(get(&ops, "/", &[]).await.0, 404);
        assert_eq!(get(&ops, "/mcp", &[]).await.0, 404);
        let request = Request::post("/livez").header("host", "localhost").body(()).unwrap();
        let answer = ops.handle(request).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
    }
}
