use std::time::Duration;

use bartizan_model::{ManualClock, PortalId, PrincipalKind, ServerId};
use bartizan_wire::{AskAnswer, ClientProfile, LogLevel, RawJson, RequestId, Revision};
use tokio::sync::oneshot;

use super::*;
use crate::streams::{Reader, Seat};

const HOUR: i64 = 3_600_000;

struct World {
    clock: Arc<ManualClock>,
    sessions: Sessions,
}

fn world() -> World {
    world_of(10_000)
}

fn world_of(per_owner: usize) -> World {
    let clock = Arc::new(ManualClock::at(1_000));
    let sessions = Sessions::new(Arc::clone(&clock) as Arc<dyn Clock>, 24 * 3_600_000, per_owner, Metrics::new());
    World { clock, sessions }
}

fn user(name: &str) -> Principal {
    Principal::new(PrincipalKind::User, name, [])
}

fn portal() -> Endpoint {
    Endpoint::Portal(PortalId::parse("default").unwrap())
}

impl World {
    fn open(&self, name: &str) -> Arc<Session> {
        self.try_open(name).unwrap()
    }

    fn try_open(&self, name: &str) -> Result<Arc<Session>, Closed> {
        let about = About::new(ClientProfile::plain(Revision::V2025_11_25), Offered::default());
        let user = user(name);
        self.sessions.open(&user, Arc::clone(user.key()), portal(), about, Transport::Streamable)
    }

    fn finds(&self, id: &str, name: &str) -> bool {
        self.sessions.get(id, &user(name), &portal(), Transport::Streamable).is_some()
    }
}

fn reader(session: &Session) -> Reader {
    Reader::attach(session.get_stream(), Seat::new(None, None, &Metrics::new()))
}

/// One caller opens many sessions where the process may have 50; true when another
/// caller's session survives.
fn survives_a_flood(per_owner: usize) -> bool {
    let mut world = world_of(per_owner);
    world.sessions.max = 50;
    let bob = world.open("bob");
    world.clock.advance_ms(1);
    for _ in 0..500 {
        world.open("mallory");
    }
    assert!(world.sessions.len() <= 50);
    world.finds(&bob.id, "bob")
}

#[test]
fn o11_nobody_loses_a_session_to_a_flood_of_another_one() {
    assert!(survives_a_flood(10), "its own are at their bound");
    assert!(survives_a_flood(usize::MAX), "the process is full of its own");
}

#[tokio::test]
async fn o11_at_the_bound_the_owners_oldest_idle_session_ends() {
    let world = world_of(3);
    let (streaming, busy, idle) = (world.open("alice"), world.open("alice"), world.open("alice"));
    let (bob, open) = (world.open("bob"), reader(&streaming));
    let running = busy.running(RequestId::number(1));
    world.clock.advance_ms(1);
    let newest = world.open("alice");
    assert!(!world.finds(&idle.id, "alice"), "the only one nobody used");
    let newest = Some(newest).filter(|newest| world.finds(&newest.id, "alice")).unwrap();
    let held = newest.running(RequestId::number(2));
    assert_eq!(world.try_open("alice").err(), Some(Closed::Full), "all are in use");
    assert!(world.finds(&streaming.id, "alice") && world.finds(&busy.id, "alice") && world.finds(&bob.id, "bob"));
    drop(open);
    assert!(world.try_open("alice").is_ok(), "one is idle again");
    drop((running, held));
    for session in world.sessions.all() {
        world.sessions.end(&session);
    }
    world.open("alice");
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn p10_what_finished_streams_hold_is_bounded() {
    let world = world();
    let session = world.open("alice");
    for _ in 0..6 {
        let post = session.open_post();
        post.try_message(&vec![b'1'; 400 * 1024]).unwrap();
        post.close();
    }
    session.open_post().close();
    let kept = (1..=6).filter(|number| session.stream(*number).is_some()).count();
    assert_eq!(kept, 2, "within 1 MiB");
}

#[test]
fn p26_a_session_is_bound_to_its_principal_and_endpoint() {
    let world = world();
    let session = world.open("alice");
    assert!(world.finds(&session.id, "alice"));
    assert!(!world.finds(&session.id, "bob"));
    let service = Principal::new(PrincipalKind::Service, "alice", []);
    assert!(world.sessions.get(&session.id, &service, &portal(), Transport::Streamable).is_none());
    let other = Endpoint::Server(ServerId::parse("default").unwrap());
    assert!(world.sessions.get(&session.id, &user("alice"), &other, Transport::Streamable).is_none());
    let other = world.sessions.get(&session.id, &user("alice"), &portal(), Transport::Sse);
    assert!(other.is_none());
    // Asking with the wrong name does not end it.
    assert!(world.finds(&session.id, "alice"));
}

#[test]
fn p26_ids_are_long_random_and_visible_ascii() {
    let world = world();
    let ids: std::collections::HashSet<_> = (0..500).map(|_| world.open("alice").id.clone()).collect();
    assert_eq!(ids.len(), 500);
    for id in ids {
        assert_eq!(id.len(), 43);
        assert!(id.bytes().all(|b| (0x21..=0x7e).contains(&b)));
    }
    assert_eq!(world.sessions.len(), 500);
}

#[test]
fn p26_unknown_and_undecodable_ids() {
    let world = world();
    world.open("alice");
    for id in ["", "x", "\u{fffd}", "../..", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(100_000)] {
        assert!(!world.finds(id, "alice"));
    }
}

#[test]
fn p26_idle_sessions_end_after_24_hours() {
    let world = world();
    let (used, idle) = (world.open("alice"), world.open("alice"));
    world.clock.advance_ms(23 * HOUR);
    assert!(world.finds(&used.id, "alice"));
    world.clock.advance_ms(HOUR);
    assert!(world.finds(&used.id, "alice"));
    assert!(!world.finds(&idle.id, "alice"));
    assert_eq!(world.sessions.len(), 1);
    world.clock.advance_ms(24 * HOUR);
    world.sessions.sweep();
    assert_eq!(world.sessions.len(), 0);
}

#[tokio::test]
async fn p26_an_open_stream_keeps_its_session() {
    let world = world();
    let session = world.open("alice");
    let reader = reader(&session);
    world.clock.advance_ms(48 * HOUR);
    world.sessions.sweep();
    assert!(world.finds(&session.id, "alice"));
    drop(reader);
    world.clock.advance_ms(24 * HOUR);
    assert!(!world.finds(&session.id, "alice"));
}

#[tokio::test]
async fn p26_the_end_of_a_session_ends_its_streams_and_calls() {
    let world = world();
    let session = world.open("alice");
    let post = session.open_post();
    let get = session.get_stream();
    let running = session.running(RequestId::number(7));
    world.sessions.end(&session);
    assert!(post.is_closed() && get.is_closed());
    running.cancelled().await;
    session.ended().await;
    assert!(!world.finds(&session.id, "alice"));
    world.sessions.end(&session);
    assert_eq!(world.sessions.len(), 0);
}

#[tokio::test]
async fn p10_cancelling_names_a_request_of_this_session() {
    let world = world();
    let (a, b) = (world.open("alice"), world.open("bob"));
    let running = a.running(RequestId::string("x"));
    b.cancel(&RequestId::string("x"));
    a.cancel(&RequestId::number(1));
    let waited = tokio::time::timeout(Duration::from_millis(20), running.cancelled()).await;
    assert!(waited.is_err());
    a.cancel(&RequestId::string("x"));
    running.cancelled().await;
    drop(running);
    // Late: nothing is there any more.
    a.cancel(&RequestId::string("x"));
}

#[tokio::test]
async fn p9_answers_reach_only_questions_of_the_same_session() {
    let world = world();
    let (a, b) = (world.open("alice"), world.open("alice"));
    let running = a.running(RequestId::number(1));
    let (sender, receiver) = oneshot::channel();
    let id = a.ask(running.call, "k".into(), Batch::new(Vec::new(), 1, sender));
    let yes = || AskAnswer::Result(RawJson::empty_object());
    assert!(!b.answer(&id, yes()));
    assert!(!a.answer(&RequestId::string("1"), yes()));
    assert!(a.answer(&id, yes()));
    assert!(!a.answer(&id, yes()));
    assert_eq!(receiver.await.unwrap().len(), 1);
}

#[test]
fn p10_finished_streams_are_kept_for_a_while() {
    let world = world();
    let session = world.open("alice");
    let first = session.open_post();
    let number = first.id().unwrap();
    first.close();
    assert!(session.stream(number).is_some());
    for _ in 0..4 {
        world.sessions.sweep();
    }
    assert!(session.stream(number).is_some());
    world.sessions.sweep();
    assert!(session.stream(number).is_none());
    let running = session.open_post();
    for _ in 0..40 {
        session.open_post().close();
    }
    assert!(session.stream(running.id().unwrap()).is_some(), "a running stream is never dropped");
    assert!(session.stream(running.id().unwrap() + 1).is_none());
    assert!(session.stream(running.id().unwrap() + 40).is_some());
}

#[test]
fn p10_one_session_has_one_stand_alone_stream() {
    let world = world();
    let session = world.open("alice");
    let stream = session.get_stream();
    assert!(Arc::ptr_eq(&stream, &session.get_stream()));
    assert!(session.stream(stream.id().unwrap()).is_some());
    session.drop_get();
    assert!(session.stream(stream.id().unwrap()).is_none());
    world.sessions.end(&session);
    assert!(session.get_stream().is_closed());
}

#[test]
fn p10_the_log_level_is_the_sessions() {
    let world = world();
    let (a, b) = (world.open("alice"), world.open("alice"));
    a.set_log_level(LogLevel::Error);
    assert_eq!(a.profile().log_level, Some(LogLevel::Error));
    assert_eq!(b.profile().log_level, None);
}

#[test]
fn p10_subscriptions_are_bounded_and_counted_once() {
    let world = world();
    let session = world.open("alice");
    session.subscribe("a:1");
    session.subscribe("a:1");
    assert!(session.may_subscribe("a:2", 2));
    session.subscribe("a:2");
    assert!(!session.may_subscribe("a:3", 2));
    assert!(session.may_subscribe("a:2", 2));
    assert!(session.unsubscribe("a:1"));
    assert!(!session.unsubscribe("a:1"));
    assert_eq!(session.subscribed().len(), 1);
}
