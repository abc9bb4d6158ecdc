//! Server-sent events (P10, O15).

use bartizan_wire::sse::{Decoder, Event, comment, encode};
use bytes::Bytes;
use proptest::prelude::*;

fn decode(text: impl AsRef<[u8]>) -> Vec<Event> {
    Decoder::new(1 << 20).push(text.as_ref()).expect("within the limit")
}

fn data(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8_lossy(&event.data).into_owned()).collect()
}

#[test]
fn p10_fields() {
    let events = decode("id: 7\nevent: message\nretry: 1500\ndata: {\"a\":1}\n\n");
    assert_eq!(
        events,
        [Event {
            id: Some("7".into()),
            event: Some("message".into()),
            retry: Some(1500),
            data: Bytes::from_static(b"{\"a\":1}")
        }]
    );
    assert!(events[0].is_message());
    assert!(!decode("event: endpoint\ndata: /x\n\n")[0].is_message());
}

#[test]
fn p10_the_examples_of_the_standard() {
    // WHATWG HTML, section 9.2.6.
    assert_eq!(data(&decode("data: YHOO\ndata: +2\ndata: 10\n\n")), ["YHOO\n+2\n10"]);
    assert_eq!(
        data(&decode(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n")),
        ["first event", "second event"]
    );
    assert_eq!(data(&decode("data\n\ndata\ndata\n\ndata:")), ["", "\n"]);
    assert_eq!(data(&decode("data:test\n\ndata: test\n\n")), ["test", "test"]);
}

#[test]
fn p10_line_ends_and_byte_order_mark() {
    for text in [
        "data: a\n\ndata: b\n\n",
        "data: a\r\rdata: b\r\r",
        "data: a\r\n\r\ndata: b\r\n\r\n",
        "data: a\n\r\ndata: b\r\n\n",
    ] {
        assert_eq!(data(&decode(text)), ["a", "b"], "{text:?}");
    }
    assert_eq!(data(&decode("\u{feff}data: a\n\n")), ["a"]);
    // Only at the start of the stream.
    assert!(decode("\n\u{feff}data: a\n\n").is_empty());
}

#[test]
fn p10_fields_that_are_ignored() {
    assert_eq!(data(&decode("foo: bar\ndata: a\nDATA: b\n data: c\n: data: d\n\n")), ["a"]);
    let events = decode("id: a\0b\nretry: 12x\nretry: -1\nretry:\ndata: x\n\n");
    assert_eq!((events[0].id.as_ref(), events[0].retry), (None, None));
    assert!(decode("foo: bar\n\n: comment\n\n\n\n").is_empty());
    // More milliseconds than anyone can wait.
    assert_eq!(decode("retry: 99999999999999999999999999\n\n")[0].retry, None);
}

#[test]
fn p10_priming_and_retry_events_are_reported() {
    let events = decode("id: e1\ndata:\n\nretry: 500\n\nid: e2\n\n");
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.data.is_empty()));
    assert_eq!(
        (events[0].id.as_deref(), events[1].retry, events[2].id.as_deref()),
        (Some("e1"), Some(500), Some("e2"))
    );
}

#[test]
fn p10_the_last_event_id_outlives_its_event() {
    let mut decoder = Decoder::new(100);
    assert_eq!(decoder.last_event_id(), None);
    decoder.push(b"id: 5\ndata: a\n\ndata: b\n\n").expect("fits");
    assert_eq!(decoder.last_event_id(), Some("5"));
    decoder.push(b"id\ndata: c\n\n").expect("fits");
    assert_eq!(decoder.last_event_id(), Some(""));
}

#[test]
fn p10_an_event_cut_off_is_dropped() {
    assert!(decode("data: half").is_empty());
    assert!(decode("data: half\n").is_empty());
}

#[test]
fn p10_too_large_events_stop_the_stream() {
    let mut decoder = Decoder::new(20);
    assert_eq!(decoder.push(b"data: 0123456789\n\n").expect("fits").len(), 1);
    assert!(decoder.push(b"data: 012345678901234567890").is_err());
    assert!(decoder.push(b"\n\n").is_err(), "no way back");
    // In many lines, in one endless line, in other fields, in comments.
    let mut decoder = Decoder::new(64);
    assert!((0..100).any(|_| decoder.push(b"data: 0123456789\n").is_err()));
    let mut decoder = Decoder::new(64);
    assert!((0..100).any(|_| decoder.push(b"xxxxxxxxxx").is_err()));
    let mut decoder = Decoder::new(64);
    assert!(decoder.push(format!("id: {}\n", "x".repeat(61)).as_bytes()).is_err());
    let mut decoder = Decoder::new(64);
    assert!((0..10_000).all(|_| decoder.push(b": keep-alive\n\n").is_ok()), "comments cost nothing");
}

#[test]
fn p10_encode() {
    assert_eq!(encode(&Event::message(Bytes::from_static(b"{}"))), "data: {}\n\n");
    let event = Event { id: Some("a\nb\0".into()), event: Some("x\r\ny".into()), retry: Some(5), data: Bytes::new() };
    assert_eq!(encode(&event), "id: ab\nevent: xy\nretry: 5\ndata: \n\n");
    assert_eq!(encode(&Event { retry: Some(1), ..Event::default() }), "retry: 1\n\n");
    assert_eq!(
        encode(&Event::message(Bytes::from_static(b"a\r\nb\rc\nd\n"))),
        "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
    );
    assert!(decode(comment()).is_empty());
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "data: ?[a-z{}\":,0-9é😀 ]{0,12}",
        1 => "id: ?[0-9]{0,4}",
        1 => "event: ?[a-z]{0,6}",
        1 => "retry: ?[0-9x]{0,4}",
        1 => ":[a-z ]{0,8}",
        1 => "[a-z:]{0,8}",
        3 => Just(String::new()),
    ];
    let end = prop::sample::select(vec!["\n", "\r", "\r\n"]);
    prop::collection::vec((line, end), 0..24)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| format!("{line}{end}").into_bytes()).collect())
}

proptest! {
    #[test]
    fn p10_chunking_never_matters(bytes in stream(), cuts in prop::collection::vec(1usize..9, 0..200)) {
        let whole = decode(&bytes);
        let mut decoder = Decoder::new(1 << 20);
        let mut split = Vec::new();
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().copied().unwrap_or(1).min(rest.len());
            split.extend(decoder.push(&rest[..cut]).expect("fits"));
            rest = &rest[cut..];
        }
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn p10_every_single_cut(bytes in stream()) {
        let whole = decode(&bytes);
        for at in 0..=bytes.len() {
            let mut decoder = Decoder::new(1 << 20);
            let mut split = decoder.push(&bytes[..at]).expect("fits");
            split.extend(decoder.push(&bytes[at..]).expect("fits"));
            prop_assert_eq!(&whole, &split);
        }
    }

    #[test]
    fn p10_what_is_encoded_comes_back(id in prop::option::of("[a-zA-Z0-9_-]{1,8}"), event in prop::option::of("[a-z]{1,8}"),
        retry in prop::option::of(0u64..100_000), data in "[ -~é\n]{0,40}") {
        let event = Event { id, event, retry, data: data.into() };
        let back = decode(encode(&event));
        if event == Event::default() {
            prop_assert!(back.is_empty());
        } else {
            prop_assert_eq!(back, vec![event]);
        }
    }
}
