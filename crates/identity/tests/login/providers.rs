//! Choosing among providers, and documents that are no good.

use bartizan_identity::{Ask, Begin, ReturnTo};
use serde_json::json;

use crate::gateway::{Browser, Gateway, config, gateway, simple};
use crate::provider::{Provider, Reply};

async fn begin(gateway: &Gateway, email: Option<&str>, provider: Option<&str>) -> Begin {
    let ask = Ask { provider: provider.map(str::to_owned), ..Ask::default() };
    gateway.login.begin(ReturnTo::path("/"), email, ask).await
}

#[tokio::test]
async fn a2_the_domain_of_the_address_chooses_the_provider() {
    let (one, two) = (Provider::start().await, Provider::start().await);
    let providers =
        vec![config("one", &one, &["corp.example"]), config("two", &two, &["other.example", "both.example"])];
    let gateway = gateway("https://gate.example", providers, &[]).await;
    for (email, issuer) in [("ana@corp.example", &one), ("Ana@OTHER.Example ", &two)] {
        let Begin::Redirect { url, .. } = begin(&gateway, Some(email), None).await else { panic!("{email}") };
        assert!(url.starts_with(&issuer.issuer), "{email}");
    }
    for email in
        [None, Some(""), Some("ana"), Some("ana@evil.example"), Some("ana@corp.example@evil.example"), Some("@")]
    {
        let Begin::Choose(choice) = begin(&gateway, email, None).await else { panic!("{email:?}") };
        assert_eq!(choice.iter().map(|view| view.id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }
    let Begin::Redirect { url, .. } = begin(&gateway, None, Some("two")).await else { panic!("no choice") };
    assert!(url.starts_with(&two.issuer));
    assert!(matches!(begin(&gateway, None, Some("three")).await, Begin::Choose(_)));
    // A provider speaks for its own domains only, whoever chose it.
    let mut browser = Browser::default();
    let url = gateway.begin_with(&mut browser, None, Ask { provider: Some("two".into()), ..Ask::default() }).await;
    let problem = gateway.callback(&mut browser, &two.approve(&url)).await.unwrap_err();
    assert_eq!(problem.code, "other_domain");
    // With several, one without domains speaks for nobody.
    gateway.providers.store(vec![config("one", &one, &["corp.example"]), config("two", &two, &[])].into());
    let url = gateway.begin_with(&mut browser, None, Ask { provider: Some("two".into()), ..Ask::default() }).await;
    assert_eq!(gateway.callback(&mut browser, &two.approve(&url)).await.unwrap_err().code, "other_domain");
}

#[tokio::test]
async fn a2_bad_discovery_documents_are_refused() {
    let (gateway, provider) = simple().await;
    let path = "/.well-known/openid-configuration";
    let refused = async || {
        gateway.clock.advance_ms(5_000);
        match begin(&gateway, None, None).await {
            Begin::Unavailable(problem) => problem.code,
            other => panic!("{other:?}"),
        }
    };
    for metadata in [
        json!({"issuer": "https://evil.example"}),
        json!({"issuer": format!("{}/", provider.issuer)}),
        json!({"issuer": null}),
        json!({"authorization_endpoint": "http://idp.example/authorize"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"token_endpoint": "http://10.0.0.1/token"}),
        json!({"jwks_uri": "file:///etc/passwd"}),
        json!({"userinfo_endpoint": "ftp://x/y"}),
    ] {
        provider.set().metadata = metadata.clone();
        assert_eq!(refused().await, "provider_unavailable", "{metadata}");
    }
    for metadata in [json!({"authorization_endpoint": null}), json!({"code_challenge_methods_supported": ["plain"]})] {
        let (gateway, provider) = simple().await;
        provider.set().metadata = metadata.clone();
        let begun = begin(&gateway, None, None).await;
        assert!(matches!(begun, Begin::Unavailable(problem) if problem.code == "provider_settings"), "{metadata}");
    }
    provider.set().metadata = json!({});
    for reply in [
        Reply::Endless,
        Reply::Text(200, "<html>".to_owned()),
        Reply::Text(200, format!("{{\"issuer\":\"{}\",\"x\":\"{}\"}}", provider.issuer, "x".repeat(300_000))),
        Reply::Text(200, "[".repeat(100_000)),
        Reply::Text(302, format!("{}/elsewhere", provider.issuer)),
        Reply::Text(500, String::new()),
    ] {
        provider.set().instead.insert(path.to_owned(), reply);
        assert_eq!(refused().await, "provider_unavailable");
    }
    // A flood while it is down does not become a flood there.
    let asked = provider.asked(path);
    for _ in 0..10 {
        assert!(matches!(begin(&gateway, None, None).await, Begin::Unavailable(_)));
    }
    assert_eq!(provider.asked(path), asked);
    provider.set().instead.clear();
    gateway.clock.advance_ms(5_000);
    assert!(matches!(begin(&gateway, None, None).await, Begin::Redirect { .. }));
}

#[tokio::test]
async fn a2_a_silent_provider_is_given_up() {
    let (gateway, provider) = simple().await;
    provider.set().instead.insert("/.well-known/openid-configuration".to_owned(), Reply::Silence);
    let login = gateway.login.clone();
    let begun = tokio::spawn(async move { login.begin(ReturnTo::path("/"), None, Ask::default()).await });
    provider.accepted.notified().await;
    // From here on time jumps to whatever is waited for.
    tokio::time::pause();
    assert!(matches!(begun.await.unwrap(), Begin::Unavailable(problem) if problem.code == "provider_unavailable"));
}

#[tokio::test]
async fn a2_a_sign_out_page_that_is_no_web_page_is_not_offered() {
    let (gateway, provider) = simple().await;
    for page in ["javascript:alert(1)", "data:text/html,x", "http://evil.example/", "//evil.example"] {
        provider.set().metadata = json!({ "end_session_endpoint": page });
        provider.set().claims = json!({"exp": crate::NOW_S + 99_999});
        gateway.clock.advance_ms(3_600_000);
        let session = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session;
        assert_eq!(gateway.login.provider_sign_out(&session).await, None, "{page}");
    }
}
