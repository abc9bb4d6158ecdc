use bartizan_identity::{Begin, PageProblem, Step};
use http::StatusCode;
use http::header::{LOCATION, SET_COOKIE};

use super::fake::*;

fn with(begin: fn() -> Begin) -> Fake {
    Fake { begin: Some(begin), ..Fake::default() }
}

#[tokio::test]
async fn a2_one_provider_is_gone_to_at_once() {
    let fake = Fake::default();
    let answer = send(&app(&fake), get("/login?return_to=/account", None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "https://idp.example.com/auth?state=s");
    assert!(header(&answer, "set-cookie").starts_with("__Host-bartizan-login="));
    assert_eq!(fake.done(), [r#"begin Path(LocalPath("/account")) None None"#]);
}

#[tokio::test]
async fn a2_several_providers_are_chosen_by_link_or_address() {
    let fake = with(providers);
    let (status, page) = ask(&app(&fake), get("/login?transaction=t%261", None)).await;
    assert_eq!(status, 200);
    assert!(page.contains(r#"href="/login?provider=partners&#38;transaction=t%261""#), "{page}");
    assert!(page.contains(r#"name="transaction" value="t&#38;1""#), "{page}");
    assert!(!page.contains("Nobody here"), "{page}");
    let (_, page) = ask(&app(&fake), form("/login", "email=ada%40elsewhere.example&transaction=t1")).await;
    assert!(page.contains("Nobody here signs in with that address."), "{page}");

    let fake = Fake::default();
    send(&app(&fake), get("/login?provider=partners&transaction=t%261", None)).await;
    assert_eq!(fake.done(), [r#"begin Authorize("t&1") None Some("partners")"#]);

    let fake = Fake::default();
    let answer = send(&app(&fake), form("/login", "email=ada%40example.com&transaction=t1")).await;
    assert_eq!(fake.done(), [r#"begin Authorize("t1") Some("ada@example.com") None"#]);
    // No redirect: `form-action` of the page with the form would stop it.
    assert_eq!(answer.status(), 200);
    assert!(header(&answer, "set-cookie").starts_with("__Host-bartizan-login="));
    let page = text(answer).await;
    assert!(page.contains(r#"content="0; url=https://idp.example.com/auth?state=s""#), "{page}");
}

#[tokio::test]
async fn a32_providers_are_web_addresses() {
    for begin in [
        || to_provider("javascript:alert(1)"),
        || to_provider("cursor://x"),
        || to_provider("/account"),
        || to_provider("//evil.example"),
    ] as [fn() -> Begin; 4]
    {
        let app = app(&with(begin));
        for request in [get("/login", None), form("/login", "email=a%40b.c")] {
            let answer = send(&app, request).await;
            assert_eq!(answer.status(), 400);
            assert!(answer.headers().get(LOCATION).is_none());
            assert!(!text(answer).await.contains("http-equiv"));
        }
    }
}

#[tokio::test]
async fn a2_after_the_provider_the_browser_goes_on_with_its_new_cookie() {
    let fake = Fake::default();
    let app = app(&fake);
    let answer = send(&app, get("/login/callback?code=c&state=s&iss=i", None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "/login/continue?transaction=t%261");
    assert!(answer.headers()[SET_COOKIE].to_str().unwrap().starts_with("__Host-bartizan=ada"));

    let answer = send(&app, get("/login/continue?transaction=t%261", Some(COOKIE))).await;
    assert_eq!(answer.headers()[LOCATION], "https://app.example.com/cb?code=c&iss=i");
    assert_eq!(fake.done(), ["callback code=c&state=s&iss=i", "resume t&1 s1"]);

    let answer = send(&app, get("/login/callback?page", None)).await;
    assert_eq!(answer.headers()[LOCATION], "/account");
    let (status, page) = ask(&app, get("/login/callback?bad", None)).await;
    assert_eq!(status, 400);
    assert!(page.contains("<code>sign_in_state</code>"), "{page}");
}

#[tokio::test]
async fn a2_a_browser_without_cookies_does_not_go_round_for_ever() {
    let fake = Fake::default();
    let (status, page) = ask(&app(&fake), get("/login/continue?transaction=t1", None)).await;
    assert_eq!(status, 400);
    assert!(page.contains("<code>no_session</code>") && page.contains("Allow cookies"), "{page}");
    assert!(fake.done().is_empty());
}

#[tokio::test]
async fn a2_demo_people_are_offered_only_when_the_login_says_so() {
    let (_, page) = ask(&app(&Fake::default()), get("/login", None)).await;
    assert!(!page.contains("/login/demo"));
    let (status, page) = ask(&app(&with(people)), get("/login?transaction=t1", None)).await;
    assert_eq!(status, 200);
    for wanted in ["Grace Hopper", "finance, governance", r#"value="t1""#, "Demo."] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }

    let fake = Fake::default();
    let answer = send(&app(&fake), form("/login/demo", "user=ada%40example.com&transaction=t1")).await;
    assert_eq!(fake.done(), [r#"demo ada@example.com Authorize("t1")"#]);
    assert!(header(&answer, "set-cookie").starts_with("__Host-bartizan=ada"));
    let page = text(answer).await;
    assert!(page.contains(r#"content="0; url=/login/continue?transaction=t1""#), "{page}");
}

#[tokio::test]
async fn a32_another_site_cannot_sign_anybody_in() {
    for (path, body) in [("/login/demo", "user=ada%40example.com"), ("/login", "email=a%40b.c")] {
        for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            let fake = Fake::default();
            let mut request = form(path, body);
            request.headers_mut().insert(name, value.parse().unwrap());
            let answer = send(&app(&fake), request).await;
            assert_eq!(answer.status(), 403, "{path} {name}");
            assert!(answer.headers().get(SET_COOKIE).is_none());
            assert!(fake.done().is_empty());
        }
    }
}

#[tokio::test]
async fn a32_return_to_stays_here() {
    for bad in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "javascript%3Aalert(1)"] {
        let fake = Fake::default();
        let app = app(&fake);
        send(&app, get(&format!("/login?return_to={bad}"), None)).await;
        assert_eq!(fake.done(), [r#"begin Path(LocalPath("/")) None None"#], "{bad}");
        // Somebody who is signed in goes there without being asked.
        let answer = send(&app, get(&format!("/login?return_to={bad}"), Some(COOKIE))).await;
        assert_eq!(answer.headers()[LOCATION], "/", "{bad}");
    }
}

#[tokio::test]
async fn a2_a_provider_that_is_down_is_told() {
    let fake = with(|| {
        let problem = PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "provider_down", "No answer", "It is down.");
        Begin::Unavailable(problem.hint("Try again in a minute."))
    });
    let (status, page) = ask(&app(&fake), get("/login", None)).await;
    assert_eq!(status, 503);
    assert!(page.contains("<code>provider_down</code>") && page.contains("Try again in a minute."), "{page}");
}

#[tokio::test]
async fn a1_under_a_path_all_ways_keep_it() {
    let fake = with(providers);
    let app = app_at(&fake, "https://h.example.com/gw/");
    let (_, page) = ask(&app, get("/login?transaction=t1", None)).await;
    assert!(page.contains(r#"href="/gw/login?provider=corp"#), "{page}");
    assert!(page.contains(r#"action="/gw/login""#), "{page}");
    assert!(page.contains(r#"href="/gw/assets/style.css"#), "{page}");
    let answer = send(&app, get("/account", None)).await;
    assert_eq!(answer.headers()[LOCATION], "/gw/login?return_to=/account");
    let answer = send(&app, get("/login/callback?x", None)).await;
    assert_eq!(answer.headers()[LOCATION], "/gw/login/continue?transaction=t%261");
}

#[tokio::test]
async fn a2_links_that_cannot_be_read_begin_nothing() {
    let long = format!("/login?transaction={}", "a".repeat(20_000));
    let on = format!("/login/continue?transaction={}", "a".repeat(20_000));
    for path in [&long, &on, "/login?transaction=%zz", "/login/continue", "/login/continue?transaction="] {
        let fake = Fake::default();
        let (status, page) = ask(&app(&fake), get(path, Some(COOKIE))).await;
        assert_eq!(status, 400, "{path}");
        assert!(page.contains("<code>invalid_request</code>") && fake.done().is_empty(), "{page}");
    }
}

#[tokio::test]
async fn a19_prompt_login_reaches_the_provider_on_every_way() {
    for request in [
        get("/login?transaction=fresh", None),
        get("/login?transaction=fresh&provider=partners", None),
        form("/login", "email=ada%40example.com&transaction=fresh"),
        get("/authorize?client_id=c", None),
    ] {
        let fake = Fake { step: Some(|| Step::SignIn { transaction: "fresh".into() }), ..Fake::default() };
        let what = request.uri().clone();
        send(&app(&fake), request).await;
        assert!(fake.done().contains(&"prompt login".to_owned()), "{what}: {:?}", fake.done());
    }
    let fake = Fake::default();
    send(&app(&fake), get("/login?transaction=t1", None)).await;
    assert!(!fake.done().contains(&"prompt login".to_owned()));
}
