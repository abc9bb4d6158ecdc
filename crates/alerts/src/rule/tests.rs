use bartizan_config::alerts::{Alerts, Destination, Webhook};
use bartizan_model::event::{Outcome, Who};
use bartizan_model::{EventId, PrincipalKind};

use super::*;

fn config(json: &str) -> Alerts {
    let mut config: Alerts = serde_json::from_str(json).unwrap();
    if config.destinations.is_empty() {
        config.destinations.push(Destination {
            id: "hook".to_owned(),
            webhook: Some(Webhook {
                url: "https://alerts.example/hook".to_owned(),
                secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned(),
            }),
            email: None,
            syslog: None,
        });
    }
    config
}

fn row(kind: EventKind, method: &str, client: &str, note: Option<&str>) -> IndexRow {
    let who = Who { principal: "user:ana@corp.example".to_owned(), client: Some(client.to_owned()), ..Who::default() };
    let id = EventId::new(1_000);
    let mut event = AuditEvent::new(id, 1_000, kind, PrincipalKind::User, who, method);
    event.note = note.map(str::to_owned);
    event.outcome = Outcome::Refused;
    event.verdict.allow = false;
    index_row(&event)
}

/// As the audit record makes it.
fn index_row(event: &AuditEvent) -> IndexRow {
    let mut record = serde_json::to_value(event).unwrap();
    record["policy_version"] = format!("{:x}", event.policy_version).into();
    record["who"] = "commitment".into();
    IndexRow {
        at_ms: event.at_ms,
        writer: "w".to_owned(),
        seq: 7,
        kind: value(event, EventField::Kind).unwrap().to_owned(),
        principal: Some(event.who.principal.clone()),
        portal: None,
        server: None,
        target: event.target.clone(),
        allow: event.verdict.allow,
        code: None,
        id: event.id.to_string(),
        who: Some(serde_json::to_string(&event.who).unwrap()),
        record: record.to_string(),
        outcome: "ok".to_owned(),
        total_us: 0,
    }
}

#[test]
fn l14_built_in_rules_find_a_replay_and_a_lost_account() {
    let (rules, problems) = Rules::compile(&config("{}"));
    assert_eq!(problems, []);
    let found = |row| rules.find(&row).into_iter().map(|hit| (hit.rule, hit.cause, hit.resolves)).collect::<Vec<_>>();
    let cause = |client: &str| format!(r#"{{"principal":"user:ana@corp.example","client":"{client}"}}"#);
    assert_eq!(
        found(row(EventKind::Auth, "auth/replay", "cli", None)),
        [("replayed_token".to_owned(), cause("cli"), false)]
    );
    let lost = row(EventKind::Auth, "auth/disconnect", "github", Some("expired"));
    assert_eq!(found(lost), [("expired_credential".to_owned(), cause("github"), false)]);
    // Taken back by its owner: nothing is wrong.
    assert_eq!(found(row(EventKind::Auth, "auth/disconnect", "github", None)), []);
    let mut again = row(EventKind::Auth, "auth/connect", "github", None);
    assert_eq!(found(again.clone()), [], "a failed attempt ends nothing");
    again.allow = true;
    again.record = again.record.replace(r#""allow":false"#, r#""allow":true"#);
    assert_eq!(found(again), [("expired_credential".to_owned(), cause("github"), true)]);
    assert_eq!(found(row(EventKind::Call, "tools/call", "cli", None)), []);
}

#[test]
fn l14_own_rules_compare_members_and_prefixes() {
    let (rules, problems) = Rules::compile(&config(
        r#"{"built_in":{"off":["replayed_token","expired_credential","break_glass"]},
            "rules":[{"id":"calls","match":{"kind":["call"],"allow":false,"method":["tools/*","prompts/get"]},
                      "group_by":["principal","method"]}]}"#,
    ));
    assert_eq!(problems, []);
    let hits = |kind, method: &str| rules.find(&row(kind, method, "c", None)).len();
    assert_eq!(hits(EventKind::Call, "tools/call"), 1);
    assert_eq!(hits(EventKind::Call, "prompts/get"), 1);
    assert_eq!(hits(EventKind::Call, "prompts/list"), 0);
    assert_eq!(hits(EventKind::List, "tools/list"), 0, "the kind counts too");
    assert_eq!(hits(EventKind::Auth, "auth/replay"), 0, "switched off");
}

#[test]
fn l14_what_somebody_calls_himself_stays_one_bounded_member_of_the_cause() {
    let (rules, _) = Rules::compile(&config("{}"));
    let nasty = format!("\",\"principal\":\"user:boss\n{}", "x".repeat(10_000));
    let hits = rules.find(&row(EventKind::Auth, "auth/replay", &nasty, None));
    let cause: serde_json::Value = serde_json::from_str(&hits[0].cause).unwrap();
    assert_eq!(cause["principal"], "user:ana@corp.example");
    assert_eq!(cause["client"].as_str().unwrap().chars().count(), MEMBER);
    assert!(hits[0].summary.chars().count() <= 300 && !hits[0].summary.contains('\n'));
}

#[test]
fn l14_without_a_destination_nothing_is_watched() {
    let (rules, problems) = Rules::compile(&Alerts::default());
    assert_eq!(problems, []);
    assert!(rules.find(&row(EventKind::Auth, "auth/replay", "c", None)).is_empty());
}

#[test]
fn l14_what_cannot_work_is_told_with_its_place() {
    let text = r#"{
        "destinations":[
            {"id":"ok","syslog":{"server":"tls://siem.example"}},
            {"id":"ok","syslog":{"server":"tcp://siem.example:1514"}},
            {"id":"none"},
            {"id":"two","syslog":{"server":"tls://a.example"},"webhook":{"url":"https://b.example","secret":"x"}},
            {"id":"key","webhook":{"url":"https://b.example","secret":"whsec_c2hvcnQ="}},
            {"id":"ftp","webhook":{"url":"ftp://b.example","secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}},
            {"id":"udp","syslog":{"server":"udp://siem.example"}},
            {"id":"mail","email":{"server":"smtp://mail.example","from":"a@b.example","to":["c@d.example"],
                                  "username":"u","password":"p"}},
            {"id":"crlf","email":{"server":"smtps://mail.example","from":"a@b.example","to":["c@d.example\r\nBcc: x@y.example"]}},
            {"id":"bad id","syslog":{"server":"tls://a.example"}}],
        "built_in":{"off":["nothing"],"to":["nowhere"]},
        "rules":[
            {"id":"empty","match":{}},
            {"id":"zero","match":{"kind":["call"]},"count":0},
            {"id":"long","match":{"kind":["call"]},"window_s":86401},
            {"id":"kind","match":{"kind":["cal"]}},
            {"id":"break_glass","match":{"kind":["call"]}},
            {"id":"to","match":{"kind":["call"]},"to":["ok","nobody"]}]}"#;
    let (_, problems) = Rules::compile(&config(text));
    let places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    for place in [
        "alerts.destinations[1]",
        "alerts.destinations[2]",
        "alerts.destinations[3]",
        "alerts.destinations[4]",
        "alerts.destinations[5]",
        "alerts.destinations[6]",
        "alerts.destinations[7]",
        "alerts.destinations[8]",
        "alerts.destinations[9]",
        "alerts.built_in.to[0]",
        "alerts.built_in.off[0]",
        "alerts.rules[0]",
        "alerts.rules[1]",
        "alerts.rules[2]",
        "alerts.rules[3]",
        "alerts.rules[4]",
        "alerts.rules[5].to[1]",
    ] {
        assert!(places.contains(&place), "{place} is not told: {problems:?}");
    }
    assert_eq!(places.len(), 17, "{problems:?}");
}

#[test]
fn l14_a_sink_that_falls_behind_is_an_alert_until_it_has_caught_up() {
    let (rules, _) = Rules::compile(&config("{}"));
    let found = |method: &str, sink: &str| {
        let (id, who) = (EventId::new(1_000), Who::default());
        let mut event = AuditEvent::new(id, 1_000, EventKind::System, PrincipalKind::Service, who, method);
        event.target = Some(sink.to_owned());
        rules.find(&index_row(&event))
    };
    let (late, again) = (found("export/lag", "siem"), found("export/caught_up", "siem"));
    assert_eq!((late.len(), again.len()), (1, 1));
    assert_eq!((late[0].rule.as_str(), late[0].resolves, again[0].resolves), ("export_lag", false, true));
    assert_eq!(late[0].cause, again[0].cause, "the same sink");
    assert_ne!(late[0].cause, found("export/lag", "archive")[0].cause);
}

#[test]
fn l14_a_kill_switch_is_an_alert_until_it_is_lifted() {
    let (rules, _) = Rules::compile(&config("{}"));
    let found = |method: &str, target: &str, allow: bool| {
        let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
        let kind = PrincipalKind::Service;
        let mut event = AuditEvent::new(EventId::new(1_000), 1_000, EventKind::Admin, kind, who, method);
        event.target = Some(target.to_owned());
        event.verdict.allow = allow;
        let hits = rules.find(&index_row(&event)).into_iter();
        hits.map(|hit| (hit.rule, hit.cause, hit.resolves)).collect::<Vec<_>>()
    };
    let cause = |target: &str| format!(r#"{{"target":"{target}"}}"#);
    assert_eq!(found("kill/set", "user eve", true), [("kill_switch".to_owned(), cause("user eve"), false)]);
    assert_eq!(found("kill/lift", "user eve", true), [("kill_switch".to_owned(), cause("user eve"), true)]);
    // Who only asks for it has lifted nothing, and neither has who was refused.
    assert_eq!(found("kill/ask_to_lift", "everything", true), []);
    assert_eq!(found("kill/lift", "user eve", false), []);
}
