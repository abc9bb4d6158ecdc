//! Notifications.

use bartizan_model::Era;

use super::Hop;
use crate::level::LogLevel;
use crate::meta_key;
use crate::profile::ClientProfile;
use crate::raw::RawJson;
use crate::splice;

/// Whether a log message may go to a client. Modern: only when the request asked for a
/// level, and from that level on. Legacy: from the session's level on, or all when
/// none was set. A message without a known level counts as `info`.
pub fn log_allowed(client: &ClientProfile, params: &RawJson) -> bool {
    let level = splice::get(params, "level");
    let level = level.as_ref().and_then(RawJson::as_string);
    let level = level.and_then(|text| LogLevel::parse(&text)).unwrap_or(LogLevel::Info);
    match (client.era, client.log_level) {
        (_, Some(least)) => level >= least,
        (Era::Modern, None) => false,
        (Era::Legacy, None) => true,
    }
}

/// A server's notification for the client, or nothing when it is not for it. Progress
/// tokens, URIs and subscription ids are the caller's to map; for a modern client's
/// listen stream see [`crate::listen::with_subscription`].
pub fn notification(hop: &Hop<'_>, method: &str, params: &RawJson) -> Option<RawJson> {
    if method == "notifications/message" && !log_allowed(hop.client, params) {
        return None;
    }
    match (hop.eras(), method) {
        ((Era::Legacy, Era::Modern), "notifications/subscriptions/acknowledged" | "notifications/tasks") => None,
        ((Era::Legacy, Era::Modern), _) => Some(splice::edit_in(params, "_meta", &[(meta_key::SUBSCRIPTION_ID, None)])),
        (
            (Era::Modern, Era::Legacy),
            "notifications/elicitation/complete" | "notifications/tasks/status" | "notifications/cancelled",
        ) => None,
        _ => Some(params.clone()),
    }
}

/// A client's notification for the server, or nothing when it is not for it:
/// `initialized` belongs to each hop alone, and the modern era knows neither
/// `roots/list_changed` nor core task notifications. Cancellations are the caller's,
/// since ids differ per hop.
pub fn notification_to_server(hop: &Hop<'_>, method: &str, params: Option<&RawJson>) -> Option<Option<RawJson>> {
    match (hop.upstream.era(), method) {
        (_, "notifications/initialized" | "notifications/cancelled") => None,
        (Era::Modern, "notifications/roots/list_changed" | "notifications/tasks/status") => None,
        _ => Some(super::params(hop, method, params)),
    }
}
