//! Reading the configuration again while it is in use (O4): on SIGHUP, and when the file
//! or its folder changes. A bad file leaves the last good one in use, visibly.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bartizan_admin::Base;
use bartizan_catalog::{CompileOptions, ServerSpec, Snapshot};
use bartizan_config::resources::Resources;
use bartizan_config::resources::ServerStatus;
use bartizan_config::settings::File;
use bartizan_config::{Override, ReloadError, Report};
use bartizan_model::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::commands::check;
use crate::installation::read;
use crate::node::Node;
use crate::output::Failure;

/// An editor writes a file in several steps; wait until it is quiet.
const QUIET: Duration = Duration::from_millis(150);
/// No longer than this: a folder where something always moves is read all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without a working watcher, and for file systems that tell nothing, look this often.
const LOOK: Duration = Duration::from_secs(30);

/// Watches a configuration file.
pub(crate) struct Reloader {
    path: PathBuf,
    flags: Vec<Override>,
    hangup: Signal,
    changes: mpsc::Receiver<()>,
    /// Watching ends when it is dropped.
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
    seen: u64,
}

impl Reloader {
    /// Begins to watch; `watch` are the file and the folders with resources.
    pub(crate) fn new(path: &Path, flags: Vec<Override>, watch: &[PathBuf]) -> Result<Self, Failure> {
        let hangup = signal(SignalKind::hangup()).map_err(|error| Failure::cannot_run("failed", error.to_string()))?;
        let (tell, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Who only reads changes nothing: commands open these files all the time.
            if event.is_ok_and(|event| event.kind.is_access() && !written(&event.kind)) {
                return;
            }
            // One message in the queue is enough: what changed is looked up by reading.
            let _ = tell.try_send(());
        });
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "files cannot be watched")).ok();
        let mut reloader = Self {
            path: path.to_path_buf(),
            flags,
            hangup,
            changes,
            watcher,
            watched: Vec::new(),
            seen: fingerprint(watch),
        };
        reloader.watch(watch);
        Ok(reloader)
    }

    /// Watches folders, not files: editors and configuration managers replace files.
    fn watch(&mut self, paths: &[PathBuf]) {
        self.watched = paths.to_vec();
        let Some(watcher) = &mut self.watcher else { return };
        for path in paths {
            let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or_else(|| Path::new(".")) };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %folder.display(), "a folder cannot be watched");
            }
        }
    }

    /// Reloads until the process ends.
    pub(crate) async fn run(mut self, node: Arc<Node>) {
        loop {
            let asked = tokio::select! {
                hangup = self.hangup.recv() => hangup.is_some(),
                changed = self.changes.recv() => {
                    if changed.is_none() {
                        // No watcher; the timer below looks instead.
                        tokio::time::sleep(LOOK).await;
                    }
                    self.quiet().await;
                    false
                }
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = fingerprint(&self.watched);
            if asked || now != self.seen {
                self.seen = now;
                self.reload(&node).await;
            }
        }
    }

    /// Waits until nothing has changed for [`QUIET`], at most [`PATIENCE`]: a folder in which a log or
    /// a database is written beside the configuration is never quiet.
    async fn quiet(&mut self) {
        let silence = async {
            while tokio::time::timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        };
        let _ = tokio::time::timeout(PATIENCE, silence).await;
    }

    async fn reload(&mut self, node: &Node) {
        let (path, flags) = (self.path.clone(), self.flags.clone());
        let loaded = tokio::task::spawn_blocking(move || prepare(&path, &flags)).await;
        match loaded {
            Ok(Ok(next)) => {
                self.watch(&next.watch);
                take(node, next).await;
            }
            Ok(Err(refusal)) => refuse(node, refusal).await,
            Err(error) => tracing::error!(%error, "reading the configuration ended early"),
        }
        node.publish();
    }
}

/// Whether an access says that a file was written and closed.
fn written(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    matches!(kind, notify::EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

/// A configuration that passed all checks.
struct Next {
    filled: Resources,
    file: File,
    watch: Vec<PathBuf>,
    warnings: usize,
}

/// Why a configuration is not taken.
struct Refusal {
    text: String,
    errors: usize,
}

fn prepare(path: &Path, flags: &[Override]) -> Result<Next, Refusal> {
    let mut loaded = read(path, flags).map_err(|failure| Refusal { text: failure.message, errors: 1 })?;
    let snapshot = check::examine_again(&mut loaded);
    let report: Report = loaded.report();
    match snapshot {
        Some(_) if !report.has_errors() => {
            Ok(Next { filled: loaded.filled(), warnings: report.counts().1, watch: loaded.watch, file: loaded.file })
        }
        _ => Err(Refusal { text: report.to_string(), errors: report.counts().0 }),
    }
}

async fn take(node: &Node, next: Next) {
    let restart = settings(&next.file) != settings(&node.file);
    node.restart_needed.store(restart, Ordering::Release);
    let former = node.live.load().version;
    let options = CompileOptions { dev: false, hosting: node.file.hosting.enabled };
    let generation = node.objects.take_files(node, Base::new(next.file, next.filled, options)).await;
    let same = node.live.load().version == former;
    tracing::info!(generation, same, warnings = next.warnings, "the configuration was read again and is in use");
    if restart {
        tracing::warn!("settings changed that need a restart; resources are in use already");
    }
    node.record(EventKind::Admin, "config/reload", Some(format!("generation {generation}"))).await;
}

/// Takes a snapshot into use, with everything that depends on it. `of_file` says that the file
/// is good now.
pub(crate) fn exchange(node: &Node, snapshot: Snapshot, filled: &Resources, of_file: bool) -> u64 {
    let (former, current) = (node.live.load(), Arc::new(snapshot));
    node.people.take(filled);
    node.alerts.configure(&filled.alerts);
    let taken = Arc::clone(&current);
    let generation = if of_file { node.live.replace(taken) } else { node.live.update(taken) };
    node.gate.snapshot_changed();
    for gone in former.order.iter().filter(|spec| !goes_on(spec, &current)) {
        // Sessions and processes end when the calls on them have.
        node.upstreams.forget(&gone.id);
    }
    generation
}

/// Whether what was opened for a server may still be used.
fn goes_on(spec: &ServerSpec, current: &Snapshot) -> bool {
    let same = |now: &Arc<ServerSpec>| now.version == spec.version && now.status == ServerStatus::Enabled;
    current.servers.get(&spec.id).is_some_and(same)
}

async fn refuse(node: &Node, refusal: Refusal) {
    tracing::error!(
        errors = refusal.errors,
        "the configuration has errors; the former one stays in use\n{}",
        refusal.text
    );
    let note = Some(format!("refused: {} errors", refusal.errors));
    node.live.refuse(ReloadError { at_ms: node.clock.now_ms(), text: refusal.text, errors: refusal.errors });
    node.record(EventKind::Admin, "config/reload", note).await;
}

/// Everything of the file that is only read at the start.
fn settings(file: &File) -> serde_json::Value {
    let mut value = serde_json::to_value(file).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        for list in [
            "servers",
            "portals",
            "bundles",
            "policies",
            "grants",
            "rate_limits",
            "identity_providers",
            "clients",
            "agents",
            "alerts",
            "roles",
            "resources",
        ] {
            members.remove(list);
        }
    }
    value
}

/// A hash over names and contents of the watched files.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
            files.sort();
            files.iter().for_each(|file| one(file, &mut hasher));
        } else {
            one(path, &mut hasher);
        }
    }
    hasher.finish()
}

fn one(file: &Path, hasher: &mut DefaultHasher) {
    file.hash(hasher);
    std::fs::read(file).unwrap_or_default().hash(hasher);
}
