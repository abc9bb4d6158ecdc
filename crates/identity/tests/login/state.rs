//! The way there and back: state, cookies, code, `iss`.

use bartizan_identity::{Ask, Begin, ReturnTo};
use bartizan_oauth::params::Builder;
use http::HeaderMap;

use crate::gateway::{Browser, config, gateway, param, simple};
use crate::provider::{CLIENT, Provider};

#[tokio::test]
async fn a2_a_person_signs_in() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let ask = Ask {
        max_age_s: Some(900),
        acr_values: vec!["gold".into(), "mfa".into()],
        prompt: Some("login".into()),
        ..Ask::default()
    };
    provider.set().claims = serde_json::json!({"auth_time": crate::NOW_S - 5, "amr": ["pwd", "otp"], "acr": "gold"});
    let url = gateway.begin_with(&mut browser, Some("Ana@Corp.example"), ask).await;
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", "https://gate.example/login/callback"),
        ("scope", "openid email profile"),
        ("code_challenge_method", "S256"),
        ("login_hint", "ana@corp.example"),
        ("max_age", "900"),
        ("acr_values", "gold mfa"),
        ("prompt", "login"),
    ] {
        assert_eq!(param(&url, name).as_deref(), Some(value), "{name}");
    }
    for random in ["state", "nonce", "code_challenge"] {
        assert_eq!(param(&url, random).unwrap().len(), 43, "{random}");
    }
    let signed_in = gateway.callback(&mut browser, &provider.approve(&url)).await.unwrap();
    assert_eq!(signed_in.return_to, ReturnTo::path("/account"));
    let session = gateway.current(&browser).await.unwrap();
    assert_eq!(session, signed_in.session);
    let person = &session.person;
    assert_eq!((person.email.as_str(), person.name.as_str()), ("ana@corp.example", "Ana"));
    assert_eq!((person.subject.as_str(), person.issuer.as_str()), ("sub-ana", provider.issuer.as_str()));
    assert_eq!(person.groups, ["eng"]);
    assert_eq!((session.auth_time_ms, session.acr.as_deref()), ((crate::NOW_S - 5) * 1000, Some("gold")));
    assert_eq!((session.amr.len(), session.provider.as_str()), (2, "corp"));
    // The cookie of the sign-in is gone, the session's is there.
    assert_eq!(browser.0.keys().collect::<Vec<_>>(), ["__Host-bartizan"]);
    let event = gateway.events.lock().unwrap().last().cloned().unwrap();
    assert!(event.ok && event.person.as_deref() == Some("ana@corp.example"));
    let out = gateway.login.provider_sign_out(&session).await.unwrap();
    let (way, hint) = out.url.split_once("&id_token_hint=").unwrap();
    assert_eq!(way, format!("{}/end?client_id={CLIENT}", provider.issuer));
    assert!(out.is_known && hint.split('.').count() == 3, "{hint}");
    let request = provider.set().last_token_request.clone();
    assert!(!request.contains("client_secret="), "the secret travels in one place only");
}

#[tokio::test]
async fn a2_a_public_client_and_one_that_posts_its_secret() {
    let (gateway, provider) = simple().await;
    provider.set().secret = None;
    let mut public = config("corp", &provider, &[]);
    public.client_secret = None;
    gateway.providers.store(vec![public].into());
    assert_eq!(gateway.outcome(&provider).await, "ok");
    provider.set().metadata = serde_json::json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
    gateway.providers.store(vec![config("corp", &provider, &[])].into());
    gateway.clock.advance_ms(3_600_000);
    provider.set().claims = serde_json::json!({"iat": crate::NOW_S + 3600, "exp": crate::NOW_S + 3900});
    assert_eq!(gateway.outcome(&provider).await, "ok");
    assert!(provider.set().last_token_request.contains("client_secret=s3%3Acr%25t"));
    provider.set().metadata = serde_json::json!({"token_endpoint_auth_methods_supported": ["tls_client_auth"]});
    gateway.clock.advance_ms(3_600_000);
    assert_eq!(gateway.outcome(&provider).await, "provider_settings");
}

#[tokio::test]
async fn a2_the_state_of_another_browser_is_refused() {
    let (gateway, provider) = simple().await;
    // Somebody begins in their own browser and lets the victim's browser finish, so that
    // the victim works in a foreign account.
    let (mut attacker, mut victim) = (Browser::default(), Browser::default());
    let url = gateway.begin(&mut attacker).await;
    let answer = provider.approve(&url);
    let problem = gateway.callback(&mut victim, &answer).await.unwrap_err();
    assert_eq!(problem.code, "sign_in_state");
    // Nor with a cookie of the victim's own sign-in, under its own or the needed name.
    gateway.begin(&mut victim).await;
    assert_eq!(gateway.callback(&mut victim, &answer).await.unwrap_err().code, "sign_in_state");
    let value = victim.0.values().next().unwrap().clone();
    let name = attacker.0.keys().next().unwrap().clone();
    victim.0.insert(name.clone(), value);
    assert_eq!(gateway.callback(&mut victim, &answer).await.unwrap_err().code, "sign_in_state");
    assert!(gateway.current(&victim).await.is_none());
    assert_eq!(provider.asked("/token"), 0, "the code never left");
    // With the right cookie the very same request works: nothing else stopped it.
    victim.0.insert(name, attacker.0.values().next().unwrap().clone());
    gateway.callback(&mut victim, &answer).await.unwrap();
}

#[tokio::test]
async fn a2_a_state_is_good_once_and_for_ten_minutes() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let url = gateway.begin(&mut browser).await;
    let before = browser.clone();
    let answer = provider.approve(&url);
    gateway.callback(&mut browser, &answer).await.unwrap();
    // Replayed, with all cookies of that moment and a code that would be good.
    let again = provider.approve(&url);
    for query in [&answer, &again] {
        assert_eq!(gateway.callback(&mut before.clone(), query).await.unwrap_err().code, "sign_in_state");
    }
    let url = gateway.begin(&mut browser).await;
    gateway.clock.advance_ms(10 * 60 * 1000 - 1);
    let mut early = browser.clone();
    provider.set().claims = serde_json::json!({"exp": crate::NOW_S + 3600});
    gateway.callback(&mut early, &provider.approve(&url)).await.unwrap();
    let url = gateway.begin(&mut browser).await;
    gateway.clock.advance_ms(10 * 60 * 1000);
    assert_eq!(gateway.callback(&mut browser, &provider.approve(&url)).await.unwrap_err().code, "sign_in_state");
    for query in ["", "code=x", "code=x&state=y&state=z", "state=x", "code=x&error=y&state=z", "%", &"x".repeat(20_000)]
    {
        let problem =
            gateway.login.from_peer(gateway.peer()).callback(None, query, &HeaderMap::new()).await.unwrap_err();
        assert_eq!(problem.code, "bad_answer", "{query:.40}");
    }
    let problem = gateway.login.callback(None, "code=x&state=y", &browser.headers()).await.unwrap_err();
    assert_eq!(problem.code, "sign_in_state");
}

#[tokio::test]
async fn a2_two_tabs_do_not_get_in_each_others_way() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let (one, two) = (gateway.begin(&mut browser).await, gateway.begin(&mut browser).await);
    gateway.callback(&mut browser, &provider.approve(&one)).await.unwrap();
    gateway.callback(&mut browser, &provider.approve(&two)).await.unwrap();
}

#[tokio::test]
async fn a2_a_code_of_another_sign_in_is_refused() {
    let (gateway, provider) = simple().await;
    let (mut victim, mut attacker) = (Browser::default(), Browser::default());
    let theirs = gateway.begin(&mut victim).await;
    let stolen = param(&format!("x?{}", provider.approve(&theirs)), "code").unwrap();
    // Injected into a sign-in of the attacker's: neither verifier nor nonce fit.
    let mine = gateway.begin(&mut attacker).await;
    let answer = Builder::new().add("code", &stolen).add("state", &param(&mine, "state").unwrap()).finish();
    assert_eq!(gateway.callback(&mut attacker, &answer).await.unwrap_err().code, "bad_tokens");
    // At a provider that does not look at the verifier, the nonce is what stops it.
    let theirs = gateway.begin(&mut victim).await;
    let mine = gateway.begin(&mut attacker).await;
    let replace = |url: &str, name: &str, value: &str| url.replace(&param(url, name).unwrap(), value);
    let lax = replace(&theirs, "code_challenge", &param(&mine, "code_challenge").unwrap());
    let stolen = param(&format!("x?{}", provider.approve(&lax)), "code").unwrap();
    let answer = Builder::new().add("code", &stolen).add("state", &param(&mine, "state").unwrap()).finish();
    assert_eq!(gateway.callback(&mut attacker, &answer).await.unwrap_err().code, "bad_id_token");
    // Without the nonce of the victim in it the same code passes: the nonce stopped it.
    let mine = gateway.begin(&mut attacker).await;
    let unbound = replace(&lax, "code_challenge", &param(&mine, "code_challenge").unwrap());
    let unbound = replace(&unbound, "nonce", &param(&mine, "nonce").unwrap());
    let stolen = param(&format!("x?{}", provider.approve(&unbound)), "code").unwrap();
    let answer = Builder::new().add("code", &stolen).add("state", &param(&mine, "state").unwrap()).finish();
    gateway.callback(&mut attacker, &answer).await.unwrap();
}

#[tokio::test]
async fn a2_an_answer_of_another_provider_is_refused() {
    let (good, evil) = (Provider::start().await, Provider::start().await);
    good.set().sends_iss = true;
    evil.set().sends_iss = true;
    let providers = vec![config("good", &good, &["corp.example"]), config("evil", &evil, &["other.example"])];
    let gateway = gateway("https://gate.example", providers, &[]).await;
    let mut browser = Browser::default();
    let begin = async |browser: &mut Browser, id: &str| {
        let ask = Ask { provider: Some(id.to_owned()), ..Ask::default() };
        gateway.begin_with(browser, None, ask).await
    };
    let url = begin(&mut browser, "good").await;
    let honest = good.approve(&url);
    // The other one answers in its own name, with a code or with an error.
    let state = param(&url, "state").unwrap();
    for what in [("code", "x"), ("error", "access_denied")] {
        let url = begin(&mut browser, "good").await;
        let state = param(&url, "state").unwrap();
        let answer = Builder::new()
            .add(what.0, what.1)
            .add("error_description", "Call +1 555")
            .add("state", &state)
            .add("iss", &evil.issuer);
        let problem = gateway.callback(&mut browser, &answer.finish()).await.unwrap_err();
        assert_eq!(problem.code, "other_provider");
        assert!(!problem.text.contains("555"), "nothing of it is shown");
    }
    // Nor by leaving its name out.
    let nameless =
        Builder::new().add("code", "x").add("state", &param(&begin(&mut browser, "good").await, "state").unwrap());
    assert_eq!(gateway.callback(&mut browser, &nameless.finish()).await.unwrap_err().code, "other_provider");
    assert_eq!((good.asked("/token"), evil.asked("/token")), (0, 0), "no code was handed to anybody");
    // The honest answer to the first sign-in is good still.
    assert!(honest.contains(&state));
    gateway.callback(&mut browser, &honest).await.unwrap();
    assert_eq!((good.asked("/token"), evil.asked("/token")), (1, 0));
    // Where the provider does not send its name, the answer goes to the one that was asked.
    evil.set().sends_iss = false;
    good.set().sends_iss = false;
    gateway.clock.advance_ms(3_600_000);
    good.set().claims = serde_json::json!({"exp": crate::NOW_S + 9999});
    let url = begin(&mut browser, "good").await;
    gateway.callback(&mut browser, &good.approve(&url)).await.unwrap();
}

#[tokio::test]
async fn a2_a_hostile_error_is_bounded_and_kept_as_text() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let url = gateway.begin(&mut browser).await;
    let long = format!("<script>alert(1)</script>\u{202e}{}", "x".repeat(1000));
    let answer = Builder::new()
        .add("error", "access_denied")
        .add("error_description", &long)
        .add("state", &param(&url, "state").unwrap());
    let problem = gateway.callback(&mut browser, &answer.finish()).await.unwrap_err();
    assert_eq!(problem.code, "provider_refused");
    assert!(problem.text.contains("`access_denied`: <script>") && !problem.text.contains('\u{202e}'));
    assert!(problem.text.chars().count() < 400);
    let event = gateway.events.lock().unwrap().last().cloned().unwrap();
    assert_eq!((event.ok, event.note.as_deref()), (false, Some("provider_refused")));
    assert_eq!(provider.asked("/token"), 0);
}

#[tokio::test]
async fn a2_a_changed_configuration_ends_sign_ins_under_way() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let mut changed = config("corp", &provider, &[]);
    changed.client_id = "another".to_owned();
    let url = gateway.begin(&mut browser).await;
    gateway.providers.store(vec![changed].into());
    assert_eq!(gateway.callback(&mut browser, &provider.approve(&url)).await.unwrap_err().code, "sign_in_state");
    gateway.providers.store(vec![].into());
    assert!(
        matches!(gateway.login.begin(ReturnTo::path("/"), None, Ask::default()).await, Begin::Unavailable(problem) if problem.code == "no_provider")
    );
}
