use std::sync::atomic::AtomicUsize;

use bartizan_model::ManualClock;
use tokio::sync::Notify;

use super::*;

struct Bench {
    manual: Arc<ManualClock>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    slot: Arc<Slot<u32>>,
    fetches: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let manual = Arc::new(ManualClock::at(1_000));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let slot = Arc::new(Slot::new(1_000));
        Self { manual, clock, tasks: TaskTracker::new(), slot, fetches: Arc::default() }
    }

    async fn get(&self, need: Need, answer: Result<(u32, Option<u64>), ReasonCode>) -> Arc<Fetched<u32>> {
        let fetches = Arc::clone(&self.fetches);
        self.slot
            .get(need, &self.clock, &self.tasks, move || async move {
                fetches.fetch_add(1, Ordering::SeqCst);
                answer.map(|(value, ttl_ms)| Good { value: Arc::new(value), generation: value.into(), ttl_ms })
            })
            .await
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn p25_sixty_seconds_without_a_ttl() {
    let bench = Bench::new();
    for _ in 0..1_000 {
        assert_eq!(*bench.get(Need::List, Ok((1, None))).await.value, 1);
    }
    assert_eq!(bench.fetches(), 1, "1,000 lists in a minute are one upstream list");
    bench.manual.advance_ms(59_999);
    bench.get(Need::List, Ok((2, None))).await;
    assert_eq!(bench.fetches(), 1);
    bench.manual.advance_ms(1);
    assert_eq!(*bench.get(Need::List, Ok((2, None))).await.value, 2);
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test]
async fn p25_the_upstreams_ttl_counts_but_zero_does_not_cost_a_list_per_call() {
    let bench = Bench::new();
    bench.get(Need::List, Ok((1, Some(0)))).await;
    bench.get(Need::List, Ok((1, Some(0)))).await;
    assert_eq!(bench.fetches(), 2);
    for _ in 0..10 {
        bench.get(Need::Route, Ok((1, Some(0)))).await;
    }
    assert_eq!(bench.fetches(), 2);
    bench.manual.advance_ms(DEFAULT_TTL_MS);
    bench.get(Need::Route, Ok((1, Some(u64::MAX)))).await;
    assert_eq!(bench.fetches(), 3);
    bench.manual.advance_ms(MAX_TTL_MS);
    bench.get(Need::List, Ok((1, None))).await;
    assert_eq!(bench.fetches(), 4, "no upstream can ask for an endless life");
}

#[tokio::test]
async fn p25_a_failure_lives_five_seconds() {
    let bench = Bench::new();
    let failed = bench.get(Need::List, Err(ReasonCode::UpstreamTimeout)).await;
    assert_eq!(failed.outcome, Outcome::Error(ReasonCode::UpstreamTimeout));
    bench.manual.advance_ms(4_999);
    bench.get(Need::Route, Ok((1, None))).await;
    assert_eq!(bench.fetches(), 1);
    bench.manual.advance_ms(1);
    assert_eq!(bench.get(Need::Route, Ok((1, None))).await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn p32_last_good_is_kept_and_called_stale() {
    let bench = Bench::new();
    bench.get(Need::List, Ok((7, None))).await;
    bench.manual.advance_ms(60_000);
    for _ in 0..3 {
        let stale = bench.get(Need::List, Err(ReasonCode::UpstreamUnavailable)).await;
        assert_eq!((*stale.value, &stale.outcome), (7, &Outcome::Stale(ReasonCode::UpstreamUnavailable)));
        bench.manual.advance_ms(5_000);
    }
    assert_eq!(bench.get(Need::List, Ok((8, None))).await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn p25_single_flight_even_when_the_first_waiter_leaves() {
    let bench = Bench::new();
    let gate = Arc::new(Notify::new());
    let get = || {
        let (slot, clock, tasks) = (Arc::clone(&bench.slot), Arc::clone(&bench.clock), bench.tasks.clone());
        let (fetches, gate) = (Arc::clone(&bench.fetches), Arc::clone(&gate));
        tokio::spawn(async move {
            slot.get(Need::List, &clock, &tasks, move || async move {
                fetches.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(Good { value: Arc::new(1), generation: 1, ttl_ms: None })
            })
            .await
        })
    };
    let first = get();
    while bench.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let others: Vec<_> = (0..50).map(|_| get()).collect();
    tokio::task::yield_now().await;
    gate.notify_one();
    for other in others {
        assert_eq!(*other.await.unwrap().value, 1);
    }
    assert_eq!(bench.fetches(), 1);
}

#[tokio::test]
async fn p25_list_changed_drops_even_a_fetch_under_way() {
    let bench = Bench::new();
    let gate = Arc::new(Notify::new());
    let (slot, clock, tasks) = (Arc::clone(&bench.slot), Arc::clone(&bench.clock), bench.tasks.clone());
    let started = Arc::new(Notify::new());
    let old = {
        let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
        tokio::spawn(async move {
            slot.get(Need::List, &clock, &tasks, move || async move {
                started.notify_one();
                gate.notified().await;
                Ok(Good { value: Arc::new(1), generation: 1, ttl_ms: None })
            })
            .await
        })
    };
    started.notified().await;
    bench.slot.invalidate();
    assert_eq!(*bench.get(Need::List, Ok((2, None))).await.value, 2, "does not join the old fetch");
    gate.notify_one();
    assert_eq!(*old.await.unwrap().value, 1);
    assert_eq!(*bench.get(Need::List, Ok((3, None))).await.value, 2, "the old answer did not overwrite the new one");
    bench.slot.invalidate();
    assert_eq!(*bench.get(Need::Route, Ok((3, None))).await.value, 3);
}

#[tokio::test]
async fn p32_a_panic_in_a_fetch_is_a_failure() {
    let bench = Bench::new();
    let fetched = bench.slot.get(Need::List, &bench.clock, &bench.tasks, || async { panic!("bug in a fetch") }).await;
    assert_eq!(fetched.outcome, Outcome::Error(ReasonCode::UpstreamUnavailable));
    bench.manual.advance_ms(5_000);
    assert_eq!(*bench.get(Need::List, Ok((1, None))).await.value, 1);
}

#[tokio::test]
async fn equal_content_keeps_its_number() {
    let bench = Bench::new();
    bench.get(Need::List, Ok((1, None))).await;
    assert!(bench.slot.holds(1, Need::List, 1_000));
    assert!(!bench.slot.holds(2, Need::List, 1_000));
    bench.manual.advance_ms(60_000);
    assert!(!bench.slot.holds(1, Need::List, 61_000));
    bench.get(Need::List, Ok((1, None))).await;
    assert!(bench.slot.holds(1, Need::List, 61_000), "a view built from it stays valid");
    assert!(bench.slot.peek().is_some());
}
