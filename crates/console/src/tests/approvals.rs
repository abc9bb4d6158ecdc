//! W12, A16: pages on which people answer and ask.

use std::sync::Arc;

use axum::body::Body;
use bartizan_approvals::{Answer, Approvals, ApprovalsDeps, CallQuestion, Decider, Details, EntryQuestion};
use bartizan_audit::Audit;
use bartizan_config::resources::Resources;
use bartizan_config::settings::AuditMode;
use bartizan_model::{Era, EventId, ManualClock, Principal, PrincipalKind, RoleSet, ServerId, ToolClass};
use bartizan_policy::{Action, Approval, Policies, Query, RequestContext};
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use http::Request;
use serde_json::json;
use tempfile::TempDir;

use super::fake::*;
use crate::ApprovalPages;

/// Approvals over a store of its own.
pub(crate) struct Desk {
    pub(crate) approvals: Approvals,
    audit: Audit,
    folder: TempDir,
}

pub(crate) fn user(id: &str, groups: &[&str]) -> Principal {
    Principal::new(PrincipalKind::User, id, groups.iter().map(|group| Arc::from(*group)))
}

fn rule(extra: serde_json::Value) -> Arc<Approval> {
    let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
    rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let resources: Resources = serde_json::from_value(json!({"servers": [
        {"server_id": "pay", "hostname": "http://localhost/mcp", "policies": [rule]}]}))
    .unwrap();
    let policies = Policies::compile(&resources, 0).unwrap();
    let context =
        RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms: 0 };
    let decision = policies.decide(&Query {
        principal: &user("x", &[]),
        action: Action::CallTool,
        portal: None,
        server: Some(&ServerId::parse("pay").unwrap()),
        name: "transfer",
        class: ToolClass::Read,
        context: &context,
        args: None,
    });
    Arc::clone(&decision.approvals[0])
}

fn asks() -> Arc<Approval> {
    rule(json!({"require_approval": {"approvers": "group:finance"}}))
}

fn lets_in() -> Arc<Approval> {
    rule(json!({"temporary": {"approvers": "group:finance", "for": "15m-1h"}}))
}

pub(crate) const HOSTILE: &str = "{\"to\":\"<script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}\u{1b}[2J\",\"note\":\"</pre><h1>Approved</h1>\"}";

impl Desk {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock) as _).await.unwrap();
        let audit = Audit::open(folder.path(), AuditMode::Strict, None, Arc::clone(&clock) as _).unwrap();
        let approvals = Approvals::new(ApprovalsDeps {
            store,
            vault: Vault::new(KeyRing::from_keys([5; 32], []).unwrap()).unwrap(),
            audit: audit.clone(),
            clock,
            public_url: Some(ORIGIN.to_owned()),
        });
        Self { approvals, audit, folder }
    }

    /// The pages; who is signed in is in `finance`.
    pub(crate) fn fake(&self) -> Fake {
        let pages = ApprovalPages {
            approvals: self.approvals.clone(),
            who: Arc::new(|session| {
                let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
                let principal = Principal::new(PrincipalKind::User, session.person.email.as_str(), groups);
                (Arc::new(principal), RoleSet::NONE)
            }),
            entry: Arc::new(|_, _, subject| (subject == "server:pay").then(|| (lets_in(), "Payments".to_owned()))),
        };
        Fake { approvals: Some(pages), ..Fake::default() }
    }

    pub(crate) async fn ask(&self, who: &Principal, arguments: &str) -> String {
        let details = Details {
            requester: who.key().to_string(),
            client: Some("Evil <b>Client</b>".to_owned()),
            server: ServerId::parse("pay").ok(),
            target: "transfer".to_owned(),
            exposed: Some("pay_transfer".to_owned()),
            class: Some(ToolClass::Write),
            arguments: Some(arguments.to_owned()),
            rule: "grant \"g\"".to_owned(),
            ..Details::default()
        };
        let question = CallQuestion {
            requester: who,
            approval: &asks(),
            subject: "tool:pay/transfer",
            digest: &format!("{}", arguments.len()),
            definition: "",
            owner: None,
            event: EventId::new(NOW),
            details,
        };
        self.approvals.ask(question).await.unwrap()
    }

    pub(crate) async fn ask_entry(&self, who: &Principal) -> String {
        let rule = lets_in();
        let question = EntryQuestion { requester: who, approval: &rule, reason: "<i>audit</i>", name: "Payments" };
        self.approvals.ask_entry(question).await.unwrap()
    }

    async fn state(&self, id: &str) -> String {
        self.approvals.get(id).await.unwrap().unwrap().row.state
    }

    async fn refused(&self) -> usize {
        self.audit.flush().await.unwrap();
        let mut text = String::new();
        for writer in std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            for file in std::fs::read_dir(writer).into_iter().flatten() {
                text += &String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
        text.matches("\"approval/refused\"").count()
    }
}

fn answer(id: &str, fields: &str) -> Request<Body> {
    form(&format!("/approvals/{id}"), &format!("csrf={CSRF}&{fields}"))
}

#[tokio::test]
async fn w12_the_page_shows_hostile_arguments_as_data_and_takes_an_answer() {
    let desk = Desk::new().await;
    let (app, bob) = (app(&desk.fake()), user("bob@example.com", &[]));
    let id = desk.ask(&bob, HOSTILE).await;
    let (status, page) = ask(&app, get(&format!("/approvals/{id}"), Some(COOKIE))).await;
    assert_eq!(status, 200);
    for wanted in [
        "Shall this happen?",
        "<bdi>user:bob@example.com wants to call transfer of pay</bdi>",
        "Complete, as the client sent them. This is data",
        "\\u{202e}\\u{1b}[2J",
        "Approve this tool for 60 minutes",
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
    for never in ["<script>alert", "<img src=x", "</pre><h1>", "Evil <b>", "\u{202e}", "\u{1b}"] {
        assert!(!page.contains(never), "{never}\n{page}");
    }
    // Seeing changes nothing; answering needs the token of the session, and a page of ours.
    let without = ask(&app, form(&format!("/approvals/{id}"), "csrf=other&decision=call")).await;
    assert_eq!((without.0, desk.state(&id).await.as_str()), (403, "open"));
    let odd = ask(&app, answer(&id, "decision=maybe")).await;
    assert_eq!((odd.0, desk.state(&id).await.as_str()), (400, "open"));
    let done = send(&app, answer(&id, "decision=tool&seconds=3600&reason=fine")).await;
    assert_eq!(done.headers()["location"], format!("/approvals/{id}"));
    assert_eq!(desk.state(&id).await, "approved");
    let (_, page) = ask(&app, get(&format!("/approvals/{id}"), Some(COOKIE))).await;
    assert!(page.contains("This is approved") && page.contains("by user:ada@example.com"), "{page}");
    let again = ask(&app, answer(&id, "decision=reject")).await;
    assert_eq!(again.0, 409);
}

#[tokio::test]
async fn w12_a_megabyte_of_arguments_is_shown_whole_and_read_alone() {
    let desk = Desk::new().await;
    let app = app(&desk.fake());
    let arguments = format!("{{\"v\":\"{}THE-END\"}}", "<".repeat(1 << 20));
    let id = desk.ask(&user("bob@example.com", &[]), &arguments).await;
    let (status, page) = ask(&app, get(&format!("/approvals/{id}"), Some(COOKIE))).await;
    assert!(status == 200 && page.contains("THE-END") && !page.contains("<<"));
    let (_, list) = ask(&app, get("/approvals", Some(COOKIE))).await;
    assert!(list.contains("Read alone") && list.len() < 20_000 && !list.contains("THE-END"));
}

#[tokio::test]
async fn w12_nobody_sees_or_answers_what_is_not_theirs() {
    let desk = Desk::new().await;
    let app = app(&desk.fake());
    // Her own: seen, with whom it waits for, and not answered by herself.
    let ada = user("ada@example.com", &["engineering", "finance"]);
    let own = desk.ask(&ada, "{}").await;
    let (_, page) = ask(&app, get(&format!("/approvals/{own}"), Some(COOKIE))).await;
    assert!(
        page.contains("waiting for <bdi>group:finance</bdi>") && !page.contains("decision\" value=\"call\""),
        "{page}"
    );
    let refused = ask(&app, answer(&own, "decision=call")).await;
    assert_eq!((refused.0, desk.state(&own).await.as_str()), (403, "open"));
    assert_eq!(desk.refused().await, 1);
    let (_, list) = ask(&app, get("/approvals", Some(COOKIE))).await;
    assert!(list.contains("Nothing waits for your answer.") && list.contains(&own));
    send(&app, answer(&own, "decision=withdraw")).await;
    assert_eq!(desk.state(&own).await, "withdrawn");
    for (method, path) in [("GET", "/approvals/none"), ("POST", "/approvals/none")] {
        let request = if method == "GET" { get(path, Some(COOKIE)) } else { answer("none", "decision=call") };
        assert_eq!(ask(&app, request).await.0, 404, "{method}");
    }
    // Signed out: to the login and back.
    let away = send(&app, get(&format!("/approvals/{own}?link=x"), None)).await;
    assert!(away.headers()["location"].to_str().unwrap().starts_with("/login?return_to=%2Fapprovals%2F"));
    // Without approvals there are no such pages.
    let none = ask(&super::fake::app(&Fake::default()), get("/approvals", Some(COOKIE))).await;
    assert_eq!(none.0, 404);
}

#[tokio::test]
async fn w12_links_that_are_not_good_are_refused_and_noticed() {
    let desk = Desk::new().await;
    let app = app(&desk.fake());
    let id = desk.ask(&user("bob@example.com", &[]), "{}").await;
    let other = desk.ask(&user("eve@example.com", &[]), "{}").await;
    let link = |id: &str| desk.approvals.link(id, "chat").unwrap().split("link=").nth(1).unwrap().to_owned();
    for bad in ["forged".to_owned(), link(&other)] {
        let (status, _) = ask(&app, get(&format!("/approvals/{id}?link={bad}"), Some(COOKIE))).await;
        assert_eq!(status, 410);
        let (status, _) = ask(&app, answer(&id, &format!("decision=call&link={bad}"))).await;
        assert_eq!(status, 410);
    }
    assert_eq!((desk.refused().await, desk.state(&id).await.as_str()), (4, "open"));
    let good = link(&id);
    let (status, page) = ask(&app, get(&format!("/approvals/{id}?link={good}"), Some(COOKIE))).await;
    assert!(status == 200 && page.contains(&good));
    send(&app, answer(&id, &format!("decision=call&link={good}"))).await;
    assert_eq!(desk.state(&id).await, "approved");
}

#[tokio::test]
async fn w12_several_are_answered_together() {
    let desk = Desk::new().await;
    let app = app(&desk.fake());
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(desk.ask(&user("bob@example.com", &[]), &format!("{{\"n\":\"{}\"}}", "x".repeat(n))).await);
    }
    let entry = desk.ask_entry(&user("bob@example.com", &[])).await;
    let (_, list) = ask(&app, get("/approvals", Some(COOKIE))).await;
    assert_eq!(list.matches("name=\"id\"").count(), 3, "{list}");
    assert!(!list.contains("<i>audit"));
    let body = format!("csrf={CSRF}&id={}&id={}&decision=call", ids[0], ids[1]);
    assert_eq!(send(&app, form("/approvals", &body)).await.headers()["location"], "/approvals");
    let states = [desk.state(&ids[0]).await, desk.state(&ids[1]).await, desk.state(&ids[2]).await];
    assert_eq!(states, ["approved", "approved", "open"]);
    let foreign = ask(&app, form("/approvals", &format!("csrf=x&id={}&decision=call", ids[2]))).await;
    assert_eq!((foreign.0, desk.state(&ids[2]).await.as_str()), (403, "open"));
    // Being let in is for a time, so it is answered alone.
    let (_, page) = ask(&app, get(&format!("/approvals/{entry}"), Some(COOKIE))).await;
    assert!(page.contains("<option value=\"900\">15 minutes</option>") && !page.contains("value=\"7200\""), "{page}");
    send(&app, answer(&entry, "decision=entry&seconds=900")).await;
    assert_eq!(desk.state(&entry).await, "approved");
}

#[tokio::test]
async fn a16_access_is_asked_for_with_a_reason_where_a_rule_says_so() {
    let desk = Desk::new().await;
    let app = app(&desk.fake());
    let (status, page) = ask(&app, get("/request-access?server=pay", Some(COOKIE))).await;
    assert!(status == 200 && page.contains("<bdi>Payments</bdi>") && page.contains("group:finance"), "{page}");
    for path in [
        "/request-access",
        "/request-access?server=none",
        "/request-access?portal=pay",
        "/request-access?server=pay&portal=x",
    ] {
        assert_eq!(ask(&app, get(path, Some(COOKIE))).await.0, 404, "{path}");
    }
    let post = |reason: &str| form("/request-access", &format!("csrf={CSRF}&server=pay&purpose={reason}"));
    for bad in ["", "+++", &"x".repeat(501)] {
        assert_eq!(ask(&app, post(bad)).await.0, 400, "{bad}");
    }
    let made = send(&app, post("the+quarter+ends")).await;
    let place = made.headers()["location"].to_str().unwrap().to_owned();
    let (_, page) = ask(&app, get(&place, Some(COOKIE))).await;
    assert!(page.contains("the quarter ends") && page.contains("Waiting for an answer"), "{page}");
    let id = place.rsplit('/').next().unwrap();
    let decider = Decider::Person { principal: Arc::new(user("lea", &["finance"])), roles: RoleSet::NONE };
    desk.approvals.decide(&decider, id, &Answer::Entry(900), None, None).await.unwrap();
    let (_, page) = ask(&app, get(&place, Some(COOKIE))).await;
    assert!(page.contains("This is approved") && page.contains("Good until"), "{page}");
}
