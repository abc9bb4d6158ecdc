use bartizan_accounts::AccountView;
use bartizan_identity::ReturnTo;
use http::header::LOCATION;

use super::fake::*;
use crate::upstream::OwnAccount;

/// Percent-encoded `/connect/notes`.
const NOTES: &str = "/login?return_to=%2Fconnect%2Fnotes";

/// A form that agrees to what the page showed.
const AGREE: &str = "csrf=csrf-of-s1&shown=shown-26";

pub(crate) fn accounts() -> Vec<OwnAccount> {
    let ready = AccountView {
        server: "notes".into(),
        ready: true,
        issuer: "https://auth.notes.example".into(),
        whom: Some("ada@notes.example".into()),
        scopes: vec!["notes.read".into(), "offline_access".into()],
        expires_ms: Some(NOW + 3_600_000),
        connected_ms: NOW - 86_400_000,
        last_used_ms: Some(NOW - 120_000),
    };
    let lost = AccountView { server: "tracker".into(), ready: false, last_used_ms: None, ..ready.clone() };
    let gone = AccountView { server: "secret".into(), ..ready.clone() };
    vec![
        OwnAccount { name: Some("Notes".into()), account: ready },
        OwnAccount { name: Some("Tracker".into()), account: lost },
        OwnAccount { name: None, account: gone },
    ]
}

#[tokio::test]
async fn p16_the_page_asks_before_the_browser_leaves() {
    let fake = Fake::default();
    let app = app(&fake);
    let (status, page) = ask(&app, get("/connect/notes", Some(COOKIE))).await;
    assert_eq!(status, 200);
    for wanted in ["Notes", "https://auth.notes.example", "notes.read", "ada@example.com", CSRF, "method=\"post\""] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    // Looking begins nothing.
    assert_eq!(fake.done(), ["ask notes"]);

    let answer = send(&app, form("/connect/notes", AGREE)).await;
    assert_eq!(answer.status(), 200);
    let page = text(answer).await;
    assert!(page.contains("0; url=https://auth.notes.example/authorize?state=s"), "{page}");
    assert_eq!(fake.done()[1..], ["leave s1 notes /connect/notes/done"]);
}

#[tokio::test]
async fn p16_the_page_that_asks_cannot_be_swapped_for_another() {
    let (_, page) = ask(&app(&Fake::default()), get("/connect/notes", Some(COOKIE))).await;
    assert!(page.contains("name=\"shown\" value=\"shown-26\""), "{page}");
    // Between the page and the form the server names another authorization server.
    let swapped = || Some("https://auth.notes.example.evil.example".to_owned());
    for body in [AGREE, "csrf=csrf-of-s1", "csrf=csrf-of-s1&shown="] {
        let fake = Fake { connect_origin: swapped(), ..Fake::default() };
        let (status, page) = ask(&app(&fake), form("/connect/notes", &format!("{body}&return_to=%2Faccount"))).await;
        assert_eq!((status, fake.done()), (200, vec!["ask notes".to_owned()]), "nobody is sent anywhere: {body}");
        for wanted in
            ["has changed since you looked", "auth.notes.example.evil.example", "shown-39", "value=\"/account\""]
        {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
    }
    // Without the seal the person would be sent to where they never agreed to go.
    let fake = Fake { connect_origin: swapped(), any_token: true, ..Fake::default() };
    send(&app(&fake), form("/connect/notes", AGREE)).await;
    assert_eq!(fake.done(), ["leave s1 notes /connect/notes/done"]);
}

#[tokio::test]
async fn p16_who_is_not_signed_in_signs_in_first() {
    let app = app(&Fake::default());
    for (path, wanted) in [
        ("/connect/notes", NOTES.to_owned()),
        ("/connect/nowhere", NOTES.replace("notes", "nowhere")),
        ("/connect/notes?return_to=/account", format!("{NOTES}%3Freturn_to%3D%2Faccount")),
    ] {
        let answer = send(&app, get(path, None)).await;
        assert_eq!((answer.status().as_u16(), answer.headers()[LOCATION].to_str().unwrap()), (303, wanted.as_str()));
    }
    // Nobody comes back for somebody who is not there.
    let (status, page) = ask(&app, get("/oauth/callback?code=c&state=s", None)).await;
    assert_eq!(status, 403);
    assert!(page.contains("You are not signed in here"), "{page}");
}

#[tokio::test]
async fn p16_a_server_that_is_not_for_the_person_does_not_exist() {
    let fake = Fake::default();
    let app = app(&fake);
    let event = |page: String| {
        let event = page.split("<dt>Event</dt><dd><code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        page.replace(&event, "EVENT")
    };
    let (status, nothing) = ask(&app, get("/nowhere", Some(COOKIE))).await;
    for path in ["/connect/secret", "/connect/nope", "/connect/..%2f..", "/connect/secret/done", "/connect/notes/done"]
    {
        let (same, page) = ask(&app, get(path, Some(COOKIE))).await;
        assert_eq!((same, event(page)), (status, event(nothing.clone())), "{path}");
    }
    let (status, page) = ask(&app, form("/connect/secret", "csrf=csrf-of-s1")).await;
    assert_eq!((status, event(page)), (404, event(nothing)));
}

#[tokio::test]
async fn p16_a_foreign_form_connects_and_disconnects_nothing() {
    for (path, rest) in [("/connect/notes", "connect=yes"), ("/account", "action=disconnect&server=notes")] {
        for token in ["", "csrf=&", "csrf=csrf-of-s2&"] {
            let fake = Fake::default();
            let answer = send(&app(&fake), form(path, &format!("{token}{rest}"))).await;
            assert_eq!((answer.status().as_u16(), fake.done().len()), (403, 0), "{path} {token}");
        }
        let fake = Fake::default();
        let mut request = form(path, &format!("csrf=csrf-of-s1&{rest}"));
        request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
        assert_eq!(send(&app(&fake), request).await.status(), 403);
        assert!(fake.done().is_empty());
        // Without the check of the token a page of the same site could do it.
        let fake = Fake { any_token: true, ..Fake::default() };
        send(&app(&fake), form(path, rest)).await;
        assert_eq!(fake.done().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn p16_where_to_go_on_is_a_page_of_ours() {
    for (given, wanted) in [
        ("%2Faccount", "/account"),
        ("https%3A%2F%2Fevil.example", "/connect/notes/done"),
        ("%2F%2Fevil.example", "/connect/notes/done"),
        ("%2F%5Cevil.example", "/connect/notes/done"),
        ("javascript%3Aalert(1)", "/connect/notes/done"),
    ] {
        let fake = Fake::default();
        send(&app(&fake), form("/connect/notes", &format!("{AGREE}&return_to={given}"))).await;
        assert_eq!(fake.done(), [format!("leave s1 notes {wanted}")]);
        let (_, page) = ask(&app(&fake), get(&format!("/connect/notes?return_to={given}"), Some(COOKIE))).await;
        assert_eq!(page.contains("name=\"return_to\""), wanted == "/account", "{given}");
        assert!(!page.contains("evil.example") && !page.contains("javascript:"), "{page}");
    }
}

#[tokio::test]
async fn a32_no_browser_is_sent_to_a_script() {
    for bad in
        ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//evil.example", "file:///etc/passwd"]
    {
        let fake = Fake { connect_url: Some(bad.to_owned()), connect_origin: Some(bad.to_owned()), ..Fake::default() };
        let agree = format!("csrf=csrf-of-s1&shown=shown-{}", bad.len());
        let (status, page) = ask(&app(&fake), form("/connect/notes", &agree)).await;
        assert_eq!(status, 400, "{bad}");
        assert!(!page.contains(bad), "{page}");
        // The origin is only ever shown, never a link.
        let (_, page) = ask(&app(&fake), get("/connect/notes", Some(COOKIE))).await;
        assert!(!page.contains(&format!("href=\"{bad}")), "{page}");
    }
}

#[tokio::test]
async fn p16_coming_back_goes_on_or_says_what_to_do() {
    let fake = Fake { own: accounts(), ..Fake::default() };
    let app = app(&fake);
    let answer = send(&app, get("/oauth/callback?code=c&state=s&iss=i", Some(COOKIE))).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()[LOCATION]), (303, &"/connect/notes/done".parse().unwrap()));
    assert_eq!(fake.done(), ["back s1 code=c&state=s&iss=i"]);
    let (status, page) = ask(&app, get("/connect/notes/done", Some(COOKIE))).await;
    assert_eq!(status, 200);
    assert!(page.contains("is connected"), "{page}");
    let (status, page) = ask(&app, get("/oauth/callback?bad", Some(COOKIE))).await;
    assert_eq!(status, 400);
    assert!(page.contains("connect_state"), "{page}");
}

#[tokio::test]
async fn p16_the_client_document_is_for_everybody() {
    let answer = send(&app(&Fake::default()), get("/.well-known/bartizan-client.json", None)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "access-control-allow-origin"), "*");
    assert_eq!(header(&answer, "content-type"), "application/json");
}

#[tokio::test]
async fn p57_accounts_are_listed_with_what_can_be_done() {
    let fake = Fake { own: accounts(), ..Fake::default() };
    let app = app(&fake);
    let (_, page) = ask(&app, get("/account", Some(COOKIE))).await;
    for wanted in [
        "Notes",
        "As ada@notes.example, signed in at https://auth.notes.example",
        "notes.read offline_access",
        "last used 22 Nov 2026",
        "present access until 22 Nov 2026",
        "Must be connected again",
        "You may not use this server now",
        "href=\"/connect/notes?return_to=/account\"",
        "name=\"server\" value=\"secret\"",
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    assert!(!page.contains("href=\"/connect/secret"), "{page}");
    let answer = send(&app, form("/account", "csrf=csrf-of-s1&action=disconnect&server=notes")).await;
    assert_eq!(answer.headers()[LOCATION], "/account");
    assert_eq!(fake.done(), ["disconnect s1 notes"]);
}

#[tokio::test]
async fn p17_a_token_is_typed_on_a_page_and_never_shown() {
    let fake = Fake::default();
    let app = app(&fake);
    let (status, page) = ask(&app, get("/connect/vault?return_to=/account", Some(COOKIE))).await;
    assert_eq!(status, 200);
    for wanted in ["Vault", "type=\"password\"", CSRF, "ada@example.com", "value=\"/account\"", "b=&#60;2&#62;"] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    assert!(fake.done().is_empty(), "looking keeps nothing");

    let answer = send(&app, form("/connect/vault", "csrf=csrf-of-s1&token=t0p-s3cret&return_to=/account")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()[LOCATION].to_str().unwrap()), (303, "/account"));
    assert!(!text(answer).await.contains("t0p-s3cret"));
    assert_eq!(fake.done(), ["keep s1 vault t0p-s3cret"]);

    for (path, body, status) in [
        ("/connect/vault", "csrf=csrf-of-s1&token=bad", 400),
        ("/connect/vault", "csrf=of-somebody-else&token=t0p-s3cret", 403),
        ("/connect/vault", "token=t0p-s3cret", 403),
        ("/connect/nope", "csrf=csrf-of-s1&token=t0p-s3cret", 404),
    ] {
        let answer = send(&app, form(path, body)).await;
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert!(!text(answer).await.contains("t0p-s3cret"), "{body}");
    }
    assert_eq!(fake.done().iter().filter(|done| done.starts_with("keep s1 vault t0p")).count(), 1);
    // A page of another site cannot bring its own return address.
    let answer = send(&app, form("/connect/vault", "csrf=csrf-of-s1&token=t&return_to=//evil.example")).await;
    assert_eq!(answer.headers()[LOCATION].to_str().unwrap(), "/connect/vault/done");
}

#[tokio::test]
async fn p17_a_lost_sign_in_is_renewed_at_the_provider_by_the_same_person_only() {
    let fake = Fake::default();
    let answer = send(&app(&fake), get("/connect/ledger", Some(COOKIE))).await;
    assert_eq!(answer.headers()[LOCATION].to_str().unwrap(), "https://idp.example.com/auth?state=s");
    let path = ReturnTo::path("/connect/ledger/done");
    assert_eq!(
        fake.done(),
        [format!("begin {path:?} None Some(\"corp\")"), "only 1 of https://idp.example.com".into()]
    );
    // Whoever is not signed in at all signs in here first, and what was not renewed is not done.
    let answer = send(&app(&fake), get("/connect/ledger", None)).await;
    assert_eq!(answer.headers()[LOCATION].to_str().unwrap(), NOTES.replace("notes", "ledger"));
    assert_eq!(send(&app(&fake), get("/connect/ledger/done", Some(COOKIE))).await.status(), 404);
}

/// A client's sign-in leads through the login of `notes`.
fn leading() -> Fake {
    Fake { missing: vec!["nowhere".into(), "notes".into()], ..Fake::default() }
}

const ON: &str = "/connect?transaction=t1&agreed=agreed-s1-t1";

#[tokio::test]
async fn p18_consent_leads_through_the_logins_and_then_to_the_client() {
    let fake = leading();
    let app_ = app(&fake);
    let answer = send(&app_, form("/consent", "csrf=csrf-of-s1&transaction=t1&decision=allow")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()[LOCATION].to_str().unwrap()), (303, ON));
    assert_eq!(header(&answer, "cross-origin-opener-policy"), "unsafe-none", "the client's popup keeps its opener");
    assert!(fake.done().is_empty(), "nothing is decided yet");
    let answer = send(&app_, get(ON, Some(COOKIE))).await;
    assert_eq!(header(&answer, "cross-origin-opener-policy"), "unsafe-none");
    let page = text(answer).await;
    let encoded = ON.replace('&', "&#38;");
    assert!(page.contains(&format!("name=\"return_to\" value=\"{encoded}\"")), "{page}");
    assert!(page.contains(&format!("href=\"{encoded}&#38;skip=notes\"")), "{page}");
    let body = format!("{AGREE}&return_to=%2Fconnect%3Ftransaction%3Dt1%26agreed%3Dagreed-s1-t1");
    let answer = send(&app_, form("/connect/notes", &body)).await;
    assert_eq!(header(&answer, "cross-origin-opener-policy"), "unsafe-none");
    assert_eq!(fake.done().last().unwrap(), &format!("leave s1 notes {ON}"));
    // Not now, or done: back to the client.
    for (fake, path) in [(leading(), format!("{ON}&skip=notes")), (Fake::default(), ON.to_owned())] {
        let answer = send(&app(&fake), get(&path, Some(COOKIE))).await;
        assert!(header(&answer, "location").starts_with("https://app.example.com/cb?code=c"), "{path}");
        assert_eq!(fake.done().last().unwrap(), "decide t1 s1 true");
    }
}

#[tokio::test]
async fn p18_nobody_is_let_in_by_a_link_alone() {
    for path in [
        "/connect?transaction=t1&agreed=agreed-s2-t1",
        "/connect?transaction=t2&agreed=agreed-s1-t1",
        "/connect?transaction=t1&agreed=",
        "/connect?transaction=t1",
        "/connect",
    ] {
        let fake = Fake::default();
        let answer = send(&app(&fake), get(path, Some(COOKIE))).await;
        assert!(answer.status().is_client_error() && fake.done().is_empty(), "{path}");
    }
    let fake = Fake::default();
    assert_eq!(send(&app(&fake), get(ON, None)).await.status(), 403);
    assert!(fake.done().is_empty());
    // Without the sealed note a link would allow a client that nobody allowed.
    let fake = Fake { any_token: true, ..Fake::default() };
    send(&app(&fake), get("/connect?transaction=t1&agreed=x", Some(COOKIE))).await;
    assert_eq!(fake.done(), ["decide t1 s1 true"]);
}

#[tokio::test]
async fn p18_a_refusal_leads_nowhere_else() {
    let fake = leading();
    send(&app(&fake), form("/consent", "csrf=csrf-of-s1&transaction=t1&decision=deny")).await;
    assert_eq!(fake.done(), ["decide t1 s1 false"]);
}
