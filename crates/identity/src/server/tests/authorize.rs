//! A9, A19: the authorization endpoint.

use super::*;

#[track_caller]
fn page(step: Step) -> &'static str {
    match step {
        Step::Problem(problem) => problem.code,
        other => panic!("not a page: {other:?}"),
    }
}

/// The error of a redirect, which always names the issuer and keeps the state.
#[track_caller]
fn error(step: Step) -> String {
    let Step::Redirect(to) = step else { panic!("not a redirect: {step:?}") };
    assert!(to.starts_with(CALLBACK), "{to}");
    let found = parameters(&to);
    assert_eq!((found.get("iss"), found.get("code")), (Some(ISSUER), None), "{to}");
    assert!(found.get("state").is_none_or(|state| state == "st a&te"));
    found.get("error").unwrap().to_owned()
}

#[tokio::test]
async fn a9_every_answer_names_the_issuer() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let Step::Consent(view) = bench.server.authorize(&request(&client), Some(&bench.session)).await else { panic!() };
    assert_eq!((view.redirect_host.as_str(), view.redirect_origin.as_str()), ("127.0.0.1", "http://127.0.0.1:4711"));
    assert_eq!((view.client_name.as_str(), view.loopback_only, view.kind), ("Inspector", true, ClientKind::Registered));
    assert_eq!(view.scopes.iter().map(|scope| scope.name.as_str()).collect::<Vec<_>>(), ["mcp:read"]);
    assert_eq!(view.resource, RESOURCE);
    let Step::Redirect(to) = bench.server.decide(&view.transaction, &bench.session, true).await else { panic!() };
    let found = parameters(&to);
    assert!(to.starts_with(&format!("{CALLBACK}?code=bzk_")), "{to}");
    assert_eq!((found.get("iss"), found.get("state")), (Some(ISSUER), Some("st a&te")));
    // A refusal as well.
    let step = bench.server.authorize(&request_with(&client, "prompt", Some("consent")), Some(&bench.session)).await;
    let Step::Consent(view) = step else { panic!("prompt=consent asks again") };
    assert_eq!(error(bench.server.decide(&view.transaction, &bench.session, false).await), "access_denied");
}

#[tokio::test]
async fn a9_what_cannot_be_trusted_never_redirects() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    for redirect in [
        "http://127.0.0.1:4711/cb2",
        "http://127.0.0.1:4711/cb/",
        "http://127.0.0.1:4711/cb?x=1",
        "http://127.0.0.1:4711/cb#x",
        "http://127.0.0.1:4711/cb/../evil",
        "http://127.0.0.1:80@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://localhost:4711/cb",
        "http://[::1]:4711/cb",
        "https://127.0.0.1:4711/cb",
        "HTTP://127.0.0.1:4711/cb",
        "http://0x7f000001:4711/cb",
        "http://127.0.0.1:4711\\@evil.example/cb",
        "//127.0.0.1:4711/cb",
        "/cb",
        "https://evil.example/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://127.0.0.1:4711/%63b",
        "http://127.0.0.1:4711/cb%00",
        "http://127.0.0.1:4711/cb ",
    ] {
        let query = request_with(&client, "redirect_uri", Some(redirect));
        let step = bench.server.authorize(&query, Some(&bench.session)).await;
        assert!(!matches!(&step, Step::Problem(problem) if problem.text.contains("//")), "{redirect}: echoed");
        let code = page(step);
        assert!(["invalid_redirect_uri", "invalid_request"].contains(&code), "{redirect}: {code}");
    }
    for (query, code) in [
        (request_with(&client, "redirect_uri", None), "invalid_request"),
        (request_with(&client, "client_id", None), "invalid_request"),
        (request_with(&client, "client_id", Some("nobody")), "unknown_client"),
        (request_with(&client, "client_id", Some("bzd_' OR 1=1--")), "unknown_client"),
        (request_with(&client, "client_id", Some("http://evil.example/c")), "invalid_client_document"),
        (format!("{}&redirect_uri=https%3A%2F%2Fevil.example%2F", request(&client)), "invalid_request"),
        (format!("{}&client_id=x", request(&client)), "invalid_request"),
        (format!("{}&x=%", request(&client)), "invalid_request"),
        (format!("{}&x={}", request(&client), "a".repeat(20_000)), "invalid_request"),
        (String::new(), "invalid_request"),
    ] {
        assert_eq!(page(bench.server.authorize(&query, Some(&bench.session)).await), code, "{query}");
        assert_eq!(page(bench.server.authorize(&query, None).await), code, "{query}");
    }
    // The port of a loopback address is free (RFC 8252).
    let query = request_with(&client, "redirect_uri", Some("http://127.0.0.1:59999/cb"));
    assert!(matches!(bench.server.authorize(&query, Some(&bench.session)).await, Step::Consent(_)));
}

#[tokio::test]
async fn a9_errors_for_the_client() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let with = |name, value| request_with(&client, name, value);
    let plain = request(&client).replace("S256", "plain").replace(&challenge_of(VERIFIER), VERIFIER);
    let long = "s".repeat(5000);
    for (query, code) in [
        (with("code_challenge", None), "invalid_request"),
        (with("code_challenge_method", None), "invalid_request"),
        (with("code_challenge_method", Some("plain")), "invalid_request"),
        (plain, "invalid_request"),
        (with("code_challenge", Some("short")), "invalid_request"),
        (with("response_type", None), "invalid_request"),
        (with("response_type", Some("token")), "unsupported_response_type"),
        (with("response_type", Some("code token")), "unsupported_response_type"),
        (with("response_mode", Some("fragment")), "invalid_request"),
        (with("request_uri", Some("https://evil.example/r")), "invalid_request"),
        (with("resource", Some("https://evil.example/mcp")), "invalid_target"),
        (with("resource", Some("https://gw.example/mcp/../admin")), "invalid_target"),
        (with("resource", Some("https://gw.example/mcp#x")), "invalid_target"),
        (format!("{}&resource={OTHER_RESOURCE}", request(&client)), "invalid_target"),
        (with("scope", Some("a\"b")), "invalid_scope"),
        (with("scope", Some("mcp:everything")), "invalid_scope"),
        (with("scope", Some("openid mcp:everything")), "invalid_scope"),
        (format!("{}&scope=mcp:write", request(&client)), "invalid_request"),
        (format!("{}&state=other", request(&client)), "invalid_request"),
        (format!("{}&code_challenge=x", request(&client)), "invalid_request"),
        (with("prompt", Some("none login")), "invalid_request"),
    ] {
        assert_eq!(error(bench.server.authorize(&query, Some(&bench.session)).await), code, "{query}");
        assert_eq!(error(bench.server.authorize(&query, None).await), code, "before anybody signs in: {query}");
    }
    assert!(matches!(bench.server.authorize(&with("state", Some(&long)), None).await, Step::Redirect(_)));
    assert_eq!(error(bench.server.authorize(&with("prompt", Some("none")), None).await), "login_required");
    let quiet = bench.server.authorize(&with("prompt", Some("none")), Some(&bench.session)).await;
    assert_eq!(error(quiet), "consent_required");
}

#[tokio::test]
async fn a19_consent_is_remembered_for_person_client_and_scopes() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    bench.code(&client).await;
    let asks = async |query: &str, session: &BrowserSession| {
        matches!(bench.server.authorize(query, Some(session)).await, Step::Consent(_))
    };
    assert!(!asks(&request(&client), &bench.session).await, "known now");
    assert!(asks(&request_with(&client, "scope", Some("mcp:read mcp:write")), &bench.session).await, "asks for more");
    // A known provider cookie and a new client id: still asked (confused deputy).
    let other = bench.register(CALLBACK).await;
    assert!(asks(&request(&other), &bench.session).await, "another client");
    let bob = sign_in(&bench.store, "bob", "session-of-bob").await;
    assert!(asks(&request(&client), &bob).await, "another person");
    assert!(asks(&request_with(&client, "resource", Some(OTHER_RESOURCE)), &bench.session).await, "another resource");
    // Taken back.
    assert_eq!(bench.server.clients_of("ana").await.unwrap().len(), 1);
    bench.server.withdraw("ana", &client).await.unwrap();
    assert!(bench.server.clients_of("ana").await.unwrap().is_empty());
    assert!(asks(&request(&client), &bench.session).await);
}

#[tokio::test]
async fn a19_a_page_is_answered_once_by_who_saw_it_within_ten_minutes() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let bob = sign_in(&bench.store, "bob", "session-of-bob").await;
    let view = async || match bench.server.authorize(&request(&client), Some(&bench.session)).await {
        Step::Consent(view) => view.transaction,
        other => panic!("{other:?}"),
    };
    let transaction = view().await;
    assert_eq!(page(bench.server.decide(&transaction, &bob, true).await), "request_expired", "another session");
    assert_eq!(page(bench.server.decide("x", &bench.session, true).await), "request_expired");
    // Neither kind of handle passes as the other.
    assert_eq!(page(bench.server.resume(&transaction, &bench.session).await), "request_expired");
    let Step::SignIn { transaction: pending } = bench.server.authorize(&request(&client), None).await else { panic!() };
    assert_eq!(page(bench.server.decide(&pending, &bench.session, true).await), "request_expired");
    let mut changed = transaction.clone().into_bytes();
    changed[40] ^= 1;
    assert_eq!(
        page(bench.server.decide(std::str::from_utf8(&changed).unwrap_or("x"), &bench.session, true).await),
        "request_expired"
    );
    assert!(matches!(bench.server.decide(&transaction, &bench.session, true).await, Step::Redirect(_)));
    assert_eq!(page(bench.server.decide(&transaction, &bench.session, true).await), "request_expired", "twice");
    bench.server.withdraw("ana", &client).await.unwrap();
    let transaction = view().await;
    bench.clock.advance_ms(PAGE_MS);
    assert_eq!(page(bench.server.decide(&transaction, &bench.session, true).await), "request_expired", "old");
    assert_eq!(page(bench.server.resume(&pending, &bench.session).await), "request_expired", "old");
}

#[tokio::test]
async fn a19_prompt_login_wants_a_sign_in_after_the_request() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    bench.clock.advance_ms(1000);
    let query = request_with(&client, "prompt", Some("login"));
    let Step::SignIn { transaction } = bench.server.authorize(&query, Some(&bench.session)).await else { panic!() };
    assert!(matches!(bench.server.resume(&transaction, &bench.session).await, Step::SignIn { .. }), "the old session");
    let again = BrowserSession { created_ms: NOW + 2000, ..bench.session.clone() };
    assert!(matches!(bench.server.resume(&transaction, &again).await, Step::Consent(_)));
}

#[tokio::test]
async fn a9_asking_costs_no_room() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let before = tokens::dump(&bench).await;
    for _ in 0..100 {
        assert!(matches!(bench.server.authorize(&request(&client), None).await, Step::SignIn { .. }));
    }
    assert_eq!(tokens::dump(&bench).await.len(), before.len());
}

#[tokio::test]
async fn a19_scopes_of_openid_alone_are_no_scopes() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    for (scope, given) in [
        (None, vec!["mcp:read", "mcp:write"]),
        (Some("openid profile offline_access"), vec!["mcp:read", "mcp:write"]),
        (Some("openid mcp:read"), vec!["mcp:read"]),
        // Given when it is asked for by name, and shown; never by default.
        (Some("mcp:admin mcp:read"), vec!["mcp:read", "mcp:admin"]),
    ] {
        let step = bench.server.authorize(&request_with(&client, "scope", scope), Some(&bench.session)).await;
        let Step::Consent(view) = step else { panic!("{scope:?}: {step:?}") };
        assert_eq!(view.scopes.iter().map(|scope| scope.name.as_str()).collect::<Vec<_>>(), given, "{scope:?}");
    }
}

#[tokio::test]
async fn a25_signing_out_everywhere_ends_every_browser() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let bob = sign_in(&bench.store, "bob", "session-of-bob").await;
    bench.code(&client).await;
    let step = bench.server.authorize(&request_with(&client, "prompt", Some("consent")), Some(&bench.session)).await;
    let Step::Consent(view) = step else { panic!() };
    bench.server.sign_out_everywhere("ana").await.unwrap();
    let session = async |cookie: &[u8]| browser_session::current(&bench.store, cookie).await.unwrap();
    assert_eq!(session(b"session-of-ana").await, None);
    assert!(session(b"session-of-bob").await.is_some(), "bob is another person");
    // Whoever read the session a moment before gets no code: neither at once nor from the page.
    assert_eq!(page(bench.server.authorize(&request(&client), Some(&bench.session)).await), "request_expired");
    assert_eq!(page(bench.server.decide(&view.transaction, &bench.session, true).await), "request_expired");
    assert!(matches!(bench.server.authorize(&request(&client), Some(&bob)).await, Step::Consent(_)));
}

#[tokio::test]
async fn a9_what_waits_for_a_sign_in_is_bounded() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let query = |length| request_with(&client, "state", Some("s".repeat(length).as_str()));
    let Step::SignIn { transaction } = bench.server.authorize(&query(2000), None).await else { panic!() };
    assert!(transaction.len() <= 6 * 1024);
    let long = format!("{}&more={}", query(4000), "x".repeat(2000));
    assert_eq!(page(bench.server.authorize(&long, None).await), "request_too_long");
    assert!(matches!(bench.server.authorize(&long, Some(&bench.session)).await, Step::Consent(_)), "nothing is kept");
}

#[tokio::test]
async fn a19_prompt_login_is_known_from_the_transaction() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    for (prompt, login) in
        [(None, false), (Some("consent"), false), (Some("login"), true), (Some("login consent"), true)]
    {
        let Step::SignIn { transaction } = bench.server.authorize(&request_with(&client, "prompt", prompt), None).await
        else {
            panic!()
        };
        assert_eq!(bench.server.wants_login(&transaction), Some(login), "{prompt:?}");
    }
    assert_eq!(bench.server.wants_login("x"), None, "nothing begins for what was made up");
}
