//! What is shown, what lasts, and who hears of it.

use std::time::Duration;

use super::bench::{Bench, DEFINITION, SUBJECT, entry, entry_question, leader, question, rule, user};
use crate::{Answer, DecideError, LIFE_MS, Standing};

#[tokio::test]
async fn w12_the_text_is_made_of_the_complete_real_arguments() {
    let bench = Bench::new().await;
    let ann = user("ann", &[]);
    let arguments = format!(
        "{{\"to\":\"<script>alert(1)</script>\u{202e}\u{1b}[2J\",\"n\":1e400,\"big\":\"{}END\"}}",
        "x".repeat(1 << 20)
    );
    let id =
        bench.approvals.ask(crate::CallQuestion { digest: "d", ..question(&ann, &rule(), &arguments) }).await.unwrap();
    let record = bench.approvals.get(&id).await.unwrap().unwrap();
    assert_eq!(record.details.arguments.as_deref(), Some(&*arguments));
    let text = record.details.text();
    for part in [
        "user:ann wants to call transfer of pay",
        "Class: write",
        "Known to the client as: pay_transfer",
        "Client: Evil\\u{202e} Client",
        "<script>alert(1)</script>\\u{202e}\\u{1b}[2J",
        "\"n\": 1e400",
        "xxEND",
        "No such call was approved before.",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.chars().any(|c| c == '\u{1b}' || c == '\u{202e}'));
    // Sealed in the store, and in no event.
    let row = bartizan_store::repo::approval::get(&bench.store, &id).await.unwrap().unwrap();
    assert!(!row.details.unwrap().windows(8).any(|part| part == b"<script>"));
    assert!(!bench.record().await.iter().any(|line| line.contains("alert(1)")));
}

#[tokio::test]
async fn w12_the_difference_to_the_last_approved_call_is_shown() {
    let bench = Bench::new().await;
    let ann = user("ann", &[]);
    let first = bench.ask(&ann, "{\"to\":\"bob\",\"amount\":10}").await;
    bench.approvals.decide(&leader(), &first, &Answer::Call, None, None).await.unwrap();
    let second = bench.ask(&ann, "{\"to\":\"mallory\",\"amount\":10}").await;
    let shown = bench.approvals.get(&second).await.unwrap().unwrap().details;
    assert_eq!(shown.difference.as_deref(), Some(&["to: \"bob\" → \"mallory\"".to_owned()][..]));
    // What was rejected is no measure, nor what another person was allowed.
    bench.approvals.decide(&leader(), &second, &Answer::Reject, None, None).await.unwrap();
    let third = bench.ask(&ann, "{\"to\":\"bob\",\"amount\":11}").await;
    assert_eq!(bench.approvals.get(&third).await.unwrap().unwrap().details.difference.unwrap(), ["amount: 10 → 11"]);
    let other = bench.ask(&user("bob", &[]), "{}").await;
    assert_eq!(bench.approvals.get(&other).await.unwrap().unwrap().details.difference, None);
}

#[tokio::test]
async fn w12_a_question_waits_a_day_and_every_process_hears_of_the_answer() {
    let bench = Bench::new().await;
    let (ann, replica) = (user("ann", &[]), bench.replica());
    let id = bench.ask(&ann, "{}").await;
    // The other process finds it, though it never saw it asked: as after a kill -9.
    assert_eq!(replica.standing(&ann, &rule(), SUBJECT, "{}", DEFINITION).await.unwrap(), Standing::Open(id.clone()));
    let waiting = tokio::spawn(async move {
        loop {
            if let Standing::Granted(pass) = replica.standing(&ann, &rule(), SUBJECT, "{}", DEFINITION).await.unwrap() {
                return pass;
            }
            replica.changed().await;
        }
    });
    bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await.unwrap();
    let pass = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(pass.id, id);
    let late = bench.ask(&user("bob", &[]), "{}").await;
    bench.clock.advance_ms(LIFE_MS);
    let refused = bench.approvals.decide(&leader(), &late, &Answer::Call, None, None).await;
    assert_eq!(refused.unwrap_err(), DecideError::Closed("expired".to_owned()));
    assert_eq!(
        bench.approvals.standing(&user("bob", &[]), &rule(), SUBJECT, "{}", DEFINITION).await.unwrap(),
        Standing::Expired
    );
    assert_eq!(bench.approvals.expire().await, 2);
}

#[tokio::test]
async fn w12_what_is_taken_back_cannot_be_answered() {
    let bench = Bench::new().await;
    let ann = user("ann", &[]);
    let id = bench.ask(&ann, "{}").await;
    assert_eq!(bench.approvals.withdraw(&user("bob", &[]), &id).await.unwrap_err(), DecideError::Unknown);
    bench.approvals.withdraw(&ann, &id).await.unwrap();
    let refused = bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await;
    assert_eq!(refused.unwrap_err(), DecideError::Closed("withdrawn".to_owned()));
    assert_eq!(bench.recorded("approval/withdrawn").await, 1);
}

#[tokio::test]
async fn a16_access_lasts_as_long_as_was_said_on_every_process() {
    let bench = Bench::new().await;
    let (ann, rule, replica) = (user("ann", &[]), entry(), bench.replica());
    let long = "r".repeat(600);
    let id = bench.approvals.ask_entry(entry_question(&ann, &rule, &long)).await.unwrap();
    let record = bench.approvals.get(&id).await.unwrap().unwrap();
    assert_eq!(record.details.reason.as_deref().map(str::len), Some(500));
    assert_eq!(record.details.headline(), "user:ann asks to be let in to Payments");
    assert_eq!(bench.approvals.entered(&ann, &rule).await.unwrap(), None);
    for seconds in [1_799, 7_201] {
        let refused = bench.approvals.decide(&leader(), &id, &Answer::Entry(seconds), None, None).await;
        assert!(matches!(refused, Err(DecideError::Bad(_))), "{seconds}");
    }
    let refused = bench.approvals.decide(&leader(), &id, &Answer::Call, None, None).await;
    assert!(matches!(refused, Err(DecideError::Bad(_))));
    bench.approvals.decide(&leader(), &id, &Answer::Entry(3_600), None, None).await.unwrap();
    let until = super::bench::NOW_MS + 3_600_000;
    for process in [&bench.approvals, &replica] {
        for _ in 0..100 {
            if process.entered(&ann, &rule).await.unwrap().is_some() {
                break;
            }
            process.changed().await;
        }
        assert_eq!(process.entered(&ann, &rule).await.unwrap(), Some(until));
        assert_eq!(process.entered(&user("bob", &[]), &rule).await.unwrap(), None);
    }
    bench.clock.advance_ms(3_600_000);
    assert_eq!(bench.approvals.entered(&ann, &rule).await.unwrap(), None);
    assert_eq!(replica.entered(&ann, &rule).await.unwrap(), None);
}
