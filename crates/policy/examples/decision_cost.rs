//! Prints the cost of a decision at 10, 100 and 1,000 policies.
//! `cargo run --release -p bartizan-policy --example decision_cost`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement, not the product"
)]

use std::hint::black_box;
use std::time::Instant;

use bartizan_config::resources::Resources;
use bartizan_model::{Era, PortalId, Principal, PrincipalKind, ServerId, ToolClass};
use bartizan_policy::{Action, Policies, Query, RequestContext};
use serde_json::{Value, json};

fn main() {
    let allow = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    for count in [10, 100, 1_000] {
        // Policies of many teams about many tools; a few are about what is asked below.
        let policies: Vec<Value> = (0..count)
            .map(|n| {
                let text = match n % 4 {
                    0 => format!("forbid(principal in Group::\"team{n}\", action == Action::\"call_tool\", resource in Server::\"pay\");"),
                    1 => format!("permit(principal == User::\"user{n}\", action == Action::\"call_tool\", resource == Tool::\"pay/tool{n}\");"),
                    2 => format!("forbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/tool{n}\") when {{ context.args.amount > {n} }};"),
                    _ => format!("forbid(principal in Group::\"team{n}\", action, resource in Server::\"wiki\") when {{ context.era == \"legacy\" }};"),
                };
                json!({"id": format!("p{n}"), "cedar": text})
            })
            .collect();
        let resources: Resources = serde_json::from_value(json!({
            "servers": [
                {"server_id": "pay", "hostname": "http://localhost/mcp", "policies": allow},
                {"server_id": "wiki", "hostname": "http://localhost/mcp", "policies": allow},
            ],
            "portals": [{"id": "default", "policies": allow}],
            "policies": policies,
            "grants": [{"id": "g", "principals": ["group:team0"], "server": "pay", "classes": ["write"]}],
        }))
        .unwrap();
        let start = Instant::now();
        let compiled = Policies::compile(&resources, 0).unwrap();
        println!("{count} policies: compiled in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        let groups = ["team3", "team7", "staff"].map(std::sync::Arc::from);
        let principal = Principal::new(PrincipalKind::User, "ann@example.com", groups);
        let (portal, server) = (PortalId::parse("default").unwrap(), ServerId::parse("pay").unwrap());
        let context =
            RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms: 0 };
        for (what, name, args) in [
            ("no policy about it", "get_balance", r#"{"account":"1"}"#),
            ("one forbid on an argument", "tool2", r#"{"amount":1,"to":"someone","text":"hello"}"#),
        ] {
            let query = Query {
                principal: &principal,
                action: Action::CallTool,
                portal: Some(&portal),
                server: Some(&server),
                name,
                class: ToolClass::Read,
                context: &context,
                args: Some(args),
            };
            assert!(compiled.decide(&query).allow);
            let rounds = 20_000;
            let start = Instant::now();
            for _ in 0..rounds {
                black_box(compiled.decide(black_box(&query)));
            }
            println!("  {what}: {:.2} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
        }
    }
}
