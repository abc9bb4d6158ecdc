//! The queue by itself.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::queue::{Queue, Refused};

const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn l9_the_queue_is_bounded() {
    let queue = Queue::new(2);
    assert!(queue.push(1, false).is_ok());
    assert!(queue.push(2, false).is_ok());
    assert_eq!(queue.push(3, true), Err((3, Refused::Full)));
    let mut items = Vec::new();
    assert!(queue.poll(&mut items));
    assert_eq!(items, [1, 2]);
    assert!(queue.push(3, false).is_ok());
    assert_eq!(queue.len(), 1);
}

#[test]
fn l9_a_closed_queue_hands_out_what_it_has() {
    let queue = Queue::new(10);
    queue.push(1, false).unwrap();
    queue.close();
    assert_eq!(queue.push(2, false), Err((2, Refused::Closed)));
    let mut items = Vec::new();
    assert!(queue.take(&mut items, LONG), "closing ends the lingering");
    assert_eq!(items, [1]);
    assert!(!queue.take(&mut items, LONG));
}

#[test]
fn l9_urgency_ends_the_lingering() {
    let queue = Arc::new(Queue::new(10));
    let reader = thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            let mut items = Vec::new();
            assert!(queue.take(&mut items, LONG));
            items
        }
    });
    queue.push(1, false).unwrap();
    queue.push(2, false).unwrap();
    queue.push(3, true).unwrap();
    let items = reader.join().unwrap();
    assert_eq!(items, [1, 2, 3], "in order, as one round");
}

#[test]
fn l9_lingering_ends_by_itself() {
    let queue = Queue::new(10);
    queue.push(1, false).unwrap();
    let mut items = Vec::new();
    assert!(queue.take(&mut items, Duration::from_millis(5)));
    assert_eq!(items, [1]);
}

#[test]
fn l9_nothing_is_lost_between_many_threads() {
    let queue = Arc::new(Queue::new(1_000_000));
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                for n in 0..20_000u32 {
                    queue.push((writer, n), n % 97 == 0).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0u32; 4];
    let mut items = Vec::new();
    while next.iter().sum::<u32>() < 80_000 {
        assert!(queue.take(&mut items, Duration::from_millis(1)));
        assert!(items.len() <= 4_096, "a round is bounded");
        for (writer, n) in items.drain(..) {
            assert_eq!(next[writer as usize], n, "in order of each writer");
            next[writer as usize] += 1;
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(queue.len(), 0);
}
