use bartizan_config::objects::Kind;
use http::StatusCode;
use serde_json::{Value, json};

use super::{about, desk, server};
use crate::{AdminError, Wanted, apply, export, plan};

fn set(objects: &[(Kind, Value)]) -> Vec<Wanted> {
    let id = |kind: Kind, object: &Value| object[kind.id_key()].as_str().unwrap_or_default().to_owned();
    objects.iter().map(|(kind, object)| (*kind, id(*kind, object), object.clone())).collect()
}

#[tokio::test]
async fn u9_apply_twice_is_no_change_and_export_gives_it_back() {
    let desk = desk().await;
    let mut secret = server("wiki");
    secret["auth_type"] = json!("bearer");
    secret["auth_credentials"] = json!("hunter2");
    let portal = json!({"id": "hr", "servers": ["wiki"]});
    let wanted = set(&[(Kind::Server, secret), (Kind::Portal, portal)]);
    let planned = plan(&desk.engine, wanted.clone(), &about()).await.unwrap();
    assert_eq!((planned.changes.len(), planned.revision, desk.event_count()), (2, 0, 0));
    let first = apply(&desk.engine, wanted.clone(), &about(), Some(0)).await.unwrap();
    assert_eq!((first.revision, first.done.len(), desk.event_count()), (1, 2, 1));
    let again = apply(&desk.engine, wanted, &about(), None).await.unwrap();
    assert_eq!((again.revision, again.done.len(), desk.event_count()), (1, 0, 1));
    // The export, applied again, keeps the secret.
    let exported = export(&first.state);
    assert!(!exported.to_string().contains("hunter2"));
    let kinds = [(Kind::Server, "servers"), (Kind::Portal, "portals")];
    let back: Vec<(Kind, Value)> = kinds
        .iter()
        .flat_map(|(kind, list)| exported["objects"][*list].as_array().unwrap().iter().map(|one| (*kind, one.clone())))
        .collect();
    let third = apply(&desk.engine, set(&back), &about(), None).await.unwrap();
    assert_eq!((third.done.len(), desk.event_count()), (0, 1), "{:?}", third.done);
    let revision = bartizan_store::repo::resource::revisions(&desk.store, 9, 9).await.unwrap();
    assert_eq!((revision[0].source.as_str(), revision[0].git_revision.as_deref()), ("apply", Some("abc")));
}

#[tokio::test]
async fn u9_all_problems_at_once_and_nothing_applied() {
    let desk = desk().await;
    let mut broken = server("b");
    broken["hostnam"] = json!("x");
    let wanted = set(&[
        (Kind::Server, server("a")),
        (Kind::Server, broken),
        (Kind::Portal, json!({"id": "p", "servers": ["nobody"]})),
        (Kind::Policy, json!({"id": "y", "cedar": "permit("})),
    ]);
    let Err(AdminError::Invalid(problems)) = apply(&desk.engine, wanted, &about(), None).await else {
        panic!("it was applied")
    };
    let objects: Vec<_> = problems.iter().filter_map(|one| one.object.as_deref()).collect();
    for object in ["server/b", "portal/p", "policy/y"] {
        assert!(objects.contains(&object), "{object} is missing in {problems:?}");
    }
    assert_eq!(desk.own("GET", "/servers", &[], None).await.body["items"], json!([]));
    assert_eq!(desk.event_count(), 0);
    let twice = set(&[(Kind::Server, server("a")), (Kind::Server, server("a"))]);
    assert!(matches!(apply(&desk.engine, twice, &about(), None).await, Err(AdminError::Invalid(_))));
}

#[tokio::test]
async fn u9_of_concurrent_applies_one_wins_and_the_others_are_told() {
    let desk = desk().await;
    let runs = (0..6).map(|n| {
        let engine = desk.engine.clone();
        tokio::spawn(async move {
            let wanted = set(&[(Kind::Server, server(&format!("s{n}")))]);
            apply(&engine, wanted, &about(), Some(0)).await.map(|outcome| outcome.revision)
        })
    });
    let mut won = 0;
    for run in runs.collect::<Vec<_>>() {
        match run.await.unwrap() {
            Ok(1) => won += 1,
            Err(AdminError::Outdated) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
    let servers = desk.own("GET", "/servers", &[], None).await;
    assert_eq!(servers.body["items"].as_array().unwrap().len(), 1, "all of one, nothing of the others");
}

#[tokio::test]
async fn u9_the_plan_says_what_drifted_and_who_gains_and_loses() {
    let desk = desk().await;
    let allow = |selector: Value| json!([{"action": "allow", "include": [selector]}]);
    let wiki =
        |selector: Value| json!({"server_id": "wiki", "hostname": "https://w.example", "policies": allow(selector)});
    let grant = json!({"id": "g", "principals": ["group:writers"], "server": "wiki", "classes": ["write"]});
    let first = set(&[(Kind::Server, wiki(json!({"groups": ["staff", "writers"]}))), (Kind::Grant, grant)]);
    apply(&desk.engine, first, &about(), None).await.unwrap();
    // Somebody changes it beside the files.
    let seen = desk.own("GET", "/servers/wiki", &[], None).await;
    let patched = desk.own("PATCH", "/servers/wiki", &[("if-match", seen.etag())], Some(&json!({"name": "X"}))).await;
    assert_eq!(patched.status, StatusCode::OK);
    // The files take the grant away and let finance in instead of staff.
    let next = set(&[(Kind::Server, wiki(json!({"groups": ["finance", "writers"]})))]);
    let planned = plan(&desk.engine, next, &about()).await.unwrap();
    let actions: Vec<_> = planned.changes.iter().map(|one| (one.kind.as_str(), one.action)).collect();
    assert_eq!(actions, [("server", "update"), ("grant", "remove")]);
    let drift: Vec<_> = planned.drift.iter().map(|one| (one.object.as_str(), one.by.as_str())).collect();
    assert_eq!(drift, [("server/wiki", "user:owner")]);
    let lines: Vec<_> =
        planned.permissions.iter().map(|one| format!("{} {} {}", one.who, one.change, one.what)).collect();
    assert_eq!(
        lines,
        [
            "group:finance gains server wiki: read tools",
            "group:staff loses server wiki: read tools",
            "group:writers loses server wiki: write tools",
        ]
    );
}
