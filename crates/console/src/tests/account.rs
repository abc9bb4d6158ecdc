use http::header::{LOCATION, SET_COOKIE};

use super::fake::*;

#[tokio::test]
async fn a19_allowed_clients_are_listed_for_their_person_only() {
    let fake = Fake { clients: super::golden::clients(), ..Fake::default() };
    let app = app(&fake);
    let answer = send(&app, get("/account", None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "/login?return_to=/account");
    let (status, page) = ask(&app, get("/account", Some(COOKIE))).await;
    assert_eq!(status, 200);
    for wanted in ["Ada Lovelace", "ada@example.com", "engineering, finance", "Claude Code", r#"value="withdraw""#] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
}

#[tokio::test]
async fn a19_a_client_is_withdrawn() {
    let fake = Fake::default();
    let answer =
        send(&app(&fake), form("/account", "csrf=csrf-of-s1&action=withdraw&client=https%3A%2F%2Fc%2Fid")).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "/account");
    assert_eq!(fake.done(), ["withdraw p1 https://c/id"]);
}

#[tokio::test]
async fn a19_signing_out_ends_the_session_and_the_cookie() {
    let fake = Fake::default();
    let app = app(&fake);
    let answer = send(&app, form("/logout", "csrf=csrf-of-s1")).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "/signed-out");
    assert!(answer.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(fake.done(), ["end s1"]);
    // Nobody signed in: the page, and nothing else.
    let mut request = form("/logout", "");
    request.headers_mut().remove("cookie");
    assert_eq!(send(&app, request).await.headers()[LOCATION], "/signed-out");

    let (status, page) = ask(&app, get("/signed-out", None)).await;
    assert_eq!(status, 200);
    assert!(page.contains("You are signed out"), "{page}");
    assert_eq!(send(&app, get("/signed-out", Some(COOKIE))).await.headers()[LOCATION], "/account");
}

#[tokio::test]
async fn p39_signing_out_everywhere_says_what_ended() {
    let fake = Fake::default();
    let (status, page) = ask(&app(&fake), form("/logout", "csrf=csrf-of-s1&action=everywhere")).await;
    assert_eq!(status, 200);
    assert_eq!(fake.done(), ["everywhere p1 false", "end s1"], "accounts stay unless they are named");
    for wanted in ["<dt>Browsers</dt><dd>3</dd>", "<dt>Clients</dt><dd>2</dd>", "<dt>Accounts</dt><dd>0</dd>"] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    assert!(page.contains("https://corp.example/logout?client_id=bartizan"), "{page}");
    assert!(page.contains("Sign out there as well"), "a provider that does not know who asks is left to the person");
    let fake = Fake::default();
    let app = app(&fake);
    let answer = send(&app, form("/logout", "csrf=csrf-of-s1&action=everywhere&accounts=yes")).await;
    assert!(answer.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    // One that knows is gone to without a click, after a moment for reading.
    let on = "4; url=https://corp.example/logout?client_id=bartizan&id_token_hint=e30";
    assert_eq!(answer.headers()["refresh"], on);
    assert_eq!(fake.done(), ["everywhere p1 true", "end s1"]);
    // Sabotage: a page of somebody else cannot do it to a person.
    let fake = Fake::default();
    let (status, _) = ask(&super::fake::app(&fake), form("/logout", "csrf=forged&action=everywhere")).await;
    assert_eq!((status, fake.done()), (403, Vec::new()));
}

#[tokio::test]
async fn a32_every_form_needs_its_token_and_its_page() {
    for (path, rest) in [
        ("/account", "action=withdraw&client=c"),
        ("/logout", "action=everywhere"),
        ("/logout", ""),
        ("/consent", "transaction=t1&decision=allow"),
    ] {
        for token in ["", "csrf=&", "csrf=csrf-of-s2&", "csrf=CSRF-OF-S1&"] {
            let fake = Fake::default();
            let answer = send(&app(&fake), form(path, &format!("{token}{rest}"))).await;
            assert_eq!(answer.status(), 403, "{path} {token}");
            assert!(answer.headers().get(SET_COOKIE).is_none());
            assert!(fake.done().is_empty(), "{path}");
        }
        let fake = Fake::default();
        let mut request = form(path, &format!("csrf=csrf-of-s1&{rest}"));
        request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
        assert_eq!(send(&app(&fake), request).await.status(), 403, "{path}");
        assert!(fake.done().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a19_a_hostile_name_of_a_person_or_client_stays_text() {
    let mut clients = super::golden::clients();
    clients[0].name = "<script>x</script>".into();
    clients[0].client_id = "\"><script>".into();
    let fake = Fake { clients, person_name: Some("<img src=x>\u{202e}".into()), ..Fake::default() };
    let (_, page) = ask(&app(&fake), get("/account", Some(COOKIE))).await;
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
}
