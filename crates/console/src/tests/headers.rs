use axum::body::Body;
use bartizan_identity::Step;
use http::Request;

use super::fake::*;

/// One request for every route and way to answer.
fn everything() -> Vec<(&'static str, Request<Body>)> {
    let plain = |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    vec![
        ("home", get("/", None)),
        ("home signed in", get("/", Some(COOKIE))),
        ("portal", get("/portals/hr/", None)),
        ("no portal", get("/portals/nope/", None)),
        ("endpoint", get("/mcp", None)),
        ("portal endpoint", get("/portals/hr/sse", None)),
        ("server endpoint", get("/servers/wiki/mcp", None)),
        ("authorize", get("/authorize?client_id=c", Some(COOKIE))),
        ("authorize wrong", get("/authorize", None)),
        ("consent", form("/consent", "csrf=csrf-of-s1&transaction=t&decision=allow")),
        ("consent refused", form("/consent", "")),
        ("login", get("/login", None)),
        ("login by address", form("/login", "email=a%40b.c")),
        ("demo", form("/login/demo", "user=a&transaction=t")),
        ("callback", get("/login/callback?x", None)),
        ("callback refused", get("/login/callback?bad", None)),
        ("continue", get("/login/continue?transaction=t", Some(COOKIE))),
        ("account", get("/account", Some(COOKIE))),
        ("account signed out", get("/account", None)),
        ("connect", get("/connect/notes", Some(COOKIE))),
        ("connect signed out", get("/connect/notes", None)),
        ("connect nowhere", get("/connect/nope", Some(COOKIE))),
        ("connect leaves", form("/connect/notes", "csrf=csrf-of-s1")),
        ("connect back", get("/oauth/callback?code=c", Some(COOKIE))),
        ("connect refused", get("/oauth/callback?bad", Some(COOKIE))),
        ("connected", get("/connect/notes/done", Some(COOKIE))),
        ("client document", plain("GET", "/.well-known/bartizan-client.json")),
        ("logout", form("/logout", "csrf=csrf-of-s1")),
        ("signed out", get("/signed-out", None)),
        ("style", plain("GET", "/assets/style.css")),
        ("script", plain("GET", "/assets/copy.js")),
        ("icon", plain("GET", "/assets/icon.svg")),
        ("no asset", plain("GET", "/assets/..%2Fx")),
        ("token", plain("POST", "/token")),
        ("register", plain("POST", "/register")),
        ("revoke", plain("POST", "/revoke")),
        ("preflight", plain("OPTIONS", "/token")),
        ("metadata", plain("GET", "/.well-known/oauth-authorization-server")),
        ("openid", plain("GET", "/.well-known/openid-configuration")),
        ("keys", plain("GET", "/.well-known/jwks.json")),
        ("unknown page", get("/nowhere", None)),
        ("unknown json", plain("GET", "/nowhere")),
        ("wrong method", plain("DELETE", "/account")),
        ("wrong method page", form("/signed-out", "")),
    ]
}

#[tokio::test]
async fn a19_every_answer_has_its_headers() {
    let consent = Fake { step: Some(|| Step::Consent(Box::new(view()))), ..Fake::default() };
    let (usual, choosing) = (Fake::default(), Fake { begin: Some(providers), ..Fake::default() });
    for fake in [usual, consent, choosing] {
        let app = app(&fake);
        for (name, request) in everything() {
            let answer = send(&app, request).await;
            assert!(!answer.status().is_server_error(), "{name}");
            let policy = header(&answer, "content-security-policy").to_owned();
            for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action"] {
                assert!(policy.contains(part), "{name}: {policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{name}: {policy}");
            assert_eq!(header(&answer, "x-frame-options"), "DENY", "{name}");
            assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{name}");
            assert_eq!(header(&answer, "referrer-policy"), "same-origin", "{name}");
            let window = header(&answer, "cross-origin-opener-policy");
            assert!(["same-origin", "unsafe-none"].contains(&window), "{name}");
            let page = header(&answer, "content-type").starts_with("text/html");
            let kept = header(&answer, "cache-control");
            let asset = ["style", "script", "icon", "metadata", "openid", "client document", "keys"].contains(&name);
            assert_eq!(kept == "no-store", !asset, "{name}: {kept}");
            assert!(!page || policy.contains("form-action 'self'"), "{name}: {policy}");
        }
    }
}

#[tokio::test]
async fn a32_pages_hold_nothing_their_policy_forbids() {
    let consent = Fake { step: Some(|| Step::Consent(Box::new(view()))), ..Fake::default() };
    let demo = Fake { begin: Some(people), ..Fake::default() };
    for fake in [consent, demo] {
        let app = app(&fake);
        for (name, request) in everything() {
            let answer = send(&app, request).await;
            if !header(&answer, "content-type").starts_with("text/html") {
                continue;
            }
            let page = text(answer).await;
            for bad in
                ["<style", " style=", " onclick=", " onload=", "javascript:", "<script>", "<iframe", "src=\"http"]
            {
                assert!(!page.contains(bad), "{name}: {bad}\n{page}");
            }
            // Nothing is loaded from elsewhere.
            for link in page.split("<link ").skip(1) {
                let tag = link.split('>').next().unwrap();
                assert!(tag.contains("href=\"/assets/"), "{name}: {tag}");
            }
        }
    }
}

#[tokio::test]
async fn a19_only_pages_on_the_way_of_a_client_keep_its_window() {
    let app = app(&Fake::default());
    for (path, cookie, window) in [
        ("/", None, "same-origin"),
        ("/account", Some(COOKIE), "same-origin"),
        ("/login", None, "same-origin"),
        ("/login?transaction=t", None, "unsafe-none"),
        ("/authorize?client_id=c", Some(COOKIE), "unsafe-none"),
        ("/login/callback?x", None, "unsafe-none"),
        ("/login/callback?page", None, "same-origin"),
        ("/login/continue?transaction=t", Some(COOKIE), "unsafe-none"),
    ] {
        let answer = send(&app, get(path, cookie)).await;
        assert_eq!(header(&answer, "cross-origin-opener-policy"), window, "{path}");
    }
}
