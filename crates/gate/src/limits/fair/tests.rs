use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt as _;

use super::*;

type Turn = Pin<Box<dyn Future<Output = Option<Slot>>>>;

/// A waiting call of somebody.
struct Call {
    name: Arc<str>,
    turn: Turn,
}

impl Call {
    fn poll(&mut self) -> Option<Option<Slot>> {
        (&mut self.turn).now_or_never()
    }
}

fn held(entry: Entry) -> Slot {
    match entry {
        Entry::Held(slot) => slot,
        other => panic!("{other:?}"),
    }
}

fn queued(entry: Entry) -> Waiting {
    match entry {
        Entry::Queued(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

/// One place; mallory's 200 calls, then three of each of nine others. Returns who was
/// served, in order. `as_whom` is the principal the queue is told.
fn order(as_whom: impl Fn(&str) -> Arc<str>) -> Vec<Arc<str>> {
    let places = Places::new(1);
    let mut now = Some(held(places.enter("k", &as_whom("mallory"))));
    let others = (0..3).flat_map(|_| (1..=9).map(|n| format!("other{n}")));
    let mut calls: Vec<Call> = (0..200)
        .map(|_| "mallory".to_owned())
        .chain(others)
        .map(|who| {
            let turn = queued(places.enter("k", &as_whom(&who))).turn();
            Call { name: name(&who), turn: Box::pin(turn) }
        })
        .collect();
    let mut served = Vec::new();
    while !calls.is_empty() {
        assert_eq!(places.counts("k"), (1, calls.len()));
        drop(now.take());
        let mut called = Vec::new();
        for (at, call) in calls.iter_mut().enumerate() {
            if let Some(slot) = call.poll() {
                called.push(at);
                now = Some(slot.expect("nobody is displaced"));
            }
        }
        assert_eq!(called.len(), 1, "a place that comes free calls one");
        served.push(calls.remove(called[0]).name);
    }
    drop(now);
    assert_eq!(places.keys(), 0);
    served
}

#[test]
fn o11_a_busy_principal_starves_nobody() {
    let served = order(name);
    assert_eq!(served.len(), 227);
    for round in served.chunks(10).take(3) {
        let mut once: Vec<_> = round.to_vec();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), 10, "everybody is served once a round: {round:?}");
    }
    assert!(served[30..].iter().all(|who| &**who == "mallory"));
}

#[test]
fn o11_without_turns_a_busy_principal_starves_the_others() {
    let served = order(|_| name("everybody"));
    assert!(served[..200].iter().all(|who| &**who == "mallory"), "first come, first served is what turns are for");
}

#[test]
fn o11_a_full_queue_has_room_for_those_who_have_less() {
    let places = Places::new(1);
    let _running = held(places.enter("k", &name("mallory")));
    let mut flood: Vec<Call> = (0..MAX_WAITING)
        .map(|_| Call { name: name("mallory"), turn: Box::pin(queued(places.enter("k", &name("mallory"))).turn()) })
        .collect();
    assert!(matches!(places.enter("k", &name("mallory")), Entry::Full));
    assert!(!places.has_room("k", Some("mallory")) && places.has_room("k", Some("alice")));
    let alice: Vec<_> = (0..MAX_WAITING / 2).map(|_| queued(places.enter("k", &name("alice")))).collect();
    assert_eq!(places.counts("k"), (1, MAX_WAITING));
    assert!(matches!(places.enter("k", &name("alice")), Entry::Full), "half of it is her share");
    let lost: Vec<usize> = flood
        .iter_mut()
        .enumerate()
        .filter_map(|(at, call)| call.poll().map(|slot| (at, slot)))
        .map(|(at, slot)| {
            assert!(slot.is_none());
            at
        })
        .collect();
    assert_eq!(lost, (MAX_WAITING / 2..MAX_WAITING).collect::<Vec<_>>(), "the newest lose their place");
    drop(alice);
    assert_eq!(places.counts("k"), (1, MAX_WAITING / 2));
}

#[test]
fn o11_who_leaves_the_queue_leaves_nothing_behind() {
    let places = Places::new(1);
    let running = held(places.enter("k", &name("a")));
    let first = queued(places.enter("k", &name("b")));
    let second = queued(places.enter("k", &name("b")));
    let mut third = Box::pin(queued(places.enter("k", &name("c"))).turn());
    drop(first);
    assert_eq!(places.counts("k"), (1, 2));
    // Called, and gone before it noticed: the place goes on to the next.
    drop(running);
    drop(second);
    let slot = (&mut third).now_or_never().expect("called").expect("a place");
    assert_eq!(places.counts("k"), (1, 0));
    assert!(places.hold("k").is_none());
    drop(slot);
    assert_eq!(places.keys(), 0);
}

#[test]
fn o11_a_panic_gives_its_place_back() {
    let places = Places::new(1);
    let slot = held(places.enter("k", &name("a")));
    let waiting = queued(places.enter("k", &name("b")));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = slot;
        panic!("a stage breaks");
    }));
    assert!(broken.is_err());
    let slot = waiting.turn().now_or_never().expect("called").expect("a place");
    drop(slot);
    assert_eq!(places.keys(), 0);
}

#[test]
fn o11_nobody_overtakes_the_queue() {
    let places = Places::new(2);
    let one = held(places.enter("k", &name("a")));
    let _two = held(places.enter("k", &name("a")));
    let waiting = queued(places.enter("k", &name("b")));
    drop(one);
    assert!(places.hold("k").is_none(), "the place belongs to the one that was called");
    assert!(matches!(places.enter("k", &name("c")), Entry::Queued(_)));
    assert!(places.hold("other").is_some(), "keys are apart");
    drop(waiting);
    assert!(places.hold("k").is_some());
}

/// A small generator of its own: the same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

#[test]
fn o11_never_above_the_limit_and_no_place_is_lost() {
    for seed in 1..=300_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let max = 1 + numbers.below(4);
        let places = Places::new(u32::try_from(max).unwrap());
        let keys = ["x", "y"];
        let mut slots: [Vec<Slot>; 2] = Default::default();
        let mut calls: [Vec<Call>; 2] = Default::default();
        for _ in 0..400 {
            let at = numbers.below(2);
            let (key, slots, calls) = (keys[at], &mut slots[at], &mut calls[at]);
            match numbers.below(6) {
                0 | 1 => {
                    let who = name(["a", "b", "c", "d"][numbers.below(4)]);
                    match places.enter(key, &who) {
                        Entry::Held(slot) => {
                            assert_eq!(places.counts(key).1, 0, "seed {seed}: overtaken");
                            slots.push(slot);
                        }
                        Entry::Queued(waiting) => calls.push(Call { name: who, turn: Box::pin(waiting.turn()) }),
                        Entry::Full => panic!("seed {seed}: not that many"),
                    }
                }
                2 if !slots.is_empty() => drop(slots.swap_remove(numbers.below(slots.len()))),
                3 if !calls.is_empty() => drop(calls.swap_remove(numbers.below(calls.len()))),
                4 => slots.extend(places.hold(key)),
                _ => {
                    // Those who notice that they were called.
                    let mut still = Vec::new();
                    for mut call in calls.drain(..) {
                        match call.poll() {
                            Some(slot) => slots.extend(slot),
                            None => still.push(call),
                        }
                    }
                    *calls = still;
                }
            }
            let (running, waiting) = places.counts(key);
            let running = usize::try_from(running).unwrap();
            assert!(slots.len() <= running && running <= max, "seed {seed}: above the limit");
            assert_eq!(running + waiting, slots.len() + calls.len(), "seed {seed}: a call or a place is lost");
        }
        drop((slots, calls));
        assert_eq!(places.keys(), 0, "seed {seed}: a place is lost");
    }
}
