use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::response::Response;
use http::Request;

use super::fake::*;
use crate::console::ClientAddress;

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    // As a page of another origin would send it; with a cookie, which must not matter.
    let request = Request::post(path).header("origin", "https://client.example").header("sec-fetch-site", "cross-site");
    let request = request.extension(ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))));
    request.header("authorization", "Basic eDp5").header("cookie", COOKIE).body(body.into()).unwrap()
}

fn is_open(answer: &Response) {
    assert_eq!(header(answer, "access-control-allow-origin"), "*");
    assert!(answer.headers().get("access-control-allow-credentials").is_none());
}

#[tokio::test]
async fn a9_requests_of_clients_reach_the_server_as_they_came() {
    let fake = Fake::default();
    let app = app(&fake);
    for (path, status) in [("/token", 200), ("/register", 201), ("/revoke", 200)] {
        let answer = send(&app, post(path, "grant_type=x")).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(header(&answer, "content-type"), "application/json");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        is_open(&answer);
    }
    assert_eq!(fake.done(), ["token 192.0.2.7 12 true", "register 192.0.2.7 12", "revoke 12"]);
}

#[tokio::test]
async fn a7_bodies_of_clients_are_bounded() {
    let fake = Fake::default();
    let app = app(&fake);
    for (path, limit) in [("/token", 64 * 1024), ("/revoke", 64 * 1024), ("/register", 16 * 1024)] {
        assert!(send(&app, post(path, "a".repeat(limit))).await.status().is_success(), "{path}");
        let answer = send(&app, post(path, "a".repeat(limit + 1))).await;
        assert_eq!(answer.status(), 413, "{path}");
        is_open(&answer);
        let body = text(answer).await;
        assert!(body.starts_with(r#"{"error":"invalid_request""#), "{body}");
    }
    assert_eq!(fake.done().len(), 3);
}

#[tokio::test]
async fn a7_nobody_counts_as_a_peer_of_their_own() {
    let fake = Fake::default();
    let mut request = post("/register", "{}");
    request.extensions_mut().clear();
    request.headers_mut().insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
    send(&app(&fake), request).await;
    assert_eq!(fake.done(), ["register 0.0.0.0 2"]);
}

#[tokio::test]
async fn a1_browser_based_clients_may_ask_and_read() {
    let app = app(&Fake::default());
    for path in [
        "/token",
        "/register",
        "/revoke",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/jwks.json",
        "/cdn-cgi/access/certs",
    ] {
        let request = Request::options(path).header("origin", "https://client.example");
        let request = request.header("access-control-request-method", "POST").body(Body::empty()).unwrap();
        let answer = send(&app, request).await;
        assert_eq!(answer.status(), 204, "{path}");
        is_open(&answer);
        assert!(header(&answer, "access-control-allow-headers").contains("Authorization"));
        assert!(header(&answer, "access-control-allow-methods").contains("POST"));
    }
}

#[tokio::test]
async fn a1_pages_are_for_no_other_origin() {
    let app = app(&Fake::default());
    for path in ["/", "/account", "/login", "/authorize?client_id=c", "/assets/style.css", "/nowhere", "/signed-out"] {
        for method in ["GET", "OPTIONS"] {
            let request = Request::builder().method(method).uri(path).header("origin", "https://client.example");
            let answer = send(&app, request.body(Body::empty()).unwrap()).await;
            assert!(answer.headers().get("access-control-allow-origin").is_none(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a1_metadata_is_where_clients_look_and_nowhere_else() {
    let fake = Fake::default();
    let (root, under) = (app(&fake), app_at(&fake, "https://mcp.example.com/gw"));
    for name in ["oauth-authorization-server", "openid-configuration"] {
        for (app, rest, status) in [
            (&root, "", 200),
            (&root, "/mcp", 200),
            (&root, "/portals/hr/mcp", 200),
            (&root, "/other", 404),
            (&under, "/gw", 200),
            (&under, "/gw/mcp", 200),
            (&under, "/other", 404),
        ] {
            let request = Request::get(format!("/.well-known/{name}{rest}")).header("host", "evil.example");
            let answer = send(app, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status(), status, "{name}{rest}");
            assert_eq!(header(&answer, "content-type"), "application/json");
            let body = text(answer).await;
            assert!(!body.contains("evil.example"), "{body}");
            assert_eq!(body == r#"{"issuer":"https://mcp.example.com"}"#, status == 200, "{body}");
        }
    }
}

#[tokio::test]
async fn a13_the_keys_of_assertions_are_at_both_addresses_for_everybody() {
    for path in ["/.well-known/jwks.json", "/cdn-cgi/access/certs"] {
        let answer = send(&app(&Fake::default()), Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 200, "{path}");
        is_open(&answer);
        assert_eq!(header(&answer, "content-type"), "application/json");
        assert_eq!(header(&answer, "cache-control"), "public, max-age=3600");
        let none = Fake { no_keys: true, ..Fake::default() };
        let answer = send(&app(&none), Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "cache-control")), (503, "no-store"), "{path}");
    }
}
