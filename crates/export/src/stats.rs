//! How sinks are doing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Events that arrived since the start of this process.
    pub delivered: u64,
    /// Deliveries that failed.
    pub failures: u64,
    /// Age of the oldest event that is known to wait, milliseconds; 0 when none waits.
    pub lag_ms: i64,
    /// Why the last delivery failed; `None` after one that did not.
    pub error: Option<String>,
}

/// All sinks, by id.
#[derive(Debug, Default)]
pub struct Stats(Mutex<BTreeMap<String, SinkStats>>);

impl Stats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SinkStats>> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, sink: &str, change: impl FnOnce(&mut SinkStats)) {
        change(self.lock().entry(sink.to_owned()).or_default());
    }

    /// Each sink.
    pub fn all(&self) -> BTreeMap<String, SinkStats> {
        self.lock().clone()
    }

    /// As lines for `/metrics`. Ids are letters, digits, `-` and `_`, and come from the configuration.
    pub fn text(&self) -> String {
        let all = self.all();
        let mut out = String::new();
        if all.is_empty() {
            return out;
        }
        let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&SinkStats) -> String| {
            // Writing into a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (sink, stats) in &all {
                let _ = writeln!(out, "{name}{{sink=\"{sink}\"}} {}", value(stats));
            }
        };
        let lag = |stats: &SinkStats| format!("{}.{:03}", stats.lag_ms / 1_000, stats.lag_ms % 1_000);
        family("bartizan_export_lag_seconds", "gauge", "Age of the oldest event that waits for a sink.", &lag);
        family("bartizan_export_events_total", "counter", "Events that a sink took.", &|one| one.delivered.to_string());
        family("bartizan_export_failures_total", "counter", "Deliveries that failed.", &|one| one.failures.to_string());
        out
    }
}
