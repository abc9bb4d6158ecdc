use axum::body::Body;
use http::Request;

use super::fake::*;

#[tokio::test]
async fn p56_home_is_there_without_signing_in() {
    let (status, page) = ask(&app(&Fake::default()), get("/", None)).await;
    assert_eq!(status, 200);
    for wanted in [
        "<h1>Acme Tools</h1>",
        r#"<code id="endpoint">https://mcp.example.com/mcp</code>"#,
        r#"data-copy="endpoint""#,
        "claude mcp add --transport http acme-tools https://mcp.example.com/mcp",
        "codex mcp add acme-tools --url https://mcp.example.com/mcp",
        "npx @modelcontextprotocol/inspector",
        "npx -y mcp-remote https://mcp.example.com/mcp",
        "vscode:mcp/install?%7B",
        "cursor://anysphere.cursor-deeplink/mcp/install?name=acme-tools&#38;config=",
        r"%APPDATA%\Claude\claude_desktop_config.json",
        "~/Library/Application Support/Claude/claude_desktop_config.json",
        "Questions: it-help@example.com",
        r#"<a href="/account">Sign in</a>"#,
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    assert!(!page.contains("/logout"));
}

#[tokio::test]
async fn p56_home_shows_who_is_signed_in() {
    let (_, page) = ask(&app(&Fake::default()), get("/", Some(COOKIE))).await;
    assert!(page.contains("<bdi>ada@example.com</bdi>") && page.contains(r#"action="/logout""#), "{page}");
    assert!(!page.contains(">Sign in</a>"), "{page}");
    let (_, page) = ask(&app(&Fake::default()), get("/", Some("__Host-bartizan=eve"))).await;
    assert!(!page.contains("ada@example.com"));
}

#[tokio::test]
async fn p56_each_portal_has_its_own_home() {
    let app = app(&Fake::default());
    for path in ["/portals/hr/", "/portals/hr"] {
        let (status, page) = ask(&app, get(path, None)).await;
        assert_eq!(status, 200, "{path}");
        assert!(page.contains("<h1>Human resources</h1>"), "{page}");
        assert!(page.contains("claude mcp add --transport http hr https://mcp.example.com/portals/hr/mcp"), "{page}");
    }
    let mut own = get("/", Some(COOKIE));
    own.headers_mut().insert("host", "hr.example.com:8443".parse().unwrap());
    let (_, page) = ask(&app, own).await;
    assert!(page.contains(r#"<code id="endpoint">https://hr.example.com/mcp</code>"#), "{page}");
    // Sessions belong to the public host.
    assert!(page.contains(r#"href="https://mcp.example.com/account">Sign in"#), "{page}");
    assert!(!page.contains("ada@example.com"), "{page}");
}

#[tokio::test]
async fn p56_a_browser_on_an_endpoint_gets_an_explanation() {
    let app = app(&Fake::default());
    for (path, endpoint) in [
        ("/mcp", "https://mcp.example.com/mcp"),
        ("/sse", "https://mcp.example.com/mcp"),
        ("/portals/hr/mcp", "https://mcp.example.com/portals/hr/mcp"),
        ("/servers/wiki/mcp", "https://mcp.example.com/servers/wiki/mcp"),
        ("/servers/does-not-exist/mcp", "https://mcp.example.com/servers/does-not-exist/mcp"),
    ] {
        let (status, page) = ask(&app, get(path, None)).await;
        assert_eq!(status, 200, "{path}");
        assert!(page.contains("This address is for AI clients, not for browsers."), "{page}");
        assert!(page.contains(&format!(r#"<code id="endpoint">{endpoint}</code>"#)), "{page}");
        assert!(!page.contains("invalid token") && !page.trim_start().starts_with('{'));
    }
    let (status, _) = ask(&app, get("/servers/..%2F%3Cscript%3E/mcp", None)).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn p56_unknown_paths_are_a_page_or_json() {
    let app = app(&Fake::default());
    let answer = send(&app, get("/nowhere", None)).await;
    assert_eq!(answer.status(), 404);
    let event = header(&answer, "x-request-id").to_owned();
    let page = text(answer).await;
    assert!(event.len() == 36 && page.contains(&format!("<code>{event}</code>")), "{event}\n{page}");
    assert!(page.contains("There is no such page"));

    for accept in ["*/*", "application/json"] {
        let request = Request::get("/nowhere").header("accept", accept).body(Body::empty()).unwrap();
        let answer = send(&app, request).await;
        assert_eq!(answer.status(), 404);
        assert_eq!(header(&answer, "content-type"), "application/json");
        assert_eq!(text(answer).await, r#"{"error":"not_found","error_description":"Nothing is at this address."}"#);
    }
}

#[tokio::test]
async fn p56_head_is_get_without_body_and_other_methods_are_405() {
    let app = app(&Fake::default());
    for path in ["/", "/portals/hr/", "/assets/style.css", "/signed-out", "/.well-known/oauth-authorization-server"] {
        let request = Request::head(path).header("accept", "text/html").body(Body::empty()).unwrap();
        let answer = send(&app, request).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(text(answer).await, "", "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/", "GET,HEAD"),
        ("GET", "/consent", "POST"),
        ("GET", "/logout", "POST"),
        ("PUT", "/account", "GET,HEAD,POST"),
        ("GET", "/token", "OPTIONS,POST"),
        ("DELETE", "/register", "OPTIONS,POST"),
        ("POST", "/assets/style.css", "GET,HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path).header("accept", "text/html");
        let answer = send(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
        let mut allowed: Vec<_> = header(&answer, "allow").split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
        assert!(text(answer).await.contains("This address is used in another way"));
    }
}
