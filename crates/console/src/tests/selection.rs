//! The selection page (feature rows P36, P38).

use axum::body::Body;
use http::Request;

use super::fake::*;
use crate::selection::{Selection, SelectionError, SelectionLine};

fn line(id: &str) -> SelectionLine {
    SelectionLine { id: id.into(), name: format!("The {id}"), on: true, fixed: false, added: false, connect: false }
}

fn selection() -> Selection {
    Selection {
        portal: "Acme Tools".into(),
        servers: vec![
            line("wiki"),
            SelectionLine { on: false, ..line("git") },
            SelectionLine { added: true, connect: true, ..line("crm") },
            SelectionLine { on: false, fixed: true, name: "<script>".into(), ..line("old") },
        ],
    }
}

fn fake() -> Fake {
    Fake { selection: Some(Ok(selection())), ..Fake::default() }
}

fn post(body: &str) -> Request<Body> {
    form("/selection", body)
}

const GOOD: &str = "csrf=csrf-of-s1&elicitationId=h1&on=wiki&on=crm";

#[tokio::test]
async fn p36_the_page_shows_what_is_on_and_what_is_new() {
    let fake = fake();
    for path in ["/authorize?elicitationId=h1", "/portals/hr/authorize?elicitationId=h1"] {
        let (status, page) = ask(&app(&fake), get(path, Some(COOKIE))).await;
        assert_eq!(status, 200);
        for wanted in [
            "<h1>Servers of <bdi>Acme Tools</bdi></h1>",
            r#"name="on" value="wiki" checked>"#,
            r#"name="on" value="git">"#,
            r#"name="on" value="old" disabled>"#,
            "Switched off by your administrator.",
            r#"<strong>New</strong> since you last chose."#,
            r#"href="/connect/crm">Connect <bdi>The crm</bdi>"#,
            r#"name="elicitationId" value="h1""#,
            r#"name="csrf" value="csrf-of-s1""#,
        ] {
            assert!(page.contains(wanted), "{wanted}\n{page}");
        }
        assert!(!page.contains("<bdi><script>"), "{page}");
    }
    assert_eq!(fake.done(), ["look h1", "look h1"]);
}

#[tokio::test]
async fn p36_who_is_not_signed_in_signs_in_first_and_comes_back() {
    let fake = fake();
    let answer = send(&app(&fake), get("/authorize?elicitationId=h1", None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(header(&answer, "location"), "/login?return_to=%2Fauthorize%3FelicitationId%3Dh1");
    assert!(fake.done().is_empty(), "the link is not even looked at");
}

#[tokio::test]
async fn p36_a_choice_is_one_post_of_the_same_person() {
    let fake = fake();
    let (status, page) = ask(&app(&fake), post(GOOD)).await;
    assert_eq!(status, 200);
    assert!(page.contains("2 of 4 servers of <bdi>Acme Tools</bdi> are on."), "{page}");
    assert!(page.contains(r#"href="/connect/crm""#), "{page}");
    assert_eq!(fake.done(), [r#"select h1 ["wiki", "crm"]"#]);
    for (bad, status) in [
        ("elicitationId=h1&on=wiki", 403),
        ("csrf=other&elicitationId=h1", 403),
        ("csrf=csrf-of-s1&csrf=csrf-of-s1&elicitationId=h1", 400),
        ("csrf=csrf-of-s1&elicitationId=h1&elicitationId=h2", 400),
        ("csrf=%zz", 400),
    ] {
        let fake = self::fake();
        assert_eq!(ask(&app(&fake), post(bad)).await.0, status, "{bad}");
        assert!(fake.done().is_empty(), "{bad}");
    }
    for header in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let fake = self::fake();
        let mut foreign = post(GOOD);
        foreign.headers_mut().insert(header.0, header.1.parse().unwrap());
        assert_eq!(ask(&app(&fake), foreign).await.0, 403);
        assert!(fake.done().is_empty());
    }
    let fake = self::fake();
    let mut nobody = post(GOOD);
    nobody.headers_mut().remove("cookie");
    assert_eq!(ask(&app(&fake), nobody).await.0, 403);
    assert!(fake.done().is_empty());
}

/// What the token in the form is for: without the check a forged form chooses.
#[tokio::test]
async fn p36_without_the_check_of_the_token_a_forged_form_chooses() {
    let fake = Fake { any_token: true, ..fake() };
    assert_eq!(ask(&app(&fake), post("csrf=forged&elicitationId=h1")).await.0, 200);
    assert_eq!(fake.done(), ["select h1 []"]);
}

#[tokio::test]
async fn p36_many_servers_fit_into_one_form() {
    let fake = fake();
    let many: String = (0..2_000).map(|n| format!("&on=server-{n}")).collect();
    assert_eq!(ask(&app(&fake), post(&format!("csrf=csrf-of-s1&elicitationId=h1{many}"))).await.0, 200);
    let fake = self::fake();
    let endless = "x".repeat(70_000);
    assert_eq!(ask(&app(&fake), post(&format!("{GOOD}&on={endless}"))).await.0, 400);
    assert!(fake.done().is_empty());
}

#[tokio::test]
async fn p36_links_that_do_not_do_say_why() {
    for (error, status, code) in [
        (SelectionError::Gone, 410, "link_gone"),
        (SelectionError::OtherPerson, 403, "other_person"),
        (SelectionError::Unavailable, 503, "unavailable"),
    ] {
        let fake = Fake { selection: Some(Err(error)), ..Fake::default() };
        for request in [get("/authorize?elicitationId=h1", Some(COOKIE)), post(GOOD)] {
            let (answered, page) = ask(&app(&fake), request).await;
            assert_eq!(answered, status);
            assert!(page.contains(&format!("<code>{code}</code>")), "{page}");
        }
    }
    let none = Fake::default();
    assert_eq!(ask(&app(&none), get("/authorize?elicitationId=h1", Some(COOKIE))).await.0, 404);
    for path in ["/portals/hr/authorize", "/portals/hr/authorize?elicitationId=h&client_id=c"] {
        assert_eq!(ask(&app(&fake()), get(path, Some(COOKIE))).await.0, 400);
    }
}
