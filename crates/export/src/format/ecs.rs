//! Elastic Common Schema 8.11.

use serde_json::{Value, json};

use super::{Members, VERSION};
use crate::event::Event;

pub(super) fn value(event: &Event) -> Value {
    let (category, kinds): (&str, &[&str]) = match event.kind() {
        "auth" => ("authentication", &["start"]),
        "token" => ("iam", &["change"]),
        "admin" => ("configuration", &["change"]),
        "system" => ("process", &["info"]),
        _ => ("api", &["access"]),
    };
    let mut kinds = kinds.to_vec();
    kinds.push(if event.allowed() { "allowed" } else { "denied" });
    let mut about = Members::default();
    about.set("id", event.id()).set("kind", "event").set("category", json!([category])).set("type", json!(kinds));
    about.some("action", event.text("method")).set("dataset", "bartizan.audit").set("module", "bartizan");
    let outcome = match (event.failed(), event.outcome()) {
        (_, "unknown" | "cancelled" | "pending") => "unknown",
        (true, _) => "failure",
        (false, _) => "success",
    };
    about.set("outcome", outcome).set("sequence", event.seq).some("reason", event.code());
    about.set("duration", event.number("total_us").saturating_mul(1_000));

    let mut user = Members::default();
    user.some("name", event.who("principal"));
    let groups = event.groups();
    let mut related = Members::default();
    if let Some(name) = event.who("principal") {
        related.set("user", json!([name]));
    }
    if let Some(ip) = event.who("ip") {
        related.set("ip", json!([ip]));
    }
    let mut source = Members::default();
    source.some("ip", event.who("ip"));
    let mut geo = Members::default();
    geo.some("country_iso_code", event.who("country"));
    source.object("geo", geo);
    let mut agent = Members::default();
    agent.some("name", event.who("client")).some("version", event.who("client_version"));
    let mut trace = Members::default();
    trace.some("id", event.text("trace_id"));
    let mut service = Members::default();
    service.some("name", event.text("server")).some("version", event.text("server_version"));
    let mut rule = Members::default();
    rule.some("name", event.verdict("rule").and_then(Value::as_str));

    let mut all = Members::default();
    all.set("@timestamp", bartizan_model::clock::rfc3339(event.at_ms));
    all.set("ecs", json!({"version": "8.11.0"}));
    all.set("observer", json!({"vendor": "bartizan", "product": "bartizan", "version": VERSION}));
    all.object("event", about).object("user", user).object("related", related).object("source", source);
    if !groups.is_empty() {
        all.set("group", json!({"name": groups}));
    }
    all.object("user_agent", agent).object("trace", trace).object("service", service).object("rule", rule);
    all.some("message", event.text("note"));
    all.set("bartizan", event.native());
    Value::Object(all.0)
}
