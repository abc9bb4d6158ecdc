//! What is done with the audit record behind the calls: checkpoints (L2), sinks (L5).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_audit::{Audit, Checkpointer};
use bartizan_config::settings;
use bartizan_egress::Egress;
use bartizan_export::{Exports, ExportsDeps, Stats};
use bartizan_model::Clock;
use bartizan_store::Store;
use bartizan_vault::Vault;

use crate::output::Failure;

/// The work behind the record, until it is started.
pub(crate) struct Behind {
    work: Mutex<Option<(Checkpointer, Exports)>>,
    every: Duration,
    stats: Arc<Stats>,
}

impl Behind {
    /// Nothing runs yet. The secrets of `settings` are resolved.
    pub(crate) fn new(
        settings: &settings::Audit,
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
        Ok(Self { every, work: Mutex::new(Some((checkpointer, exports))), stats })
    }

    /// Works without end.
    pub(crate) async fn run(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((checkpointer, exports)) = work {
            tokio::join!(checkpointer.run(self.every), exports.run());
        }
    }

    /// How the sinks are doing.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}
