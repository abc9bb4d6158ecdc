//! Where the audit record goes besides its own files (feature rows L2, L5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alerts::{Syslog, Webhook};
use crate::environment::Environment;
use crate::secrets;

/// Where signed checkpoints go, so that they are kept where this machine cannot change them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoints {
    /// Seconds between two checkpoints. Default 60, at least 1.
    pub every_s: u32,
    /// A file to append to, one checkpoint per line; best on another machine's file system.
    pub file: Option<PathBuf>,
    /// An HTTP endpoint, called for each checkpoint.
    pub webhook: Option<Webhook>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { every_s: 60, file: None, webhook: None }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The record's own members.
    #[default]
    Native,
    /// Open Cybersecurity Schema Framework 1.3.
    Ocsf,
    /// Elastic Common Schema 8.11.
    Ecs,
    /// ArcSight Common Event Format, version 0.
    Cef,
}

/// A place that gets every event at least once. Exactly one of `files`, `otlp`, `syslog`, `http` and `s3` is set.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Name, also of its cursor: 1–64 characters, letters, digits, `-`, `_`. A new name begins with the oldest event.
    pub id: String,
    /// How events are written. Default `native`.
    #[serde(default)]
    pub format: Format,
    /// Only these kinds of events; all when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Most events of one delivery, 1–10,000. Default 500.
    #[serde(default = "batch")]
    pub batch: u32,
    /// Longest time that events are collected before a delivery, milliseconds. Default 1,000; for `s3` 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect_ms: Option<u32>,
    /// Seconds behind the record after which this is an event, `export/lag`. Default 300.
    #[serde(default = "lag")]
    pub lag_alert_s: u32,
    /// Files in a folder, rotated and compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// An OpenTelemetry collector, logs over HTTP as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    /// A syslog collector, RFC 5424.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<Syslog>,
    /// An HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Push>,
    /// An object store with the S3 interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

fn batch() -> u32 {
    500
}

fn lag() -> u32 {
    300
}

fn rotate() -> u64 {
    64 << 20
}

fn keep() -> u32 {
    0
}

/// Files with one event per line.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Folder; made when absent.
    pub folder: PathBuf,
    /// A file of this many bytes, or of a former day (UTC), is compressed and followed by a new one. Default 64 MiB.
    #[serde(default = "rotate")]
    pub rotate_bytes: u64,
    /// How many compressed files are kept; the default, 0, keeps all.
    #[serde(default = "keep")]
    pub keep: u32,
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Base URL; `/v1/logs` is added.
    pub endpoint: String,
    /// More headers, e.g. an API key. `${env:NAME}` and `${file:PATH}` are resolved at start.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// An HTTP endpoint, called with POST: one event per line, signed as Standard Webhooks has it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Its URL.
    pub url: String,
    /// Key of the signature, `whsec_` and base64 of 24–64 bytes. References are resolved at start.
    pub secret: String,
    /// More headers. References are resolved at start.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// A bucket.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// URL of the bucket: `https://BUCKET.s3.REGION.amazonaws.com` or `https://HOST/BUCKET`.
    pub url: String,
    /// Region of the signature.
    pub region: String,
    /// Beginning of the objects' names.
    #[serde(default)]
    pub prefix: String,
    /// Access key id. References are resolved at start.
    pub access_key_id: String,
    /// Secret access key. References are resolved at start.
    pub secret_access_key: String,
    /// Session token of temporary keys. References are resolved at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl crate::settings::Audit {
    /// With the references in secrets resolved and paths starting from `base`. The error is for people.
    ///
    /// # Errors
    /// The first reference that cannot be resolved.
    pub fn resolved(&self, environment: &Environment, base: &Path) -> Result<Self, String> {
        let mut all = self.clone();
        let put = |text: &mut String| -> Result<(), String> {
            *text = secrets::expand(text, environment, base).map_err(|error| error.to_string())?.expose().clone();
            Ok(())
        };
        if let Some(webhook) = &mut all.checkpoints.webhook {
            put(&mut webhook.secret)?;
        }
        if let Some(file) = &mut all.checkpoints.file {
            *file = base.join(&*file);
        }
        for sink in &mut all.sinks {
            if let Some(files) = &mut sink.files {
                files.folder = base.join(&files.folder);
            }
            if let Some(otlp) = &mut sink.otlp {
                otlp.headers.values_mut().try_for_each(put)?;
            }
            if let Some(http) = &mut sink.http {
                put(&mut http.secret)?;
                http.headers.values_mut().try_for_each(put)?;
            }
            if let Some(s3) = &mut sink.s3 {
                put(&mut s3.access_key_id)?;
                put(&mut s3.secret_access_key)?;
                s3.session_token.iter_mut().try_for_each(put)?;
            }
        }
        Ok(all)
    }
}
