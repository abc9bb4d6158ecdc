use bartizan_model::ManualClock;

use super::*;

fn limit(id: &str, per: &[LimitKey]) -> RateLimit {
    RateLimit {
        id: id.into(),
        per: per.to_vec(),
        server: None,
        tools: Vec::new(),
        agents: Vec::new(),
        per_minute: None,
        burst: None,
        concurrent: None,
        queue_ms: None,
        bytes_per_minute: None,
    }
}

/// A principal's key that lives as long as the test.
fn key(user: &str) -> &'static Arc<str> {
    Box::leak(Box::new(user.into()))
}

fn subject(user: &str) -> Subject<'static> {
    Subject { address: None, user: key(user), client: None, portal: None, server: None, tool: None, bytes: 100 }
}

fn limiter() -> (Arc<ManualClock>, Limiter) {
    let clock = Arc::new(ManualClock::at(1_000_000));
    (Arc::clone(&clock), Limiter::new(clock))
}

#[test]
fn o11_off_by_default() {
    let (_, limiter) = limiter();
    assert!(limiter.set(1, &[]).is_none());
}

#[test]
fn o11_rate_counters_are_exact_and_refill() {
    let (clock, limiter) = limiter();
    let mut config = limit("r", &[LimitKey::User]);
    config.per_minute = Some(6);
    let set = limiter.set(1, &[config]).unwrap();
    for _ in 0..6 {
        set.take(&subject("a")).unwrap();
    }
    let refused = set.take(&subject("a")).unwrap_err();
    assert_eq!((refused.limit.as_ref(), refused.retry_after_s, refused.never), ("r", 10, false));
    set.take(&subject("b")).expect("another user has a counter of its own");
    clock.advance_ms(9_999);
    assert!(set.take(&subject("a")).is_err());
    clock.advance_ms(1);
    set.take(&subject("a")).unwrap();
    assert!(set.take(&subject("a")).is_err());
}

#[test]
fn o11_burst_is_separate_from_the_rate() {
    let (_, limiter) = limiter();
    let mut config = limit("r", &[LimitKey::User]);
    config.per_minute = Some(60);
    config.burst = Some(2);
    let set = limiter.set(1, &[config]).unwrap();
    assert!(set.take(&subject("a")).is_ok() && set.take(&subject("a")).is_ok());
    assert_eq!(set.take(&subject("a")).unwrap_err().retry_after_s, 1);
}

#[test]
fn o11_concurrency_is_given_back_on_drop() {
    let (_, limiter) = limiter();
    let mut config = limit("c", &[LimitKey::User]);
    config.concurrent = Some(2);
    let set = limiter.set(1, &[config]).unwrap();
    let one = set.take(&subject("a")).unwrap();
    let two = set.take(&subject("a")).unwrap();
    assert!(set.take(&subject("a")).is_err());
    drop(one);
    let three = set.take(&subject("a")).unwrap();
    drop((two, three));
    assert_eq!(set.keys(), 0, "no counter is left behind");
}

#[test]
fn o11_a_refusal_gives_back_slots_already_taken() {
    let (_, limiter) = limiter();
    let mut first = limit("c", &[LimitKey::User]);
    first.concurrent = Some(1);
    let mut second = limit("r", &[LimitKey::User]);
    second.per_minute = Some(1);
    let set = limiter.set(1, &[first, second]).unwrap();
    drop(set.take(&subject("a")).unwrap());
    assert_eq!(set.take(&subject("a")).unwrap_err().limit.as_ref(), "r");
    assert_eq!(set.take(&subject("a")).unwrap_err().limit.as_ref(), "r", "not the concurrency limit");
}

#[test]
fn o11_bytes_per_minute() {
    let (clock, limiter) = limiter();
    let mut config = limit("b", &[LimitKey::User]);
    config.bytes_per_minute = Some(250);
    let set = limiter.set(1, &[config]).unwrap();
    assert!(set.take(&subject("a")).is_ok() && set.take(&subject("a")).is_ok());
    assert!(!set.take(&subject("a")).unwrap_err().never);
    clock.advance_ms(60_000);
    assert!(set.take(&subject("a")).is_ok());
    let mut huge = subject("b");
    huge.bytes = u64::MAX;
    assert!(set.take(&huge).unwrap_err().never);
}

#[test]
fn u6_probing_counts_nothing() {
    let (_, limiter) = limiter();
    let mut config = limit("r", &[LimitKey::User]);
    config.per_minute = Some(1);
    config.concurrent = Some(1);
    let set = limiter.set(1, &[config]).unwrap();
    for _ in 0..5 {
        set.probe(&subject("a")).unwrap();
    }
    let held = set.take(&subject("a")).unwrap();
    assert!(set.probe(&subject("a")).is_err());
    drop(held);
    assert_eq!(set.probe(&subject("a")).unwrap_err().retry_after_s, 60);
}

#[test]
fn o11_zero_means_nothing_passes() {
    let (_, limiter) = limiter();
    for field in 0..3 {
        let mut config = limit("z", &[]);
        match field {
            0 => config.per_minute = Some(0),
            1 => config.concurrent = Some(0),
            _ => config.bytes_per_minute = Some(0),
        }
        let set = limiter.set(10 + field, &[config]).unwrap();
        assert!(set.take(&subject("a")).unwrap_err().never);
        assert_eq!(set.keys(), 0);
    }
}

#[test]
fn o11_server_and_tool_filters_and_combined_keys() {
    let (_, limiter) = limiter();
    let server = ServerId::parse("git").unwrap();
    let mut config = limit("t", &[LimitKey::User, LimitKey::Tool]);
    config.server = Some(server.clone());
    config.tools = vec!["push".into()];
    config.per_minute = Some(1);
    let set = limiter.set(1, &[config]).unwrap();
    let other = ServerId::parse("wiki").unwrap();
    let call = |user, server, tool| Subject { server: Some(server), tool: Some(tool), ..subject(user) };
    for _ in 0..3 {
        set.take(&call("a", &other, "push")).unwrap();
        set.take(&call("a", &server, "pull")).unwrap();
        set.take(&subject("a")).unwrap();
    }
    set.take(&call("a", &server, "push")).unwrap();
    set.take(&call("b", &server, "push")).unwrap();
    assert!(set.take(&call("a", &server, "push")).is_err());
    assert_eq!(set.applicable(&call("a", &server, "push")).len(), 1);
    assert!(set.applicable(&call("a", &other, "push")).is_empty());
}

#[test]
fn o11_keys_with_crafted_names_stay_apart() {
    let (_, limiter) = limiter();
    let mut config = limit("k", &[LimitKey::User, LimitKey::Client]);
    config.per_minute = Some(1);
    let set = limiter.set(1, &[config]).unwrap();
    let call = |user, client| Subject { client: Some(client), ..subject(user) };
    set.take(&call("a", "x\nc1:y")).unwrap();
    set.take(&call("a\nc1:x", "y")).unwrap();
    set.take(&call("a", "x")).unwrap();
}

#[test]
fn o4_counters_survive_a_reload_that_does_not_change_them() {
    let (_, limiter) = limiter();
    let mut config = limit("r", &[LimitKey::User]);
    config.per_minute = Some(1);
    limiter.set(1, &[config.clone()]).unwrap().take(&subject("a")).unwrap();
    assert!(limiter.set(2, &[config.clone()]).unwrap().take(&subject("a")).is_err());
    config.per_minute = Some(2);
    assert!(limiter.set(3, &[config]).unwrap().take(&subject("a")).is_ok());
}

#[test]
fn o11_idle_counters_are_dropped() {
    let (clock, limiter) = limiter();
    let mut config = limit("r", &[LimitKey::User]);
    config.per_minute = Some(60);
    let set = limiter.set(1, &[config]).unwrap();
    for n in 0..SWEEP_EVERY - 1 {
        set.take(&subject(&format!("user{n}"))).unwrap();
    }
    clock.advance_ms(120_000);
    set.take(&subject("last")).unwrap();
    assert!(set.keys() <= 2, "{} counters left", set.keys());
}

fn shared(id: &str, max: u32) -> RateLimit {
    RateLimit { concurrent: Some(max), ..limit(id, &[LimitKey::Server]) }
}

#[tokio::test(start_paused = true)]
async fn o11_a_call_waits_for_its_turn_no_longer_than_the_limit_says() {
    let (_, limiter) = limiter();
    let config = RateLimit { queue_ms: Some(2_000), per_minute: Some(3), ..shared("c", 1) };
    let set = limiter.set(1, &[config]).unwrap();
    let one = set.take_in_turn(&subject("a")).await.unwrap();
    assert!(!one.waited);
    let since = Instant::now();
    let late = set.take_in_turn(&subject("b")).await.unwrap_err();
    assert_eq!((since.elapsed().as_millis() / 100, late.limit.as_ref(), late.never), (20, "c", false));
    let b = subject("b");
    let (two, ()) = tokio::join!(set.take_in_turn(&b), async { drop(one) });
    assert!(two.unwrap().waited);
    // Three requests were counted, each once; the fourth is over the rate and waits for nothing.
    let since = Instant::now();
    assert_eq!(set.take_in_turn(&subject("b")).await.unwrap_err().retry_after_s, 20);
    assert!(since.elapsed().is_zero());
    assert_eq!(set.all[0].places.as_ref().unwrap().keys(), 0);
}

#[tokio::test]
async fn o11_a_limit_of_ones_own_refuses_at_once_unless_it_says_otherwise() {
    let (_, limiter) = limiter();
    let own = RateLimit { concurrent: Some(1), ..limit("c", &[LimitKey::User]) };
    let set = limiter.set(1, std::slice::from_ref(&own)).unwrap();
    let _held = set.take_in_turn(&subject("a")).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(set.take_in_turn(&subject("a"))).unwrap().is_err());
    let set = limiter.set(2, &[RateLimit { queue_ms: Some(1), ..own }]).unwrap();
    let _held = set.take_in_turn(&subject("a")).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(set.take_in_turn(&subject("a"))).is_none());
    let set = limiter.set(3, &[RateLimit { queue_ms: Some(0), ..shared("s", 1) }]).unwrap();
    let _held = set.take_in_turn(&subject("a")).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(set.take_in_turn(&subject("b"))).unwrap().is_err());
}

#[tokio::test]
async fn o11_who_waits_for_a_narrow_limit_holds_nothing_wider() {
    let (_, limiter) = limiter();
    let server = ServerId::parse("git").unwrap();
    // Written down in the other order.
    let wide = shared("wide", 1);
    let narrow = RateLimit { per: vec![LimitKey::Tool], ..shared("narrow", 1) };
    let set = limiter.set(1, &[wide, narrow]).unwrap();
    let call = |user, tool| Subject { server: Some(&server), tool: Some(tool), ..subject(user) };
    let pull = call("a", "pull");
    let running = set.take_in_turn(&pull).await.unwrap();
    let (push, again) = (call("a", "push"), call("a", "push"));
    let mut waits_wide = Box::pin(set.take_in_turn(&push));
    assert!(futures_util::poll!(&mut waits_wide).is_pending());
    let mut waits_narrow = Box::pin(set.take_in_turn(&again));
    assert!(futures_util::poll!(&mut waits_narrow).is_pending());
    let other = call("b", "other");
    let mut others = Box::pin(set.take_in_turn(&other));
    assert!(futures_util::poll!(&mut others).is_pending());
    drop(running);
    let pushed = waits_wide.await.unwrap();
    drop(pushed);
    // The second push got the narrow place only now; the other one was before it.
    let other = others.await.unwrap();
    assert!(futures_util::poll!(&mut waits_narrow).is_pending());
    drop(other);
    drop(waits_narrow.await.unwrap());
    assert_eq!(set.keys(), 0);
}

#[test]
fn u6_probing_says_whether_a_call_could_wait() {
    let (_, limiter) = limiter();
    let set = limiter.set(1, &[shared("c", 1)]).unwrap();
    let _held = set.take(&subject("a")).unwrap();
    set.probe(&subject("b")).unwrap();
    assert!(set.take(&subject("b")).is_err(), "what cannot wait is refused");
}

#[tokio::test]
async fn a27_a_limit_of_an_agent_counts_that_agent_only() {
    let limiter = Limiter::new(Arc::new(ManualClock::at(0)));
    let own = RateLimit { per_minute: Some(1), agents: vec!["ci".into()], ..limit("agent ci", &[LimitKey::User]) };
    let set = limiter.set(1, &[own]).unwrap();
    let rate = |user| set.take(&subject(user)).is_ok();
    assert!(rate("agent:ci") && !rate("agent:ci"), "its own");
    for other in ["agent:ci2", "agent:c", "user:ci", "service:ci", "user:agent:ci"] {
        assert!((0..5).all(|_| rate(other)), "{other}");
    }
}
