//! A16, A17: the pages of links for more.

use http::header::{LOCATION, SET_COOKIE};

use super::fake::*;

#[tokio::test]
async fn a17_a_link_shows_what_is_asked_and_does_nothing_yet() {
    let fake = Fake::default();
    let (status, page) = ask(&app(&fake), get("/step-up/h1", Some(COOKIE))).await;
    assert_eq!(status, 200);
    for part in ["tool &#60;pay&#62; of bank", "Claude Code", "Example Corp", "15 minutes", "ada@example.com"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains(r#"<form method="post" action="/step-up/h1""#) && page.contains(CSRF), "{page}");
    assert!(!page.contains("textarea"));
    assert_eq!(fake.done(), [""; 0]);
    let (_, page) = ask(&app(&fake), get("/step-up/p1", Some(COOKIE))).await;
    assert!(
        page.contains(
            r#"<textarea id="purpose" name="purpose" rows="4" maxlength="500" aria-describedby="kept" required>"#
        ),
        "{page}"
    );
}

#[tokio::test]
async fn a17_another_person_sees_a_refusal_and_a_stranger_signs_in_first() {
    let fake = Fake::default();
    let (status, page) = ask(&app(&fake), get("/step-up/other", Some(COOKIE))).await;
    assert_eq!(status, 403);
    assert!(page.contains("other_person"), "{page}");
    let answer = send(&app(&fake), get("/step-up/h1", None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(fake.done(), [r#"begin Path(LocalPath("/step-up/h1")) None None"#]);
    // Nobody signs in for a link that is none.
    let fake = Fake::default();
    assert_eq!(send(&app(&fake), get("/step-up/old", None)).await.status(), 400);
    assert_eq!(fake.done(), [""; 0]);
}

#[tokio::test]
async fn a17_only_a_form_of_our_own_page_goes_on() {
    let body = |csrf: &str| format!("csrf={csrf}");
    for (cookie, csrf) in [(None::<&str>, CSRF), (Some(COOKIE), "x"), (Some(COOKIE), "")] {
        let fake = Fake::default();
        let mut request = form("/step-up/h1", &body(csrf));
        if cookie.is_none() {
            request.headers_mut().remove("cookie");
        }
        assert_eq!(send(&app(&fake), request).await.status(), 403, "{csrf}");
        assert_eq!(fake.done(), [""; 0], "{csrf}");
    }
    let fake = Fake::default();
    let mut foreign = form("/step-up/h1", &body(CSRF));
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    foreign.headers_mut().remove("sec-fetch-site");
    assert_eq!(send(&app(&fake), foreign).await.status(), 403);
    assert_eq!(fake.done(), [""; 0]);
    // Without the check of the token the same form would pass: the token is what stops it.
    let fake = Fake { any_token: true, ..Fake::default() };
    let request = form("/step-up/h1", &body("x"));
    assert_eq!(send(&app(&fake), request).await.status(), 200);
    assert_eq!(fake.done()[0], "step up h1 None");
}

#[tokio::test]
async fn a17_to_the_provider_and_back_to_a_page_that_says_done() {
    let fake = Fake::default();
    let request = form("/step-up/h1", &format!("csrf={CSRF}"));
    let answer = send(&app(&fake), request).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get(LOCATION).is_none() && answer.headers().get(SET_COOKIE).is_some());
    assert!(text(answer).await.contains(r#"content="0; url=https://idp.example.com/auth?state=s""#));
    assert_eq!(fake.done(), ["step up h1 None", r#"begin StepUp("h1") None None"#, "prompt login"]);
    let fake = Fake::default();
    let (status, page) = ask(&app(&fake), get("/login/callback/corp?step-up", None)).await;
    assert_eq!(status, 200);
    assert!(page.contains("Go back to <bdi>Claude Code</bdi>"), "{page}");
    assert_eq!(fake.done(), ["callback step-up at corp", "returned h1 s1"]);
}

#[tokio::test]
async fn a16_a_purpose_is_sent_by_form() {
    let fake = Fake::default();
    let request = form("/step-up/p1", &format!("csrf={CSRF}&purpose=audit+of+Q3"));
    let (status, page) = ask(&app(&fake), request).await;
    assert_eq!(status, 200);
    assert!(page.contains("Your purpose is on record"), "{page}");
    assert_eq!(fake.done(), [r#"step up p1 Some("audit of Q3")"#]);
}

#[tokio::test]
async fn a32_nothing_begins_for_a_made_up_transaction() {
    for request in [
        get("/login?transaction=made-up", None),
        get("/login?provider=corp&transaction=made-up", None),
        form("/login", "email=ada%40example.com&transaction=made-up"),
        form("/login/demo", "user=ada%40example.com&transaction=made-up"),
    ] {
        let fake = Fake::default();
        let (status, page) = ask(&app(&fake), request).await;
        assert_eq!(status, 400);
        assert!(page.contains("request_expired"), "{page}");
        assert_eq!(fake.done(), [""; 0]);
    }
}

#[tokio::test]
async fn a32_a_failed_answer_clears_its_cookie() {
    let answer = send(&app(&Fake::default()), get("/login/callback?bad", None)).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(header(&answer, "set-cookie"), "__Host-bartizan-login=; Max-Age=0");
}
