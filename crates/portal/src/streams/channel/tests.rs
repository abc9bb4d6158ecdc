use std::sync::Arc;
use std::task::Waker;

use super::*;

fn text(channel: &Channel, generation: u64) -> Vec<String> {
    let mut out = Vec::new();
    while let Take::Frame(frame) = channel.take(generation, Waker::noop()) {
        out.push(String::from_utf8(frame.to_vec()).unwrap());
    }
    out
}

#[tokio::test]
async fn p10_a_resumed_stream_starts_behind_the_given_event() {
    let channel = Channel::new(Kept::Replay(3));
    let first = channel.attach();
    for n in 0..5 {
        channel.message(format!("{{\"n\":{n}}}").as_bytes()).await.unwrap();
    }
    assert_eq!(text(&channel, first).len(), 5);
    channel.detach(first);
    let second = channel.attach_after(2);
    assert_eq!(text(&channel, second), ["id: 3.3\ndata: {\"n\":3}\n\n", "id: 3.4\ndata: {\"n\":4}\n\n"]);
    // An id from the future waits for what comes next.
    let third = channel.attach_after(900);
    assert!(text(&channel, third).is_empty());
    channel.message(b"{}").await.unwrap();
    assert_eq!(text(&channel, third), ["id: 3.5\ndata: {}\n\n"]);
}

#[tokio::test]
async fn p10_events_sent_while_nobody_listens_are_kept_within_bounds() {
    let channel = Channel::new(Kept::Replay(1));
    let reader = channel.attach();
    channel.detach(reader);
    let big = vec![b'1'; 50_000];
    for _ in 0..100 {
        channel.message(&big).await.unwrap();
    }
    assert!(channel.held() <= BUFFER + big.len() + 64, "{}", channel.held());
    let reader = channel.attach();
    let got = text(&channel, reader);
    assert!(got.len() >= 4 && got.len() <= 6, "{}", got.len());
    assert!(got.last().unwrap().starts_with("id: 1.99\n"));
}

#[tokio::test]
async fn p10_small_events_are_bounded_by_number() {
    let channel = Channel::new(Kept::Replay(1));
    for _ in 0..5_000 {
        channel.try_message(b"1").unwrap();
    }
    assert!(channel.lock().frames.len() <= KEPT_EVENTS);
}

#[tokio::test]
async fn p10_a_newer_reader_replaces_the_older_one() {
    let channel = Channel::new(Kept::Replay(1));
    let old = channel.attach();
    let new = channel.attach();
    assert!(matches!(channel.take(old, Waker::noop()), Take::End));
    channel.detach(old);
    assert!(channel.is_attached());
    channel.try_message(b"{}").unwrap();
    assert_eq!(text(&channel, new).len(), 1);
}

#[tokio::test]
async fn p10_a_modern_stream_is_gone_with_its_reader() {
    let channel = Channel::new(Kept::No);
    let reader = channel.attach();
    channel.message(b"{}").await.unwrap();
    assert_eq!(text(&channel, reader), ["data: {}\n\n"]);
    assert_eq!(channel.held(), 0);
    channel.detach(reader);
    channel.gone().await;
    assert_eq!(channel.message(b"{}").await, Err(Gone));
}

#[tokio::test]
async fn p10_a_slow_reader_holds_the_producer_back() {
    let channel = Arc::new(Channel::new(Kept::No));
    let reader = channel.attach();
    let big = vec![b'1'; BUFFER + 1];
    channel.message(&big).await.unwrap();
    let task = {
        let channel = Arc::clone(&channel);
        tokio::spawn(async move { channel.message(b"{}").await })
    };
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    assert_eq!(channel.try_message(b"{}"), Err(Gone));
    assert_eq!(text(&channel, reader).len(), 1);
    task.await.unwrap().unwrap();
    assert_eq!(text(&channel, reader).len(), 1);
}

#[tokio::test]
async fn p10_a_slow_reader_loses_the_oldest_notes_not_the_gateway_its_memory() {
    let channel = Channel::new(Kept::Replay(1));
    let reader = channel.attach();
    let big = vec![b'1'; 50_000];
    for _ in 0..100 {
        channel.try_message(&big).unwrap();
    }
    assert!(channel.held() <= BUFFER + big.len() + 64, "{}", channel.held());
    assert!(text(&channel, reader).last().unwrap().starts_with("id: 1.99\n"));
}

#[test]
fn p10_line_breaks_inside_a_message_stay_json() {
    let channel = Channel::new(Kept::No);
    let reader = channel.attach();
    channel.try_message(b"{\n \"a\":\r\n1}").unwrap();
    assert_eq!(text(&channel, reader), ["data: {\ndata:  \"a\":\ndata: \ndata: 1}\n\n"]);
}

#[test]
fn p10_priming_and_retry_events() {
    let channel = Channel::new(Kept::Replay(9));
    let reader = channel.attach();
    channel.prime();
    channel.retry(1500);
    channel.close();
    assert_eq!(text(&channel, reader), ["id: 9.0\ndata:\n\n", "retry: 1500\nid: 9.1\ndata:\n\n"]);
    assert!(matches!(channel.take(reader, Waker::noop()), Take::End));
    assert_eq!(channel.try_message(b"1"), Err(Gone));
}

/// Many calls may share one stream: its buffer must not grow with their number.
#[tokio::test]
async fn p10_many_producers_of_large_messages_wait_for_each_other() {
    let channel = Arc::new(Channel::new(Kept::Replay(1)));
    let reader = channel.attach();
    let large = vec![b'1'; 1024 * 1024];
    let producers: Vec<_> = (0..32)
        .map(|_| {
            let (channel, large) = (Arc::clone(&channel), large.clone());
            tokio::spawn(async move { channel.message(&large).await })
        })
        .collect();
    let mut most = 0;
    let mut read = 0;
    while read < 32 {
        tokio::task::yield_now().await;
        most = most.max(channel.lock().unread_bytes);
        read += text(&channel, reader).len();
    }
    for producer in producers {
        producer.await.unwrap().unwrap();
    }
    assert!(most <= BUFFER + 2 * large.len(), "{most}");
}
