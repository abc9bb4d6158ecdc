//! A32: how often signing in may fail; a path per provider; people of a provider that left.

use std::net::IpAddr;

use bartizan_identity::{Ask, Begin, ReturnTo};
use bartizan_oauth::params::Builder;
use http::HeaderMap;
use serde_json::json;

use crate::gateway::{Browser, config, gateway, param, simple};
use crate::provider::{Provider, Reply};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a32_ten_failures_in_a_minute_of_one_address() {
    let (gateway, provider) = simple().await;
    let fail = async |from: &str| {
        let mut browser = Browser::default();
        let url = gateway.begin(&mut browser).await;
        let refused =
            Builder::new().add("error", "access_denied").add("state", &param(&url, "state").unwrap()).finish();
        gateway.callback_at(&mut browser, ip(from), None, &refused).await.unwrap_err().status.as_u16()
    };
    for _ in 0..10 {
        assert_eq!(fail("192.0.2.1").await, 403);
    }
    assert_eq!(fail("192.0.2.1").await, 429);
    assert_eq!(fail("192.0.2.2").await, 403, "another address");
    // Nothing begins from there either, and a good answer is not looked at.
    let there = gateway.login.from_peer(ip("192.0.2.1"));
    assert!(matches!(there.begin(ReturnTo::path("/"), None, Ask::default()).await,
        Begin::Unavailable(problem) if problem.code == "too_often"));
    let mut browser = Browser::default();
    let good = provider.approve(&gateway.begin(&mut browser).await);
    let refused = gateway.callback_at(&mut browser, ip("192.0.2.1"), None, &good).await.unwrap_err();
    assert_eq!(refused.code, "too_often");
    // That did not use the sign-in up.
    gateway.callback_at(&mut browser, ip("192.0.2.2"), None, &good).await.unwrap();
    gateway.clock.advance_ms(60_000);
    assert_eq!(fail("192.0.2.1").await, 403, "a minute later");
}

#[tokio::test]
async fn a32_answers_to_no_sign_in_lock_nobody_out() {
    let (gateway, provider) = simple().await;
    let office = ip("192.0.2.1");
    // What a page of a stranger can make any browser of the office send.
    let mut browser = Browser::default();
    let url = gateway.begin(&mut browser).await;
    let state = param(&url, "state").unwrap();
    let there = gateway.login.from_peer(office);
    for query in ["code=x&state=y", "state=y&error=access_denied", "", "%ff", &format!("code=x&state={state}")] {
        for _ in 0..12 {
            let back = there.callback(None, query, &HeaderMap::new()).await.unwrap_err();
            assert_eq!(back.status.as_u16(), 400, "{query}: {}", back.code);
        }
    }
    gateway.callback_at(&mut browser, office, None, &provider.approve(&url)).await.unwrap();
}

#[tokio::test]
async fn a32_ten_failures_in_a_minute_of_one_account_wherever_they_come_from() {
    let (gateway, provider) = simple().await;
    provider.set().claims = json!({"groups": [7]});
    for _ in 0..10 {
        assert_eq!(gateway.outcome(&provider).await, "bad_claim");
    }
    assert_eq!(gateway.outcome(&provider).await, "too_often");
    provider.set().claims = json!({"sub": "another", "email": "bo@corp.example"});
    assert_eq!(gateway.outcome(&provider).await, "ok", "another account");
    // Demo people as well.
    let dev = crate::gateway::gateway("http://127.0.0.1:7420", vec![], &["alice@demo.example"]).await;
    for n in 0..11 {
        let here = dev.login.from_peer(dev.peer());
        let refused = here.demo("eve@x.example", ReturnTo::path("/"), &HeaderMap::new()).await;
        assert_eq!(refused.unwrap_err().code, if n < 10 { "unknown_user" } else { "too_often" });
    }
}

#[tokio::test]
async fn a32_a_provider_that_is_down_locks_nobody_out() {
    let (gateway, provider) = simple().await;
    for _ in 0..12 {
        let mut browser = Browser::default();
        let good = provider.approve(&gateway.begin(&mut browser).await);
        provider.set().instead.insert("/token".into(), Reply::Text(500, String::new()));
        let refused = gateway.callback_at(&mut browser, ip("192.0.2.7"), None, &good).await.unwrap_err();
        assert_eq!(refused.code, "bad_tokens");
        provider.set().instead.clear();
    }
}

#[tokio::test]
async fn a32_a_failed_answer_removes_its_own_cookie_and_no_other() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let (mine, other) = (gateway.begin(&mut browser).await, gateway.begin(&mut browser).await);
    assert_eq!(browser.0.len(), 2);
    // Somebody else's state: nothing is cleared, nothing used up.
    let strange = Builder::new().add("code", "x").add("state", "made-up").finish();
    gateway.callback(&mut browser, &strange).await.unwrap_err();
    assert_eq!(browser.0.len(), 2);
    let refused = Builder::new().add("error", "access_denied").add("state", &param(&mine, "state").unwrap()).finish();
    gateway.callback(&mut browser, &refused).await.unwrap_err();
    assert_eq!(browser.0.len(), 1, "{:?}", browser.0);
    gateway.callback(&mut browser, &provider.approve(&other)).await.unwrap();
}

#[tokio::test]
async fn a2_with_several_providers_each_has_its_own_way_back() {
    let (good, evil) = (Provider::start().await, Provider::start().await);
    let both = || vec![config("good", &good, &["corp.example"]), config("evil", &evil, &["other.example"])];
    let gateway = gateway("https://gate.example", both(), &[]).await;
    let ask = |id: &str| Ask { provider: Some(id.to_owned()), ..Ask::default() };
    let mut browser = Browser::default();
    // The person chose the evil one. It sends the browser on to the good one, with its own
    // state and nonce; neither of the two sends `iss`.
    let url = gateway.begin_with(&mut browser, None, ask("evil")).await;
    assert_eq!(param(&url, "redirect_uri").unwrap(), "https://gate.example/login/callback/evil");
    let answer = good.approve(&url.replace(&evil.issuer, &good.issuer));
    // The good one only knows its own path, and there the state of the evil one is refused.
    let refused = gateway.callback_at(&mut browser, gateway.peer(), Some("good"), &answer).await.unwrap_err();
    assert_eq!(refused.code, "other_provider");
    assert_eq!((good.asked("/token"), evil.asked("/token")), (0, 0), "no code was handed to anybody");
    // With one path for all the answer would come to where the evil one's state is at home,
    // and the code of the good one goes to the evil one.
    let url = gateway.begin_with(&mut browser, None, ask("evil")).await;
    let answer = good.approve(&url.replace(&evil.issuer, &good.issuer));
    gateway.callback_at(&mut browser, gateway.peer(), Some("evil"), &answer).await.unwrap_err();
    assert_eq!((good.asked("/token"), evil.asked("/token")), (0, 1), "this is what the paths prevent");
    for wrong in [None, Some("evil"), Some("x"), Some("")] {
        let url = gateway.begin_with(&mut browser, None, ask("good")).await;
        let back = gateway.callback_at(&mut browser, gateway.peer(), wrong, &good.approve(&url)).await;
        assert_eq!(back.unwrap_err().code, "other_provider", "{wrong:?}");
    }
    let url = gateway.begin_with(&mut browser, None, ask("good")).await;
    gateway.callback(&mut browser, &good.approve(&url)).await.unwrap();
    // One alone keeps the plain path, and a sign-in goes on when another one is added.
    gateway.providers.store(vec![config("good", &good, &["corp.example"])].into());
    let url = gateway.begin(&mut browser).await;
    assert_eq!(param(&url, "redirect_uri").unwrap(), "https://gate.example/login/callback");
    gateway.providers.store(both().into());
    gateway.callback(&mut browser, &good.approve(&url)).await.unwrap();
}

#[tokio::test]
async fn a2_people_of_a_provider_that_left_are_signed_out() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    gateway.sign_in(&mut browser, &provider).await.unwrap();
    let known = gateway.login.known_provider();
    assert!(gateway.current(&browser).await.is_some() && known("corp", &provider.issuer));
    assert!(!known("demo", "demo"), "no demo people here");
    // Another one under the same name does not speak for them.
    let other = Provider::start().await;
    gateway.providers.store(vec![config("corp", &other, &[])].into());
    assert!(gateway.current(&browser).await.is_none() && !known("corp", &provider.issuer));
    gateway.providers.store(vec![].into());
    assert!(gateway.current(&browser).await.is_none());
    gateway.providers.store(vec![config("corp", &provider, &[])].into());
    assert!(gateway.current(&browser).await.is_some());
}

#[tokio::test]
async fn a32_events_of_signing_in_say_where_from() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let (peer, url) = (ip("198.51.100.9"), gateway.begin(&mut browser).await);
    let session = gateway.callback_at(&mut browser, peer, None, &provider.approve(&url)).await.unwrap().session;
    gateway.login.from_peer(peer).signed_out(&session);
    let url = gateway.begin(&mut browser).await;
    let refused = Builder::new().add("error", "x").add("state", &param(&url, "state").unwrap()).finish();
    gateway.callback_at(&mut browser, peer, None, &refused).await.unwrap_err();
    let events = gateway.events.lock().unwrap();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.ip == Some(peer)), "{events:?}");
}
