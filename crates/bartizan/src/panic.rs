//! A panic is logged and counted, never silent.

use bartizan_telemetry::Metrics;

/// Installs the hook. The message of a panic may hold data of a request, so only its
/// place is logged.
pub(crate) fn install(metrics: Metrics) {
    std::panic::set_hook(Box::new(move |info| {
        metrics.panicked();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(place, thread, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted() {
        let metrics = Metrics::new();
        install(metrics.clone());
        assert!(std::panic::catch_unwind(|| panic!("for the test")).is_err());
        assert_eq!(metrics.panic_count(), 1);
    }
}
