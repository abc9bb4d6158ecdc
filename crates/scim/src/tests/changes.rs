//! Creating and changing, as real directories do it.

use super::*;

#[tokio::test]
async fn a14_a_user_is_made_changed_and_removed() {
    let bench = Bench::new().await;
    let body = json!({
        "schemas": [USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "USERNAME": "Ana@Corp.Example", "externalId": "e-1", "active": "True", "password": "hunter2", "unknown": 1,
        "emails": [{"value": "ana@corp.example", "type": "work", "primary": true}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Research", "rank": 3},
        "groups": [{"value": "admins"}], "id": "chosen", "meta": {"version": "W/\"9\""},
    });
    let made = bench.ask("POST", "/Users", body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    assert_eq!(made.headers["etag"], "W/\"1\"");
    assert_eq!(made.headers["location"], format!("https://mcp.corp.example/scim/v2/Users/{id}").as_str());
    assert_eq!(made.headers["content-type"], "application/scim+json");
    assert_eq!(made.body["userName"], "Ana@Corp.Example");
    assert_eq!(made.body["active"], true);
    for absent in ["password", "unknown", "groups"] {
        assert!(made.body.get(absent).is_none(), "{absent}");
    }
    assert_ne!(id, "chosen");
    assert!(made.body["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"].get("rank").is_none());
    assert_eq!(bench.get(&format!("/Users/{id}")).await.body, made.body);
    // The name is taken, in whatever case.
    let twice = bench.ask("POST", "/Users", json!({"schemas": [USER], "userName": "ANA@corp.example"})).await;
    assert_eq!(problem(&twice), (409, "uniqueness"));
    let replaced = json!({"schemas": [USER], "userName": "ana@corp.example", "title": "Dr"});
    let replaced = bench.ask("PUT", &format!("/Users/{id}"), replaced).await;
    assert_eq!(replaced.status, 200);
    assert_eq!(replaced.headers["etag"], "W/\"2\"");
    assert!(replaced.body.get("emails").is_none() && replaced.body["title"] == "Dr", "{replaced:?}");
    let gone = bench.ask("DELETE", &format!("/Users/{id}"), Value::Null).await;
    assert_eq!((gone.status.as_u16(), &gone.body), (204, &Value::Null));
    assert_eq!(bench.get(&format!("/Users/{id}")).await.status, 404);
    assert_eq!(bench.ask("DELETE", &format!("/Users/{id}"), Value::Null).await.status, 404);
    let events: Vec<&str> = bench.events.lock().unwrap().iter().map(|event| event.action.as_str()).collect();
    assert_eq!(events, ["provision", "provision", "delete"]);
}

#[tokio::test]
async fn a14_patches_of_okta_and_entra() {
    let bench = Bench::new().await;
    let id = bench.user("ana@corp.example").await;
    // Okta deactivates without a path.
    let done = bench.patch(&id, json!([{"op": "replace", "value": {"active": false}}])).await;
    assert_eq!((done.status.as_u16(), &done.body["active"]), (200, &json!(false)));
    // Entra: capitals, truth as text, values chosen by a filter that fits nothing yet.
    let done = bench
        .patch(
            &id,
            json!([
                {"op": "Replace", "path": "active", "value": "True"},
                {"op": "Add", "path": "emails[type eq \"work\"].value", "value": "ana@corp.example"},
                {"op": "Add", "path": "name.givenName", "value": "Ana"},
                {"op": "Add", "value": {"name.familyName": "Lovelace", "phoneNumbers[type eq \"mobile\"].value": "1"}},
                {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "value": "R"},
                {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "m1"},
                {"op": "Replace", "path": "password", "value": "hunter2"},
            ]),
        )
        .await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body["active"], true);
    assert_eq!(done.body["emails"], json!([{"type": "work", "value": "ana@corp.example"}]));
    assert_eq!(done.body["phoneNumbers"], json!([{"type": "mobile", "value": "1"}]));
    assert_eq!(done.body["name"], json!({"givenName": "Ana", "familyName": "Lovelace"}));
    let more = &done.body["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"];
    assert_eq!(*more, json!({"department": "R", "manager": {"value": "m1"}}));
    assert!(done.body.get("password").is_none());
    let done = bench
        .patch(
            &id,
            json!([
                {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "new@corp.example"},
                {"op": "add", "path": "emails", "value": [{"value": "home@x.example", "type": "home", "primary": true}]},
                {"op": "remove", "path": "name.givenName"},
                {"op": "remove", "path": "phoneNumbers[type eq \"mobile\"]"},
                {"op": "remove", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"},
            ]),
        )
        .await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body["emails"][0]["value"], "new@corp.example");
    assert_eq!(done.body["emails"][1]["value"], "home@x.example");
    assert_eq!(done.body["name"], json!({"familyName": "Lovelace"}));
    assert!(done.body.get("phoneNumbers").is_none());
    assert_eq!(done.body["schemas"], json!([USER]));
    // Removing what says that somebody is inactive does not make them active.
    bench.patch(&id, json!([{"op": "replace", "path": "active", "value": false}])).await;
    bench.patch(&id, json!([{"op": "remove", "path": "active"}])).await;
    let row = bartizan_store::repo::scim::user::get(&bench.store, &id).await.unwrap().unwrap();
    assert!(!row.active);
}

#[tokio::test]
async fn a14_bad_changes_change_nothing() {
    let bench = Bench::new().await;
    let id = bench.user("ana").await;
    let cases = [
        (json!([{"op": "replace", "path": "nonsense", "value": 1}]), "invalidPath"),
        (json!([{"op": "replace", "path": "emails[type eq", "value": 1}]), "invalidPath"),
        (json!([{"op": "replace", "path": "emails[type zz \"a\"]", "value": {}}]), "invalidFilter"),
        (json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "x"}]), "noTarget"),
        (json!([{"op": "remove"}]), "noTarget"),
        (json!([{"op": "remove", "path": "userName"}]), "invalidValue"),
        (json!([{"op": "replace", "path": "userName", "value": null}]), "invalidValue"),
        (json!([{"op": "replace", "path": "userName", "value": " "}]), "invalidValue"),
        (json!([{"op": "replace", "path": "id", "value": "x"}]), "mutability"),
        (json!([{"op": "replace", "path": "groups", "value": [{"value": "x"}]}]), "mutability"),
        (json!([{"op": "replace", "path": "meta.version", "value": "x"}]), "mutability"),
        (json!([{"op": "replace", "path": "active", "value": "perhaps"}]), "invalidValue"),
        (json!([{"op": "replace", "path": "title", "value": "a\u{0}b"}]), "invalidValue"),
        (json!([{"op": "become", "path": "title", "value": "x"}]), "invalidSyntax"),
        (json!([]), "invalidSyntax"),
        (json!("all"), "invalidSyntax"),
        (json!([{"op": "add", "path": "title", "value": "Dr"}, {"op": "remove"}]), "noTarget"),
        (json!([{"op": "add", "value": {"Title": "a", "emails": [{"value": "a", "VALUE": "b"}]}}]), "invalidSyntax"),
    ];
    for (operations, kind) in cases {
        let answer = bench.patch(&id, operations.clone()).await;
        assert_eq!(problem(&answer), (400, kind), "{operations}");
    }
    let many: Vec<Value> = (0..1_001).map(|_| json!({"op": "remove", "path": "title"})).collect();
    assert_eq!(problem(&bench.patch(&id, many.into()).await), (400, "invalidSyntax"));
    let now = bench.get(&format!("/Users/{id}")).await;
    assert_eq!((now.headers["etag"].to_str().unwrap(), now.body.get("title")), ("W/\"1\"", None));
}

#[tokio::test]
async fn a14_groups_have_users_as_members() {
    let bench = Bench::new().await;
    let (ana, bo) = (bench.user("ana").await, bench.user("bo").await);
    let body = json!({"schemas": [GROUP], "displayName": "eng", "members": [{"value": ana, "type": "User"}]});
    let made = bench.ask("POST", "/Groups", body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let at = format!("https://mcp.corp.example/scim/v2/Users/{ana}");
    assert_eq!(made.body["members"], json!([{"value": ana, "$ref": at, "type": "User"}]));
    assert_eq!(problem(&bench.ask("POST", "/Groups", body).await), (409, "uniqueness"));
    let user = bench.get(&format!("/Users/{ana}")).await;
    assert_eq!(user.body["groups"][0]["display"], "eng");
    assert_eq!(user.headers["etag"], "W/\"2\"", "the tag is of everything that is shown");
    let change = |operations: Value| {
        let (bench, path) = (&bench, format!("/Groups/{id}"));
        async move { bench.ask("PATCH", &path, json!({"schemas": [PATCH], "Operations": operations})).await }
    };
    let both = change(json!([{"op": "add", "path": "members", "value": [{"value": bo}, {"value": ana}]}])).await;
    assert_eq!(both.body["members"].as_array().unwrap().len(), 2);
    // Entra removes by value beside the path, Okta by a filter in it.
    let path = format!("members[value eq \"{ana}\"]");
    for operation in
        [json!({"op": "Remove", "path": "members", "value": [{"value": bo}]}), json!({"op": "remove", "path": path})]
    {
        assert_eq!(change(json!([operation])).await.status, 200);
    }
    assert!(bench.get(&format!("/Groups/{id}")).await.body.get("members").is_none());
    for member in
        [json!({"value": "nobody"}), json!({"value": id, "type": "Group"}), json!({"display": "x"}), json!({})]
    {
        let answer = change(json!([{"op": "add", "path": "members", "value": [member]}])).await;
        // An empty member is no member.
        let expected = if member == json!({}) || member == json!({"display": "x"}) { 200 } else { 400 };
        assert_eq!(answer.status, expected, "{member}: {answer:?}");
    }
    change(json!([{"op": "add", "path": "members", "value": [{"value": ana}]}])).await;
    assert_eq!(bench.ask("DELETE", &format!("/Users/{ana}"), Value::Null).await.status, 204);
    assert!(bench.get(&format!("/Groups/{id}")).await.body.get("members").is_none());
    assert_eq!(bench.ask("DELETE", &format!("/Groups/{id}"), Value::Null).await.status, 204);
}

#[tokio::test]
async fn a14_tags_guard_changes() {
    let bench = Bench::new().await;
    let path = format!("/Users/{}", bench.user("ana").await);
    let title = |title: &str| json!({"schemas": [USER], "userName": "ana", "title": title});
    for bad in ["W/\"7\"", "\"7\"", "nonsense", ""] {
        let answer = bench.ask_if("PUT", &path, &[("if-match", bad)], title("Dr")).await;
        assert_eq!(answer.status, 412, "{bad}");
        assert_eq!(bench.ask_if("DELETE", &path, &[("if-match", bad)], Value::Null).await.status, 412);
    }
    assert_eq!(bench.ask_if("PUT", &path, &[("if-match", "W/\"1\"")], title("Dr")).await.status, 200);
    // Sabotage: without the condition the second writer undoes the first one's change unseen.
    assert_eq!(bench.ask_if("PUT", &path, &[("if-match", "W/\"1\"")], title("Prof")).await.status, 412);
    assert_eq!(bench.ask("PUT", &path, title("Prof")).await.body["title"], "Prof");
    let same = bench.ask_if("GET", &path, &[("if-none-match", "W/\"3\"")], Value::Null).await;
    assert_eq!((same.status.as_u16(), same.body), (304, Value::Null));
    assert_eq!(bench.ask_if("GET", &path, &[("if-none-match", "W/\"2\"")], Value::Null).await.status, 200);
}

#[tokio::test]
async fn a14_of_changes_at_once_none_is_lost() {
    let bench = Arc::new(Bench::new().await);
    let id = bench.user("ana").await;
    let tries = ["title", "nickName", "locale"].map(|name| {
        let (bench, id) = (Arc::clone(&bench), id.clone());
        tokio::spawn(async move { bench.patch(&id, json!([{"op": "add", "path": name, "value": name}])).await.status })
    });
    for one in tries {
        assert_eq!(one.await.unwrap(), 200);
    }
    let now = bench.get(&format!("/Users/{id}")).await.body;
    assert_eq!(
        (&now["title"], &now["nickName"], &now["locale"]),
        (&json!("title"), &json!("nickName"), &json!("locale"))
    );
}
