//! Unknown fields are named, wherever they are (P3).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use bartizan_config::{Environment, load};
use serde_json::{Value, json};

/// A file in which every kind of mapping occurs once.
fn whole() -> Value {
    let rule = json!({"name": "r", "action": "allow", "include": [{"everyone": true}], "require": [], "exclude": []});
    json!({
        "public_url": "https://a.example", "listen": "127.0.0.1:1", "operations": {"listen": "127.0.0.1:2"},
        "store": {"data_dir": "d", "url": "postgres://h/d"}, "key": {"env": "K"}, "audit": {"mode": "fast"},
        "egress": {"private_allow": []}, "hosting": {"enabled": true}, "limits": {"call_ms": 1000},
        "telemetry": {"otlp_endpoint": null},
        "tls": {"files": {"cert": "c.pem", "key": "k.pem"}}, "geo": {"mmdb": "g.mmdb"},
        "cluster": {"listen": "127.0.0.1:3", "advertise": "a.example:3"},
        "servers": [{
            "server_id": "a", "command": {"argv": ["x"], "env": {"A": "b"}}, "policies": [rule],
            "classes": {"read": ["t"]}, "updated_tools": [{"name": "t"}], "updated_prompts": [{"name": "p"}],
            "updated_resources": [{"name": "u"}],
        }],
        "agents": [{
            "id": "ci", "owner": "a@b.example", "limits": {"per_minute": 1},
            "auth": {"workload": {"issuer": "https://ci.example", "audience": "a", "claims": {"ref": "main"}}},
        }],
        "portals": [{
            "id": "p", "policies": [rule], "bundles": ["b"], "updated_tools": [{"server": "a", "name": "t"}],
            "updated_prompts": [{"server": "a", "name": "p"}],
        }],
        "bundles": [{"id": "b", "tools": [{"server": "a", "tools": ["t"]}]}],
        "policies": [{"id": "c", "cedar": "permit(principal, action, resource);"}],
        "grants": [{"id": "g", "principals": ["everyone"], "server": "a", "tools": ["t"]}],
        "rate_limits": [{"id": "l", "per": ["user"], "per_minute": 1}],
    })
}

/// Pointers to every mapping whose keys are fixed.
fn mappings(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            // Names of variables and claims are free.
            if !path.ends_with("/env") && !path.ends_with("/claims") {
                found.push(path.to_owned());
            }
            members.iter().for_each(|(key, value)| mappings(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| mappings(value, &format!("{path}/{at}"), found));
        }
        _ => {}
    }
}

#[test]
fn p3_an_unknown_field_is_named_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.yaml");
    let check = |file: &Value| {
        std::fs::write(&path, serde_json::to_string_pretty(file).unwrap()).unwrap();
        load(&path, &Environment::default(), &[]).unwrap().report().problems
    };
    assert_eq!(check(&whole()), [], "the whole file is good");
    let mut places = Vec::new();
    mappings(&whole(), "", &mut places);
    assert!(places.len() == 35, "{places:?}");
    for place in places {
        let mut file = whole();
        let mapping = file.pointer_mut(&place).unwrap().as_object_mut().unwrap();
        let one_key = mapping.len() == 1
            && (mapping.contains_key("everyone") || place == "/key" || place == "/tls" || place.ends_with("/auth"));
        if one_key {
            mapping.clear();
        }
        mapping.insert("no_such_field".to_owned(), json!(1));
        let problems = check(&file);
        let named = problems
            .iter()
            .find(|problem| problem.code == "unknown_key")
            .unwrap_or_else(|| panic!("{place}: {problems:?}"));
        assert_eq!(named.message, "unknown key `no_such_field`", "{place}");
        assert!(named.place.as_ref().is_some_and(|place| place.line > 1), "{place}");
    }
}
