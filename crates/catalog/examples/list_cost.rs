//! Prints the cost of a view of 5,000 tools, cold and warm.
//! `cargo run --release -p bartizan-catalog --example list_cost`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not the product")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bartizan_catalog::{CompileOptions, Kind, ServerLists, Snapshot, View};
use bartizan_model::{Era, PortalId, Principal, PrincipalKind};
use bartizan_policy::RequestContext;
use bartizan_wire::RawJson;
use serde_json::{Value, json};

fn main() {
    let classes = json!({"read": (0..50).map(|n| format!("get_thing_{n}")).collect::<Vec<_>>()});
    let servers: Vec<Value> = (0..50)
        .map(|n| {
            json!({"server_id": format!("server_{n}"), "hostname": "http://localhost/mcp", "classes": classes,
                "policies": [{"action": "allow", "include": [{"everyone": true}]}]})
        })
        .collect();
    let resources = serde_json::from_value(json!({
        "servers": servers,
        "grants": (0..50).map(|n| json!({"id": format!("g{n}"), "principals": ["everyone"],
            "server": format!("server_{n}"), "classes": ["unknown"]})).collect::<Vec<_>>(),
        // The policy of `bench`: a condition on names, so that classes of equal tools are not all.
        "policies": [{"id": "no-secrets", "cedar":
            "forbid(principal, action, resource) when { resource has name && resource.name == \"read_secret\" };"}],
    }))
    .unwrap();
    let snapshot = Snapshot::compile(&resources, &CompileOptions::default(), 0).unwrap();
    let definition = |n: usize| {
        RawJson::from(&json!({
            "name": format!("get_thing_{n}"),
            "description": "Gets a thing by its id, with all the members that things of its kind have, in one answer.",
            "inputSchema": {"type": "object", "properties": {
                "id": {"type": "string", "description": "Id of the thing"},
                "fields": {"type": "array", "items": {"type": "string"}, "description": "Members to return"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100}}, "required": ["id"]},
            "annotations": {"readOnlyHint": true},
        }))
    };
    let start = Instant::now();
    let lists: Vec<_> = snapshot
        .order
        .iter()
        .map(|spec| (Arc::clone(spec), Arc::new(ServerLists::parse(Kind::Tools, (0..100).map(definition)))))
        .collect();
    println!("definitions made and read: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let principal = Principal::new(PrincipalKind::User, "ann", []);
    let portal = PortalId::parse("default").unwrap();
    let context =
        RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms: 0 };
    for round in 0..5 {
        let start = Instant::now();
        let view = View::build(&snapshot, Some(&portal), &principal, &context, &lists);
        let built = start.elapsed();
        let start = Instant::now();
        let bytes = view.list(Kind::Tools).len();
        let joined = start.elapsed();
        let start = Instant::now();
        black_box(view.list(Kind::Tools).clone());
        let warm = start.elapsed();
        assert_eq!(view.tools.len(), 5_000);
        println!(
            "round {round}: view of 5,000 tools {:.2} ms, array of {bytes} bytes {:.2} ms, warm {:.3} µs",
            built.as_secs_f64() * 1e3,
            joined.as_secs_f64() * 1e3,
            warm.as_secs_f64() * 1e6
        );
    }
}
