//! Hostile servers, authorization servers and people.

use bartizan_accounts::{AccountError, After};
use bartizan_oauth::params::{Builder, Params};
use bartizan_store::repo::{browser_session, person, sealed};
use serde_json::json;

use crate::fake::{Fake, Reply, forbidden};
use crate::gateway::{BROWSER, Gateway, PERSON, spec, user};

const PRM: &str = "/.well-known/oauth-protected-resource/mcp";

#[tokio::test]
async fn p16_a_state_is_good_once_for_one_person_in_one_browser() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let (ana, bob) = (user("ana"), user("bob"));
    let url = gateway.accounts.begin(&gateway.spec(), &ana, "/", BROWSER).await.unwrap();
    let query = fake.approve(&url, "mallory");
    // Bob is sent the link that finishes what Ana began, and the other way round.
    for (who, browser) in [(&bob, BROWSER), (&ana, "another-browser"), (&bob, "another-browser"), (&ana, "")] {
        let problem = gateway.accounts.finish(&query, who, browser).await.unwrap_err();
        assert_eq!(problem.code, "connect_state");
    }
    assert_eq!(fake.count("/token"), 0, "nobody redeemed anything");
    let other = Builder::new().add("code", "c").add("state", &"x".repeat(43)).finish();
    assert_eq!(gateway.accounts.finish(&other, &ana, BROWSER).await.unwrap_err().code, "connect_state");
    // Their attempts did not use it up.
    gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap();
    assert_eq!(gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap_err().code, "connect_state");

    let url = gateway.accounts.begin(&gateway.spec(), &ana, "/", BROWSER).await.unwrap();
    let query = fake.approve(&url, "ana");
    gateway.clock.advance_ms(10 * 60_000);
    assert_eq!(gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap_err().code, "connect_state");
}

#[tokio::test]
async fn p16_who_was_shut_out_on_the_way_keeps_no_tokens() {
    for way in ["deactivated", "removed", "signed out"] {
        let fake = Fake::start().await;
        let gateway = Gateway::new(&fake).await;
        let ana = user("ana");
        let url = gateway.accounts.begin(&gateway.spec(), &ana, "/", BROWSER).await.unwrap();
        let query = fake.approve(&url, "ana");
        // The request with the answer was let in before; the rest happens while it goes on.
        assert!(match way {
            "deactivated" => person::deactivate(&gateway.store, PERSON).await.unwrap(),
            "removed" => person::delete(&gateway.store, PERSON).await.unwrap(),
            _ => browser_session::end(&gateway.store, BROWSER).await.unwrap(),
        });
        assert_eq!(gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap_err().code, "connect_state", "{way}");
        assert!(gateway.accounts.list(&ana).await.unwrap().is_empty(), "{way}");
        assert_eq!(gateway.accounts.authorize(&gateway.spec(), &ana).await.unwrap_err(), AccountError::LoginNeeded);
        let issued: Vec<String> = fake.set().access.keys().cloned().collect();
        assert!(issued.iter().all(|token| fake.set().revoked.contains(token)), "{way}: nor does the server");
    }
}

#[tokio::test]
async fn p16_one_persons_flood_of_logins_ends_nobody_elses() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    let query = fake.approve(&url, "ana");
    let mut first = None;
    for _ in 0..25 {
        gateway.clock.advance_ms(1);
        let url = gateway.accounts.begin(&gateway.spec(), &user("bob"), "/", BROWSER).await.unwrap();
        first.get_or_insert_with(|| fake.approve(&url, "bob"));
    }
    gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap();
    let gone = gateway.accounts.finish(&first.unwrap(), &user("bob"), BROWSER).await.unwrap_err();
    assert_eq!(gone.code, "connect_state");
}

#[tokio::test]
async fn p16_an_answer_of_another_authorization_server_is_not_redeemed() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let ana = user("ana");
    for iss in ["https://evil.example", "HTTP://127.0.0.1", "x"] {
        fake.set().sends_iss = Some(iss.to_owned());
        let url = gateway.accounts.begin(&gateway.spec(), &ana, "/", BROWSER).await.unwrap();
        let query = fake.approve(&url, "ana");
        let problem = gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap_err();
        assert_eq!(problem.code, "connect_issuer");
    }
    // Not even an error may be shown.
    let url = gateway.accounts.begin(&gateway.spec(), &ana, "/", BROWSER).await.unwrap();
    let state = Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap().get("state").unwrap().to_owned();
    let error = Builder::new().add("error", "access_denied").add("error_description", "call 555").add("state", &state);
    let query = error.add("iss", "https://evil.example").finish();
    let problem = gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap_err();
    assert_eq!(problem.code, "connect_issuer");
    assert!(!problem.text.contains("555"));
    let sent = |fake: &Fake| fake.set().asked.iter().any(|(_, body)| body.contains("code=code-"));
    assert!(!sent(&fake), "no code went out");

    // The right one is taken.
    fake.set().sends_iss = Some(fake.issuer.clone());
    gateway.connect(&fake, "ana").await;
    assert!(sent(&fake));
}

#[tokio::test]
async fn p16_an_answer_must_name_its_issuer_where_that_was_announced() {
    let fake = Fake::start().await;
    fake.set().metadata = json!({ "authorization_response_iss_parameter_supported": true });
    let gateway = Gateway::new(&fake).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    let query = fake.approve(&url, "ana");
    let problem = gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap_err();
    assert_eq!(problem.code, "connect_issuer");
}

#[tokio::test]
async fn p16_bad_authorization_servers_are_refused_before_the_browser_leaves() {
    let fake = Fake::start().await;
    for bad in [
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "authorization_endpoint": "data:text/html,x" }),
        json!({ "authorization_endpoint": "http://evil.example/authorize" }),
        json!({ "authorization_endpoint": "https://user@evil.example/authorize" }),
        json!({ "authorization_endpoint": null }),
        json!({ "token_endpoint": "http://evil.example/token" }),
        json!({ "token_endpoint": null }),
        json!({ "issuer": "https://evil.example" }),
        json!({ "issuer": format!("{}/", fake.issuer) }),
        json!({ "code_challenge_methods_supported": ["plain"] }),
        json!({ "code_challenge_methods_supported": null }),
    ] {
        fake.set().metadata = bad.clone();
        let gateway = Gateway::new(&fake).await;
        let problem = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.expect_err("refused");
        assert_eq!(problem.code, "connect_settings", "{bad}");
    }
    assert_eq!(fake.count("/register") + fake.count("/token"), 0);
}

#[tokio::test]
async fn p16_resource_metadata_of_somebody_else_is_refused() {
    let fake = Fake::start().await;
    for bad in [
        json!({ "resource": "https://evil.example/mcp" }),
        json!({ "resource": format!("{}/deeper", fake.server) }),
        json!({ "authorization_servers": [] }),
        json!({ "authorization_servers": ["http://evil.example"] }),
        json!({ "authorization_servers": ["javascript:alert(1)"] }),
    ] {
        fake.set().prm = bad.clone();
        let gateway = Gateway::new(&fake).await;
        let problem = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.expect_err("refused");
        assert_eq!(problem.code, "connect_settings", "{bad}");
    }
}

#[tokio::test]
async fn p16_metadata_at_forbidden_addresses_is_never_fetched() {
    let fake = Fake::start().await;
    // 127.0.0.1 may be reached, 127.0.0.2 and the rest of the private world may not.
    let (address, reached) = forbidden("127.0.0.2:0").await;
    let port = address.port();
    let hosts = [
        "127.0.0.2",
        "127.0.2",
        "127.2",
        "2130706434",
        "0x7f000002",
        "0x7F.0.0.2",
        "0177.0.0.2",
        "017700000002",
        "0x7f.0x0.0x0.0x2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[0:0:0:0:0:ffff:7f00:2]",
        "[::127.0.0.2]",
        "[64:ff9b::7f00:2]",
        "[64:ff9b::127.0.0.2]",
        "[2002:7f00:2::]",
        "127.0.0.2.",
        "127.0.0.2%00",
        "127。0。0。2",
        "①②⑦.0.0.2",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00::1]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "2852039166",
        "metadata.google.internal",
        "127.0.0.1@127.0.0.2",
        "127.0.0.2#@127.0.0.1",
        "127.0.0.2\\@127.0.0.1",
    ];
    assert!(hosts.len() > 30);
    for host in hosts {
        let link = format!("http://{host}:{port}/x");
        fake.set().challenge = Some(format!("Bearer resource_metadata=\"{}\"", link.replace('\\', "\\\\")));
        let gateway = Gateway::new(&fake).await;
        let begun = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await;
        // A header that is no text is as good as none.
        assert!(begun.is_err() || !host.is_ascii(), "{link}");
        // The same as the authorization server, and as its token endpoint after the login.
        fake.set().challenge = None;
        fake.set().prm = json!({ "authorization_servers": [format!("http://{host}:{port}")] });
        let gateway = Gateway::new(&fake).await;
        assert!(gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.is_err(), "{host}");
        fake.set().prm = json!({});
        fake.set().metadata = json!({ "token_endpoint": format!("http://{host}:{port}/token") });
        let gateway = Gateway::new(&fake).await;
        if let Ok(url) = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await {
            let query = fake.approve(&url, "ana");
            assert!(gateway.accounts.finish(&query, &user("ana"), BROWSER).await.is_err(), "{host}");
        }
        fake.set().metadata = json!({});
    }
    assert_eq!(*reached.lock().unwrap(), 0);
    // The counter counts: a connection that is allowed arrives.
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &json!(null), &["127.0.0.0/8"]).await;
    fake.set().challenge = Some(format!("Bearer resource_metadata=\"http://127.0.0.2:{port}/x\""));
    assert!(gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.is_err());
    assert_eq!(*reached.lock().unwrap(), 1);
}

#[tokio::test]
async fn p28_private_authorization_servers_work_only_when_listed() {
    let fake = Fake::start().await;
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &json!(null), &[]).await;
    let problem = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap_err();
    assert_eq!(problem.code, "connect_settings");
    assert_eq!(fake.set().asked.len(), 0);
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &json!(null), &["127.0.0.0/8"]).await;
    gateway.connect(&fake, "ana").await;
}

#[tokio::test]
async fn p16_redirects_of_the_authorization_server_are_not_followed() {
    let fake = Fake::start().await;
    let thief = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    for status in [301, 302, 307, 308] {
        let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
        let query = fake.approve(&url, "ana");
        let away = Reply::Head(status, "location", format!("{}/token", thief.issuer));
        fake.set().instead.insert("/token".to_owned(), away);
        let problem = gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap_err();
        assert_eq!(problem.code, "connect_tokens");
        fake.set().instead.clear();
        let away = Reply::Head(status, "location", format!("{}{PRM}", thief.server));
        fake.set().instead.insert(PRM.to_owned(), away);
        assert!(gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.is_err());
        fake.set().instead.clear();
    }
    assert_eq!(thief.set().asked.len(), 0);
}

#[tokio::test]
async fn p16_a_token_is_not_sent_to_an_address_it_was_not_issued_for() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.token("ana").await;
    let before = fake.set().redemptions;
    for (url, config) in [
        ("https://evil.example/mcp".to_owned(), json!(null)),
        (format!("{}/", fake.server), json!(null)),
        (fake.server.clone(), json!({ "issuer": "https://other.example" })),
        (fake.server.clone(), json!({ "client_id": "by-hand" })),
    ] {
        gateway.spec.store(spec(&url, &config));
        let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await;
        assert_eq!(refused.unwrap_err(), AccountError::LoginNeeded, "{url} {config}");
        assert!(gateway.accounts.current(&gateway.spec(), &user("ana")).is_none());
    }
    assert_eq!(fake.set().redemptions, before);
    gateway.spec.store(spec(&fake.server, &json!(null)));
    gateway.token("ana").await;
}

#[tokio::test]
async fn p16_a_login_that_began_for_another_address_is_for_nobody() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    let query = fake.approve(&url, "ana");
    gateway.spec.store(spec("https://evil.example/mcp", &json!(null)));
    let problem = gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap_err();
    assert_eq!(problem.code, "connect_state");
    assert_eq!(fake.count("/token"), 0);
}

#[tokio::test]
async fn p16_a_server_that_moves_to_another_authorization_server_gets_no_old_token() {
    let fake = Fake::start().await;
    let thief = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let (spec, ana) = (gateway.spec(), user("ana"));
    gateway.clock.advance_ms(60_000);
    let held = gateway.accounts.authorize(&spec, &ana).await.unwrap();
    fake.set().prm = json!({ "authorization_servers": [thief.issuer] });
    assert_eq!(gateway.accounts.refused(&spec, &ana, held.version, None).await, After::LoginNeeded);
    assert_eq!(gateway.accounts.authorize(&spec, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    let sent = thief.set().asked.iter().any(|(_, body)| body.contains("rt-") || body.contains("at-"));
    assert!(!sent, "neither token nor refresh token left for the new one");
    assert_eq!((fake.set().redemptions, thief.count("/token")), (0, 0));
}

#[tokio::test]
async fn p16_where_to_go_on_is_never_another_site() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    for bad in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a/../..//x", ""] {
        let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), bad, BROWSER).await.unwrap();
        let query = fake.approve(&url, "ana");
        let connected = gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap();
        assert_eq!(connected.return_to.as_str(), "/", "{bad}");
    }
}

#[tokio::test]
async fn p16_odd_answers_of_the_token_endpoint() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    for bad in [
        Reply::Json(200, json!({ "access_token": "x", "token_type": "DPoP" })),
        Reply::Json(200, json!({ "access_token": "x", "token_type": "N_A" })),
        Reply::Json(200, json!({ "access_token": "a\r\nb", "token_type": "Bearer" })),
        Reply::Json(200, json!({ "access_token": "a b" })),
        Reply::Json(200, json!({ "access_token": "" })),
        Reply::Json(200, json!([])),
        Reply::Json(500, json!({ "access_token": "x" })),
        Reply::Json(400, json!({ "error": "invalid_grant", "access_token": "x" })),
        Reply::Json(200, json!({ "error": "<script>" })),
    ] {
        let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
        let query = fake.approve(&url, "ana");
        fake.set().token_next = vec![(false, bad)];
        let problem = gateway.accounts.finish(&query, &user("ana"), BROWSER).await.unwrap_err();
        assert_eq!(problem.code, "connect_tokens");
        assert!(!problem.text.contains('<'));
    }
    assert!(gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.is_err());
}

#[tokio::test]
async fn p21_a_record_moved_to_another_person_does_not_open() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let key = |name: &str| sealed::Key {
        tenant: String::new(),
        kind: "upstream_token".to_owned(),
        id: format!("notes/user:{name}@corp.example"),
    };
    let mut stolen = sealed::get(&gateway.store, &key("ana")).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&stolen.sealed).contains("at-ana"), "at rest it is sealed");
    stolen.key = key("mallory");
    assert!(sealed::insert(&gateway.store, &stolen).await.unwrap());
    assert!(gateway.accounts.authorize(&gateway.spec(), &user("mallory")).await.is_err());
    gateway.token("ana").await;
}

#[tokio::test]
async fn p16_what_was_not_agreed_to_is_not_begun() {
    use bartizan_accounts::Destination;
    let fake = Fake::start().await;
    let other = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let (spec, ana) = (gateway.spec(), user("ana"));
    let shown = gateway.accounts.destination(&spec, &ana).await.unwrap();
    let begin = async |accounts: &bartizan_accounts::Accounts| {
        let agreed = |to: &Destination| to.text() == shown.text();
        accounts.begin_if(&spec, &ana, "/", BROWSER, &agreed).await.unwrap()
    };
    assert!(begin(&gateway.accounts).await.unwrap().starts_with(&fake.issuer));
    // Another authorization server, other scopes; each as a process sees it that knows nothing yet.
    fake.set().prm = json!({"authorization_servers": [other.issuer]});
    assert_eq!(begin(&gateway.process()).await, None);
    assert_eq!((other.count("/register"), other.count("/token")), (0, 0), "and nothing is registered there");
    fake.set().prm = json!({});
    fake.set().challenge = Some(format!(
        "Bearer resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp\", scope=\"notes.admin\"",
        fake.server.trim_end_matches("/mcp")
    ));
    assert_eq!(begin(&gateway.process()).await, None);
    // Without the question the person would be sent there.
    fake.set().challenge = None;
    fake.set().prm = json!({"authorization_servers": [other.issuer]});
    let url = gateway.process().begin(&spec, &ana, "/", BROWSER).await.unwrap();
    assert!(url.starts_with(&other.issuer));
    // Texts of different places differ, whatever is in them.
    let at = |origin: &str, issuer: &str, scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Destination { origin: origin.to_owned(), issuer: issuer.to_owned(), scopes }.text()
    };
    assert_ne!(at("ab", "c", &[]), at("a", "bc", &[]));
    assert_ne!(at("a", "b", &["c", "d"]), at("a", "b", &["cd"]));
    assert_ne!(at("a", "b", &["1:c"]), at("a", "b", &["", "c"]));
}
