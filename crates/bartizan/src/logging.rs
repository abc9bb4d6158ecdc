//! Logs on stderr: text on a terminal, JSON otherwise.

use std::io::IsTerminal;

use bartizan_config::Environment;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging; `BARTIZAN_LOG` filters, by default `info`. Called once.
pub(crate) fn start(environment: &Environment, default: &str) {
    let wanted = environment.get("BARTIZAN_LOG").unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(true);
    // A second call, in tests, is harmless.
    let _ = if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.json().flatten_event(true).with_ansi(false).try_init()
    };
}
