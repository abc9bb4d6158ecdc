//! What is done with the audit record behind the calls: checkpoints (L2), bodies (L3), sinks (L5).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_audit::{Audit, Bodies, Checkpointer};
use bartizan_config::settings;
use bartizan_egress::Egress;
use bartizan_export::{Exports, ExportsDeps, Stats};
use bartizan_model::{Clock, Secret};
use bartizan_store::Store;
use bartizan_vault::Vault;

use crate::output::Failure;

/// How often old bodies are looked for.
const PRUNE: Duration = Duration::from_secs(3_600);

/// The work behind the record, until it is started.
pub(crate) struct Behind {
    work: Mutex<Option<(Checkpointer, Exports)>>,
    every: Duration,
    stats: Arc<Stats>,
    bodies: Bodies,
    body_days: u32,
    clock: Arc<dyn Clock>,
}

impl Behind {
    /// Nothing runs yet. The secrets of `settings` are resolved.
    pub(crate) fn new(
        settings: &settings::Audit,
        masks: Vec<Secret<String>>,
        audit: &Audit,
        store: &Store,
        vault: &Vault,
        egress: &Egress,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let checkpointer = Checkpointer::new(audit.clone(), store.clone(), vault.clone(), Arc::clone(clock));
        let deps = ExportsDeps {
            audit: audit.clone(),
            store: store.clone(),
            egress: egress.clone(),
            clock: Arc::clone(clock),
        };
        let exports = Exports::new(deps, &settings.sinks, &settings.checkpoints)
            .map_err(|why| Failure::refused("bad_sink", why))?;
        let stats = exports.stats();
        let every = Duration::from_secs(settings.checkpoints.every_s.max(1).into());
        let bodies =
            Bodies::new(settings.bodies.iter().cloned(), masks, store.clone(), vault.clone(), Arc::clone(clock));
        let work = Mutex::new(Some((checkpointer, exports)));
        let clock = Arc::clone(clock);
        Ok(Self { every, work, stats, bodies, body_days: settings.body_retention_days, clock })
    }

    /// Works without end.
    pub(crate) async fn run(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((checkpointer, exports)) = work {
            tokio::join!(checkpointer.run(self.every), exports.run(), self.prune());
        }
    }

    /// Arguments and results are kept for a shorter time than the record.
    async fn prune(&self) {
        loop {
            let before = self.clock.now_ms() - i64::from(self.body_days) * 86_400_000;
            if let Err(error) = self.bodies.prune(before).await {
                tracing::warn!(%error, "old bodies of calls are kept");
            }
            tokio::time::sleep(PRUNE).await;
        }
    }

    /// What keeps arguments and results.
    pub(crate) fn bodies(&self) -> Bodies {
        self.bodies.clone()
    }

    /// How the sinks are doing.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}
