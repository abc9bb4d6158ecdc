//! An event as sinks see it.

use bartizan_audit::IndexRow;
use serde_json::{Map, Value};

/// One record with its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Chain.
    pub writer: String,
    /// Number in the chain.
    pub seq: i64,
    /// When the action began, milliseconds since the epoch.
    pub at_ms: i64,
    /// The record's members, without the commitment.
    members: Map<String, Value>,
    /// Who; `None` once erased.
    who: Option<Map<String, Value>>,
}

impl Event {
    /// `None` when the record is no JSON object.
    pub fn new(row: &IndexRow) -> Option<Self> {
        let Value::Object(mut members) = serde_json::from_str(&row.record).ok()? else { return None };
        members.remove("who");
        let who = row.who.as_deref().and_then(|who| serde_json::from_str(who).ok());
        Some(Self { writer: row.writer.clone(), seq: row.seq, at_ms: row.at_ms, members, who })
    }

    /// A text member.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// A number; 0 when absent.
    pub fn number(&self, name: &str) -> u64 {
        self.members.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A member of the verdict.
    pub fn verdict(&self, name: &str) -> Option<&Value> {
        self.members.get("verdict")?.get(name)
    }

    /// Allowed or not.
    pub fn allowed(&self) -> bool {
        self.verdict("allow").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Refusal code.
    pub fn code(&self) -> Option<&str> {
        self.verdict("code").and_then(Value::as_str)
    }

    /// A text member of the identity.
    pub fn who(&self, name: &str) -> Option<&str> {
        self.who.as_ref()?.get(name)?.as_str()
    }

    /// Group names.
    pub fn groups(&self) -> Vec<&str> {
        let groups = self.who.as_ref().and_then(|who| who.get("groups")).and_then(Value::as_array);
        groups.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Event id.
    pub fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// Kind of event.
    pub fn kind(&self) -> &str {
        self.text("kind").unwrap_or_default()
    }

    /// How it ended.
    pub fn outcome(&self) -> &str {
        self.text("outcome").unwrap_or_default()
    }

    /// Refused or ended with an error.
    pub fn failed(&self) -> bool {
        !self.allowed() || !matches!(self.outcome(), "ok" | "pending")
    }

    /// Everything, as one object: the record's members, `writer`, `seq`, `at` and `who`.
    pub fn native(&self) -> Value {
        let mut all = self.members.clone();
        all.insert("at".to_owned(), bartizan_model::clock::rfc3339(self.at_ms).into());
        all.insert("writer".to_owned(), self.writer.as_str().into());
        all.insert("seq".to_owned(), self.seq.into());
        all.insert("who".to_owned(), self.who.clone().map_or(Value::Null, Value::Object));
        Value::Object(all)
    }
}
