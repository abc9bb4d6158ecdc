//! The written form: canonical JSON, the same as by the long way.

use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{Era, EventId, PortalId, PrincipalKind, ReasonCode, ServerId, ToolClass};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::canonical::{push_event, push_text, push_u64, push_who};
use crate::digest::Hex;
use crate::record::{self, Link, Parsed, push_line};
use crate::who::{Commitments, Entry};

/// RFC 8785 by the long way: sorted members (all names here are ASCII, so byte order is
/// UTF-16 order), serde_json's escapes, integers only.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members: Vec<String> = names
                .iter()
                .map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&members[*name])))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// What the line of an event must hold besides the chain's members.
fn expected(event: &AuditEvent) -> Map<String, Value> {
    let Value::Object(mut members) = serde_json::to_value(event).unwrap() else { panic!("an object") };
    members.insert("policy_version".to_owned(), format!("{:016x}", event.policy_version).into());
    members.insert("who".to_owned(), "C".repeat(64).into());
    members
}

fn written(event: &AuditEvent) -> String {
    let mut out = b"{".to_vec();
    push_event(&mut out, event, &"C".repeat(64));
    out.push(b'}');
    String::from_utf8(out).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
        Just("\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}\"\\/\u{2028}\u{feff}😀".to_owned()),
    ]
}

fn events() -> impl Strategy<Value = AuditEvent> {
    let names = (proptest::option::of("[a-z0-9_]{1,32}"), proptest::option::of("[a-z0-9_]{1,32}"));
    let texts = proptest::collection::vec(proptest::option::of(text()), 9);
    let numbers = proptest::array::uniform4(0u64..1 << 53);
    let choices = (0usize..7, 0usize..3, 0usize..5, 0usize..3, 0usize..7, any::<bool>());
    let codes = proptest::option::of(0..ReasonCode::ALL.len());
    let rest = (any::<u64>(), -(1i64 << 52)..1i64 << 52, proptest::collection::vec(text(), 0..4), any::<bool>());
    (names, texts, numbers, choices, codes, rest).prop_map(
        |((portal, server), mut texts, numbers, choices, code, (policy_version, at_ms, labels, related))| {
            use {EventKind::*, Outcome as O, PrincipalKind as P, ToolClass as T};
            let mut next = || texts.pop().flatten();
            let kind = [Call, Intent, List, Auth, Token, Admin, System][choices.0];
            let principal_kind = [P::User, P::Service, P::Anonymous][choices.1];
            let class = [None, Some(T::Read), Some(T::Write), Some(T::Destructive), Some(T::Unknown)][choices.2];
            let era = [None, Some(Era::Legacy), Some(Era::Modern)][choices.3];
            let outcome =
                [O::Ok, O::ToolError, O::RpcError, O::Refused, O::Unknown, O::Cancelled, O::Pending][choices.4];
            AuditEvent {
                id: EventId::new(at_ms),
                at_ms,
                kind,
                principal_kind,
                who: Who::default(),
                method: next().unwrap_or_default(),
                portal: portal.map(|id| PortalId::parse(&id).unwrap()),
                server: server.map(|id| ServerId::parse(&id).unwrap()),
                server_version: next(),
                server_url: labels.first().cloned(),
                target: next(),
                exposed: next(),
                class,
                pin: next(),
                arguments_digest: next(),
                verdict: Verdict {
                    allow: choices.5,
                    code: code.map(|index| ReasonCode::ALL[index]),
                    rule: next(),
                    stage: next(),
                },
                policy_version,
                labels: labels.clone(),
                request_bytes: numbers[0],
                response_bytes: numbers[1],
                total_us: numbers[2],
                upstream_us: numbers[3],
                upstream_identity: labels.first().cloned(),
                era,
                session: labels.get(1).cloned(),
                grant: labels.get(2).cloned(),
                trace_id: labels.get(2).cloned(),
                outcome,
                related: related.then(|| EventId::new(at_ms)),
                note: next(),
                change: labels.first().cloned(),
            }
        },
    )
}

proptest! {
    #[test]
    fn l1_an_event_is_canonical_json_with_every_member(event in events()) {
        prop_assert_eq!(written(&event), canonical(&Value::Object(expected(&event))));
    }

    #[test]
    fn l9_a_line_is_canonical_names_its_hash_and_gives_the_event_back(mut event in events()) {
        event.who = Who { principal: "user:a".to_owned(), groups: vec!["g".to_owned()], ..Who::default() };
        let mut line = Vec::new();
        let start = Link { seq: 41, hash: Hex::of(&[b"before"]) };
        let link = push_line(&mut line, "0123456789abcdef", &start, &event, &"c".repeat(64));
        prop_assert_eq!(line.pop(), Some(b'\n'));
        let text = std::str::from_utf8(&line).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(text, canonical(&value));
        let parsed = Parsed::new(&line).expect("a record");
        prop_assert!(parsed.is_intact());
        prop_assert_eq!((parsed.link(), parsed.prev, parsed.seq, parsed.writer), (link, start.hash, 42, "0123456789abcdef"));
        // The hash is over the object without `_hash`.
        let mut without = value.as_object().unwrap().clone();
        without.remove("_hash");
        prop_assert_eq!(Hex::of(&[canonical(&Value::Object(without)).as_bytes()]), link.hash);
        let json = parsed.event_json().unwrap();
        let mut only: Map<String, Value> = value.as_object().unwrap().clone();
        only.retain(|name, _| !name.starts_with('_'));
        prop_assert_eq!(&json, &canonical(&Value::Object(only)));
        let mut who = Vec::new();
        push_who(&mut who, &event.who);
        prop_assert_eq!(record::event(&json, None).map(|event| event.id), Some(event.id));
        let who = String::from_utf8(who).unwrap();
        prop_assert_eq!(record::event(text, Some(&who)), Some(event));
    }

    #[test]
    fn l9_an_identity_is_canonical_json(
        principal in text(), groups in proptest::collection::vec(text(), 0..5), client in proptest::option::of(text()),
        client_version in proptest::option::of(text()), ip in proptest::option::of(text()),
        owner in proptest::option::of(text()), purpose in proptest::option::of(text()),
        country in proptest::option::of(text()), device in proptest::option::of(text()),
    ) {
        let who = Who { principal, groups, ip, client, client_version, owner, country, device, purpose };
        let mut out = Vec::new();
        push_who(&mut out, &who);
        prop_assert_eq!(String::from_utf8(out).unwrap(), canonical(&serde_json::to_value(&who).unwrap()));
    }

    #[test]
    fn l9_any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Parsed::new(&bytes);
        let _ = Entry::new(&bytes);
        let _ = record::event(&String::from_utf8_lossy(&bytes), None);
    }

    #[test]
    fn l9_integers_have_their_digits(value in any::<u64>()) {
        let mut out = Vec::new();
        push_u64(&mut out, value);
        prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
    }
}

#[test]
fn l9_numbers_beyond_a_double_are_capped() {
    let mut event = super::event(EventKind::Call, "a");
    event.total_us = u64::MAX;
    event.at_ms = i64::MIN;
    event.policy_version = u64::MAX;
    let value: Value = serde_json::from_str(&written(&event)).unwrap();
    assert_eq!(value["total_us"], 9_007_199_254_740_991u64);
    assert_eq!(value["at_ms"], -9_007_199_254_740_991i64);
    assert_eq!(value["policy_version"], "ffffffffffffffff");
}

#[test]
fn l9_long_texts_are_cut_at_a_character() {
    let mut out = Vec::new();
    push_text(&mut out, &"ä".repeat(5_000), 2_047);
    let cut: String = serde_json::from_slice(&out).unwrap();
    assert_eq!(cut, format!("{}…", "ä".repeat(1_023)));
    let mut event = super::event(EventKind::Call, "a");
    for text in [&mut event.target, &mut event.exposed, &mut event.note, &mut event.upstream_identity] {
        *text = Some("x".repeat(4 << 20));
    }
    event.labels = vec!["y".repeat(1 << 20); 1_000];
    assert!(written(&event).len() < 1 << 20, "one event does not fill the disk");
    let mut out = Vec::new();
    push_who(
        &mut out,
        &Who { client: Some("z".repeat(1 << 20)), groups: vec!["g".repeat(9_999); 9_999], ..Who::default() },
    );
    assert!(out.len() < 1 << 18);
}

#[test]
fn l9_a_commitment_needs_its_salt() {
    let who = super::who("alice");
    let (mut one, mut other) = (Commitments::default(), Commitments::default());
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let first = one.commit(&who, &mut a).unwrap();
    assert_eq!(one.commit(&who, &mut a).unwrap(), first, "one entry for the segment");
    assert_eq!(a.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_ne!(other.commit(&who, &mut b).unwrap(), first, "another salt elsewhere");
    assert_ne!(one.commit(&super::who("bob"), &mut b).unwrap(), first);
    let entry = Entry::new(a.strip_suffix(b"\n").unwrap()).unwrap();
    assert!(entry.is_intact());
    assert_eq!((entry.commit, entry.principal().as_deref()), (first.as_str(), Some("user:alice")));
    let forged = String::from_utf8(a).unwrap().replace("alice", "mallory");
    assert!(!Entry::new(forged.trim().as_bytes()).unwrap().is_intact());
}

#[test]
fn l9_near_records_are_none() {
    let mut line = Vec::new();
    push_line(&mut line, "0123456789abcdef", &Link::START, &super::event(EventKind::Call, "a"), &"c".repeat(64));
    let line = String::from_utf8(line).unwrap();
    let line = line.trim();
    assert!(Parsed::new(line.as_bytes()).is_some());
    for bad in [
        line.replace("\"_seq\":1,", "\"_seq\":01,"),
        line.replace("\"_seq\":1,", "\"_seq\":+1,"),
        line.replace("\"_seq\":1,", "\"_seq\":0,"),
        line.replace("\"_seq\":1,", "\"_seq\":99999999999999999999,"),
        line.replace("\"_v\":1", "\"_v\":2"),
        line.replace("_prev", "_perv"),
        line.to_uppercase(),
        line.trim_end_matches('}').to_owned(),
        format!("{line} "),
        format!(" {line}"),
        line.replace("tools/call", "tools\u{0}call"),
    ] {
        assert!(Parsed::new(bad.as_bytes()).is_none(), "{bad}");
    }
}
