//! A5: the provider is asked again about people who signed in.

use bartizan_identity::{Again, BrowserSession};
use bartizan_store::repo::person;
use serde_json::{Value, json};

use crate::NOW_S;
use crate::gateway::{Browser, Gateway, config, simple};
use crate::provider::{Provider, Reply};

struct Bench {
    gateway: Gateway,
    provider: Provider,
    person: String,
}

/// Somebody signed in at a provider that gives refresh tokens, or none; some time ago.
async fn bench(refreshes: bool) -> Bench {
    let (gateway, provider) = simple().await;
    provider.set().refreshes = refreshes;
    let session: BrowserSession = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session;
    gateway.clock.advance_ms(60_000);
    Bench { gateway, provider, person: session.person.id.clone() }
}

impl Bench {
    async fn again(&self) -> Again {
        self.gateway.login.ask_again(&self.person).await
    }

    async fn groups(&self) -> Value {
        let person = person::by_id(&self.gateway.store, &self.person).await.unwrap().unwrap();
        serde_json::from_str(&person.groups_json).unwrap()
    }
}

const SIGNED_IN: Again = Again::Unknown { since_ms: NOW_S * 1000 };

#[tokio::test]
async fn a5_groups_are_those_of_now() {
    let bench = bench(true).await;
    assert_eq!(bench.groups().await, json!(["eng"]));
    for groups in [json!(["finance"]), json!([]), json!(["eng", "ops"])] {
        bench.provider.set().claims = json!({ "groups": groups });
        assert_eq!(bench.again().await, Again::Current);
        assert_eq!(bench.groups().await, groups);
        bench.gateway.clock.advance_ms(10_000);
    }
    // Each refresh token was used once, and the next one kept; nothing of them can be read.
    assert_eq!(bench.provider.asked("/token"), 4);
    // A moment later nobody is asked again.
    assert_eq!(bench.again().await, Again::Current);
    let asked = bench.provider.asked("/token");
    assert_eq!(bench.again().await, Again::Current);
    assert_eq!(bench.provider.asked("/token"), asked);
}

#[tokio::test]
async fn a5_without_an_id_token_the_userinfo_says_it() {
    for refreshes in [true, false] {
        let bench = bench(refreshes).await;
        bench.provider.set().refresh_id_token = false;
        let who = json!({"sub": "sub-ana", "email": "ana@corp.example", "groups": ["finance"]});
        bench.provider.set().userinfo = who;
        assert_eq!(bench.again().await, Again::Current);
        assert_eq!(bench.groups().await, json!(["finance"]));
        // One that says nothing about groups there has not said that there are none.
        bench.gateway.clock.advance_ms(10_000);
        bench.provider.set().userinfo = json!({"sub": "sub-ana", "email": "ana@corp.example"});
        assert_eq!(bench.again().await, Again::Unknown { since_ms: (NOW_S + 60) * 1000 });
        assert_eq!(bench.groups().await, json!(["finance"]));
    }
}

#[tokio::test]
async fn a5_a_provider_that_cannot_be_asked_is_no_answer() {
    let bench = bench(true).await;
    for reply in [
        Reply::Text(500, String::new()),
        Reply::Text(200, "<html>".into()),
        Reply::Json(401, json!({"error": "invalid_client"})),
    ] {
        bench.provider.set().instead.insert("/token".into(), reply);
        assert_eq!(bench.again().await, SIGNED_IN);
    }
    bench.provider.set().instead.clear();
    assert_eq!(bench.again().await, Again::Current, "what it gave is good still");
    // An ID token of the wrong kind is no answer either.
    bench.gateway.clock.advance_ms(10_000);
    bench.provider.set().claims = json!({"aud": "another"});
    assert_eq!(bench.again().await, Again::Unknown { since_ms: (NOW_S + 60) * 1000 });
    // An access token that ended, and no other.
    let bench = self::bench(false).await;
    bench.gateway.clock.advance_ms(300_000);
    assert_eq!(bench.again().await, SIGNED_IN);
    assert_eq!(bench.provider.asked("/token"), 1);
}

#[tokio::test]
async fn a5_what_the_provider_ended_has_ended() {
    // It takes the token back.
    let bench = bench(true).await;
    bench.provider.set().instead.insert("/token".into(), Reply::Json(400, json!({"error": "invalid_grant"})));
    assert!(matches!(bench.again().await, Again::Ended(_)));
    bench.provider.set().instead.clear();
    // Whoever asks next hears the same, and the provider is not asked for it; until the
    // person signs in there again.
    for _ in 0..2 {
        assert!(matches!(bench.again().await, Again::Ended(_)));
    }
    assert_eq!(bench.provider.asked("/token"), 2);
    bench.gateway.sign_in(&mut Browser::default(), &bench.provider).await.unwrap();
    bench.gateway.clock.advance_ms(60_000);
    assert_eq!(bench.again().await, Again::Current);
    // It would not let the person sign in now.
    for claims in [
        json!({"email_verified": false}),
        json!({"groups": [7]}),
        json!({"sub": "sub-eve"}),
        json!({"hasgroups": true, "groups": null}),
    ] {
        let bench = self::bench(true).await;
        bench.provider.set().claims = claims.clone();
        assert!(matches!(bench.again().await, Again::Ended(_)), "{claims}");
        assert_eq!(bench.groups().await, json!(["eng"]), "{claims}");
    }
    // We would not.
    let bench = self::bench(true).await;
    person::deactivate(&bench.gateway.store, &bench.person).await.unwrap();
    assert!(matches!(bench.again().await, Again::Ended(_)));
    let bench = self::bench(true).await;
    let other = Provider::start().await;
    bench.gateway.providers.store(vec![config("corp", &other, &[])].into());
    assert!(matches!(bench.again().await, Again::Ended(_)));
    assert_eq!(other.asked("/token"), 0, "nobody else gets what it gave");
    // Another client of the same provider: its tokens are not ours to send.
    let bench = self::bench(true).await;
    let mut changed = config("corp", &bench.provider, &[]);
    changed.client_id = "another".to_owned();
    bench.gateway.providers.store(vec![changed].into());
    assert_eq!(bench.again().await, SIGNED_IN);
    assert_eq!(bench.provider.asked("/token"), 1);
}

#[tokio::test]
async fn a5_many_at_once_ask_once() {
    let bench = bench(true).await;
    let asking = (0..8).map(|_| {
        let (login, person) = (bench.gateway.login.clone(), bench.person.clone());
        tokio::spawn(async move { login.ask_again(&person).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), Again::Current);
    }
    // A second request with the same refresh token would have been refused.
    assert_eq!(bench.provider.asked("/token"), 2);
}
