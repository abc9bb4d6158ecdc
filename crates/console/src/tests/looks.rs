//! P56, A19: every page as people meet it, in a real browser: light and dark, on a phone and on
//! a desk, without scripts, with the keyboard alone, and judged by axe-core (WCAG 2.1 A and AA).
//!
//! The pictures are in `target/pages`; look at them after each change of a template.

use std::time::Duration;

use axum::body::Body;
use bartizan_identity::Step;
use bartizan_testkit::process;
use bartizan_testkit::tools::{self, Part, repository};
use http::Request;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::fake::*;
use crate::selection::{Selection, SelectionError, SelectionLine};

/// Status, headers and body, as the browser gets them.
async fn answer(fake: &Fake, request: Request<Body>) -> Value {
    let answer = send(&app(fake), request).await;
    let status = answer.status().as_u16();
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), json!(value.to_str().unwrap_or_default()))
    };
    // Cookies are of no use to a page that is only looked at.
    let headers: Map<_, _> = answer.headers().iter().filter(|(name, _)| *name != "set-cookie").map(header).collect();
    json!({"status": status, "headers": headers, "body": text(answer).await})
}

fn servers() -> Selection {
    let line = |id: &str, name: &str| SelectionLine {
        id: id.into(),
        name: name.into(),
        on: true,
        fixed: false,
        added: false,
        connect: false,
    };
    Selection {
        portal: "Acme Tools".into(),
        servers: vec![
            line("wiki", "Wiki"),
            SelectionLine { on: false, ..line("git", "Source code") },
            SelectionLine {
                added: true,
                connect: true,
                ..line("crm", "Customers (with a rather long name for a server, and then some)")
            },
            SelectionLine { on: false, fixed: true, ..line("old", "Old tracker") },
        ],
    }
}

/// Every page: its name, what the backend says, and the request that leads to it.
fn scenes() -> Vec<(&'static str, Fake, Request<Body>)> {
    let plain = Fake::default;
    let begin = |begin| Fake { begin: Some(begin), ..Fake::default() };
    let step = |step| Fake { step: Some(step), ..Fake::default() };
    let choice = |selection| Fake { selection: Some(selection), ..Fake::default() };
    let mine = |path| get(path, Some(COOKIE));
    let authorize = || mine("/authorize?client_id=c");
    let everything = Fake { clients: super::golden::clients(), own: super::connect::accounts(), ..Fake::default() };
    vec![
        ("home", plain(), get("/", None)),
        ("home-signed-in", plain(), mine("/")),
        ("home-endpoint", plain(), get("/mcp", None)),
        ("home-portal", plain(), mine("/portals/hr/mcp")),
        ("login-choose", begin(providers), get("/login?transaction=t1", None)),
        ("login-unknown", begin(providers), form("/login", "email=a%40nowhere.example&transaction=t1")),
        ("login-demo", begin(people), get("/login?transaction=t1", None)),
        ("login-break-glass", plain(), get("/login/break-glass", None)),
        ("login-onward", plain(), form("/login/demo", "user=a&transaction=t1")),
        ("consent-loopback", step(|| Step::Consent(Box::new(view()))), authorize()),
        ("consent-web", step(|| Step::Consent(Box::new(web_view()))), authorize()),
        ("account", everything, mine("/account")),
        ("account-empty", plain(), mine("/account")),
        ("connect", plain(), mine("/connect/notes")),
        ("connect-token", plain(), mine("/connect/vault")),
        ("connect-done", Fake { own: super::connect::accounts(), ..Fake::default() }, mine("/connect/notes/done")),
        ("step-up", plain(), mine("/step-up/h1")),
        ("step-up-purpose", plain(), mine("/step-up/p1")),
        ("step-up-done", plain(), form("/step-up/p1", "csrf=csrf-of-s1&purpose=audit")),
        ("selection", choice(Ok(servers())), mine("/authorize?elicitationId=h1")),
        ("selection-done", choice(Ok(servers())), form("/selection", "csrf=csrf-of-s1&elicitationId=h1&on=wiki")),
        ("selection-gone", choice(Err(SelectionError::Gone)), mine("/authorize?elicitationId=h1")),
        ("signed-out", plain(), get("/signed-out", None)),
        ("signed-out-everywhere", plain(), form("/logout", "csrf=csrf-of-s1&action=everywhere&accounts=yes")),
        ("problem-form", plain(), form("/consent", "")),
        ("problem-other-person", plain(), mine("/step-up/other")),
        ("problem-state", plain(), get("/login/callback?bad", None)),
    ]
}

async fn look(folder: &str, scenes: Vec<Value>) -> Value {
    let pictures = repository().join("target").join(folder);
    let mut assets = Map::new();
    for path in ["/assets/style.css", "/assets/copy.js", "/assets/icon.svg"] {
        assets.insert(path.to_owned(), answer(&Fake::default(), get(path, None)).await);
    }
    let own = TempDir::new().unwrap();
    let file = own.path().join("scenes.json");
    std::fs::write(&file, json!({"origin": ORIGIN, "assets": assets, "scenes": scenes}).to_string()).unwrap();
    let mut command = tokio::process::Command::new(tools::node());
    command.arg(tools::script("sign-in/pages.mjs")).arg(&file).arg(pictures);
    command.env("BARTIZAN_TOOLS_DIR", tools::folder());
    let output = process::run_command(&mut command, Duration::from_secs(600)).await.unwrap();
    let line = output.stdout.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{}{}", output.stdout, output.stderr))
}

#[tokio::test]
async fn w12_the_pages_of_approvals_can_be_used_by_everybody() {
    use super::approvals::{Desk, HOSTILE, user};
    if !tools::ready("w12_the_pages_of_approvals_can_be_used_by_everybody", &[Part::Npm, Part::Browser]) {
        return;
    }
    let desk = Desk::new().await;
    let (bob, ada) = (user("bob@example.com", &[]), user("ada@example.com", &[]));
    let hostile = desk.ask(&bob, HOSTILE).await;
    let long = desk.ask(&bob, &format!("{{\"v\":\"{}\"}}", "word ".repeat(2_000))).await;
    let (entry, own) = (desk.ask_entry(&bob).await, desk.ask(&ada, "{}").await);
    let fake = desk.fake();
    let mine = |path: &str| get(path, Some(COOKIE));
    let mut shown = Vec::new();
    for (name, path) in [
        ("approvals", "/approvals".to_owned()),
        ("approval-hostile", format!("/approvals/{hostile}")),
        ("approval-long", format!("/approvals/{long}")),
        ("approval-entry", format!("/approvals/{entry}")),
        ("approval-own", format!("/approvals/{own}")),
        ("request-access", "/request-access?server=pay".to_owned()),
        ("problem-link", format!("/approvals/{hostile}?link=forged")),
    ] {
        let answer = answer(&fake, mine(&path)).await;
        assert!(answer["body"].as_str().unwrap().contains("<main"), "{name} is not a page: {answer}");
        shown.push(json!({"name": name, "path": path, "answer": answer}));
    }
    let told = look("pages-approvals", shown).await;
    assert_eq!(told["scenes"], 7);
    assert_eq!(told["problems"], json!([]), "{:#}", told["problems"]);
}

#[tokio::test]
async fn p56_every_page_can_be_used_by_everybody() {
    if !tools::ready("p56_every_page_can_be_used_by_everybody", &[Part::Npm, Part::Browser]) {
        return;
    }
    let mut shown = Vec::new();
    for (name, fake, request) in scenes() {
        let path = request.uri().to_string();
        let answer = answer(&fake, request).await;
        assert!(answer["headers"]["location"].is_null(), "{name} is not a page: {answer}");
        assert!(answer["body"].as_str().unwrap().contains("<main"), "{name} is not a page: {answer}");
        shown.push(json!({"name": name, "path": path, "answer": answer}));
    }
    let told = look("pages", shown).await;
    assert_eq!(told["scenes"], scenes().len());
    assert_eq!(told["looks"], json!(["phone-light", "phone-dark", "desktop-light", "desktop-dark"]));
    assert_eq!(told["problems"], json!([]), "{:#}", told["problems"]);
}

/// The judge sees what it is there for: a page with all the mistakes.
#[tokio::test]
async fn p56_a_bad_page_is_found_out() {
    if !tools::ready("p56_a_bad_page_is_found_out", &[Part::Npm, Part::Browser]) {
        return;
    }
    let body = r#"<!doctype html><html><title>x</title><main><h1>x</h1><div style="width:2000px">wide</div>
        <p style="color:#ccc;background:#fff">pale</p><input name="nameless"><img src="https://elsewhere.example/x.png">
        <button tabindex="-1">not reached</button><button style="outline:none">not seen</button></main></html>"#;
    let answer = json!({"status": 200, "headers": {"content-type": "text/html"}, "body": body});
    let told = look("pages-bad", vec![json!({"name": "bad", "path": "/bad", "answer": answer})]).await;
    let text = told["problems"].to_string();
    for wanted in [
        "wider than the window",
        "color-contrast",
        "html-has-lang",
        "\"label\"",
        "image-alt",
        "https://elsewhere.example/x.png",
        "not reached with the keyboard",
        "focus is not seen",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{:#}", told["problems"]);
    }
}
