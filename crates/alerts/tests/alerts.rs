//! From an audit event to a destination, with a real record, store and sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use bartizan_config::alerts::Alerts as Config;
use bartizan_store::repo::alert;
use support::{Bench, HOUR_MS, Sink};

fn hook(url: &str) -> Config {
    serde_json::from_value(serde_json::json!({
        "destinations": [{"id": "hook", "webhook": {"url": url, "secret": support::SECRET}}],
        "rules": [{"id": "three", "match": {"kind": ["call"], "allow": false}, "count": 3, "window_s": 60,
                   "group_by": ["principal"], "resolve_after_s": 600}],
    }))
    .unwrap()
}

#[tokio::test]
async fn l14_a_replay_fires_once_per_cause_and_resolves() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    for _ in 0..3 {
        bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    }
    bench.event("auth/replay", "user:bob@corp.example", "cli").await;
    bench.round().await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.round().await;
    let told = sink.bodies();
    assert_eq!(told.len(), 2, "one per cause: {told:?}");
    assert!(told.iter().all(|body| body["type"] == "alert.fired" && body["data"]["severity"] == "high"));
    let causes: Vec<&str> = told.iter().map(|body| body["data"]["cause"]["principal"].as_str().unwrap()).collect();
    assert!(causes.contains(&"user:ana@corp.example") && causes.contains(&"user:bob@corp.example"));

    bench.clock.advance_ms(HOUR_MS - 1_000);
    bench.round().await;
    assert_eq!(sink.bodies().len(), 2, "not quiet for long enough");
    bench.clock.advance_ms(2_000);
    bench.round().await;
    bench.round().await;
    let told = sink.bodies();
    assert_eq!(told.len(), 4, "each is over, once: {told:?}");
    assert!(told[2..].iter().all(|body| body["type"] == "alert.resolved"));
    let ids = |from: &[serde_json::Value]| {
        let mut ids: Vec<String> = from.iter().map(|body| body["data"]["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&told[..2]), ids(&told[2..]), "the same alerts");

    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.round().await;
    assert_eq!(sink.bodies().len(), 5, "a new cause of the same kind fires again");
}

#[tokio::test]
async fn l14_an_expired_account_fires_and_its_reconnection_resolves_at_once() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    bench.noted("auth/disconnect", "user:ana@corp.example", "github", Some("expired"), true).await;
    bench.round().await;
    bench.clock.advance_ms(10 * HOUR_MS);
    bench.round().await;
    assert_eq!(sink.kinds(), ["alert.fired"]);
    // Somebody else's account says nothing about it.
    bench.noted("auth/connect", "user:bob@corp.example", "github", None, true).await;
    bench.noted("auth/connect", "user:ana@corp.example", "github", None, false).await;
    bench.round().await;
    assert_eq!(sink.kinds(), ["alert.fired"]);
    bench.noted("auth/connect", "user:ana@corp.example", "github", None, true).await;
    bench.round().await;
    assert_eq!(sink.kinds(), ["alert.fired", "alert.resolved"]);
}

#[tokio::test]
async fn l14_a_count_needs_so_many_of_one_cause_within_the_window() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    let denied = |who: &'static str| bench.call(who, false);
    denied("user:ana").await;
    denied("user:ana").await;
    denied("user:bob").await;
    bench.call("user:ana", true).await;
    bench.round().await;
    bench.clock.advance_ms(61_000);
    denied("user:ana").await;
    bench.round().await;
    assert_eq!(sink.kinds(), Vec::<String>::new(), "two, and one too late");
    denied("user:ana").await;
    denied("user:ana").await;
    bench.round().await;
    let told = sink.bodies();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0]["data"]["rule"].as_str(), told[0]["data"]["count"].as_i64()), (Some("three"), Some(3)));
}

#[tokio::test]
async fn l14_a_destination_that_fails_is_tried_again_with_the_same_id() {
    let sink = Sink::http(&[500, 302]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.round().await;
    bench.round().await;
    assert_eq!(sink.bodies().len(), 1, "not before its time");
    bench.clock.advance_ms(5_001);
    bench.round().await;
    bench.clock.advance_ms(30_001);
    bench.round().await;
    bench.clock.advance_ms(HOUR_MS / 2);
    bench.round().await;
    let heads = sink.heads();
    assert_eq!(heads.len(), 3, "a redirect is no success, and nobody follows it");
    let ids: Vec<&str> = heads.iter().map(|head| support::header(head, "webhook-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(alert::due(&bench.store, i64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn l14_a_message_is_given_up_after_a_day() {
    let sink = Sink::http(&[503; 100]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.round().await;
    for _ in 0..30 {
        bench.clock.advance_ms(HOUR_MS + 1);
        bench.round().await;
    }
    assert!(alert::due(&bench.store, i64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn l14_two_processes_tell_one_alert_once() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    let second = bench.another(&hook(&sink.url));
    for n in 0..40 {
        bench.event("auth/replay", &format!("user:p{n}"), "cli").await;
    }
    bench.audit.flush().await.unwrap();
    // Without the lease: even if both work at once, each hit is taken in by one of them.
    for _ in 0..5 {
        let (one, two) = tokio::join!(bench.alerts.round(), second.round());
        one.unwrap();
        two.unwrap();
    }
    let mut fired: Vec<String> = sink.bodies().iter().map(|body| body["data"]["cause"].to_string()).collect();
    fired.sort();
    fired.dedup();
    assert_eq!(fired.len(), 40);
    let alerts = alert::newest(&bench.store, 100).await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.hits).sum::<i64>(), 40);
}

#[tokio::test]
async fn l14_whoever_causes_alerts_at_will_does_not_bury_others() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    for n in 0..60 {
        bench.event("auth/replay", "user:mallory@corp.example", &format!("client{n}")).await;
    }
    bench.round().await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.noted("auth/disconnect", "user:ana@corp.example", "github", Some("expired"), true).await;
    bench.round().await;
    let told = sink.bodies();
    let count = |kind: &str, who: &str| {
        told.iter().filter(|one| one["type"] == kind && one["data"]["cause"]["principal"] == who).count()
    };
    assert_eq!(count("alert.fired", "user:mallory@corp.example"), 20);
    assert_eq!(count("alert.more", "user:mallory@corp.example"), 1);
    assert_eq!(count("alert.fired", "user:ana@corp.example"), 2, "nobody else's are buried");
    assert_eq!(alert::newest(&bench.store, 500).await.unwrap().len(), 62, "nothing is lost in the store");
}

#[tokio::test]
async fn l14_a_cause_that_comes_and_goes_is_told_once_in_ten_minutes() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    for _ in 0..30 {
        bench.noted("auth/disconnect", "user:ana@corp.example", "github", Some("refused"), true).await;
        bench.noted("auth/connect", "user:ana@corp.example", "github", None, true).await;
        bench.round().await;
        bench.clock.advance_ms(10_000);
    }
    assert_eq!(sink.kinds(), ["alert.fired", "alert.resolved"]);
}

#[tokio::test]
async fn l14_a_destination_that_does_not_answer_holds_up_no_other() {
    let (dead, sink) = (Sink::silent().await, Sink::http(&[]).await);
    let mut config = hook(&dead.url);
    config.destinations.extend(hook(&sink.url).destinations);
    config.destinations[1].id = "other".to_owned();
    let bench = Bench::new(&config).await;
    let alerts = bench.alerts.clone();
    let running = tokio::spawn(async move { alerts.run().await });
    for n in 0..10 {
        bench.event("auth/replay", &format!("user:p{n}"), "cli").await;
    }
    bench.audit.flush().await.unwrap();
    let all = async {
        while sink.bodies().len() < 10 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // Well before the first attempt at the other one gives up.
    tokio::time::timeout(std::time::Duration::from_secs(15), all).await.unwrap();
    running.abort();
}

#[tokio::test]
async fn l14_hits_survive_a_restart_and_an_index_built_again() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.audit.flush().await.unwrap();
    // The task that tells never ran here; another process does it.
    let second = bench.another(&hook(&sink.url));
    second.round().await.unwrap();
    assert_eq!(sink.kinds(), ["alert.fired"]);
    bench.audit.close().await;
    bartizan_audit::rebuild_index(&bench.folder(), &bench.store).await.unwrap();
    second.round().await.unwrap();
    assert_eq!(sink.kinds(), ["alert.fired"], "what is indexed again is no new event");
}

#[tokio::test]
async fn l14_a_webhook_is_signed_as_standard_webhooks_has_it() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::new(&hook(&sink.url)).await;
    bench.event("auth/replay", "user:ana@corp.example", "cli").await;
    bench.round().await;
    let (head, body) = (sink.heads()[0].clone(), sink.texts()[0].clone());
    let (id, at) = (support::header(&head, "webhook-id"), support::header(&head, "webhook-timestamp"));
    assert_eq!(support::header(&head, "webhook-signature"), support::sign(support::SECRET, id, at, &body));
    assert_ne!(
        support::header(&head, "webhook-signature"),
        support::sign(support::SECRET, id, at, &format!("{body} "))
    );
    // The vector of the specification's authors.
    assert_eq!(
        support::sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#
        ),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
}

#[tokio::test]
async fn l14_syslog_and_mail_arrive() {
    let (collector, mail) = (Sink::syslog().await, Sink::smtp(None).await);
    let config = serde_json::from_value(serde_json::json!({
        "destinations": [
            {"id": "siem", "syslog": {"server": collector.url}},
            {"id": "mail", "email": {"server": mail.url, "from": "bartizan@corp.example",
                                     "to": ["sec@corp.example", "Ops <ops@corp.example>"]}}]
    }))
    .unwrap();
    let bench = Bench::new(&config).await;
    bench.event("auth/replay", "user:ana@corp.example", "evil\r\nBcc: x@evil.example").await;
    bench.round().await;
    let line = collector.texts().concat();
    let (length, rest) = line.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), rest.len(), "octets are counted");
    assert!(rest.starts_with("<106>1 ") && rest.contains("replayed_token"), "{rest}");
    let mail = mail.texts().concat();
    for part in ["RCPT TO:<sec@corp.example>", "RCPT TO:<ops@corp.example>", "Subject: [high] replayed_token"] {
        assert!(mail.contains(part), "{part} is missing: {mail}");
    }
    assert!(!mail.lines().any(|line| line.starts_with("Bcc:")), "a header was smuggled in: {mail}");
}

#[tokio::test]
async fn l14_mail_with_starttls_sends_the_password_only_encrypted() {
    let mail = Sink::smtp(Some(support::identity())).await;
    let config = serde_json::from_value(serde_json::json!({
        "destinations": [{"id": "mail", "email": {"server": mail.url, "from": "a@corp.example", "to": ["b@corp.example"],
                          "username": "user", "password": "p4ssw0rd"}}]
    }))
    .unwrap();
    let bench = Bench::new(&config).await;
    bench.alerts.test("mail").await.unwrap();
    let (clear, sealed) = mail.clear_and_sealed();
    assert!(clear.contains("STARTTLS") && !clear.contains("AUTH") && !clear.contains("MAIL FROM"), "{clear}");
    assert!(
        sealed.contains("AUTH PLAIN AHVzZXIAcDRzc3cwcmQ=") && sealed.contains("MAIL FROM:<a@corp.example>"),
        "{sealed}"
    );
    // A relay that does not offer it gets nothing.
    let bare = Sink::smtp(None).await;
    let config = serde_json::from_value(serde_json::json!({
        "destinations": [{"id": "mail", "email": {"server": bare.url.replace("smtp://", "smtp+starttls://"),
                          "from": "a@corp.example", "to": ["b@corp.example"], "username": "user", "password": "p4ssw0rd"}}]
    }))
    .unwrap();
    bench.alerts.configure(&config);
    bench.alerts.test("mail").await.unwrap_err();
    assert!(!bare.texts().concat().contains("MAIL"), "{:?}", bare.texts());
}

#[tokio::test]
async fn l14_destinations_obey_the_address_rules() {
    let sink = Sink::http(&[]).await;
    let bench = Bench::strict(&hook(&sink.url)).await;
    let error = bench.alerts.test("hook").await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1") || error.contains("loopback"), "{error}");
    assert!(sink.heads().is_empty());
    assert!(!error.contains("whsec_"));
    bench.alerts.test("nobody").await.unwrap_err();
}

#[tokio::test]
async fn p23_the_owner_of_a_server_gets_one_mail_per_change() {
    let (mail, other) = (Sink::smtp(None).await, Sink::smtp(None).await);
    let destination = |id: &str, sink: &Sink| serde_json::json!({"id": id, "email": {"server": sink.url, "from": "bartizan@corp.example", "to": ["all@corp.example"]}});
    let destinations = [destination("b-mail", &other), destination("a-mail", &mail)];
    let config: Config = serde_json::from_value(serde_json::json!({"destinations": destinations})).unwrap();
    let bench = Bench::new(&config).await;
    let notice = |from: &'static str, to: &'static str| bartizan_alerts::OwnerNotice {
        owner: "notes-team@corp.example",
        server: "notes",
        from,
        to,
        why: Some("the server does not answer"),
        event_id: "e1",
    };
    assert!(bench.alerts.tell_owner(&notice("Ready", "Stale")).await.unwrap());
    // Another replica sees the same.
    let replica = bench.another(&config);
    assert!(!replica.tell_owner(&notice("Ready", "Stale")).await.unwrap());
    bench.round().await;
    bench.round().await;
    let texts = mail.texts();
    assert_eq!(texts.len(), 1, "{texts:?}");
    for wanted in
        ["notes-team@corp.example", "notes was Ready and is Stale (the server does not answer)", "audit event: e1"]
    {
        assert!(texts[0].contains(wanted), "{wanted}: {}", texts[0]);
    }
    assert!(!texts[0].contains("all@corp.example"), "nobody else: {}", texts[0]);
    assert!(other.texts().is_empty(), "through the first relay only");
    // The way back is another change.
    assert!(replica.tell_owner(&notice("Stale", "Ready")).await.unwrap());
    bench.round().await;
    assert_eq!(mail.texts().len(), 2);
    // Without a relay there is nobody to tell it by.
    let none: Config = serde_json::from_value(serde_json::json!({"destinations": []})).unwrap();
    assert!(!Bench::new(&none).await.alerts.tell_owner(&notice("Ready", "Stale")).await.unwrap());
}
