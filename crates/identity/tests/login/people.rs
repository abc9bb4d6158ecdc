//! What a provider says about people.

use bartizan_store::repo::person;
use serde_json::{Value, json};

use crate::gateway::{Browser, config, gateway, simple};
use crate::provider::{Behaviour, Provider, Reply};

#[tokio::test]
async fn a2_tricks_with_addresses_are_refused() {
    let (gateway, provider) = simple().await;
    gateway.providers.store(vec![config("corp", &provider, &["Corp.example"])].into());
    for (email, code) in [
        (json!(null), "no_email"),
        (json!(""), "bad_claim"),
        (json!("ana"), "bad_claim"),
        (json!(["ana@corp.example"]), "bad_claim"),
        (json!(["ana@corp.example", "boss@corp.example"]), "bad_claim"),
        (json!({"value": "ana@corp.example"}), "bad_claim"),
        (json!("ana@corp.example@evil.example"), "bad_claim"),
        (json!("ana@evil.example@corp.example"), "bad_claim"),
        (json!("ana@corp.example,boss@corp.example"), "bad_claim"),
        (json!("ana@corp.example boss@corp.example"), "bad_claim"),
        (json!("Ana <ana@corp.example>"), "bad_claim"),
        (json!(" ana@corp.example"), "bad_claim"),
        (json!("ana@corp.example\n"), "bad_claim"),
        (json!("ana@corp.example\u{0}"), "bad_claim"),
        (json!("ana@corp.example."), "bad_claim"),
        (json!("\"ana@evil\"@corp.example"), "bad_claim"),
        (json!("\u{430}na@corp.example"), "bad_claim"),
        (json!("ana@c\u{43e}rp.example"), "bad_claim"),
        (json!("ana@corp\u{2024}example"), "bad_claim"),
        (json!("ana\u{200b}@corp.example"), "bad_claim"),
        (json!("\u{212a}im@corp.example"), "bad_claim"),
        (json!("ana@evil.example"), "other_domain"),
        (json!("ana@sub.corp.example"), "other_domain"),
        (json!("ana@evilcorp.example"), "other_domain"),
        (json!("ana@corp.example.evil.example"), "other_domain"),
    ] {
        provider.set().claims = json!({ "email": email });
        provider.set().userinfo = json!({"sub": "sub-ana"});
        assert_eq!(gateway.outcome(&provider).await, code, "{email}");
        // An account may fail ten times in a minute.
        gateway.clock.advance_ms(8_000);
    }
    provider.set().claims = json!({"email": "ANA@CORP.EXAMPLE"});
    let signed_in = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap();
    assert_eq!(signed_in.session.person.email, "ana@corp.example");
    // Without the list the other domain comes in: the list is what keeps it out.
    gateway.providers.store(vec![config("corp", &provider, &[])].into());
    provider.set().claims = json!({"email": "ana@evil.example"});
    assert_eq!(gateway.outcome(&provider).await, "ok");
}

#[tokio::test]
async fn a2_an_address_must_not_be_unverified() {
    let (gateway, provider) = simple().await;
    for verified in [json!(false), json!("false"), json!(0), json!(1), json!("yes"), json!([true]), json!("")] {
        provider.set().claims = json!({ "email_verified": verified });
        assert_eq!(gateway.outcome(&provider).await, "email_not_verified", "{verified}");
    }
    for verified in [json!(true), json!("true"), Value::Null] {
        provider.set().claims = json!({ "email_verified": verified });
        assert_eq!(gateway.outcome(&provider).await, "ok", "{verified}");
    }
    // The ID token says nothing about it, the userinfo endpoint says no.
    provider.set().claims = json!({"email": null, "email_verified": null});
    provider.set().userinfo = json!({"sub": "sub-ana", "email": "ana@corp.example", "email_verified": false});
    assert_eq!(gateway.outcome(&provider).await, "email_not_verified");
    provider.set().claims = json!({"name": null, "email_verified": null});
    assert_eq!(gateway.outcome(&provider).await, "email_not_verified");
}

#[tokio::test]
async fn a2_userinfo_must_be_about_the_same_person() {
    let (gateway, provider) = simple().await;
    provider.set().claims = json!({"email": null, "email_verified": null});
    for userinfo in [
        json!({"sub": "sub-boss", "email": "boss@corp.example"}),
        json!({"email": "boss@corp.example"}),
        json!({"sub": ["sub-ana"], "email": "boss@corp.example"}),
        json!([]),
        json!("x"),
    ] {
        provider.set().userinfo = userinfo.clone();
        assert_eq!(gateway.outcome(&provider).await, "bad_userinfo", "{userinfo}");
    }
    provider.set().userinfo = json!({"sub": "sub-ana", "email": "ana@corp.example"});
    assert_eq!(gateway.outcome(&provider).await, "ok");
    // It is not asked when the ID token says everything.
    let asked = provider.asked("/userinfo");
    provider.set().claims = json!({});
    assert_eq!(gateway.outcome(&provider).await, "ok");
    assert_eq!(provider.asked("/userinfo"), asked);
    // When it does not answer, nobody guesses what it would have said.
    provider.set().claims = json!({"groups": null});
    for reply in [Reply::Text(500, String::new()), Reply::Text(302, "http://127.0.0.1:9/".to_owned()), Reply::Endless] {
        provider.set().instead.insert("/userinfo".to_owned(), reply);
        assert_eq!(gateway.outcome(&provider).await, "provider_unavailable");
    }
}

#[tokio::test]
async fn a2_groups_are_a_bounded_list_of_texts() {
    let (gateway, provider) = simple().await;
    let names = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
    for (groups, code) in [
        (json!(7), "bad_claim"),
        (json!(true), "bad_claim"),
        (json!({"name": "admins"}), "bad_claim"),
        (json!([["admins"]]), "bad_claim"),
        (json!(["eng", 7]), "bad_claim"),
        (json!(["eng", null]), "bad_claim"),
        (json!([{"name": "admins"}]), "bad_claim"),
        (json!([""]), "bad_claim"),
        (json!(["a\u{0}b"]), "bad_claim"),
        (json!(["admins\u{200b}"]), "bad_claim"),
        (json!([" admins"]), "bad_claim"),
        (json!(["x".repeat(257)]), "bad_claim"),
        (json!(names(1_001)), "too_many_groups"),
        (json!(names(1_000)), "ok"),
        (json!(["x".repeat(256)]), "ok"),
        (json!([]), "ok"),
    ] {
        provider.set().claims = json!({ "groups": groups });
        assert_eq!(gateway.outcome(&provider).await, code, "{:.60}", groups.to_string());
        // An account may fail ten times in a minute.
        gateway.clock.advance_ms(10_000);
    }
    // Too many for an answer at all.
    provider.set().claims = json!({"groups": names(100_000)});
    assert_eq!(gateway.outcome(&provider).await, "provider_unavailable");
    // One text is one group, whatever is in it.
    provider.set().claims = json!({"groups": "eng admins,all"});
    let signed_in = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap();
    assert_eq!(signed_in.session.person.groups, ["eng admins,all"]);
    // The group of the local account (A31) is not a provider's to give.
    provider.set().claims = json!({"groups": ["break-glass", "eng"]});
    let signed_in = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap();
    assert_eq!(signed_in.session.person.groups, ["eng"]);
    // Groups that are elsewhere are not no groups.
    provider.set().claims = json!({"groups": null, "_claim_names": {"groups": "src1"}});
    assert_eq!(gateway.outcome(&provider).await, "groups_elsewhere");
    provider.set().claims = json!({"groups": null, "hasgroups": true});
    assert_eq!(gateway.outcome(&provider).await, "groups_elsewhere");
    // Groups as of now, not as of the first time.
    provider.set().claims = json!({"groups": ["b", "a", "b"]});
    assert_eq!(gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session.person.groups, ["a", "b"]);
}

#[tokio::test]
async fn a2_claims_have_the_names_of_the_configuration() {
    let (gateway, provider) = simple().await;
    let mut named = config("corp", &provider, &[]);
    named.claims.email = "upn".to_owned();
    named.claims.name = "display".to_owned();
    named.claims.groups = "roles".to_owned();
    gateway.providers.store(vec![named].into());
    provider.set().claims =
        json!({"upn": "Ana@corp.example", "display": " A\u{202e}na\n", "roles": ["r"], "email": "x@y"});
    let person = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session.person;
    assert_eq!((person.email.as_str(), person.name.as_str()), ("ana@corp.example", "Ana"));
    assert_eq!(person.groups, ["r"]);
}

#[tokio::test]
async fn a2_nobody_takes_over_an_address() {
    let (first, second) = (Provider::start().await, Provider::start().await);
    let providers = vec![config("first", &first, &["corp.example"]), config("second", &second, &["corp.example"])];
    let gateway = gateway("https://gate.example", providers.clone(), &[]).await;
    gateway.providers.store(vec![providers[0].clone()].into());
    let ana = gateway.sign_in(&mut Browser::default(), &first).await.unwrap().session.person.clone();
    // The same address, even the same subject, at a second provider.
    gateway.providers.store(vec![providers[1].clone()].into());
    assert_eq!(gateway.outcome(&second).await, "address_taken");
    let events = gateway.events.lock().unwrap().clone();
    assert_eq!(events.iter().filter(|event| event.note.as_deref() == Some("address_taken")).count(), 1);
    // Another subject at the same provider.
    gateway.providers.store(vec![providers[0].clone()].into());
    first.set().claims = json!({"sub": "sub-other"});
    assert_eq!(gateway.outcome(&first).await, "address_taken");
    // Ana herself may change her address; the old one is free then.
    first.set().claims = json!({"email": "ana.lee@corp.example"});
    let renamed = gateway.sign_in(&mut Browser::default(), &first).await.unwrap().session.person.clone();
    assert_eq!((renamed.id.as_str(), renamed.email.as_str()), (ana.id.as_str(), "ana.lee@corp.example"));
    first.set().claims = json!({"sub": "sub-other"});
    let other = gateway.sign_in(&mut Browser::default(), &first).await.unwrap().session.person.clone();
    assert_ne!(other.id, ana.id);
}

#[tokio::test]
async fn a2_a_deactivated_person_stays_out() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let person = gateway.sign_in(&mut browser, &provider).await.unwrap().session.person.clone();
    assert!(person::deactivate(&gateway.store, &person.id).await.unwrap());
    assert!(gateway.current(&browser).await.is_none());
    assert_eq!(gateway.outcome(&provider).await, "deactivated");
    // Not under a new name at the provider either.
    provider.set().claims = json!({"sub": "sub-new"});
    assert_eq!(gateway.outcome(&provider).await, "address_taken");
    provider.set().claims = json!({});
    assert!(person::reactivate(&gateway.store, &person.id).await.unwrap());
    assert!(gateway.current(&browser).await.is_none(), "old sessions stay ended");
    assert_eq!(gateway.outcome(&provider).await, "ok");
}

#[tokio::test]
async fn a2_a_claim_that_is_null_says_nothing() {
    let (gateway, provider) = simple().await;
    provider.set().userinfo = json!({"sub": "sub-ana", "groups": ["ops"]});
    provider.set().token =
        Some(std::sync::Arc::new(|behaviour: &Behaviour, claims: &serde_json::Map<String, Value>| {
            let mut claims = claims.clone();
            claims.insert("groups".to_owned(), Value::Null);
            behaviour.sign(&claims)
        }));
    let signed_in = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap();
    assert_eq!(signed_in.session.person.groups, ["ops"]);
}
