//! Signed checkpoints on their way out (feature row L2): to a file, to a webhook. Each place
//! has a cursor, and every checkpoint goes there at least once.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bartizan_config::export::Checkpoints as Config;
use bartizan_egress::Url;
use bartizan_egress::sign::webhook::Key;
use bartizan_store::StoreError;
use bartizan_store::repo::audit_checkpoint::{self, StoredCheckpoint};
use bartizan_store::repo::audit_index::Position;
use bartizan_store::repo::{export_cursor, lease};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};
use serde_json::json;

use crate::exporter::ExportsDeps;

/// Time between two looks.
const TICK: Duration = Duration::from_secs(2);
const LEASE_MS: i64 = 60_000;
/// Checkpoints of one round.
const PAGE: u32 = 100;
/// Longest attempt.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

enum Place {
    File(PathBuf),
    Webhook { url: Url, key: Box<Key> },
}

/// One place that checkpoints go to.
pub(crate) struct Checkpoints {
    deps: ExportsDeps,
    place: Place,
    name: &'static str,
}

impl Checkpoints {
    pub(crate) fn all(deps: &ExportsDeps, config: &Config) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        if let Some(path) = &config.file {
            all.push(Self { deps: deps.clone(), place: Place::File(path.clone()), name: "checkpoints:file" });
        }
        if let Some(webhook) = &config.webhook {
            let url = Url::parse(&webhook.url).map_err(|error| error.to_string())?;
            let key = Key::parse(&webhook.secret).map_err(|error| format!("`webhook.secret` {error}"))?;
            let key = Box::new(key);
            all.push(Self { deps: deps.clone(), place: Place::Webhook { url, key }, name: "checkpoints:webhook" });
        }
        Ok(all)
    }

    pub(crate) async fn run(self) {
        let mut failing = false;
        loop {
            match self.round().await {
                Ok(()) => failing = false,
                Err(error) if failing => tracing::debug!(error, place = self.name, "checkpoints wait"),
                Err(error) => {
                    failing = true;
                    tracing::warn!(error, place = self.name, "checkpoints cannot be sent out");
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn round(&self) -> Result<(), String> {
        let wrong = |error: StoreError| error.to_string();
        let store = &self.deps.store;
        let cursor = export_cursor::get(store, self.name, "").await.map_err(wrong)?;
        let after = cursor.map_or(0, |cursor| cursor.seq);
        let new = audit_checkpoint::after(store, after, PAGE).await.map_err(wrong)?;
        if new.is_empty() {
            return Ok(());
        }
        let owner = self.deps.audit.writer();
        let name = format!("export:{}", self.name);
        if lease::claim(store, &name, owner, "", LEASE_MS).await.map_err(wrong)?.is_none() {
            return Ok(());
        }
        for checkpoint in new {
            let attempt = tokio::time::timeout(ATTEMPT, self.send(&checkpoint)).await;
            attempt.unwrap_or_else(|_| Err("no answer in 20 s".to_owned()))?;
            let at = Position { segment: 0, byte_offset: 0, seq: checkpoint.number, hash: String::new() };
            export_cursor::put(store, self.name, "", &at, self.deps.clock.now_ms()).await.map_err(wrong)?;
        }
        Ok(())
    }

    async fn send(&self, checkpoint: &StoredCheckpoint) -> Result<(), String> {
        match &self.place {
            Place::File(path) => {
                let (path, line) = (path.clone(), format!("{}\n", checkpoint.body));
                let task = tokio::task::spawn_blocking(move || {
                    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
                    file.write_all(line.as_bytes())?;
                    file.sync_data()
                });
                task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
            }
            Place::Webhook { url, key } => self.post(url, key, checkpoint).await,
        }
    }

    async fn post(&self, url: &Url, key: &Key, checkpoint: &StoredCheckpoint) -> Result<(), String> {
        let document: serde_json::Value = serde_json::from_str(&checkpoint.body).map_err(|error| error.to_string())?;
        let body = json!({
            "type": "audit.checkpoint",
            "timestamp": bartizan_model::clock::rfc3339(checkpoint.at_ms),
            "data": document,
        });
        let body = body.to_string();
        let id = format!("checkpoint-{}", checkpoint.number);
        let now = self.deps.clock.now_ms();
        let mut headers = key.headers(&id, now, body.as_bytes()).map_err(|error| error.to_string())?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("bartizan"));
        let client = self.deps.egress.client();
        let answer = client.send(url, Method::POST, headers, body.into()).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let _ = answer.into_body().collect_bytes(ANSWER).await;
        if status.is_success() { Ok(()) } else { Err(format!("HTTP status {}", status.as_u16())) }
    }
}
