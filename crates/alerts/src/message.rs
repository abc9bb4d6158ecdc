//! What a destination is told.

use bartizan_model::EventId;
use bartizan_store::repo::alert::{Alert, Delivery};
use serde::{Deserialize, Serialize};

use crate::rule::Rule;

/// One message, as JSON: the body of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// `alert.fired`, `alert.resolved`, `alert.more`, `alert.test`, `server.state`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// RFC 3339.
    pub(crate) timestamp: String,
    pub(crate) data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Data {
    /// Id of this firing: the same when it is over.
    pub(crate) id: String,
    /// Id of the rule.
    pub(crate) rule: String,
    /// `high`, `medium`, `low`.
    pub(crate) severity: String,
    /// Members that tell causes apart.
    pub(crate) cause: serde_json::Value,
    /// Events so far.
    pub(crate) count: i64,
    /// Milliseconds since the epoch.
    pub(crate) first_ms: i64,
    /// Milliseconds since the epoch.
    pub(crate) last_ms: i64,
    /// The event that made it fire.
    pub(crate) event_id: String,
    /// That event in a few words.
    pub(crate) summary: String,
    /// Public URL of the installation.
    pub(crate) installation: String,
}

impl Message {
    pub(crate) fn new(kind: &str, now_ms: i64, alert: &Alert, severity: &str, installation: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            timestamp: bartizan_model::clock::rfc3339(now_ms),
            data: Data {
                id: alert.id.clone(),
                rule: alert.rule.clone(),
                severity: severity.to_owned(),
                cause: serde_json::from_str(&alert.cause).unwrap_or_default(),
                count: alert.hits,
                first_ms: alert.first_ms,
                last_ms: alert.last_ms,
                event_id: alert.event_id.clone(),
                summary: alert.summary.clone(),
                installation: installation.to_owned(),
            },
        }
    }

    /// The message for every destination of the rule.
    pub(crate) fn to_all(&self, rule: &Rule, now_ms: i64) -> Vec<Delivery> {
        let body = serde_json::to_string(self).unwrap_or_default();
        let delivery = |destination: &String| Delivery {
            id: EventId::new(now_ms).to_string(),
            destination: destination.clone(),
            body: body.clone(),
            created_ms: now_ms,
            attempts: 0,
        };
        rule.to.iter().map(delivery).collect()
    }

    /// One line for people.
    pub(crate) fn headline(&self) -> String {
        let data = &self.data;
        match self.kind.as_str() {
            "alert.resolved" => format!("resolved: {}: {}", data.rule, data.summary),
            "alert.more" => format!("more alerts of {} than are sent one by one: {}", data.rule, data.summary),
            "server.state" => data.summary.clone(),
            "alert.test" => format!("test message of {}", data.installation),
            _ => format!("[{}] {}: {}", data.severity, data.rule, data.summary),
        }
    }
}
