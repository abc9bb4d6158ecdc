//! Alerts (L14) of a running process: a stolen refresh token is told to a webhook, once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(30);
const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

/// Takes webhooks and keeps their bodies.
async fn sink() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut tcp = BufReader::new(tcp);
                loop {
                    let (mut line, mut length, mut signed) = (String::new(), 0, false);
                    loop {
                        line.clear();
                        if tcp.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let lower = line.to_ascii_lowercase();
                        if let Some(text) = lower.strip_prefix("content-length:") {
                            length = text.trim().parse().unwrap();
                        }
                        signed |= lower.starts_with("webhook-signature: v1,");
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    tcp.read_exact(&mut body).await.unwrap();
                    assert!(signed, "a message without a signature");
                    kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    tcp.write_all(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            });
        }
    });
    (url, seen)
}

fn alerts(url: &str) -> Value {
    json!({"destinations": [{"id": "security", "webhook": {
        "url": url, "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn l14_a_stolen_refresh_token_is_told_once() {
    let test = "l14_a_stolen_refresh_token_is_told_once";
    let parts: Vec<Part> = RealClient::TsV1.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    if !tools::ready(test, &parts) {
        return;
    }
    let people = json!({"ana": {"email": "ana@corp.example", "name": "Ana", "groups": ["engineering"]}});
    let mut provider = Provider::start(people).await.unwrap();
    let (url, told) = sink().await;
    let everyone = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    let portals = json!([{"id": "default", "policies": everyone}]);
    let config = Config::new()
        .set("alerts", alerts(&url))
        .set("portals", portals)
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    let ana = Person::new("ana").unwrap();
    let report = scripts::sign_in(RealClient::TsV1, &product.url(), &ana, "", json!([])).await.unwrap();
    let signed_in = &report.0["signedIn"];
    let client = signed_in["client"]["client_id"].as_str().unwrap_or_else(|| panic!("{:#}", report.0));
    let first = signed_in["tokens"]["refresh_token"].as_str().unwrap().to_owned();
    let endpoint = format!("{}/token", product.base());
    let refresh = async |token: &str| {
        let body = format!("grant_type=refresh_token&refresh_token={token}&client_id={client}");
        Http::new().send(Method::POST, &endpoint, &FORM, body).await.unwrap().json().await.unwrap()
    };
    let second = refresh(&first).await["refresh_token"].as_str().unwrap().to_owned();
    let third = refresh(&second).await["refresh_token"].as_str().unwrap().to_owned();
    assert!(told.lock().unwrap().is_empty());
    // The thief has the first one; the family ends, and whoever holds the newest has nothing.
    assert_eq!(refresh(&first).await["error"], "invalid_grant");
    assert_eq!(refresh(&third).await["error"], "invalid_grant");
    wait::until("the alert", LIMIT, async || !told.lock().unwrap().is_empty()).await.unwrap();
    assert_eq!(refresh(&first).await["error"], "invalid_grant");
    let messages = told.lock().unwrap().clone();
    let data = &messages[0]["data"];
    assert_eq!(
        (messages[0]["type"].as_str(), data["rule"].as_str(), data["cause"]["principal"].as_str()),
        (Some("alert.fired"), Some("replayed_token"), Some("user:ana@corp.example"))
    );
    assert!(!messages[0].to_string().contains(&first), "a token is in a message");
    let listed = product.command(&["alert", "list", "--json"]).await.unwrap();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["alerts"][0]["rule"], "replayed_token");
    assert_eq!(told.lock().unwrap().len(), 1, "one cause, one message");
    drop(provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn l14_a_destination_can_be_tried_and_changed_while_it_runs() {
    let test = "l14_a_destination_can_be_tried_and_changed_while_it_runs";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let (url, told) = sink().await;
    let mut product = Product::serve(Config::new().set("alerts", alerts(&url))).await.unwrap();
    let tried = product.command(&["alert", "test", "security"]).await.unwrap();
    assert_eq!(tried.code, Some(0), "{}", tried.stderr);
    assert_eq!(told.lock().unwrap()[0]["type"], "alert.test");
    let unknown = product.command(&["alert", "test", "nobody"]).await.unwrap();
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);

    let mut other = alerts(&url);
    other["rules"] = json!([{"id": "reloads", "match": {"kind": ["admin"], "method": ["config/*"]}}]);
    product.rewrite(Config::new().set("alerts", other.clone())).unwrap();
    let reloaded = product.command(&["reload"]).await.unwrap();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    wait::until("the reload is told", LIMIT, async || {
        told.lock().unwrap().iter().any(|message| message["data"]["rule"] == "reloads")
    })
    .await
    .unwrap();

    other["rules"][0]["to"] = json!(["nowhere"]);
    product.rewrite(Config::new().set("alerts", other)).unwrap();
    let refused = product.command(&["check", "--offline"]).await.unwrap();
    assert_eq!(refused.code, Some(1));
    let text = refused.stdout + &refused.stderr;
    assert!(text.contains("there is no destination `nowhere`"), "{text}");
}

/// Fills in the break-glass page as a browser does; the status, and the cookie it was given.
async fn break_glass(base: &str, password: &str, code: &str) -> (u16, Option<String>) {
    let form = [FORM[0], ("origin", base)];
    let body = format!("password={password}&code={code}&return_to=%2Faccount");
    let reply = Http::new().send(Method::POST, &format!("{base}/login/break-glass"), &form, body).await.unwrap();
    let cookie = reply.header("set-cookie").and_then(|text| text.split(';').next()).map(str::to_owned);
    (reply.status, cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn a31_with_the_provider_down_the_account_signs_in_and_an_alert_is_sent() {
    let test = "a31_with_the_provider_down_the_account_signs_in_and_an_alert_is_sent";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let (url, told) = sink().await;
    // Nobody listens there.
    let provider =
        json!({"id": "corp", "issuer": "http://127.0.0.1:9", "client_id": "x", "email_domains": ["corp.example"]});
    let config = |on: bool| {
        let config = Config::new().set("alerts", alerts(&url)).with("identity_providers", provider.clone());
        config.set("sign_in", json!({"break_glass": on}))
    };
    let mut product = Product::serve(config(false)).await.unwrap();
    let base = product.base();
    let made = product.command(&["break-glass", "create", "root@corp.example", "--json"]).await.unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let password = made["password"].as_str().unwrap().to_owned();
    let totp = totp_rs::TOTP::from_url(made["second_factor"].as_str().unwrap()).unwrap();
    let code = || totp.generate_current().unwrap();
    // Made is not switched on.
    assert_eq!(break_glass(&base, &password, &code()).await.0, 404);
    assert_eq!(Http::new().get(&format!("{base}/login/break-glass")).await.unwrap().0, 404);

    product.stop().await.unwrap();
    product.rewrite(config(true)).unwrap();
    product.start_again().await.unwrap();
    let base = product.base();
    let (status, page) = Http::new().get(&format!("{base}/login?return_to=%2Faccount")).await.unwrap();
    assert!(status >= 500 && page.contains("/login/break-glass"), "{status}: {page}");
    assert_eq!(break_glass(&base, "wrong", &code()).await.0, 403);
    let (status, cookie) = break_glass(&base, &password, &code()).await;
    assert_eq!(status, 303);
    let cookie = cookie.unwrap();
    let account = Http::new().send(Method::GET, &format!("{base}/account"), &[("cookie", &cookie)], "").await.unwrap();
    assert!(account.text().await.unwrap().contains("root@corp.example"));
    assert_eq!(break_glass(&base, &password, &code()).await.0, 403, "a code is good once");
    wait::until("the alert", LIMIT, async || {
        told.lock().unwrap().iter().any(|message| {
            message["data"]["rule"] == "break_glass"
                && message["data"]["cause"]["principal"] == "user:root@corp.example"
        })
    })
    .await
    .unwrap();
    // It is removed on the host, and what it signed in ends.
    assert_eq!(product.command(&["break-glass", "remove"]).await.unwrap().code, Some(0));
    wait::until("the session has ended", LIMIT, async || {
        let path = format!("{base}/account");
        let page = Http::new().send(Method::GET, &path, &[("cookie", &cookie)], "").await.unwrap();
        !page.text().await.unwrap().contains("root@corp.example")
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a31_nothing_that_is_sent_makes_the_account() {
    let test = "a31_nothing_that_is_sent_makes_the_account";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let product = Product::serve(Config::new().set("sign_in", json!({"break_glass": true}))).await.unwrap();
    let base = product.base();
    let code = "000000";
    assert_eq!(break_glass(&base, "x", code).await.0, 403);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/login/break-glass", "/break-glass", "/account", "/scim/v2/Users"] {
            let form = [FORM[0], ("origin", base.as_str())];
            let body = "email=root%40corp.example&password=x";
            let reply = Http::new().send(method.clone(), &format!("{base}{path}"), &form, body).await.unwrap();
            assert!(reply.status >= 400, "{method} {path}: {}", reply.status);
        }
    }
    let shown = product.command(&["break-glass", "show", "--json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap()["account"], Value::Null);
    // Wrong attempts are limited by address, before a password is hashed.
    let mut last = 0;
    for _ in 0..12 {
        last = break_glass(&base, "x", code).await.0;
    }
    assert_eq!(last, 429);
}
