//! A10: rotation with grace.

use super::*;
use crate::server::fresh::{Again, AtRefresh};

async fn refreshed(bench: &Bench, client: &str, token: &str) -> Answer {
    let answer = bench.refresh(client, token).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(bench.who(&answer.text("access_token")).await.is_some());
    answer
}

#[tokio::test]
async fn a10_every_refresh_gives_a_new_pair() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let mut token = first.text("refresh_token");
    let mut seen = std::collections::HashSet::from([token.clone()]);
    for _ in 0..10 {
        bench.clock.advance_ms(600_000);
        let answer = refreshed(&bench, &client, &token).await;
        token = answer.text("refresh_token");
        assert!(seen.insert(token.clone()) && seen.insert(answer.text("access_token")));
    }
    assert_eq!(bench.saw(Action::Replay, false), 0);
}

#[tokio::test]
async fn a10_a_lost_response_and_a_sleeping_laptop_lose_nothing() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let token = first.text("refresh_token");
    refreshed(&bench, &client, &token).await; // lost on the way
    for pause in [1_000, 40_000, 3_600_000, 5 * 24 * 3_600_000] {
        bench.clock.advance_ms(pause);
        refreshed(&bench, &client, &token).await;
    }
    let last = refreshed(&bench, &client, &token).await;
    refreshed(&bench, &client, &last.text("refresh_token")).await;
}

#[tokio::test]
async fn a10_parallel_refreshes_get_the_same_pair_for_thirty_seconds() {
    let bench = Arc::new(bench().await);
    let (client, first) = bench.connected().await;
    let token = first.text("refresh_token");
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (bench, client, token) = (Arc::clone(&bench), client.clone(), token.clone());
            tokio::spawn(async move { bench.refresh(&client, &token).await })
        })
        .collect();
    let mut pairs = std::collections::HashSet::new();
    for one in tries {
        let answer = one.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json);
        pairs.insert((answer.text("access_token"), answer.text("refresh_token")));
    }
    assert_eq!(pairs.len(), 1);
    bench.clock.advance_ms(29_999);
    let again = refreshed(&bench, &client, &token).await;
    assert!(pairs.contains(&(again.text("access_token"), again.text("refresh_token"))));
    assert_eq!(again.json["expires_in"], 870, "what is left of it");
    bench.clock.advance_ms(1);
    assert!(!pairs.contains(&{
        let later = refreshed(&bench, &client, &token).await;
        (later.text("access_token"), later.text("refresh_token"))
    }));
}

#[tokio::test]
async fn a10_a_stolen_old_token_ends_the_family() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let stolen = first.text("refresh_token");
    let second = refreshed(&bench, &client, &stolen).await;
    let third = refreshed(&bench, &client, &second.text("refresh_token")).await;
    // The successor was used: the old one is a thief's, even within thirty seconds.
    bench.refresh(&client, &stolen).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.saw(Action::Replay, false), 1, "and it is reported");
    for answer in [&first, &second, &third] {
        assert!(bench.who(&answer.text("access_token")).await.is_none());
        bench.refresh(&client, &answer.text("refresh_token")).await.is_refused(400, "invalid_grant");
    }
}

#[tokio::test]
async fn a10_a_thief_who_is_first_is_found_out_too() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let stolen = first.text("refresh_token");
    let thief = refreshed(&bench, &client, &stolen).await;
    bench.clock.advance_ms(60_000);
    let victim = refreshed(&bench, &client, &stolen).await;
    assert_ne!(thief.text("refresh_token"), victim.text("refresh_token"));
    // Whoever of the two goes on, the other one's next step ends it for both.
    let more = refreshed(&bench, &client, &thief.text("refresh_token")).await;
    bench.refresh(&client, &victim.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&more.text("access_token")).await.is_none());
    bench.refresh(&client, &more.text("refresh_token")).await.is_refused(400, "invalid_grant");
}

/// What the control is worth: without the mark of a retired token the thief stays in.
#[tokio::test]
async fn a10_without_retiring_the_thief_would_stay() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let stolen = first.text("refresh_token");
    // A retired token does not open its grant any more either.
    tokens::sql(&bench, "CREATE TABLE before AS SELECT hash, wrapped FROM oauth_refresh").await;
    let second = refreshed(&bench, &client, &stolen).await;
    refreshed(&bench, &client, &second.text("refresh_token")).await;
    let back = "UPDATE oauth_refresh SET retired_ms = NULL, \
         wrapped = coalesce(wrapped, (SELECT wrapped FROM before WHERE before.hash = oauth_refresh.hash))";
    tokens::sql(&bench, back).await;
    refreshed(&bench, &client, &stolen).await;
}

#[tokio::test]
async fn a10_a_token_is_its_clients_and_its_resources() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let other = bench.register(CALLBACK).await;
    let token = first.text("refresh_token");
    bench.refresh(&other, &token).await.is_refused(400, "invalid_grant");
    bench.refresh("nobody", &token).await.is_refused(401, "invalid_client");
    let with = |name, value| {
        [("grant_type", "refresh_token"), ("client_id", client.as_str()), ("refresh_token", &token), (name, value)]
    };
    bench.token(&with("resource", OTHER_RESOURCE)).await.is_refused(400, "invalid_target");
    bench.token(&with("scope", "mcp:read mcp:write")).await.is_refused(400, "invalid_scope");
    bench.token(&with("scope", "mcp:admin")).await.is_refused(400, "invalid_scope");
    for bad in ["", "x", "bzr_", &first.text("access_token"), &token[..40], &format!("{token}x"), &token.to_uppercase()]
    {
        let answer = bench.refresh(&client, bad).await;
        assert!(["invalid_grant", "invalid_request"].contains(&answer.error()) && answer.status == 400, "{bad}");
    }
    assert_eq!(bench.token(&with("resource", "https://GW.example:443/mcp/")).await.status, 200, "another spelling");
}

#[tokio::test]
async fn a10_a_refresh_may_ask_for_less() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code_by(&request_with(&client, "scope", None), &bench.session).await;
    let first = bench.redeem(&client, &code).await;
    assert_eq!(first.text("scope"), "mcp:read mcp:write");
    let token = first.text("refresh_token");
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", client.as_str()),
        ("refresh_token", &token),
        ("scope", "mcp:read"),
    ];
    let less = bench.token(&pairs).await;
    assert_eq!(less.text("scope"), "mcp:read");
    assert_eq!(bench.who(&less.text("access_token")).await.unwrap().scopes.unwrap().to_string(), "mcp:read");
}

#[tokio::test]
async fn a5_a_grant_ends_whatever_is_refreshed() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let mut token = first.text("refresh_token");
    for _ in 0..13 {
        bench.clock.advance_ms(24 * 3_600_000);
        token = refreshed(&bench, &client, &token).await.text("refresh_token");
    }
    bench.clock.advance_ms(24 * 3_600_000);
    bench.refresh(&client, &token).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a10_a_deactivated_person_refreshes_nothing() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    person::deactivate(&bench.store, "ana").await.unwrap();
    bench.refresh(&client, &first.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&first.text("access_token")).await.is_none());
}

#[tokio::test]
async fn a10_an_answer_is_lost_five_times_at_most() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let token = first.text("refresh_token");
    for _ in 0..5 {
        refreshed(&bench, &client, &token).await;
        bench.clock.advance_ms(30_000);
    }
    bench.refresh(&client, &token).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.saw(Action::Replay, false), 1);
    assert!(bench.who(&first.text("access_token")).await.is_none());
}

#[tokio::test]
async fn a10_the_same_pair_is_given_after_the_first_exchange_only() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let token = first.text("refresh_token");
    refreshed(&bench, &client, &token).await;
    bench.clock.advance_ms(30_000);
    let second = refreshed(&bench, &client, &token).await;
    let third = refreshed(&bench, &client, &token).await;
    assert_ne!(second.text("refresh_token"), third.text("refresh_token"));
}

#[tokio::test]
async fn a10_the_same_pair_honours_a_narrower_scope() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code_by(&request_with(&client, "scope", None), &bench.session).await;
    let token = bench.redeem(&client, &code).await.text("refresh_token");
    let wide = refreshed(&bench, &client, &token).await;
    let narrow = bench
        .token(&[
            ("grant_type", "refresh_token"),
            ("client_id", &client),
            ("refresh_token", &token),
            ("scope", "mcp:read"),
        ])
        .await;
    assert_eq!((wide.text("scope"), narrow.text("scope")), ("mcp:read mcp:write".into(), "mcp:read".into()));
    assert_eq!(wide.text("refresh_token"), narrow.text("refresh_token"));
    assert_eq!(bench.who(&narrow.text("access_token")).await.unwrap().scopes.unwrap().to_string(), "mcp:read");
}

#[tokio::test]
async fn a7_a_client_in_use_is_not_swept() {
    let mut settings = SignIn::default();
    settings.lifetimes.unused_client_s = 24 * 3600;
    let bench = bench_with(settings, egress(&settings::Egress::default())).await;
    let (client, first) = bench.connected().await;
    bench.clock.advance_ms(10 * 24 * 3_600_000);
    bench.server.sweep().await.unwrap();
    let next = refreshed(&bench, &client, &first.text("refresh_token")).await;
    // The refresh counts as a use, not only the sign-in.
    bench.clock.advance_ms(5 * 24 * 3_600_000);
    bench.server.sweep().await.unwrap();
    let known = bartizan_store::repo::oauth_client::by_id(&bench.store, &client).await.unwrap();
    assert!(known.is_some(), "used five days ago");
    drop(next);
    bench.clock.advance_ms(14 * 24 * 3_600_000);
    bench.server.sweep().await.unwrap();
    assert!(bartizan_store::repo::oauth_client::by_id(&bench.store, &client).await.unwrap().is_none());
}

/// Asks as told at every refresh, and lets those with a group in.
fn judged(bench: &Bench, again: impl Fn() -> Again + Send + Sync + 'static) {
    let checks = AtRefresh {
        again: Arc::new(move |_| {
            let again = again();
            Box::pin(async move { again })
        }),
        may_enter: Arc::new(|who| who.principal.groups.iter().any(|group| **group == *"eng")),
    };
    drop(bench.server.clone().with_refresh(checks));
}

async fn groups(bench: &Bench, groups_json: &str) {
    let person = person::by_id(&bench.store, &bench.session.person.id).await.unwrap().unwrap();
    let new = person::SignIn {
        new_id: "unused",
        issuer: &person.issuer,
        subject: &person.subject,
        provider: &person.provider,
        email: &person.email,
        name: &person.name,
        groups_json,
    };
    person::sign_in(&bench.store, &new).await.unwrap().unwrap();
}

#[tokio::test]
async fn a5_a_lost_group_fails_the_next_refresh() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    groups(&bench, r#"["sales"]"#).await;
    // Without the checks the refresh passes: they are what stops it.
    let second = bench.refresh(&client, &first.text("refresh_token")).await;
    assert_eq!(second.status, 200);
    judged(&bench, || Again::Current);
    let refused = bench.refresh(&client, &second.text("refresh_token")).await;
    refused.is_refused(400, "invalid_grant");
    let events = bench.events.lock().unwrap().clone();
    assert!(events.iter().any(|event| event.note.as_deref() == Some("the policy does not let them in any more")));
    // Only that: with the group back the same token goes on.
    groups(&bench, r#"["eng"]"#).await;
    let third = bench.refresh(&client, &second.text("refresh_token")).await;
    assert_eq!(third.status, 200, "{}", third.json);
}

#[tokio::test]
async fn a5_what_the_provider_ends_ends_the_grant() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    judged(&bench, || Again::Ended("the provider ended the sign-in"));
    bench.refresh(&client, &first.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&first.text("access_token")).await.is_none(), "the access token too, at once");
    assert_eq!(bench.saw(Action::Revoke, true), 1);
}

#[tokio::test]
async fn a5_what_the_provider_ends_ends_at_every_client_of_the_person() {
    let bench = bench().await;
    let (one, first) = bench.connected().await;
    let (other, second) = bench.connected().await;
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // It says so once: what comes after that is forgiven for a while.
    judged(&bench, move || match asked.swap(true, std::sync::atomic::Ordering::SeqCst) {
        false => Again::Ended("the provider ended the sign-in"),
        true => Again::Unknown { since_ms: NOW },
    });
    bench.refresh(&one, &first.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&second.text("access_token")).await.is_none(), "the other client's access token, at once");
    bench.refresh(&other, &second.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert_eq!(browser_session::count(&bench.store, &bench.session.person.id).await.unwrap(), 0, "no browser goes on");
}

#[tokio::test]
async fn a5_the_policy_is_asked_about_the_client_too() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let allowed = client.clone();
    let checks = AtRefresh {
        again: Arc::new(|_| Box::pin(async { Again::Current })),
        may_enter: Arc::new(move |who| who.client_id == allowed),
    };
    drop(bench.server.clone().with_refresh(checks));
    refreshed(&bench, &client, &first.text("refresh_token")).await;
    let (other, second) = bench.connected().await;
    bench.refresh(&other, &second.text("refresh_token")).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a5_an_unreachable_provider_is_forgiven_for_a_day() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    judged(&bench, || Again::Unknown { since_ms: NOW });
    let day = 24 * 3_600_000;
    bench.clock.advance_ms(day);
    let second = bench.refresh(&client, &first.text("refresh_token")).await;
    assert_eq!(second.status, 200, "{}", second.json);
    bench.clock.advance_ms(1);
    bench.refresh(&client, &second.text("refresh_token")).await.is_refused(400, "invalid_grant");
}
