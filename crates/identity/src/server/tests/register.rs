//! A7: dynamic client registration.

use bartizan_store::repo::oauth_client;

use super::*;

#[tokio::test]
async fn a7_registrations_are_public_and_deprecated() {
    let bench = bench().await;
    let body = r#"{"client_name":"X","redirect_uris":["http://localhost:1/cb"],"token_endpoint_auth_method":"client_secret_basic"}"#;
    let answer = Answer::of(bench.server.register(PEER, body.into()).await);
    assert_eq!((answer.status, answer.text("token_endpoint_auth_method").as_str()), (201, "none"));
    assert!(answer.json.get("client_secret").is_none());
    assert_eq!(answer.headers["deprecation"], "@1785196800", "RFC 9745");
    assert_eq!(bench.saw(Action::Register, true), 1);
}

#[tokio::test]
async fn a7_refusals_name_the_uri_and_the_rule() {
    let bench = bench().await;
    for (body, code, words) in [
        (
            r#"{"redirect_uris":["https://evil.example/cb"]}"#,
            "invalid_redirect_uri",
            ["https://evil.example/cb", "not listed"],
        ),
        (
            r#"{"redirect_uris":["http://localhost/","javascript:alert(1)"]}"#,
            "invalid_redirect_uri",
            ["javascript:alert(1)", "never allowed"],
        ),
        (r#"{"redirect_uris":["http://h.example/cb"]}"#, "invalid_redirect_uri", ["http://h.example/cb", "use https"]),
        (
            r#"{"redirect_uris":["http://localhost/"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[]}}"#,
            "invalid_client_metadata",
            ["public", "metadata document"],
        ),
        ("x", "invalid_client_metadata", ["JSON", "client metadata"]),
    ] {
        let answer = Answer::of(bench.server.register(PEER, body.into()).await);
        answer.is_refused(400, code);
        assert!(words.iter().all(|word| answer.text("error_description").contains(word)), "{}", answer.json);
        assert!(answer.headers.contains_key("deprecation"));
    }
    assert_eq!(oauth_client::count(&bench.store).await.unwrap(), 0);
}

#[tokio::test]
async fn a7_registration_can_be_switched_off() {
    let mut settings = SignIn::default();
    settings.registration.enabled = false;
    let bench = bench_with(settings, egress(&settings::Egress::default())).await;
    let body = r#"{"redirect_uris":["http://localhost/"]}"#;
    let answer = Answer::of(bench.server.register(PEER, body.into()).await);
    answer.is_refused(403, "access_denied");
    assert!(answer.text("error_description").contains("administrator"));
    let metadata: Value = serde_json::from_slice(&bench.server.metadata()).unwrap();
    assert!(metadata.get("registration_endpoint").is_none());
}

#[tokio::test]
async fn a7_ten_thousand_registrations_are_bounded() {
    let bench = bench().await;
    let body = r#"{"redirect_uris":["http://localhost/"]}"#;
    let mut made = 0;
    for n in 0..10_000_u32 {
        let peer = IpAddr::V4((n % 500).into());
        made += u32::from(bench.server.register(peer, body.into()).await.status() == 201);
    }
    assert_eq!(made, limit::REGISTRATIONS_ALL, "in one minute");
    let limited = bench.server.register(PEER, body.into()).await;
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "60"));
    bench.clock.advance_ms(60_000);
    for _ in 0..100 {
        made += u32::from(bench.server.register(PEER, body.into()).await.status() == 201);
    }
    assert_eq!(made, limit::REGISTRATIONS_ALL + limit::REGISTRATIONS_EACH, "of one address");
}

#[tokio::test]
async fn a7_the_oldest_that_were_never_used_go_first() {
    let bench = bench().await;
    let (used, _) = bench.connected().await;
    let body = br#"{"redirect_uris":["http://localhost/"]}"#;
    let mut ids = Vec::new();
    for n in 0..50 {
        bench.clock.advance_ms(60_000);
        let (id, _) = bench.server.inner.register(IpAddr::V4(n.into()), body, 10).await.unwrap();
        ids.push(id);
    }
    assert_eq!(oauth_client::count(&bench.store).await.unwrap(), 11);
    assert!(oauth_client::by_id(&bench.store, &used).await.unwrap().is_some(), "in use");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(oauth_client::by_id(&bench.store, id).await.unwrap().is_some(), n >= 40, "{n}");
    }
    // What is never used is gone after a day, what is not used any more after ninety.
    bench.clock.advance_ms(24 * 3_600_000 + 60_000);
    bench.server.sweep().await.unwrap();
    assert_eq!(oauth_client::count(&bench.store).await.unwrap(), 1);
    bench.clock.advance_ms(90 * 24 * 3_600_000);
    bench.server.sweep().await.unwrap();
    assert_eq!(oauth_client::count(&bench.store).await.unwrap(), 0);
    // Whoever was forgotten is told so in a way that makes it register again (A26).
    bench.refresh(&used, "bzr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.is_refused(401, "invalid_client");
}
