use bartizan_identity::{ClientKind, ConsentView, Step};
use http::header::LOCATION;

use super::fake::*;

const AUTHORIZE: &str = "/authorize?client_id=c&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%2Fcb";
const ALLOW: &str = "csrf=csrf-of-s1&transaction=t1&decision=allow";

fn asking() -> Fake {
    Fake { step: Some(|| Step::Consent(Box::new(view()))), ..Fake::default() }
}

async fn shown(make: fn() -> Step) -> String {
    let fake = Fake { step: Some(make), ..Fake::default() };
    ask(&app(&fake), get(AUTHORIZE, Some(COOKIE))).await.1
}

#[tokio::test]
async fn a19_the_page_names_client_redirect_host_scopes_and_warns_of_loopback() {
    let page = shown(|| Step::Consent(Box::new(view()))).await;
    for wanted in [
        "Allow <bdi>Claude Code</bdi> to act for you?",
        "<p>The answer goes to</p><strong><bdi>a program on your computer (localhost)</bdi></strong>",
        "See and read with the tools you may use",
        "Change things with the tools you may use",
        "Any program on this computer can call itself that.",
        "chosen by the client, not checked",
        "<code>https://mcp.example.com/mcp</code>",
        r#"name="csrf" value="csrf-of-s1""#,
        r#"name="transaction" value="t1""#,
        "ada@example.com",
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    let web = shown(|| Step::Consent(Box::new(web_view()))).await;
    assert!(web.contains("<dt>Described at</dt><dd><bdi>claude.ai</bdi></dd>"), "{web}");
    assert!(!web.contains("on this computer"), "{web}");
}

#[tokio::test]
async fn a19_a_hostile_client_cannot_write_the_page() {
    let page = shown(|| {
        Step::Consent(Box::new(ConsentView {
            client_name: "</bdi><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}live\u{202c}\"'".into(),
            client_host: Some("<b>h</b>".into()),
            redirect_host: "\"><form action=//evil.example>".into(),
            redirect_origin: "https://x; script-src *".into(),
            resource: "https://h/{{7*7}}<i>".into(),
            transaction: "\"><input name=csrf value=evil>".into(),
            kind: ClientKind::Document,
            ..view()
        }))
    })
    .await;
    for bad in ["<script>", "<img", "<form action=//", "<b>h", "<i>", "<input name=csrf", "\u{202e}", "\u{202c}"] {
        assert!(!page.contains(bad), "{bad}\n{page}");
    }
    assert!(page.contains("&#60;script&#62;"), "{page}");
    assert_eq!(page.matches("<form").count(), 2, "sign out and the decision");
}

#[tokio::test]
async fn a19_a_name_of_ten_thousand_characters_is_cut() {
    let page = shown(|| Step::Consent(Box::new(ConsentView { client_name: "A".repeat(10_000), ..view() }))).await;
    assert!(page.contains(&format!("<bdi>{}…</bdi>", "A".repeat(60))), "{page}");
    assert!(!page.contains(&"A".repeat(61)));
    let none = shown(|| Step::Consent(Box::new(ConsentView { client_name: "\u{200b}".into(), ..view() }))).await;
    assert!(none.contains("<bdi>a client without a name</bdi>"), "{none}");
}

#[tokio::test]
async fn a19_an_answer_of_the_person_reaches_the_server_and_the_client() {
    for (decision, word) in [("allow", "true"), ("deny", "false")] {
        let fake = Fake::default();
        let body = format!("csrf={CSRF}&transaction=t1&decision={decision}");
        let answer = send(&app(&fake), form("/consent", &body)).await;
        assert_eq!(answer.status(), 303);
        assert_eq!(answer.headers()[LOCATION], "https://app.example.com/cb?code=c&iss=i");
        assert_eq!(fake.done(), [format!("decide t1 s1 {word}")]);
    }
}

#[tokio::test]
async fn a19_a_decision_needs_session_token_and_own_page() {
    let with = |name: &'static str, value: &'static str| {
        let mut request = form("/consent", ALLOW);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let without = |name: &'static str| {
        let mut request = form("/consent", ALLOW);
        request.headers_mut().remove(name);
        request
    };
    let mut bare = without("origin");
    bare.headers_mut().remove("sec-fetch-site");
    for (name, request, status, code) in [
        ("no session", without("cookie"), 403, "signed_out"),
        ("session of somebody else", with("cookie", "__Host-bartizan=eve"), 403, "signed_out"),
        ("no token", form("/consent", "transaction=t1&decision=allow"), 403, "foreign_form"),
        ("empty token", form("/consent", "csrf=&transaction=t1&decision=allow"), 403, "foreign_form"),
        ("foreign token", form("/consent", "csrf=csrf-of-s2&transaction=t1&decision=allow"), 403, "foreign_form"),
        ("two tokens", form("/consent", "csrf=csrf-of-s1&csrf=x&transaction=t1&decision=allow"), 400, "bad_form"),
        ("foreign origin", with("origin", "https://evil.example"), 403, "foreign_form"),
        ("null origin", with("origin", "null"), 403, "foreign_form"),
        ("cross-site", with("sec-fetch-site", "cross-site"), 403, "foreign_form"),
        ("same-site", with("sec-fetch-site", "same-site"), 403, "foreign_form"),
        ("no origin at all", bare, 403, "foreign_form"),
        ("no decision", form("/consent", "csrf=csrf-of-s1&transaction=t1"), 400, "bad_form"),
        ("odd decision", form("/consent", "csrf=csrf-of-s1&transaction=t1&decision=yes"), 400, "bad_form"),
        (
            "two decisions",
            form("/consent", "csrf=csrf-of-s1&transaction=t1&decision=deny&decision=allow"),
            400,
            "bad_form",
        ),
        ("no transaction", form("/consent", "csrf=csrf-of-s1&decision=allow"), 400, "bad_form"),
        ("not a form", with("content-type", "text/plain"), 400, "bad_form"),
        ("too large", form("/consent", &format!("{ALLOW}&x={}", "a".repeat(70_000))), 413, "bad_form"),
    ] {
        let fake = Fake::default();
        let (got, page) = ask(&app(&fake), request).await;
        assert_eq!(got, status, "{name}\n{page}");
        assert!(page.contains(&format!("<code>{code}</code>")), "{name}\n{page}");
        assert!(fake.done().is_empty(), "{name}: {:?}", fake.done());
    }
    // The same request as it should be does act: the table would notice a check that refuses all.
    let fake = Fake::default();
    assert_eq!(ask(&app(&fake), form("/consent", ALLOW)).await.0, 303);
    assert_eq!(fake.done().len(), 1);
}

/// What the token is for: a page on a neighbouring port or host is same-site, and older
/// browsers send no `Sec-Fetch-Site`; with a forged `Origin` out of the way nothing else
/// would stop a form that somebody else wrote.
#[tokio::test]
async fn a19_without_the_check_of_the_token_a_foreign_form_decides() {
    let stolen = "csrf=made-up&transaction=t1&decision=allow";
    let open = Fake { any_token: true, ..Fake::default() };
    assert_eq!(ask(&app(&open), form("/consent", stolen)).await.0, 303);
    assert_eq!(open.done(), ["decide t1 s1 true"]);
    let closed = Fake::default();
    assert_eq!(ask(&app(&closed), form("/consent", stolen)).await.0, 403);
    assert!(closed.done().is_empty());
}

#[tokio::test]
async fn a19_nothing_is_decided_by_get() {
    let fake = Fake::default();
    let (status, _) = ask(&app(&fake), get(&format!("/consent?{ALLOW}"), Some(COOKIE))).await;
    assert_eq!(status, 405);
    assert!(fake.done().is_empty());
}

#[tokio::test]
async fn a19_the_policy_of_the_page_lets_its_form_reach_this_client_only() {
    let answer = send(&app(&asking()), get(AUTHORIZE, Some(COOKIE))).await;
    let policy = header(&answer, "content-security-policy");
    assert!(policy.contains("form-action 'self' http://localhost:53682;"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    // A popup keeps its way back to the page of the client that opened it.
    assert_eq!(header(&answer, "cross-origin-opener-policy"), "unsafe-none");
}

#[tokio::test]
async fn a19_without_a_session_nobody_is_asked() {
    let fake = asking();
    let answer = send(&app(&fake), get(AUTHORIZE, None)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[LOCATION], "https://idp.example.com/auth?state=s");
    assert!(fake.done().iter().any(|done| done == r#"begin Authorize("t1") None None"#), "{:?}", fake.done());
}

#[tokio::test]
async fn a32_a_browser_is_never_sent_into_a_script() {
    for step in [
        || Step::Redirect("javascript:alert(1)".into()),
        || Step::Redirect("data:text/html,<script>alert(1)</script>".into()),
        || Step::Redirect("https://h/\r\nSet-Cookie: a=b".into()),
    ] as [fn() -> Step; 3]
    {
        let fake = Fake { step: Some(step), ..Fake::default() };
        let answer = send(&app(&fake), get(AUTHORIZE, Some(COOKIE))).await;
        assert_eq!(answer.status(), 400);
        assert!(answer.headers().get(LOCATION).is_none() && answer.headers().get("set-cookie").is_none());
        assert!(text(answer).await.contains("bad_redirect"));
    }
}

#[tokio::test]
async fn a9_authorize_says_which_of_its_two_uses_is_meant() {
    for (query, code) in [
        ("", "invalid_request"),
        ("?x=1", "invalid_request"),
        ("?client_id=c&elicitationId=e", "invalid_request"),
        ("?client_id=%zz", "invalid_request"),
        ("?client_id=", "invalid_request"),
    ] {
        let fake = Fake::default();
        let (status, page) = ask(&app(&fake), get(&format!("/authorize{query}"), None)).await;
        assert_eq!(status, 400, "{query}");
        assert!(page.contains(&format!("<code>{code}</code>")), "{query}\n{page}");
        assert!(fake.done().is_empty());
    }
    // Twice is the server's to refuse, in the words of OAuth.
    let fake = Fake::default();
    send(&app(&fake), get("/authorize?client_id=a&client_id=b", None)).await;
    assert_eq!(fake.done(), ["authorize client_id=a&client_id=b false"]);
}
