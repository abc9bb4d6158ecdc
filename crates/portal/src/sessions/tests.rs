use std::time::Duration;

use bartizan_gate::PortalStates;
use bartizan_model::{ManualClock, PortalId, PrincipalKind, ServerId};
use bartizan_store::repo::{client_profile, portal_state};
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
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
    let states = PortalStates::alone(Arc::clone(&clock) as Arc<dyn Clock>);
    let handles = Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles();
    World { sessions: sessions(&clock, states, handles, per_owner, "here"), clock }
}

fn sessions(
    clock: &Arc<ManualClock>,
    states: PortalStates,
    handles: HandleSealer,
    per_owner: usize,
    node: &str,
) -> Sessions {
    Sessions::new(SessionsDeps {
        states,
        handles,
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        idle_ms: 24 * 3_600_000,
        per_owner,
        node: node.into(),
        metrics: Metrics::new(),
    })
}

fn user(name: &str) -> Principal {
    Principal::new(PrincipalKind::User, name, [])
}

fn portal() -> Endpoint {
    Endpoint::Portal(PortalId::parse("default").unwrap())
}

impl World {
    async fn open(&self, name: &str) -> Arc<Session> {
        self.try_open(name).await.unwrap()
    }

    async fn try_open(&self, name: &str) -> Result<Arc<Session>, Closed> {
        open(&self.sessions, name).await
    }

    async fn finds(&self, id: &str, name: &str) -> bool {
        finds(&self.sessions, id, name).await
    }
}

async fn open(sessions: &Sessions, name: &str) -> Result<Arc<Session>, Closed> {
    let about = About::new(ClientProfile::plain(Revision::V2025_11_25), Offered::default());
    let (user, portal) = (user(name), portal());
    let asker = Asker { principal: &user, credential: Some("grant:1"), endpoint: &portal };
    sessions.open(asker, Arc::clone(user.key()), about, Transport::Streamable).await
}

async fn finds(sessions: &Sessions, id: &str, name: &str) -> bool {
    found(sessions, id, name).await.is_ok()
}

async fn found(sessions: &Sessions, id: &str, name: &str) -> Result<Arc<Session>, Lost> {
    let (user, portal) = (user(name), portal());
    let asker = Asker { principal: &user, credential: Some("grant:1"), endpoint: &portal };
    sessions.find(id, asker, || Arc::clone(user.key()), Transport::Streamable).await
}

fn reader(session: &Session) -> Reader {
    Reader::attach(session.get_stream(), Seat::new(None, None, &Metrics::new()))
}

/// One caller opens many sessions where the process may have 50; true when another
/// caller's session survives.
async fn survives_a_flood(per_owner: usize) -> bool {
    let mut world = world_of(per_owner);
    world.sessions.max = 50;
    let bob = world.open("bob").await;
    world.clock.advance_ms(1);
    for _ in 0..500 {
        world.open("mallory").await;
    }
    assert!(world.sessions.len() <= 50);
    world.finds(&bob.id, "bob").await
}

#[tokio::test]
async fn o11_nobody_loses_a_session_to_a_flood_of_another_one() {
    assert!(survives_a_flood(10).await, "its own are at their bound");
    assert!(survives_a_flood(usize::MAX).await, "the process is full of its own");
}

#[tokio::test]
async fn o11_at_the_bound_the_owners_oldest_idle_session_ends() {
    let world = world_of(3);
    let (streaming, busy, idle) = (world.open("alice").await, world.open("alice").await, world.open("alice").await);
    let (bob, open) = (world.open("bob").await, reader(&streaming));
    let running = busy.running(RequestId::number(1));
    world.clock.advance_ms(1);
    let newest = world.open("alice").await;
    assert!(!world.finds(&idle.id, "alice").await, "the only one nobody used");
    assert!(world.finds(&newest.id, "alice").await);
    let held = newest.running(RequestId::number(2));
    assert_eq!(world.try_open("alice").await.err(), Some(Closed::Full), "all are in use");
    assert!(
        world.finds(&streaming.id, "alice").await
            && world.finds(&busy.id, "alice").await
            && world.finds(&bob.id, "bob").await
    );
    drop(open);
    assert!(world.try_open("alice").await.is_ok(), "one is idle again");
    drop((running, held));
    for session in world.sessions.all() {
        world.sessions.end(&session).await.unwrap();
    }
    world.open("alice").await;
    assert_eq!(world.sessions.len(), 1);
}

#[tokio::test]
async fn p10_what_finished_streams_hold_is_bounded() {
    let world = world();
    let session = world.open("alice").await;
    for _ in 0..6 {
        let post = session.open_post();
        post.try_message(&vec![b'1'; 400 * 1024]).unwrap();
        post.close();
    }
    session.open_post().close();
    let first = session.open_post().id().unwrap() - 7;
    let kept = (first..first + 6).filter(|number| session.stream(*number).is_some()).count();
    assert_eq!(kept, 2, "within 1 MiB");
}

#[tokio::test]
async fn p26_a_session_is_bound_to_its_principal_and_endpoint() {
    let world = world();
    let session = world.open("alice").await;
    assert!(world.finds(&session.id, "alice").await);
    assert!(!world.finds(&session.id, "bob").await);
    let (alice, service) = (user("alice"), Principal::new(PrincipalKind::Service, "alice", []));
    let (here, other) = (portal(), Endpoint::Server(ServerId::parse("default").unwrap()));
    for (principal, credential, endpoint, transport) in [
        (&service, "grant:1", &here, Transport::Streamable),
        (&alice, "grant:2", &here, Transport::Streamable),
        (&alice, "grant:1", &other, Transport::Streamable),
        (&alice, "grant:1", &here, Transport::Sse),
    ] {
        let asker = Asker { principal, credential: Some(credential), endpoint };
        let found = world.sessions.find(&session.id, asker, || "x".into(), transport).await;
        assert_eq!(found.err(), Some(Lost::Unknown));
    }
    // Asking with the wrong name does not end it.
    assert!(world.finds(&session.id, "alice").await);
}

#[tokio::test]
async fn p26_ids_are_long_random_and_visible_ascii() {
    let world = world();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..500 {
        ids.insert(world.open("alice").await.id.clone());
    }
    assert_eq!(ids.len(), 500);
    for id in ids {
        assert!((43..=512).contains(&id.len()));
        assert!(id.bytes().all(|b| (0x21..=0x7e).contains(&b)));
    }
    assert_eq!(world.sessions.len(), 500);
}

#[tokio::test]
async fn p26_unknown_and_undecodable_ids() {
    let world = world();
    world.open("alice").await;
    for id in ["", "x", "\u{fffd}", "../..", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(100_000)] {
        assert!(!world.finds(id, "alice").await);
    }
}

#[tokio::test]
async fn p26_idle_sessions_end_after_24_hours() {
    let world = world();
    let (used, idle) = (world.open("alice").await, world.open("alice").await);
    world.clock.advance_ms(23 * HOUR);
    assert!(world.finds(&used.id, "alice").await);
    world.clock.advance_ms(HOUR);
    assert!(world.finds(&used.id, "alice").await);
    assert!(!world.finds(&idle.id, "alice").await);
    assert_eq!(world.sessions.len(), 1);
    world.clock.advance_ms(24 * HOUR);
    world.sessions.sweep().await;
    assert_eq!(world.sessions.len(), 0);
}

#[tokio::test]
async fn p26_an_open_stream_keeps_its_session() {
    let world = world();
    let session = world.open("alice").await;
    let reader = reader(&session);
    world.clock.advance_ms(48 * HOUR);
    world.sessions.sweep().await;
    assert!(world.finds(&session.id, "alice").await);
    drop(reader);
    world.clock.advance_ms(24 * HOUR);
    assert!(!world.finds(&session.id, "alice").await);
}

#[tokio::test]
async fn p26_the_end_of_a_session_ends_its_streams_and_calls() {
    let world = world();
    let session = world.open("alice").await;
    let post = session.open_post();
    let get = session.get_stream();
    let running = session.running(RequestId::number(7));
    world.sessions.end(&session).await.unwrap();
    assert!(post.is_closed() && get.is_closed());
    running.cancelled().await;
    session.ended().await;
    assert!(!world.finds(&session.id, "alice").await);
    world.sessions.end(&session).await.unwrap();
    assert_eq!(world.sessions.len(), 0);
}

#[tokio::test]
async fn p10_cancelling_names_a_request_of_this_session() {
    let world = world();
    let (a, b) = (world.open("alice").await, world.open("bob").await);
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
    let (a, b) = (world.open("alice").await, world.open("alice").await);
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

#[tokio::test]
async fn p10_finished_streams_are_kept_for_a_while() {
    let world = world();
    let session = world.open("alice").await;
    let first = session.open_post();
    let number = first.id().unwrap();
    first.close();
    assert!(session.stream(number).is_some());
    for _ in 0..4 {
        world.sessions.sweep().await;
    }
    assert!(session.stream(number).is_some());
    world.sessions.sweep().await;
    assert!(session.stream(number).is_none());
    let running = session.open_post();
    for _ in 0..40 {
        session.open_post().close();
    }
    assert!(session.stream(running.id().unwrap()).is_some(), "a running stream is never dropped");
    assert!(session.stream(running.id().unwrap() + 1).is_none());
    assert!(session.stream(running.id().unwrap() + 40).is_some());
}

#[tokio::test]
async fn p10_one_session_has_one_stand_alone_stream() {
    let world = world();
    let session = world.open("alice").await;
    let stream = session.get_stream();
    assert!(Arc::ptr_eq(&stream, &session.get_stream()));
    assert!(session.stream(stream.id().unwrap()).is_some());
    session.drop_get();
    assert!(session.stream(stream.id().unwrap()).is_none());
    world.sessions.end(&session).await.unwrap();
    assert!(session.get_stream().is_closed());
}

#[tokio::test]
async fn p10_the_log_level_is_the_sessions() {
    let world = world();
    let (a, b) = (world.open("alice").await, world.open("alice").await);
    a.set_log_level(LogLevel::Error);
    assert_eq!(a.profile().log_level, Some(LogLevel::Error));
    assert_eq!(b.profile().log_level, None);
}

#[tokio::test]
async fn p10_subscriptions_are_bounded_and_counted_once() {
    let world = world();
    let session = world.open("alice").await;
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

/// Two processes over one store, with the same keys.
async fn replicas() -> (Arc<ManualClock>, Sessions, Sessions, PortalStates, PortalStates, Store) {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let handles = Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles();
    let states = || PortalStates::new(Some(store.clone()), Arc::clone(&clock) as Arc<dyn Clock>);
    let (one, two) = (states(), states());
    let a = sessions(&clock, one.clone(), handles.clone(), 3, "a");
    let b = sessions(&clock, two.clone(), handles, 3, "b");
    (clock, a, b, one, two, store)
}

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn p34_a_session_is_found_on_a_replica_that_never_saw_it() {
    let (_clock, a, b, ..) = replicas().await;
    let mut profile = ClientProfile::plain(Revision::V2025_06_18);
    profile.capabilities = RawJson::try_from(r#"{"elicitation":{}}"#).unwrap();
    profile.client_info = Some(RawJson::try_from(r#"{"name":"c","version":"1"}"#).unwrap());
    let offered = Offered::of(&RawJson::try_from(r#"{"capabilities":{"tools":{}}}"#).unwrap());
    let (alice, portal) = (user("alice"), portal());
    let asker = Asker { principal: &alice, credential: Some("grant:1"), endpoint: &portal };
    let about = About::new(profile.clone(), offered);
    let session = a.open(asker, Arc::clone(alice.key()), about, Transport::Streamable).await.unwrap();
    let there = found(&b, &session.id, "alice").await.unwrap();
    assert_eq!((&*there.profile(), there.offered()), (&profile, offered));
    assert_eq!(there.client().0.as_deref(), Some("c"));
    assert_eq!(found(&b, &session.id, "bob").await.err(), Some(Lost::Unknown));
    assert_eq!(b.len(), 1);
    // Streams and questions of the two cannot be taken for each other.
    assert_ne!(session.open_post().id(), there.open_post().id());
    let ask = |session: &Arc<Session>| {
        let running = session.running(RequestId::number(1));
        session.ask(running.call, "k".into(), Batch::new(Vec::new(), 1, oneshot::channel().0))
    };
    assert_ne!(ask(&session), ask(&there));
}

#[tokio::test]
async fn p34_what_ends_on_one_replica_is_404_on_the_others() {
    let (_clock, a, b, ..) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let there = found(&b, &session.id, "alice").await.unwrap();
    let stream = there.get_stream();
    a.end(&session).await.unwrap();
    assert_eq!(found(&a, &session.id, "alice").await.err(), Some(Lost::Unknown));
    eventually("the other one hears of it", async || !finds(&b, &session.id, "alice").await).await;
    assert!(stream.is_closed(), "its stream ends with it");
    // Twice is as good as once.
    a.end(&session).await.unwrap();
    assert!(!finds(&b, &session.id, "alice").await);
}

#[tokio::test]
async fn p34_a_stream_of_a_session_that_ended_elsewhere_ends_without_being_used() {
    let (_clock, a, b, _, two, _store) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let stream = found(&b, &session.id, "alice").await.unwrap().get_stream();
    let mut changes = two.changes();
    a.end(&session).await.unwrap();
    while !stream.is_closed() {
        let changed = tokio::time::timeout(Duration::from_secs(4), changes.recv()).await.unwrap().unwrap();
        b.heard(changed).await;
    }
}

#[tokio::test]
async fn p34_a_restarted_process_knows_its_sessions() {
    let (clock, a, b, ..) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    drop(a);
    clock.advance_ms(23 * HOUR);
    assert!(finds(&b, &session.id, "alice").await);
    clock.advance_ms(24 * HOUR);
    assert!(!finds(&b, &session.id, "alice").await, "24 h idle");
    clock.advance_ms(-HOUR);
    assert!(!finds(&b, &session.id, "alice").await, "and it stays so");
}

#[tokio::test]
async fn p34_the_last_use_is_written_at_most_every_five_minutes() {
    let (clock, a, _b, one, _, store) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let seen = async || portal_state::get(&store, &session.holder).await.unwrap().unwrap().seen_ms;
    let began = seen().await;
    for _ in 0..4 {
        clock.advance_ms(60_000);
        assert!(finds(&a, &session.id, "alice").await);
    }
    assert_eq!(seen().await, began);
    assert_eq!(one.get(&session.holder).await.unwrap().unwrap().seen_ms(), began);
    clock.advance_ms(60_000);
    assert!(finds(&a, &session.id, "alice").await);
    eventually("it is written", async || seen().await == began + 300_000).await;
}

#[tokio::test]
async fn p34_resting_sessions_leave_memory_and_come_back() {
    let (clock, a, ..) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let (id, subscribed) = (session.id.clone(), open(&a, "alice").await.unwrap());
    subscribed.subscribe("a:1");
    drop(session);
    clock.advance_ms(QUIET_MS);
    a.sweep().await;
    assert_eq!(a.len(), 1, "what is only here stays");
    assert!(finds(&a, &id, "alice").await);
    assert_eq!(a.len(), 2);
}

#[tokio::test]
async fn p34_the_bound_of_an_owner_holds_over_replicas() {
    let (clock, a, b, ..) = replicas().await;
    let first = open(&a, "alice").await.unwrap();
    let bob = open(&b, "bob").await.unwrap();
    for _ in 0..3 {
        clock.advance_ms(1);
        open(&b, "alice").await.unwrap();
    }
    eventually("the oldest one ended", async || !finds(&a, &first.id, "alice").await).await;
    assert!(finds(&a, &bob.id, "bob").await);
}

#[tokio::test]
async fn p34_log_levels_reach_every_replica() {
    let (_clock, a, b, one, ..) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    assert_eq!(found(&b, &session.id, "alice").await.unwrap().profile().log_level, None);
    one.set_level(&session.holder, LogLevel::Error).await.unwrap();
    let level = async || found(&b, &session.id, "alice").await.unwrap().profile().log_level;
    eventually("it is heard of", async || level().await == Some(LogLevel::Error)).await;
}

#[tokio::test]
async fn p34_a_changed_profile_in_the_store_opens_nothing() {
    let (_clock, a, b, _, _, store) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let row = portal_state::get(&store, &session.holder).await.unwrap().unwrap();
    client_profile::put(&store, &row.profile, r#"{"capabilities":{"sampling":{}},"client":null}"#).await.unwrap();
    assert_eq!(found(&b, &session.id, "alice").await.err(), Some(Lost::Unknown));
}

/// A process whose change feed never speaks.
async fn deaf() -> (Sessions, Store) {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let handles = Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles();
    // Made outside of a runtime a feed never speaks.
    let (db, now) = (store.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
    let states = std::thread::spawn(move || PortalStates::new(Some(db), now)).join().unwrap();
    (sessions(&clock, states, handles, 3, "b"), store)
}

#[tokio::test]
async fn p34_streams_of_a_session_that_ended_elsewhere_end_without_the_feed() {
    let (b, store) = deaf().await;
    let (ended, other) = (open(&b, "alice").await.unwrap(), open(&b, "alice").await.unwrap());
    let readers = (reader(&ended), reader(&other));
    portal_state::end(&store, &ended.holder).await.unwrap();
    b.sweep().await;
    ended.ended().await;
    assert!(ended.get_stream().is_closed() && !other.get_stream().is_closed());
    assert_eq!(b.len(), 1);
    drop(readers);
}

#[tokio::test]
async fn p34_two_requests_at_once_take_up_one_session() {
    let (_clock, a, b, ..) = replicas().await;
    let session = open(&a, "alice").await.unwrap();
    let (one, two) = tokio::join!(found(&b, &session.id, "alice"), found(&b, &session.id, "alice"));
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    // Whoever comes second gets the first one, and counts once.
    let envelope = Envelope::open(&b.handles, &session.id).unwrap();
    let about = About::new(ClientProfile::plain(Revision::V2025_11_25), Offered::default());
    let late = b.made(session.id.clone(), &envelope, &portal(), "x".into(), about).ok().unwrap();
    assert!(!Arc::ptr_eq(&b.insert(&late), &late));
    assert_eq!(b.len(), 1);
}

#[tokio::test]
async fn p34_a_session_that_ended_while_it_was_taken_up_is_not_kept() {
    let (b, store) = deaf().await;
    let session = open(&b, "alice").await.unwrap();
    b.forget(&session);
    let envelope = Envelope::open(&b.handles, &session.id).unwrap();
    portal_state::end(&store, &session.holder).await.unwrap();
    // `find` saw the row a moment ago.
    let adopted = b.adopt(&session.id, &envelope, &portal(), Arc::clone(&session.counted)).await;
    assert_eq!((adopted.err(), b.len()), (Some(Lost::Unknown), 0));
}

/// What the look at the store is for when the feed is silent: memory says the session is
/// there, the store that it ended.
#[tokio::test]
async fn p34_with_a_silent_feed_the_store_is_asked() {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let handles = Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles();
    // Made outside of a runtime a feed never speaks.
    let (db, now) = (store.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
    let deaf = std::thread::spawn(move || PortalStates::new(Some(db), now)).join().unwrap();
    let b = sessions(&clock, deaf, handles.clone(), 3, "b");
    let session = open(&b, "alice").await.unwrap();
    assert!(finds(&b, &session.id, "alice").await);
    portal_state::end(&store, &session.holder).await.unwrap();
    assert!(!finds(&b, &session.id, "alice").await);
    let session = open(&b, "alice").await.unwrap();
    store.close().await;
    assert_eq!(found(&b, &session.id, "alice").await.err(), Some(Lost::Unavailable), "denied, never stale");
}
