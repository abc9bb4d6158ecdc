//! Exports metrics to an OpenTelemetry collector (OTLP over HTTP, JSON; L7).

use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings::Telemetry;
use bartizan_egress::Client;
use bartizan_model::Clock;
use bartizan_telemetry::Metrics;
use bartizan_telemetry::otlp::metrics::{Reporter, encode};
use tokio::time::{Instant, MissedTickBehavior};

/// Shortest time between two exports.
const SHORTEST: Duration = Duration::from_millis(100);

/// What an exporter works with.
pub(crate) struct Exporter {
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// The text of `/metrics`, which is bounded as the labels are.
    pub(crate) text: Arc<dyn Fn() -> String + Send + Sync>,
    /// Id of this process.
    pub(crate) instance: String,
    /// Start of this process, milliseconds since the epoch.
    pub(crate) started_ms: i64,
}

/// Starts the export if the settings want one. One request is under way at a time; what a
/// collector does not take is dropped and counted, and the next export carries it anyway,
/// because all figures are cumulative.
pub(crate) fn start(settings: &Telemetry, exporter: Exporter) {
    let Some(endpoint) = settings.otlp_endpoint.as_deref().filter(|_| settings.metrics_interval_ms > 0) else {
        return;
    };
    let every = Duration::from_millis(settings.metrics_interval_ms).max(SHORTEST);
    let url = format!("{}/v1/metrics", endpoint.trim_end_matches('/'));
    tokio::spawn(exporter.run(url, every));
}

impl Exporter {
    async fn run(self, url: String, every: Duration) {
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let reporter = Reporter {
                version: env!("CARGO_PKG_VERSION"),
                instance: &self.instance,
                started_ms: self.started_ms,
                now_ms: self.clock.now_ms(),
            };
            let body = encode(&reporter, &(self.text)());
            match crate::traces::send(&self.client, &url, body).await {
                Ok(()) => failing = false,
                Err(error) => {
                    self.metrics.export_failed();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "metrics could not be exported");
                    }
                }
            }
        }
    }
}
