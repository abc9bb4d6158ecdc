//! The way of a client and a person through the real authorization server and login, as a
//! browser walks it: from registering to tokens, and to taking all of it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bartizan_oauth::params::{Builder, Params};
use bartizan_oauth::pkce::challenge_of;
use http::Request;
use http::header::{LOCATION, SET_COOKIE};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

mod support;

const URL: &str = "https://gw.example";
const CALLBACK: &str = "http://127.0.0.1:4711/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A browser on the router: it keeps cookies and says where its forms come from.
struct Browser {
    app: Router,
    cookie: Option<String>,
}

impl Browser {
    async fn send(&mut self, request: http::request::Builder, body: String) -> Response {
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        let request =
            request.header("host", "gw.example").header("accept", "text/html").body(Body::from(body)).unwrap();
        let answer = self.app.clone().oneshot(request).await.unwrap();
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure") && cookie.contains("; HttpOnly"));
            if cookie.starts_with("__Host-bartizan=") {
                let pair = cookie.split(';').next().unwrap();
                self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
            }
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Response {
        self.send(Request::get(path), String::new()).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let request = Request::post(path).header("origin", URL).header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request, form(fields)).await
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().fold(Builder::new(), |form, (name, value)| form.add(name, value)).finish()
}

async fn text(answer: Response) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The value of a hidden field.
fn field<'p>(page: &'p str, name: &str) -> &'p str {
    let start = format!("name=\"{name}\" value=\"");
    let rest = page.split(start.as_str()).nth(1).unwrap_or_else(|| panic!("no {name} in\n{page}"));
    rest.split('"').next().unwrap()
}

fn location(answer: &Response) -> &str {
    assert_eq!(answer.status(), 303);
    answer.headers()[LOCATION].to_str().unwrap()
}

async fn register(app: &Router) -> String {
    let body =
        json!({ "client_name": "<b>Tool</b>", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let request = Request::post("/register").header("content-type", "application/json");
    let answer = app.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = serde_json::from_str(&text(answer).await).unwrap();
    answer["client_id"].as_str().unwrap().to_owned()
}

fn authorize(client: &str) -> String {
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("state", "st&te"),
        ("scope", "mcp:read mcp:write"),
        ("resource", "https://gw.example/mcp"),
        ("code_challenge", &challenge_of(VERIFIER)),
        ("code_challenge_method", "S256"),
    ]);
    format!("/authorize?{query}")
}

async fn token(app: &Router, fields: &[(&str, &str)]) -> (u16, Value) {
    let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
    let answer = app.clone().oneshot(request.body(Body::from(form(fields))).unwrap()).await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text(answer).await).unwrap())
}

/// Signs in as a demo person on the way of a client; the consent page.
async fn to_consent(browser: &mut Browser, client: &str, email: &str) -> String {
    let page = text(browser.get(&authorize(client)).await).await;
    assert!(page.contains("Demo sign-in"), "{page}");
    let answer = browser.post("/login/demo", &[("user", email), ("transaction", field(&page, "transaction"))]).await;
    assert_eq!(answer.status(), 200);
    let page = text(answer).await;
    let next = page.split("content=\"0; url=").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let answer = browser.get(&next).await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:4711;"), "{policy}");
    let page = text(answer).await;
    assert!(page.contains("Allow <bdi>&#60;b&#62;Tool&#60;/b&#62;</bdi> to act for you?"), "{page}");
    page
}

fn decision<'p>(page: &'p str, decision: &'p str) -> [(&'static str, &'p str); 3] {
    [("csrf", field(page, "csrf")), ("transaction", field(page, "transaction")), ("decision", decision)]
}

#[tokio::test]
async fn a19_a_client_is_let_in_by_a_person_and_put_out_again() {
    let (app, events, _dir) = support::app(URL).await;
    let client = register(&app).await;
    let mut ada = Browser { app: app.clone(), cookie: None };
    let page = to_consent(&mut ada, &client, "ada@example.com").await;

    let answer = ada.post("/consent", &decision(&page, "allow")).await;
    let query = location(&answer).strip_prefix(&format!("{CALLBACK}?")).unwrap().to_owned();
    let params = Params::parse(query.as_bytes()).unwrap();
    assert_eq!((params.get("state"), params.get("iss")), (Some("st&te"), Some(URL)));
    let code = params.get("code").unwrap();
    let grant = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
    let rest = [("client_id", client.as_str()), ("code_verifier", VERIFIER), ("resource", "https://gw.example/mcp")];
    let (status, tokens) = token(&app, &[grant.as_slice(), &rest].concat()).await;
    assert_eq!(status, 200, "{tokens}");
    assert!(tokens["access_token"].as_str().unwrap().starts_with("bzt_"));

    // The decision was good once.
    let again = ada.post("/consent", &decision(&page, "allow")).await;
    assert!(again.status().is_client_error(), "{}", again.status());

    let page = text(ada.get("/account").await).await;
    assert!(page.contains("&#60;b&#62;Tool") && page.contains("a program on your computer (127.0.0.1)"), "{page}");
    let fields = [("csrf", field(&page, "csrf")), ("client", client.as_str()), ("action", "withdraw")];
    assert_eq!(location(&ada.post("/account", &fields).await), "/account");
    let page = text(ada.get("/account").await).await;
    assert!(page.contains("None yet."), "{page}");
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", client.as_str())];
    let (status, refused) = token(&app, &again).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("invalid_grant")));

    assert_eq!(location(&ada.post("/logout", &[("csrf", field(&page, "csrf"))]).await), "/signed-out");
    assert_eq!(ada.cookie, None);
    assert_eq!(location(&ada.get("/account").await), "/login?return_to=/account");
    let events = events.lock().unwrap().join(", ");
    for wanted in
        ["register true", "sign_in true", "consent true", "token true", "revoke true", "token false", "sign_out true"]
    {
        assert!(events.contains(wanted), "{wanted}: {events}");
    }
}

#[tokio::test]
async fn a19_a_new_client_is_asked_about_although_the_browser_is_known() {
    let (app, _, _dir) = support::app(URL).await;
    let first = register(&app).await;
    let mut ada = Browser { app: app.clone(), cookie: None };
    let page = to_consent(&mut ada, &first, "ada@example.com").await;
    ada.post("/consent", &decision(&page, "allow")).await;

    let second = register(&app).await;
    let answer = ada.get(&authorize(&second)).await;
    assert_eq!(answer.status(), 200);
    assert!(text(answer).await.contains("to act for you?"));
}

#[tokio::test]
async fn a19_a_page_is_good_for_its_own_session_only() {
    let (app, _, _dir) = support::app(URL).await;
    let client = register(&app).await;
    let mut ada = Browser { app: app.clone(), cookie: None };
    let mut eve = Browser { app: app.clone(), cookie: None };
    let hers = to_consent(&mut ada, &client, "ada@example.com").await;
    let eves = to_consent(&mut eve, &client, "eve@example.com").await;

    // Eve's page in Ada's browser: neither the token nor, with Ada's token, the transaction.
    assert_eq!(ada.post("/consent", &decision(&eves, "allow")).await.status(), 403);
    let [_, transaction, allow] = decision(&eves, "allow");
    let mixed = ada.post("/consent", &[("csrf", field(&hers, "csrf")), transaction, allow]).await;
    assert!(mixed.status().is_client_error(), "{}", mixed.status());
    // Her own still works: nothing of that used it up.
    assert!(location(&ada.post("/consent", &decision(&hers, "deny")).await).contains("error=access_denied"));
}
