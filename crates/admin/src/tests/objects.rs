use bartizan_config::objects::{self, Kind};
use bartizan_config::resources::Resources;
use http::StatusCode;
use serde_json::{Value, json};

use super::roles::{furnished, sample};
use super::{desk, desk_over, server};
use crate::change::{Edit, What};
use crate::overlay::{Base, overlay};
use bartizan_catalog::CompileOptions;
use bartizan_config::settings::File;

#[tokio::test]
async fn p3_an_unknown_field_is_a_400_that_names_it() {
    let desk = desk().await;
    let mut body = server("a");
    body["hostnam"] = json!("x");
    body["auth_config"] = json!({"scops": []});
    let refused = desk.own("POST", "/servers", &[], Some(&body)).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "invalid"));
    let problems = refused.body["error"]["problems"].as_array().unwrap();
    let named: Vec<_> =
        problems.iter().map(|one| (one["pointer"].as_str().unwrap(), one["code"].as_str().unwrap())).collect();
    assert_eq!(named.len(), 2, "all at once: {named:?}");
    assert!(named.contains(&("/hostnam", "unknown_key")) && named.contains(&("/auth_config/scops", "unknown_key")));
    assert!(refused.body.to_string().contains("did you mean `hostname`?"));
}

#[tokio::test]
async fn p54_the_would_be_whole_is_checked() {
    let desk = desk().await;
    let portal = json!({"id": "hr", "servers": ["wiki", "mail"], "policies": [{"action": "allow", "include": [{"everyone": true}]}]});
    let refused = desk.own("POST", "/portals", &[], Some(&portal)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let pointers: Vec<_> =
        refused.body["error"]["problems"].as_array().unwrap().iter().map(|one| one["pointer"].clone()).collect();
    assert_eq!(pointers, [json!("/servers/0"), json!("/servers/1")], "{}", refused.body);
    for id in ["wiki", "mail"] {
        assert_eq!(desk.own("POST", "/servers", &[], Some(&server(id))).await.status, StatusCode::CREATED);
    }
    let made = desk.own("POST", "/portals", &[], Some(&portal)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    // What others name does not go.
    let wiki = desk.own("GET", "/servers/wiki", &[], None).await;
    let refused = desk.own("DELETE", "/servers/wiki", &[("if-match", wiki.etag())], None).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "in_use"));
    assert_eq!(refused.body["error"]["problems"][0]["object"], "portal/hr");
    // PUT with `servers` replaces the whole mapping.
    let fewer = json!({"id": "hr", "servers": ["mail"]});
    let changed = desk.own("PUT", "/portals/hr", &[("if-match", made.etag())], Some(&fewer)).await;
    assert_eq!((changed.status, &changed.body["servers"]), (StatusCode::OK, &json!(["mail"])));
    assert_eq!(
        desk.own("DELETE", "/servers/wiki", &[("if-match", wiki.etag())], None).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn p54_a_local_command_and_objects_of_files_are_not_the_apis() {
    let mut files = Resources::default();
    let mut filed = server("filed");
    filed["auth_type"] = json!("bearer");
    filed["auth_credentials"] = json!("hunter2");
    objects::push(&mut files, Kind::Server, filed).unwrap();
    let desk = desk_over(files).await;
    let command = json!({"server_id": "x", "command": {"argv": ["/bin/sh"]}});
    let refused = desk.own("POST", "/servers", &[], Some(&command)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.body.to_string().contains("operator_only"), "{}", refused.body);
    let shown = desk.own("GET", "/servers/filed", &[], None).await;
    assert_eq!((shown.status, &shown.body["managed_by"]), (StatusCode::OK, &json!("file")));
    assert!(!shown.body.to_string().contains("hunter2"));
    assert_eq!(shown.body["auth_config_summary"]["has_auth_credentials"], true);
    for (method, headers) in [("POST", vec![]), ("PUT", vec![("if-none-match", "*")])] {
        let path = if method == "POST" { "/servers" } else { "/servers/filed" };
        let refused = desk.own(method, path, &headers, Some(&server("filed"))).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "managed_by_file"), "{method}");
    }
    assert_eq!(desk.own("GET", "/servers", &[], None).await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn p5_no_answer_returns_a_secret_of_any_kind() {
    let desk = furnished().await;
    let secret = "hunter2hunter2hunter2hunter2hunter2";
    let mut with = server("wiki");
    with["auth_type"] = json!("bearer");
    with["auth_credentials"] = json!(secret);
    let webhook = format!("whsec_{}", "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==");
    let mut all = vec![
        (Kind::Server, "wiki", with),
        (
            Kind::AlertDestination,
            "hook",
            json!({"id": "hook", "webhook": {"url": "https://h.example", "secret": webhook}}),
        ),
    ];
    for kind in [Kind::IdentityProvider, Kind::Agent] {
        let (id, object) = sample(kind);
        all.push((kind, id, object));
    }
    let mut client = sample(Kind::Client).1;
    client["client_secret"] = json!(secret);
    all.push((Kind::Client, "c", client));
    let mut seen = String::new();
    for (kind, id, object) in &all {
        let path = format!("/{}", kind.plural());
        let made = desk.own("POST", &path, &[("idempotency-key", *id)], Some(object)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        seen += &made.body.to_string();
        // What was shown, sent back, keeps the secret and changes nothing.
        let one = format!("{path}/{id}");
        let again = desk.own("PUT", &one, &[("if-match", made.etag())], Some(&made.body)).await;
        assert_eq!((again.status, again.etag()), (StatusCode::OK, made.etag()), "{}", again.body);
        for path in [path.clone(), one.clone(), format!("{one}/history")] {
            seen += &desk.own("GET", &path, &[], None).await.body.to_string();
        }
    }
    for path in ["/export", "/revisions", "/refused"] {
        seen += &desk.own("GET", path, &[], None).await.body.to_string();
    }
    assert!(!seen.contains("hunter2") && !seen.contains("aHVudGVy"), "a secret came back");
    for statement in [seen, format!("{:?}", bartizan_store::repo::resource::live(&desk.store).await.unwrap())] {
        assert!(!statement.contains("hunter2"), "a secret is readable in the store");
    }
    // It is there all the same.
    let state = desk.engine.reader.state().await.unwrap();
    assert_eq!(state.get(Kind::Server, "wiki").unwrap().filled()["auth_credentials"], secret);
}

#[tokio::test]
async fn l10_an_earlier_version_comes_back_with_its_secret() {
    let desk = desk().await;
    let mut first = server("a");
    first["auth_type"] = json!("bearer");
    first["auth_credentials"] = json!("one");
    let made = desk.own("POST", "/servers", &[], Some(&first)).await;
    let patch = json!({"name": "B", "auth_credentials": "two"});
    let second = desk.own("PATCH", "/servers/a", &[("if-match", made.etag())], Some(&patch)).await;
    let history = desk.own("GET", "/servers/a/history", &[], None).await;
    let revisions: Vec<_> =
        history.body["items"].as_array().unwrap().iter().map(|one| one["revision"].clone()).collect();
    assert_eq!(revisions, [json!(2), json!(1)]);
    assert_eq!(history.body["items"][1]["made"]["by"], "user:owner");
    let back =
        desk.own("POST", "/servers/a/restore", &[("if-match", second.etag())], Some(&json!({"revision": 1}))).await;
    assert_eq!((back.status, &back.body["name"]), (StatusCode::OK, &json!("")), "{}", back.body);
    let state = desk.engine.reader.state().await.unwrap();
    assert_eq!(state.get(Kind::Server, "a").unwrap().filled()["auth_credentials"], "one");
    // Also what is gone.
    assert_eq!(
        desk.own("DELETE", "/servers/a", &[("if-match", back.etag())], None).await.status,
        StatusCode::NO_CONTENT
    );
    let new = [("if-none-match", "*")];
    let back = desk.own("POST", "/servers/a/restore", &new, Some(&json!({"revision": 2}))).await;
    assert_eq!((back.status, &back.body["name"]), (StatusCode::CREATED, &json!("B")), "{}", back.body);
    let missing =
        desk.own("POST", "/servers/a/restore", &[("if-match", back.etag())], Some(&json!({"revision": 99}))).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn p54_a_stored_object_that_no_longer_fits_lets_nobody_do_more() {
    // The store has a portal and a policy over a server of the files; then the files lose the server
    // and take the id of a stored one.
    let mut files = Resources::default();
    objects::push(&mut files, Kind::Server, server("filed")).unwrap();
    let desk = desk_over(files.clone()).await;
    let allow = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    for (path, object) in [
        ("/servers", server("own")),
        ("/servers", server("later")),
        ("/portals", json!({"id": "hr", "servers": ["filed"], "policies": allow})),
        ("/grants", json!({"id": "g", "principals": ["everyone"], "server": "filed", "classes": ["write"]})),
    ] {
        let made = desk.own("POST", path, &[], Some(&object)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    }
    let stored = desk.engine.reader.state().await.unwrap().list();
    let mut other = Resources::default();
    objects::push(&mut other, Kind::Server, server("later")).unwrap();
    let base = Base::new(File::default(), other, CompileOptions { dev: true, hosting: true });
    let now = super::NOW;
    let overlaid = overlay(&base, &stored, now).unwrap_or_else(|found| panic!("{found:?}"));
    let refused: Vec<_> = overlaid.refused.iter().map(|one| (one.kind.as_str(), one.id.as_str())).collect();
    assert_eq!(refused, [("server", "later"), ("portal", "hr"), ("grant", "g")]);
    let servers: Vec<_> = overlaid.resources.servers.iter().map(|one| one.server_id.as_str().to_owned()).collect();
    assert_eq!(servers, ["later", "own"], "the rest is in use");
    // The portal stays as one for nobody: without any portal there would be one for everybody.
    let portal = &overlaid.resources.portals;
    assert!(portal.len() == 1 && portal[0].policies.is_empty() && portal[0].servers.as_deref() == Some(&[]));
    // A policy that does not compile may have been there to forbid: nothing is allowed instead.
    let bad = Value::from("forbid(principal, action, resource == Tool::\"x\") when { nonsense };");
    let mut broken = stored.clone();
    broken.retain(|one| one.kind == Kind::Server);
    let mut policy = broken[0].clone();
    (policy.kind, policy.id) = (Kind::Policy, "p".to_owned());
    policy.body = json!({"id": "p", "cedar": bad});
    broken.push(policy);
    let overlaid = overlay(&base, &broken, now).unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!(overlaid.resources.policies[0].cedar, "forbid(principal, action, resource);");
    assert!(overlaid.refused.iter().any(|one| one.kind == Kind::Policy));
}

#[tokio::test]
async fn p5_a_private_key_is_in_no_answer_and_no_record() {
    let desk = furnished().await;
    let mut wiki = server("wiki");
    wiki["auth_config"] = json!({"client_id": "c", "private_key": "hunter2"});
    let state = desk.engine.reader.state().await.unwrap();
    let edit = Edit { kind: Kind::Server, id: "wiki".into(), expect: None, what: What::Put(wiki) };
    // Only its place matters here: whether it is a key is another check's.
    let mut wrong = Vec::new();
    let (body, secrets) = desk.engine.wanted(&edit, None, &super::about(), &mut wrong).await.unwrap().unwrap();
    assert_eq!((wrong.len(), body["auth_config"]["private_key"].as_str()), (0, Some("")));
    assert!(!secrets.is_empty() && state.revision == 1);
    let mut files = Resources::default();
    let mut filed = server("filed");
    filed["auth_config"] = json!({"client_id": "c", "private_key": "hunter2"});
    objects::push(&mut files, Kind::Server, filed).unwrap();
    let shown = desk_over(files).await.own("GET", "/servers/filed", &[], None).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(!shown.body.to_string().contains("hunter2"), "{}", shown.body);
}

#[tokio::test]
async fn p5_references_are_no_secrets_over_the_api() {
    let desk = desk().await;
    let mut wiki = server("wiki");
    wiki["auth_type"] = json!("bearer");
    for (text, status) in [
        ("${env:HOME}", StatusCode::BAD_REQUEST),
        ("a${file:/etc/passwd}", StatusCode::BAD_REQUEST),
        ("a$b{c}", StatusCode::CREATED),
    ] {
        wiki["auth_credentials"] = json!(text);
        let answer = desk.own("POST", "/servers", &[], Some(&wiki)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == StatusCode::BAD_REQUEST {
            assert_eq!(answer.body["error"]["problems"][0]["pointer"], "/auth_credentials");
        }
    }
}

#[tokio::test]
async fn p44_only_an_owner_says_that_a_server_needs_no_review() {
    let desk = desk().await;
    let governance = [("x-user", "governance")];
    for (member, value) in [("trust", "first_sync"), ("on_new", "allow")] {
        let mut wiki = server("wiki");
        wiki[member] = json!(value);
        let refused = desk.send("POST", "/servers", &governance, Some(&wiki)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{member}");
        assert!(refused.body.to_string().contains("operator_only"), "{}", refused.body);
    }
    let made = desk.send("POST", "/servers", &governance, Some(&server("wiki"))).await;
    assert_eq!((made.status, &made.body["trust"]), (StatusCode::CREATED, &json!("review")));
    let tag = made.etag().to_owned();
    let with = [("x-user", "governance"), ("if-match", tag.as_str())];
    for patch in [json!({"trust": "first_sync"}), json!({"trust": null}), json!({"on_new": "allow"})] {
        let refused = desk.send("PATCH", "/servers/wiki", &with, Some(&patch)).await;
        assert!(refused.body.to_string().contains("operator_only"), "{patch}: {}", refused.body);
    }
    let owner = desk.own("PATCH", "/servers/wiki", &[("if-match", &tag)], Some(&json!({"trust": "first_sync"}))).await;
    assert_eq!(owner.status, StatusCode::OK, "{}", owner.body);
    // What an owner said may stay, and does not come back by a former version.
    let with = [("x-user", "governance"), ("if-match", owner.etag())];
    let renamed = desk.send("PATCH", "/servers/wiki", &with, Some(&json!({"name": "W"}))).await;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.body);
    let with = [("x-user", "governance"), ("if-match", renamed.etag())];
    let tight = desk.send("PATCH", "/servers/wiki", &with, Some(&json!({"trust": "review"}))).await;
    assert_eq!(tight.status, StatusCode::OK, "{}", tight.body);
    let with = [("x-user", "governance"), ("if-match", tight.etag())];
    let back = desk.send("POST", "/servers/wiki/restore", &with, Some(&json!({"revision": 2}))).await;
    assert_eq!(back.status, StatusCode::BAD_REQUEST, "{}", back.body);
}

#[tokio::test]
async fn a23_a_token_without_the_scope_administers_nothing() {
    let desk = desk().await;
    for path in ["/me", "/servers", "/openapi.json", "/nothing"] {
        let refused = desk.own("GET", path, &[("x-scope", "mcp:read mcp:write server:a")], None).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "insufficient_scope"), "{path}");
        let challenge = refused.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\", scope=\"mcp:admin\""), "{challenge}");
    }
    let refused = desk.own("POST", "/servers", &[("x-scope", "mcp:read")], Some(&server("a"))).await;
    assert_eq!((refused.status, desk.event_count()), (StatusCode::FORBIDDEN, 0));
    assert_eq!(desk.own("GET", "/servers", &[("x-scope", "mcp:read mcp:admin")], None).await.status, StatusCode::OK);
    assert_eq!(desk.own("GET", "/servers", &[], None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a5_a_policy_that_forbids_outlives_the_server_it_names() {
    let of_store = |text: &str| {
        let cedar = json!({"id": "y", "cedar": text});
        async move {
            let desk = furnished().await;
            let made = desk.own("POST", "/policies", &[], Some(&cedar)).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            let mut left = desk.engine.reader.state().await.unwrap().list();
            left.retain(|object| object.kind == Kind::Policy);
            let base = Base::new(File::default(), Resources::default(), CompileOptions { dev: true, hosting: true });
            let overlaid = overlay(&base, &left, super::NOW).unwrap();
            assert_eq!(overlaid.refused.len(), 1);
            overlaid.resources.policies.iter().map(|policy| policy.cedar.clone()).collect::<Vec<_>>()
        }
    };
    let all = ["forbid(principal, action, resource);".to_owned()];
    let permit = r#"permit(principal, action, resource in Server::"base");"#;
    let forbid = r#"forbid(principal, action, resource) unless { resource in Server::"base" };"#;
    assert_eq!(of_store(forbid).await, all);
    assert_eq!(of_store(&format!("{permit}\n{forbid}")).await, all);
    assert!(of_store(permit).await.is_empty(), "what only permits may go");
}
