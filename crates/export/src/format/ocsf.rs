//! Open Cybersecurity Schema Framework 1.3: API Activity (6003), Authentication (3002).

use serde_json::{Value, json};

use super::{Members, VERSION};
use crate::event::Event;

const API_ACTIVITY: u64 = 6003;
const AUTHENTICATION: u64 = 3002;

pub(super) fn value(event: &Event) -> Value {
    let method = event.text("method").unwrap_or_default();
    let is_auth = event.kind() == "auth";
    let (class, category) = if is_auth { (AUTHENTICATION, 3) } else { (API_ACTIVITY, 6) };
    let activity = if is_auth {
        match method {
            "auth/sign_in" | "authenticate" => 1,
            "auth/sign_out" => 2,
            _ => 99,
        }
    } else {
        match event.text("class") {
            Some("read") => 2,
            Some("write") => 3,
            Some("destructive") => 4,
            _ if event.kind() == "list" => 2,
            _ => 99,
        }
    };
    let mut product = Members::default();
    product.set("name", "bartizan").set("vendor_name", "bartizan").set("version", VERSION);
    let mut metadata = Members::default();
    metadata.set("version", "1.3.0").object("product", product).set("uid", event.id()).set("sequence", event.seq);
    metadata.set("log_name", "audit").set("log_provider", event.writer.as_str());
    metadata.some("correlation_uid", event.text("trace_id"));

    let mut user = Members::default();
    user.set("name", event.who("principal").unwrap_or("erased"));
    user.some("type", event.text("principal_kind"));
    let groups: Vec<Value> = event.groups().into_iter().map(|name| json!({"name": name})).collect();
    if !groups.is_empty() {
        user.set("groups", groups);
    }
    let user = Value::Object(user.0);

    let mut source = Members::default();
    source.some("ip", event.who("ip"));
    if let Some(country) = event.who("country") {
        source.set("location", json!({"country": country}));
    }
    if source.0.is_empty() {
        source.set("name", "local");
    }

    let mut all = Members::default();
    all.set("class_uid", class).set("category_uid", category).set("activity_id", activity);
    all.set("type_uid", class * 100 + activity).set("time", event.at_ms);
    all.set("severity_id", if event.failed() { 3 } else { 1 });
    all.set("status_id", if event.failed() { 2 } else { 1 }).set("status", event.outcome());
    all.some("status_code", event.code()).some("message", event.text("note"));
    all.set("duration", event.number("total_us") / 1_000);
    all.object("metadata", metadata).object("src_endpoint", source);
    all.set("disposition_id", if event.allowed() { 1 } else { 2 });
    if is_auth {
        all.set("user", user).set("service", json!({"name": "bartizan"}));
        all.set("auth_protocol", "OAuth").set("auth_protocol_id", 99);
    } else {
        let mut api = Members::default();
        api.set("operation", method).set("request", json!({"uid": event.id()}));
        let mut service = Members::default();
        service.some("name", event.text("server")).some("version", event.text("server_version"));
        api.object("service", service);
        if let Some(code) = event.code() {
            api.set("response", json!({"error": code}));
        }
        all.set("actor", json!({"user": user})).object("api", api);
        if let Some(target) = event.text("target") {
            all.set("resources", json!([{"name": target, "type": event.text("class").unwrap_or("unknown")}]));
        }
    }
    all.set("unmapped", event.native());
    Value::Object(all.0)
}
