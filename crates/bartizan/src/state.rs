//! What a running process says about itself, in a file beside its data, for `status`
//! and `reload`. Nothing in it is secret, and nothing is decided by it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file's contents.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct State {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) started_ms: i64,
    pub(crate) written_ms: i64,
    pub(crate) public_url: String,
    pub(crate) listen: String,
    pub(crate) operations: String,
    pub(crate) phase: String,
    pub(crate) generation: u64,
    pub(crate) policy_version: String,
    /// Settings differ from those in use; they need a restart.
    pub(crate) restart_needed: bool,
    pub(crate) reload_error: Option<ReloadError>,
    /// Objects of the store that are not in use, and why.
    #[serde(default)]
    pub(crate) refused_objects: Vec<String>,
    pub(crate) servers: Vec<Server>,
    pub(crate) sessions: usize,
    pub(crate) calls: usize,
    pub(crate) audit: Audit,
    /// The certificate of the public listener; none without TLS.
    #[serde(default)]
    pub(crate) tls: Option<Tls>,
}

/// The certificate of the public listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tls {
    /// `files` or `internal`.
    pub(crate) source: String,
    pub(crate) not_after_ms: i64,
    pub(crate) expired: bool,
    /// Why a newer one is not in use.
    pub(crate) refused: Option<String>,
}

/// Why the last reload was not taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ReloadError {
    pub(crate) at_ms: i64,
    pub(crate) errors: usize,
    pub(crate) text: String,
}

/// One server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Server {
    pub(crate) server_id: String,
    pub(crate) status: String,
    pub(crate) transport: String,
    pub(crate) era: Option<String>,
    pub(crate) circuit: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) sessions: usize,
    pub(crate) processes: usize,
    pub(crate) unpinned: bool,
    pub(crate) unsandboxed: bool,
    /// The strategy of its credential (P17).
    #[serde(default)]
    pub(crate) auth_type: String,
    /// What may be read back of its secrets (P5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_config_summary: Option<serde_json::Value>,
    /// `Ready`, `Waiting`, `Error`, `Sync Required` or `Stale` (P23).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_details: Option<serde_json::Value>,
}

/// Counters of the record.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Audit {
    pub(crate) healthy: bool,
    pub(crate) written: u64,
    pub(crate) dropped: u64,
    pub(crate) queued: usize,
    pub(crate) behind: u64,
}

impl State {
    /// Writes the file as a whole: a reader never sees half of it.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(&new, path)
    }

    /// Reads the file of a process that may be gone.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Whether the process that wrote it is still there.
    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    /// The process id, if it is one.
    pub(crate) fn process(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
    }
}
