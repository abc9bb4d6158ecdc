//! A record, a store, and an HTTP endpoint that writes down what arrives.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_audit::{Audit, Options};
use bartizan_config::export::{Checkpoints, Sink};
use bartizan_config::settings::{AuditMode, Egress as EgressSettings};
use bartizan_egress::Egress;
use bartizan_export::{Exports, ExportsDeps, Stats};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, ManualClock, PrincipalKind};
use bartizan_store::{Store, StoreUrl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const NOW: i64 = 1_790_000_000_000;

pub struct Bench {
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub audit: Audit,
    pub egress: Egress,
}

impl Bench {
    /// Over a folder, which may have been used before.
    pub async fn at(dir: &Path, ca_files: &[&Path]) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let timed: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let store = Store::open(&StoreUrl::Sqlite(dir.join("db")), Arc::clone(&timed)).await.unwrap();
        let settings = EgressSettings {
            private_allow: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            ca_files: ca_files.iter().map(|path| path.to_path_buf()).collect(),
            ..EgressSettings::default()
        };
        let egress = Egress::new(&settings, Duration::from_secs(5)).unwrap();
        let options = Options { segment_bytes: 20_000, ..Options::default() };
        let audit =
            Audit::open_with(&dir.join("audit"), AuditMode::Strict, Some(store.clone()), timed, &options).unwrap();
        Self { clock, store, audit, egress }
    }

    pub fn deps(&self) -> ExportsDeps {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        ExportsDeps { audit: self.audit.clone(), store: self.store.clone(), egress: self.egress.clone(), clock }
    }

    pub fn export(&self, sink: serde_json::Value) -> (JoinHandle<()>, Arc<Stats>) {
        let sink: Sink = serde_json::from_value(sink).unwrap();
        let exports = Exports::new(self.deps(), &[sink], &Checkpoints::default()).unwrap();
        let stats = exports.stats();
        (tokio::spawn(exports.run()), stats)
    }

    /// Puts events on record and returns their ids.
    pub async fn events(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for n in 0..count {
            let at_ms = self.clock.now_ms();
            let id = EventId::new(at_ms);
            let who = Who { principal: format!("user:u{}", n % 7), ip: Some("192.0.2.7".to_owned()), ..Who::default() };
            let mut event = AuditEvent::new(id, at_ms, EventKind::Call, PrincipalKind::User, who, "tools/call");
            event.target = Some(format!("tool-{n}"));
            event.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
            self.audit.append(event).await.unwrap();
            ids.push(id.to_string());
        }
        ids
    }

    pub async fn end(self) {
        self.audit.close().await;
        self.store.close().await;
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }
}

/// Answers every request with the status it is told; 0 closes without an answer.
pub struct Endpoint {
    pub url: String,
    pub requests: Arc<Mutex<VecDeque<Request>>>,
    pub status: Arc<AtomicU16>,
}

impl Endpoint {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, status) = (Arc::<Mutex<VecDeque<Request>>>::default(), Arc::new(AtomicU16::new(200)));
        let (kept, answer) = (Arc::clone(&requests), Arc::clone(&status));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&answer)));
            }
        });
        Self { url, requests, status }
    }

    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap().iter().cloned().collect()
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<VecDeque<Request>>>, status: Arc<AtomicU16>) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let mut part = [0; 4096];
            match stream.read(&mut part).await {
                Ok(read) if read > 0 => buffer.extend_from_slice(&part[..read]),
                _ => return,
            }
        };
        let text = String::from_utf8(buffer[..head].to_vec()).unwrap();
        let mut lines = text.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
        buffer.drain(..head + 4);
        while buffer.len() < length {
            let mut part = [0; 65536];
            match stream.read(&mut part).await {
                Ok(read) if read > 0 => buffer.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let status = status.load(Ordering::SeqCst);
        kept.lock().unwrap().push_back(Request { line, headers, body });
        if status == 0 {
            return;
        }
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Waits until something is so, at most half a minute.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}
