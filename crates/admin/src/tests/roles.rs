use bartizan_config::objects::Kind;
use bartizan_model::Role;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Desk, desk, server};
use crate::table::{Action, Endpoint, table};

/// The id of something in another crate.
const SOME: &str = "some-thing";

/// An object that is good by itself, of every kind.
pub(crate) fn sample(kind: Kind) -> (&'static str, Value) {
    match kind {
        Kind::Server => ("s", server("s")),
        Kind::Portal => ("p", json!({"id": "p", "servers": []})),
        Kind::Bundle => ("b", json!({"id": "b", "tools": [{"server": "base", "tools": ["t"]}]})),
        Kind::IdentityProvider => (
            "i",
            json!({"id": "i", "issuer": "https://login.example", "client_id": "c", "client_secret": "hunter2",
                "email_domains": ["corp.example"]}),
        ),
        Kind::Client => ("c", json!({"client_id": "c", "name": "C", "redirect_uris": ["https://c.example/back"]})),
        Kind::Agent => (
            "a",
            json!({"id": "a", "owner": "ana@corp.example",
                "auth": {"client_secret": "hunter2hunter2hunter2hunter2hunter2"}}),
        ),
        Kind::Policy => ("y", json!({"id": "y", "cedar": "permit(principal, action, resource);"})),
        Kind::Grant => ("g", json!({"id": "g", "principals": ["group:a"], "server": "base", "classes": ["write"]})),
        Kind::RateLimit => ("r", json!({"id": "r", "per": ["user"], "per_minute": 5})),
        Kind::AlertDestination => ("d", json!({"id": "d", "syslog": {"server": "tls://log.example"}})),
        Kind::AlertRule => ("l", json!({"id": "l", "match": {"kind": ["admin"]}})),
        Kind::Role => ("auditor", json!({"role": "auditor", "members": ["group:audit"]})),
    }
}

/// Makes what the samples name.
pub(crate) async fn furnished() -> Desk {
    let desk = desk().await;
    let made = desk.own("POST", "/servers", &[], Some(&server("base"))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    desk
}

fn kind(action: Action) -> Option<Kind> {
    match action {
        Action::List(kind)
        | Action::Get(kind)
        | Action::Create(kind)
        | Action::Put(kind)
        | Action::Patch(kind)
        | Action::Remove(kind)
        | Action::History(kind)
        | Action::Restore(kind) => Some(kind),
        _ => None,
    }
}

/// A request that succeeds, after what it needs was made: path, headers, body.
async fn good(desk: &Desk, row: &Endpoint) -> (String, Vec<(String, String)>, Option<Value>) {
    let Some(kind) = kind(row.action) else {
        let body = matches!(row.action, Action::Plan | Action::Apply)
            .then(|| json!({"objects": {"servers": [server("base"), server("other")]}}));
        if let Action::Area(operation) = row.action {
            let sent = operation.has_body().then(|| json!({"reason": "why"}));
            return (row.path.replace("{id}", SOME), Vec::new(), sent);
        }
        return (row.path.clone(), Vec::new(), body);
    };
    let (id, object) = sample(kind);
    let path = row.path.replace("{id}", id);
    let mut headers = Vec::new();
    if row.path.contains("{id}") {
        let made = desk.own("POST", &format!("/{}", kind.plural()), &[], Some(&object)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{} {}", kind.as_str(), made.body);
        headers.push(("if-match".to_owned(), made.etag().to_owned()));
    }
    let changed = || {
        let mut object = object.clone();
        let change = match kind {
            Kind::Server | Kind::Portal | Kind::Bundle | Kind::IdentityProvider | Kind::Client => {
                ("name", json!("Other"))
            }
            Kind::Agent => ("owner", json!("bob@corp.example")),
            Kind::Policy => ("description", json!("Other")),
            Kind::Grant => ("principals", json!(["group:b"])),
            Kind::RateLimit => ("per_minute", json!(6)),
            Kind::AlertDestination => ("syslog", json!({"server": "tls://other.example"})),
            Kind::AlertRule => ("count", json!(7)),
            Kind::Role => ("members", json!(["group:other"])),
        };
        object[change.0] = change.1;
        object
    };
    let body = match row.action {
        Action::Create(_) => Some(object.clone()),
        Action::Put(_) | Action::Patch(_) => Some(changed()),
        Action::Restore(_) => {
            let first = headers[0].1.trim_matches('"').parse::<i64>().unwrap();
            let put = [("if-match", headers[0].1.as_str())];
            let second = desk.own("PUT", &format!("/{}/{id}", kind.plural()), &put, Some(&changed())).await;
            assert_eq!(second.status, StatusCode::OK, "{}", second.body);
            headers[0].1 = second.etag().to_owned();
            Some(json!({"revision": first}))
        }
        _ => None,
    };
    (path, headers, body)
}

#[tokio::test]
async fn a24_every_endpoint_with_every_role_and_without_any() {
    for row in table() {
        let desk = furnished().await;
        let (path, headers, body) = good(&desk, &row).await;
        let name = format!("{} {}", row.method, row.path);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let nobody = desk.send(row.method.as_str(), &path, &headers, body.as_ref()).await;
        assert_eq!((nobody.status, nobody.code()), (StatusCode::UNAUTHORIZED, "unauthenticated"), "{name}");
        assert!(nobody.headers["www-authenticate"].to_str().unwrap().contains("resource_metadata="), "{name}");
        let before = desk.event_count();
        let mut roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        roles.push("nobody");
        for role in roles {
            let given = Role::ALL.into_iter().find(|one| one.as_str() == role);
            let allowed = row.roles.is_none_or(|wanted| given.is_some_and(|given| wanted.contains(&given)));
            if allowed {
                continue;
            }
            let all = [&[("x-user", role)], headers.as_slice()].concat();
            let refused = desk.send(row.method.as_str(), &path, &all, body.as_ref()).await;
            if row.path.contains("{id}") {
                assert_eq!((refused.status, refused.code()), (StatusCode::NOT_FOUND, "not_found"), "{name} as {role}");
                // Whether it exists or not: the same answer.
                let id = kind(row.action).map_or(SOME, |kind| sample(kind).0);
                let other = path.replace(&format!("/{id}"), "/nothing");
                let nothing = desk.send(row.method.as_str(), &other, &all, body.as_ref()).await;
                assert_eq!(nothing.body["error"]["message"], refused.body["error"]["message"], "{name} as {role}");
                assert_eq!(nothing.status, refused.status);
            } else {
                assert_eq!(
                    (refused.status, refused.code()),
                    (StatusCode::FORBIDDEN, "role_required"),
                    "{name} as {role}"
                );
            }
        }
        assert_eq!(desk.event_count(), before, "{name}: a refusal changes nothing");
        // The first role of the row may; a mutation is on record exactly once (L10).
        let role = row.roles.and_then(|roles| roles.last()).map_or("employee", |role| role.as_str());
        let all = [&[("x-user", role)], headers.as_slice()].concat();
        let done = desk.send(row.method.as_str(), &path, &all, body.as_ref()).await;
        assert!(done.status.is_success(), "{name} as {role}: {} {}", done.status, done.body);
        let written = desk.event_count() - before;
        assert_eq!(written, usize::from(row.action.is_mutation()), "{name}: events");
    }
}

#[tokio::test]
async fn l10_an_event_says_who_why_what_it_was_and_what_it_is() {
    let desk = furnished().await;
    let (id, object) = sample(Kind::IdentityProvider);
    let made = desk.own("POST", "/identity_providers", &[("x-bartizan-reason", "ticket 7")], Some(&object)).await;
    let path = format!("/identity_providers/{id}");
    let patch = json!({"name": "New", "client_secret": "s3cr3t-two"});
    let changed = desk.own("PATCH", &path, &[("if-match", made.etag())], Some(&patch)).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let events = desk.events.lock().unwrap().clone();
    let (created, updated) = (&events[events.len() - 2], &events[events.len() - 1]);
    assert_eq!(created.method, "identity_provider/create");
    assert_eq!((created.who.principal.as_str(), created.who.ip.as_deref()), ("user:owner", Some("127.0.0.1")));
    assert_eq!(created.note.as_deref(), Some("ticket 7"));
    let change: Value = serde_json::from_str(updated.change.as_deref().unwrap()).unwrap();
    assert_eq!(change["source"], "api");
    let difference = change["objects"][0]["difference"].as_array().unwrap();
    let find = |pointer: &str| difference.iter().find(|one| one["pointer"] == pointer).cloned();
    assert_eq!(find("/name").unwrap()["after"], "New");
    let version = find("/auth_config_summary/client_secret_version").unwrap();
    assert_eq!((version["before"].clone(), version["after"].clone()), (json!(1), json!(2)));
    for event in &events {
        let text = format!("{event:?}");
        assert!(!text.contains("hunter2") && !text.contains("s3cr3t-two"), "a secret is on record: {text}");
    }
    // From a page of ours the source is another.
    let browser =
        [("cookie", "x"), ("origin", "https://mcp.example.com"), ("x-csrf-token", "t"), ("if-match", changed.etag())];
    let gone = desk.own("DELETE", &path, &browser, None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.body);
    let last: Value =
        serde_json::from_str(desk.events.lock().unwrap().last().unwrap().change.as_deref().unwrap()).unwrap();
    assert_eq!(last["source"], "console");
}

#[tokio::test]
async fn l10_what_cannot_be_put_on_record_is_not_changed() {
    let desk = furnished().await;
    *desk.deaf.lock().unwrap() = true;
    let refused = desk.own("POST", "/servers", &[], Some(&server("new"))).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"));
    *desk.deaf.lock().unwrap() = false;
    assert_eq!(desk.own("GET", "/servers/new", &[], None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(desk.own("POST", "/servers", &[], Some(&server("new"))).await.status, StatusCode::CREATED);
}
