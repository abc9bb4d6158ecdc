//! Who may answer, and what an answer is good for.

use bartizan_model::{EventId, Principal, PrincipalKind, Role};
use serde_json::json;

use super::bench::{
    Bench, DEFINITION, NOW_MS, SUBJECT, asked, entry, entry_question, leader, person, question, rule, user, with_role,
};
use crate::{Answer, AskError, DecideError, Decider, LINK_MS, PASS_MS, Standing};

#[tokio::test]
async fn w12_a_yes_is_for_one_exact_call_of_one_person_and_ten_minutes() {
    let bench = Bench::new().await;
    let (ann, rule) = (user("ann", &[]), rule());
    let bob = user("bob", &[]);
    let standing = async |who, digest: &'static str| {
        bench.approvals.standing(who, &rule, SUBJECT, digest, DEFINITION).await.unwrap()
    };
    assert_eq!(standing(&ann, "{}").await, Standing::Nothing);
    let id = bench.ask(&ann, "{}").await;
    assert_eq!(bench.ask(&ann, "{}").await, id, "the same question is asked once");
    assert_eq!(standing(&ann, "{}").await, Standing::Open(id.clone()));
    let decided = bench.approvals.decide(&leader(), &id, &Answer::Call, Some(" fine "), None).await.unwrap();
    assert_eq!((decided.row.decided_by.as_deref(), decided.row.reason.as_deref()), (Some("user:lea"), Some("fine")));
    let Standing::Granted(pass) = standing(&ann, "{}").await else { panic!() };
    // Another argument, another person, another tool, another rule: not this one.
    assert_eq!(standing(&ann, "{\"a\":1}").await, Standing::Nothing);
    assert_eq!(standing(&bob, "{}").await, Standing::Nothing);
    assert_eq!(
        bench.approvals.standing(&ann, &rule, "tool:pay/other", "{}", DEFINITION).await.unwrap(),
        Standing::Nothing
    );
    let stricter = asked(json!({"require_approval": {"approvers": "group:bosses"}}));
    assert_eq!(bench.approvals.standing(&ann, &stricter, SUBJECT, "{}", DEFINITION).await.unwrap(), Standing::Nothing);
    assert!(!bench.approvals.use_up(&crate::Pass { id: "x".into(), once: true }, &ann, EventId::new(1)).await.unwrap());
    bench.clock.advance_ms(PASS_MS - 1);
    assert_eq!(standing(&ann, "{}").await, Standing::Granted(pass.clone()));
    bench.clock.advance_ms(1);
    assert_eq!(standing(&ann, "{}").await, Standing::Expired);
    assert!(!bench.approvals.use_up(&pass, &ann, EventId::new(NOW_MS)).await.unwrap());
    assert_eq!(bench.approvals.expire().await, 1);
    assert_eq!(bench.approvals.expire().await, 0);
    for (method, count) in
        [("approval/asked", 1), ("approval/approved", 1), ("approval/used", 0), ("approval/expired", 1)]
    {
        assert_eq!(bench.recorded(method).await, count, "{method}");
    }
}

#[tokio::test]
async fn w12_of_many_that_use_it_one_does() {
    let bench = Bench::new().await;
    let (ann, rule) = (user("ann", &[]), rule());
    let id = bench.ask(&ann, "{}").await;
    bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await.unwrap();
    let Standing::Granted(pass) = bench.approvals.standing(&ann, &rule, SUBJECT, "{}", DEFINITION).await.unwrap()
    else {
        panic!()
    };
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (replica, pass, ann) = (bench.replica(), pass.clone(), ann.clone());
        racing.spawn(async move { replica.use_up(&pass, &ann, EventId::new(NOW_MS)).await.unwrap() });
    }
    assert_eq!(racing.join_all().await.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(bench.recorded("approval/used").await, 1);
    // Replayed: asked anew.
    assert_eq!(bench.approvals.standing(&ann, &rule, SUBJECT, "{}", DEFINITION).await.unwrap(), Standing::Nothing);
    assert_ne!(bench.ask(&ann, "{}").await, id);
}

#[tokio::test]
async fn w12_the_whole_tool_for_an_hour_and_no_longer() {
    let bench = Bench::new().await;
    let (ann, rule) = (user("ann", &[]), rule());
    let id = bench.ask(&ann, "{}").await;
    for seconds in [0, 3_601, u32::MAX] {
        let refused = bench.approvals.decide(&leader(), &id, &Answer::Tool(seconds), None, None).await;
        assert!(matches!(refused, Err(DecideError::Bad(_))), "{seconds}");
    }
    assert!(matches!(
        bench.approvals.decide(&leader(), &id, &Answer::Entry(900), None, None).await,
        Err(DecideError::Bad(_))
    ));
    bench.approvals.decide(&leader(), &id, &Answer::Tool(3_600), None, None).await.unwrap();
    for digest in ["{}", "{\"other\":1}", "{}"] {
        let standing = bench.approvals.standing(&ann, &rule, SUBJECT, digest, DEFINITION).await.unwrap();
        let Standing::Granted(pass) = standing else { panic!("{digest}") };
        assert!(bench.approvals.use_up(&pass, &ann, EventId::new(NOW_MS)).await.unwrap());
    }
    assert_eq!(bench.recorded("approval/used").await, 3);
    assert_eq!(
        bench.approvals.standing(&user("bob", &[]), &rule, SUBJECT, "{}", DEFINITION).await.unwrap(),
        Standing::Nothing
    );
    bench.clock.advance_ms(3_600_000);
    assert_ne!(
        std::mem::discriminant(
            &bench.approvals.standing(&ann, &rule, SUBJECT, "{\"other\":1}", DEFINITION).await.unwrap()
        ),
        std::mem::discriminant(&Standing::Granted(crate::Pass { id: String::new(), once: false }))
    );
}

#[tokio::test]
async fn w12_only_who_has_the_right_answers_and_never_who_asked() {
    let bench = Bench::new().await;
    let ann = user("ann", &["leads"]);
    let id = bench.ask(&ann, "{}").await;
    for (decider, error) in [
        (person("ann", &["leads"]), DecideError::Own),
        (with_role("ann", Role::Owner), DecideError::Own),
        (person("bob", &["lead"]), DecideError::Unknown),
        (with_role("bob", Role::Auditor), DecideError::Unknown),
        (Decider::Operator { uid: 0, role: Role::Operator }, DecideError::Unknown),
    ] {
        for answer in [Answer::Call, Answer::Reject] {
            let refused = bench.approvals.decide(&decider, &id, &answer, None, None).await;
            assert_eq!(refused.unwrap_err(), error, "{decider:?}");
        }
        assert!(bench.approvals.to_decide(&decider, 10).await.unwrap().is_empty());
    }
    assert_eq!(bench.recorded("approval/refused").await, 10);
    for decider in [
        leader(),
        with_role("gus", Role::Governance),
        with_role("sec", Role::Security),
        Decider::Operator { uid: 0, role: Role::Security },
    ] {
        assert_eq!(bench.approvals.to_decide(&decider, 10).await.unwrap().len(), 1, "{decider:?}");
    }
    let operator = Decider::Operator { uid: 7, role: Role::Governance };
    bench.approvals.decide(&operator, &id, &Answer::Reject, Some("no"), None).await.unwrap();
    assert!(bench.record().await.iter().any(|line| line.contains("operating system user 7 as governance")));
    let again = bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await;
    assert_eq!(again.unwrap_err(), DecideError::Closed("rejected".to_owned()));
    let standing = bench.approvals.standing(&ann, &rule(), SUBJECT, "{}", DEFINITION).await.unwrap();
    assert_eq!(standing, Standing::Rejected(Some("no".to_owned())));
    // A no holds for ten minutes; then it may be asked again.
    bench.clock.advance_ms(PASS_MS);
    assert_eq!(bench.approvals.standing(&ann, &rule(), SUBJECT, "{}", DEFINITION).await.unwrap(), Standing::Nothing);
}

#[tokio::test]
async fn w12_what_the_person_confirms_nobody_else_does() {
    let bench = Bench::new().await;
    let (ann, own) = (user("ann", &[]), asked(json!({"require_approval": {"approvers": "self"}})));
    let id = bench.approvals.ask(question(&ann, &own, "{}")).await.unwrap();
    for other in [leader(), with_role("gus", Role::Owner), Decider::Operator { uid: 0, role: Role::Security }] {
        let refused = bench.approvals.decide(&other, &id, &Answer::Call, None, None).await;
        assert_eq!(refused.unwrap_err(), DecideError::Unknown);
    }
    bench.approvals.decide(&person("ann", &[]), &id, &Answer::Call, None, None).await.unwrap();
    assert!(matches!(
        bench.approvals.standing(&ann, &own, SUBJECT, "{}", DEFINITION).await.unwrap(),
        Standing::Granted(crate::Pass { once: true, .. })
    ));
}

#[tokio::test]
async fn w12_links_are_for_one_question_one_use_and_ten_minutes() {
    let bench = Bench::new().await;
    let ann = user("ann", &[]);
    let (id, other) = (bench.ask(&ann, "{}").await, bench.ask(&ann, "{\"a\":1}").await);
    let token = |id: &str| {
        let url = bench.approvals.link(id, "chat").unwrap();
        url.strip_prefix(&format!("https://gate.example/approvals/{id}?link=")).unwrap().to_owned()
    };
    let (good, foreign) = (token(&id), token(&other));
    assert_eq!(bench.approvals.open_link(&id, &good).unwrap().channel, "chat");
    let forged = format!("{}A", &good[..good.len() - 1]);
    for bad in [foreign.as_str(), forged.as_str(), "", "x"] {
        let refused = bench.approvals.decide(&leader(), &id, &Answer::Call, None, Some(bad)).await;
        assert_eq!(refused.unwrap_err(), DecideError::Link, "{bad}");
    }
    // The link alone gives nobody a right.
    let refused = bench.approvals.decide(&person("bob", &[]), &id, &Answer::Call, None, Some(&good)).await;
    assert_eq!(refused.unwrap_err(), DecideError::Unknown);
    let refused = bench.approvals.decide(&person("ann", &["leads"]), &id, &Answer::Call, None, Some(&good)).await;
    assert_eq!(refused.unwrap_err(), DecideError::Own);
    assert_eq!(bench.recorded("approval/refused").await, 6);
    bench.approvals.decide(&leader(), &id, &Answer::Call, None, Some(&good)).await.unwrap();
    let again = bench.approvals.decide(&leader(), &id, &Answer::Call, None, Some(&good)).await;
    assert_eq!(again.unwrap_err(), DecideError::Closed("approved".to_owned()));
    bench.clock.advance_ms(LINK_MS);
    let late = bench.approvals.decide(&leader(), &other, &Answer::Call, None, Some(&foreign)).await;
    assert_eq!(late.unwrap_err(), DecideError::Link);
}

#[tokio::test]
async fn w12_fatigue_nobody_is_asked_more_than_twenty_times_an_hour() {
    let bench = Bench::new().await;
    let ann = user("ann", &[]);
    for n in 0..20 {
        bench.ask(&ann, &format!("{{\"n\":{n}}}")).await;
        bench.clock.advance_ms(1_000);
    }
    let rule = rule();
    let Err(AskError::TooMany { retry_after_s }) = bench.approvals.ask(question(&ann, &rule, "[]")).await else {
        panic!()
    };
    assert_eq!(retry_after_s, 3_580);
    // What is open already may be asked for again; others are not touched.
    bench.ask(&ann, "{\"n\":3}").await;
    bench.ask(&user("bob", &[]), "{}").await;
    assert_eq!(bench.approvals.to_decide(&leader(), 100).await.unwrap().len(), 21);
    bench.clock.advance_ms(3_580_001);
    bench.ask(&ann, "[]").await;
}

#[tokio::test]
async fn w12_who_answers_for_an_agent_does_not_approve_what_it_asks() {
    let bench = Bench::new().await;
    let agent = Principal::new(PrincipalKind::Agent, "tidy", []);
    let rule = rule();
    let asked = crate::CallQuestion { owner: Some("Ana@Example.com"), ..question(&agent, &rule, "{}") };
    let id = bench.approvals.ask(asked).await.unwrap();
    let owner = person("ana@example.com", &["leads"]);
    assert!(bench.approvals.to_decide(&owner, 10).await.unwrap().is_empty());
    for answer in [Answer::Call, Answer::Tool(60), Answer::Reject] {
        let refused = bench.approvals.decide(&owner, &id, &answer, None, None).await;
        assert_eq!(refused.unwrap_err(), DecideError::Own);
    }
    assert_eq!(bench.recorded("approval/refused").await, 3);
    // Everybody else in the group may.
    bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await.unwrap();
}

#[tokio::test]
async fn w12_a_yes_to_the_whole_tool_ends_with_its_definition() {
    let bench = Bench::new().await;
    let (ann, rule) = (user("ann", &[]), rule());
    let id = bench.ask(&ann, "{}").await;
    bench.approvals.decide(&leader(), &id, &Answer::Tool(3_600), None, None).await.unwrap();
    let standing = async |digest, definition: &'static str| {
        bench.approvals.standing(&ann, &rule, SUBJECT, digest, definition).await.unwrap()
    };
    assert!(matches!(standing("{\"a\":1}", DEFINITION).await, Standing::Granted(_)));
    assert_eq!(standing("{\"a\":1}", "as changed since").await, Standing::Nothing);
    assert!(!matches!(standing("{}", "as changed since").await, Standing::Granted(_)));
}

#[tokio::test]
async fn w12_who_may_approve_may_also_end_it() {
    let bench = Bench::new().await;
    let (ann, call, entry) = (user("ann", &[]), rule(), entry());
    let tool = bench.ask(&ann, "{}").await;
    let access = bench.approvals.ask_entry(entry_question(&ann, &entry, "audit")).await.unwrap();
    bench.approvals.decide(&leader(), &tool, &Answer::Tool(3_600), None, None).await.unwrap();
    bench.approvals.decide(&leader(), &access, &Answer::Entry(3_600), None, None).await.unwrap();
    for id in [&tool, &access] {
        let refused = bench.approvals.withdraw_as(&person("bob", &["others"]), id).await;
        assert_eq!(refused.unwrap_err(), DecideError::Unknown);
        bench.approvals.withdraw_as(&leader(), id).await.unwrap();
        assert_eq!(bench.approvals.get(id).await.unwrap().unwrap().row.state, "withdrawn");
    }
    assert_eq!(bench.approvals.standing(&ann, &call, SUBJECT, "{}", DEFINITION).await.unwrap(), Standing::Nothing);
    assert_eq!(bench.replica().entered(&ann, &entry).await.unwrap(), None);
    let lines = bench.record().await;
    let ended = lines.iter().filter(|line| line.contains("\"approval/withdrawn\"") && line.contains("user:lea"));
    assert_eq!(ended.count(), 2);
}
