//! Who must not come in, and what must not get through.

use super::*;

#[tokio::test]
async fn a14_nobody_comes_in_without_the_token() {
    let bench = Bench::new().await;
    let id = bench.user("ana").await;
    let good = format!("Bearer {TOKEN}");
    let short = format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]);
    let long = format!("{good}x");
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    let cases: [&[(&str, &str)]; 9] = [
        &[],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", TOKEN)],
        &[("authorization", &short)],
        &[("authorization", &long)],
        &[("authorization", "Basic ZGlyZWN0b3J5OnRva2Vu")],
        &[("authorization", "Bearer bzt_somebodys-access-token")],
        &twice,
    ];
    for headers in cases {
        for path in ["/Users", &format!("/Users/{id}"), "/ServiceProviderConfig", "/nowhere"] {
            // In the query a token is in every log; it is not even read there.
            let path = format!("{path}?access_token={TOKEN}");
            let answer = bench.send("GET", &path, headers, "").await;
            assert!(matches!(answer.status.as_u16(), 401 | 429), "{headers:?} {path}: {answer:?}");
        }
    }
    // Who failed too often is not listened to; who has the token is, from the same place.
    assert_eq!(bench.send("GET", "/Users", &[], "").await.status, 429);
    assert_eq!(bench.get("/Users").await.status, 200);
    let former = [("authorization", "bearer the-former-token-of-the-directory!")];
    assert_eq!(bench.send("GET", "/Users", &former, "").await.status, 200);
}

#[tokio::test]
async fn a14_bodies_are_bounded_and_typed() {
    let bench = Bench::new().await;
    let bearer = format!("Bearer {TOKEN}");
    let post = |kind: &'static str, body: String| {
        let (bench, bearer) = (&bench, bearer.clone());
        async move {
            bench
                .send("POST", "/Users", &[("authorization", &bearer), ("content-type", kind)], body)
                .await
                .status
                .as_u16()
        }
    };
    let user = json!({"schemas": [USER], "userName": "ana"}).to_string();
    assert_eq!(post("text/plain", user.clone()).await, 415);
    assert_eq!(post("application/x-www-form-urlencoded", user.clone()).await, 415);
    assert_eq!(post("application/json; charset=utf-8", user).await, 201);
    let huge = json!({"schemas": [USER], "userName": "bo", "title": "x".repeat(70_000)}).to_string();
    assert_eq!(post("application/json", huge).await, 413);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    for bad in ["", "null", "[]", "{", "{\"userName\":\"a\"", deep.as_str()] {
        assert_eq!(post("application/scim+json", bad.to_owned()).await, 400, "{bad:.20}");
    }
    for body in [
        json!({"schemas": [USER]}),
        json!({"schemas": [GROUP], "userName": "x"}),
        json!({"schemas": "x", "userName": "x"}),
        json!({"schemas": [USER], "userName": 5}),
        json!({"schemas": [USER], "userName": ["a", "b"]}),
        json!({"schemas": [USER], "userName": "a", "USERNAME": "b"}),
        json!({"schemas": [USER], "userName": "a\u{7}"}),
        json!({"schemas": [USER], "userName": "x".repeat(300)}),
        json!({"schemas": [USER], "userName": "x", "emails": (0..101).map(|n| json!({"value": n.to_string()})).collect::<Vec<_>>()}),
        json!({"schemas": [USER], "userName": "x", "emails": [{"value": "a", "primary": true}, {"value": "b", "primary": true}]}),
    ] {
        assert_eq!(bench.ask("POST", "/Users", body.clone()).await.status, 400, "{body:.200}");
    }
}

#[tokio::test]
async fn a14_nothing_of_ours_can_be_assigned() {
    let bench = Bench::new().await;
    let body = json!({
        "schemas": [USER], "userName": "ana", "person": "p1", "version": 9, "name_id": "root", "id": "mine",
        "created_ms": 1, "deactivated_by": null, "meta": {"created": "1999-01-01T00:00:00Z"},
    });
    let made = bench.ask("POST", "/Users", body).await.body;
    let row = bartizan_store::repo::scim::user::get(&bench.store, made["id"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(
        (row.person, row.version, row.name_id.as_deref(), row.created_ms),
        (None, 1, Some("ana"), 1_700_000_000_000)
    );
    assert_eq!(row.content, r#"{"userName":"ana"}"#);
}

#[tokio::test]
async fn a31_no_directory_makes_the_group_of_the_local_account() {
    let bench = Bench::new().await;
    let group = |name: &str| json!({"schemas": [GROUP], "displayName": name});
    assert_eq!(problem(&bench.ask("POST", "/Groups", group("break-glass")).await), (400, "invalidValue"));
    let made = bench.ask("POST", "/Groups", group("eng")).await;
    let path = format!("/Groups/{}", made.body["id"].as_str().unwrap());
    assert_eq!(problem(&bench.ask("PUT", &path, group("break-glass")).await), (400, "invalidValue"));
    let rename = json!([{"op": "replace", "path": "displayName", "value": "break-glass"}]);
    let rename = json!({"schemas": [PATCH], "Operations": rename});
    assert_eq!(problem(&bench.ask("PATCH", &path, rename).await), (400, "invalidValue"));
    assert_eq!(bench.get(&path).await.body["displayName"], "eng");
}

#[tokio::test]
async fn a14_what_only_looks_like_a_name_is_nobody() {
    let bench = Bench::new().await;
    bench.user("kim@corp.example").await;
    // The Kelvin sign folds to `k`: taken, and in any case nobody's address.
    let kelvin = json!({"schemas": [USER], "userName": "\u{212a}im@corp.example"});
    assert_eq!(problem(&bench.ask("POST", "/Users", kelvin).await), (409, "uniqueness"));
    for odd in ["ＫＩＭ@corp.example", "k\u{131}m@corp.example", "kim@corp.example\u{200b}"] {
        let made = bench.ask("POST", "/Users", json!({"schemas": [USER], "userName": odd})).await;
        let id = made.body["id"].as_str().unwrap().to_owned();
        let row = bartizan_store::repo::scim::user::get(&bench.store, &id).await.unwrap().unwrap();
        assert_eq!(row.name_id, None, "{odd}");
    }
}

proptest::proptest! {
    #[test]
    fn a14_no_filter_path_or_change_panics(filter in "[a-z\\[\\]()\" .:\\\\]{0,60}|(emails|title|name)(\\.|\\[| eq | pr|\"|value|type|\\]|and | or |not |\\(|\\)){0,12}", text in "\\PC{0,40}") {
        crate::fuzz(&filter, r#"{"userName": "a", "emails": [{"value": "x", "type": "work"}], "name": {"givenName": "y"}}"#);
        crate::fuzz(&text, &text);
    }
}
