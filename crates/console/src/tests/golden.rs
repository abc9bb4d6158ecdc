//! The main pages byte for byte. After a wanted change run the tests with
//! `BARTIZAN_GOLDEN=write`, look at the difference, and look at the page in a browser.

use bartizan_identity::{ApprovedClient, ClientKind, Step};
use http::Request;

use super::fake::*;

pub(crate) fn clients() -> Vec<ApprovedClient> {
    let claude = ApprovedClient {
        client_id: "https://claude.ai/oauth/mcp-oauth-client-metadata".into(),
        name: "Claude".into(),
        kind: ClientKind::Document,
        redirect_hosts: vec!["claude.ai".into()],
        scopes: "mcp:read".into(),
        granted_ms: NOW - 86_400_000,
        last_used_ms: None,
        grants: 0,
    };
    let code = ApprovedClient {
        client_id: "01J".into(),
        name: "Claude Code".into(),
        kind: ClientKind::Registered,
        redirect_hosts: vec!["localhost".into()],
        scopes: "mcp:read mcp:write".into(),
        granted_ms: NOW - 3_600_000,
        last_used_ms: Some(NOW - 120_000),
        grants: 1,
    };
    let cursor = ApprovedClient { name: "Cursor".into(), redirect_hosts: vec!["cursor:".into()], ..code.clone() };
    vec![code, claude, cursor]
}

async fn golden(name: &str, fake: Fake, request: Request<axum::body::Body>) {
    let page = ask(&app(&fake), request).await.1;
    let event = page.split("<dt>Event</dt><dd><code>").nth(1).and_then(|rest| rest.split('<').next());
    let page = event.map_or_else(|| page.clone(), |event| page.replace(event, "EVENT"));
    let page = page.replace(crate::assets::version(), "VERSION");
    let path = format!("{}/tests/golden/{name}.html", env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var("BARTIZAN_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, &page).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == wanted, "{name} is not as it was; see the first lines of this file\n{page}");
}

#[tokio::test]
async fn p56_the_main_pages_are_as_they_were() {
    let consent = |step| Fake { step: Some(step), ..Fake::default() };
    let begin = |begin| Fake { begin: Some(begin), ..Fake::default() };
    let authorize = || get("/authorize?client_id=c", Some(COOKIE));
    golden("home", Fake::default(), get("/", None)).await;
    golden("home-signed-in", Fake::default(), get("/", Some(COOKIE))).await;
    golden("endpoint", Fake::default(), get("/mcp", None)).await;
    golden("choose", begin(providers), get("/login?transaction=t1", None)).await;
    golden("demo", begin(people), get("/login?transaction=t1", None)).await;
    golden("consent-loopback", consent(|| Step::Consent(Box::new(view()))), authorize()).await;
    golden("consent-web", consent(|| Step::Consent(Box::new(web_view()))), authorize()).await;
    golden("account", Fake { clients: clients(), ..Fake::default() }, get("/account", Some(COOKIE))).await;
    golden("account-empty", Fake::default(), get("/account", Some(COOKIE))).await;
    golden("signed-out", Fake::default(), get("/signed-out", None)).await;
    golden("onward", Fake::default(), form("/login/demo", "user=a&transaction=t1")).await;
    golden("problem", Fake::default(), form("/consent", "")).await;
}
